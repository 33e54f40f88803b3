"""Names of methods, attacks and models, and what is built from them."""

import functools

import pytest

from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import models
from keras_neokd.base.configurable import REQUIRED
from keras_neokd.base.configurable import Unset
from keras_neokd.base.registry import METHODS
from keras_neokd.base.registry import Registry
from tests.methods import tiny_network


def registry_of(thing, name="thing", **presets):
    found = Registry("thing")
    found.register(name, **presets)(thing)
    return found


class Thing:
    """Keeps what it is given."""

    def __init__(self, size, colour="red", **more):
        self.given = {"size": size, "colour": colour, **more}

    @classmethod
    def large(cls, colour="blue", **overrides):
        return cls(**{"size": 100, "colour": colour, **overrides})


class Small(Thing):
    """Takes one argument of its own and hands on the others."""

    def __init__(self, cheap=True, **others):
        super().__init__(**{"size": 1, **others})
        self.given["cheap"] = cheap


@pytest.fixture
def own_method(monkeypatch):
    """A user's method with a name, which the test gives back."""
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))

    @methods.register("penalty", strong_penalty={"weight": 10.0})
    class Penalty(methods.Method):
        def __init__(self, weight=1.0, num_epochs=3):
            self.weight = weight
            self.num_epochs = num_epochs

    return Penalty


def test_a_method_of_ones_own_is_built_by_its_name(own_method):
    assert "penalty" in methods.BY_NAME
    assert type(methods.get("penalty")) is own_method
    built = METHODS.build("penalty", {"weight": 2.0}, num_epochs=7)
    assert built.arguments() == {"weight": 2.0, "num_epochs": 7}
    assert METHODS.build("strong_penalty").weight == 10.0
    model = tiny_network.student()
    model.compile("sgd", method="penalty", attack=attacks.PGD(0.1, 0.1, 1))


def test_settings_are_those_of_the_signature():
    assert METHODS.settings("lw") == {
        "weight": 0.01,
        "form": "norm",
        "exit_weights": None,
    }
    assert METHODS.settings("teat")["num_epochs"] is REQUIRED


def test_settings_of_a_preset_show_what_it_changes():
    usual, changed = METHODS.settings("kdiga"), METHODS.settings("kdiga_rs")
    assert list(usual) == list(changed)
    assert {name for name in usual if usual[name] != changed[name]} == {
        *("alignment_weight", "norm", "reduction", "clean_weight"),
        *("adversarial_weight", "distillation", "alignment", "noise"),
    }
    assert changed["noise"] == 8 / 255


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("triple_wins", methods.AdversarialTraining(0.5, 0.5)),
        ("clean_training", methods.AdversarialTraining(1.0, 0.0)),
        ("skd_phuong", methods.SKD.phuong()),
        (
            "skd_annealing",
            methods.SKD(
                0.5,
                1.0,
                divergence="cross_entropy",
                base_weight=0.5,
                temperature_squared=True,
                annealing=True,
                scale=10.0,
            ),
        ),
        ("ard_goldblum", methods.ARD.goldblum()),
        ("teat_trades", methods.TEAT(9, 5, variant="trades")),
        ("kd", methods.KDIGA(None, alignment_weight=0.0)),
        ("kdiga_author_2021", methods.KDIGA.author_2021(None)),
        ("kdiga_rs", methods.KDIGA.kdiga_rs(None)),
        ("kdiga_rd", methods.KDIGA.ard(None)),
        ("kdiga_ard", methods.KDIGA.kdiga_ard(None)),
    ],
)
def test_presets_are_those_of_the_classes(name, same):
    # In SKD and ARD, `teacher` is an exit.
    given = {"teacher": None} if same.needs_teacher else {}
    built = METHODS.build(name, num_examples=9, num_epochs=5, **given)
    assert repr(built) == repr(same)


BALL = {"epsilon": 0.1, "step_size": 0.05, "num_steps": 2, "num_restarts": 1}
ANY = attacks.AverageExits(success="any")


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("average", attacks.PGD(0.1, 0.05, 2, objective=ANY)),
        ("fgsm", attacks.PGD.fgsm(0.1, objective=ANY)),
        ("max_average", attacks.MaxAverage(attacks.PGD(0.1, 0.05, 2))),
        ("noise", attacks.UniformNoise(0.1)),
        ("apgd_ce", attacks.APGD(0.1, 2, objective=ANY)),
        ("apgd_dlr", attacks.APGD(0.1, 2, objective=ANY.with_loss("dlr"))),
        ("apgd_t", attacks.TargetedAPGD(0.1, 2, objective=ANY)),
        ("fab_t", attacks.TargetedFAB(0.1, 2, objective=ANY)),
        ("square", attacks.Square(0.1, objective=ANY.with_loss("margin"))),
        ("cw", attacks.CW(num_steps=2, objective=ANY)),
        (
            "cw_linf",
            attacks.WorstCase(
                [attacks.PGD(0.1, 0.05, 2, objective=ANY.with_loss("margin"))],
                ANY,
            ),
        ),
        ("auto_attack_plus", attacks.AutoAttack(0.1, "plus", 2, objective=ANY)),
        (
            "auto_attack_margins",
            attacks.AutoAttack(0.1, "margins", 2, objective=ANY),
        ),
    ],
)
def test_attacks_are_built_from_what_the_caller_knows(name, same):
    given = {**BALL, "norm": "linf", "objective": ANY}
    if name == "fgsm":
        given = {"epsilon": 0.1, "objective": ANY}
    assert repr(attacks.BY_NAME.build(name, **given)) == repr(same)


def test_a_ball_of_another_norm_says_nothing_about_cw():
    for norm, epsilon in (("linf", None), ("l2", 0.1)):
        built = attacks.BY_NAME.build("cw", epsilon=0.1, norm=norm)
        assert built.epsilon == epsilon
    with pytest.raises(ValueError, match="Take 'cw' instead"):
        attacks.BY_NAME.build("cw_linf", **BALL, norm="l2")


def test_the_single_attack_aims_at_one_exit():
    built = attacks.BY_NAME.build("single", {"exit": 1}, **BALL)
    assert built.objective.exit == 1


def test_settings_of_a_class_method_are_its_own_and_the_unset_ones():
    found = registry_of(Thing, large="large").settings("large")
    assert found == {"size": Unset(REQUIRED), "colour": "blue"}
    found = models.BY_NAME.settings("resnet_cifar10")
    assert found["depth"] == 18
    assert found["num_classes"] == Unset(10)


def test_what_is_unset_is_left_to_the_preset():
    things = registry_of(Thing, large="large")
    built = things.build("large", {"size": None, "colour": "green"})
    assert built.given == {"size": 100, "colour": "green"}
    assert things.build("large", {"size": 3}).given["size"] == 3


def test_a_constructor_that_hands_on_has_the_arguments_of_its_base():
    things = registry_of(Small)
    assert things.settings("thing") == {
        "size": REQUIRED,
        "colour": "red",
        "cheap": True,
    }
    built = things.build("thing", {"size": 5, "cheap": False})
    assert built.given == {"size": 5, "colour": "red", "cheap": False}


def test_functions_and_partials_may_have_a_name():
    things = registry_of(functools.partial(Thing, size=4))
    assert things.settings("thing") == {"size": 4, "colour": "red"}
    assert things.build("thing").given["size"] == 4
    assert registry_of(lambda size=2: size).build("thing", {"size": 3}) == 3


def test_what_is_given_goes_where_it_is_an_argument():
    things = registry_of(Thing)
    built = things.build("thing", {"colour": "green"}, size=2, num_epochs=3)
    assert built.given == {"size": 2, "colour": "green"}
    assert things.build("thing", {"size": 1}, size=2).given["size"] == 1


def test_parts_of_a_sum_are_built_one_by_one():
    total = METHODS.build("neo_kd", {"nkd_weight": 2.0}) + 0.5 * METHODS.build(
        "lw", {"weight": 1.0}
    )
    assert repr(total) == repr(
        methods.NEOKD(nkd_weight=2.0) + 0.5 * methods.LW(1.0)
    )


@pytest.mark.parametrize("name", ["neokd", None, 3])
def test_an_unknown_name_lists_the_known_ones(name):
    message = f"Unknown method {name!r}: expected one of .*'neo_kd', 'nkd'"
    with pytest.raises(ValueError, match=message):
        METHODS.build(name)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("kdiga", {}, "The method 'kdiga' needs `teacher`, which has no"),
        ("skd", {"T": 4}, "The method 'skd' has no argument `T`: .*`temper"),
        ("skd", {"weight": "a"}, "`weight` needs a number"),
    ],
)
def test_wrong_settings_are_refused(name, changes, message):
    with pytest.raises(TypeError, match=message):
        METHODS.build(name, changes)


def test_one_name_is_not_for_two_things():
    things = registry_of(Thing)
    things.register("thing")(Thing)
    with pytest.raises(ValueError, match="'thing' is .*Thing: give .*Small"):
        things.register("thing")(Small)
    with pytest.raises(ValueError, match="a name of letters, digits and _"):
        things.register("a+b")(Small)


def test_a_copy_has_other_arguments():
    method = methods.SKD(weight=0.1)
    changed = method.replace(temperature=3.0)
    assert changed.arguments() == {**method.arguments(), "temperature": 3.0}
    assert method.temperature == 1.5
    with pytest.raises(TypeError, match="SKD has no argument `T`"):
        method.replace(T=3.0)


def test_a_copy_keeps_what_a_subclass_adds():
    class Named(methods.SKD):
        def __init__(self, title="a", **others):
            super().__init__(**others)
            self.title = title

    changed = Named(title="b", weight=0.1).replace(weight=0.2)
    assert type(changed) is Named
    assert (changed.title, changed.weight) == ("b", 0.2)
