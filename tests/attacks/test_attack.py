"""The contract of attacks: what goes in, what comes out, what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.base import randomness
from tests import arrays
from tests import saving
from tests.reference import equations as reference
from tests.refusals import bad

SHAPE = (3, 2, 2)
ALL_ATTACKS = [
    attacks.PGD(epsilon=0.1, step_size=0.02, num_steps=3),
    attacks.PGD(
        1.5,
        0.5,
        2,
        norm="l2",
        objective=attacks.AverageExits((0, -1), "margin"),
    ),
    attacks.PGD(
        0.1, 0.1, 1, random_start=False, objective=attacks.SingleExit(1)
    ),
    attacks.PGD(8 / 255, 2 / 255, 2, num_restarts=2),
    attacks.MaxAverage(attacks.PGD(0.1, 0.05, 2)),
    attacks.MaxAverage(attacks.PGD(0.5, 0.2, 2, norm="l2"), exits=(0, 2)),
    attacks.APGD(0.1, 5, "l2", 2, 0.5, attacks.AverageExits(loss="dlr")),
    attacks.TargetedAPGD(0.1, 5, num_targets=None, loss="margin"),
    attacks.FAB(0.1, 5, "l2", 2, 0.2, 1.1, 0.8, attacks.SingleExit(0)),
    attacks.TargetedFAB(0.1, 5, num_targets=3),
    attacks.Square(0.1, 50, "l2", 2, 0.5, rescale_schedule=True),
    attacks.CW(2.0, 0.5, 20, 0.05),
    attacks.CW(epsilon=0.5, objective=attacks.AverageExits(success="any")),
    attacks.AutoAttack(0.1, "plus", 5, 50, None, "margin", "l2"),
    attacks.AutoAttack.paper(objective=attacks.SingleExit(1)),
    attacks.WorstCase(
        [attacks.PGD(0.1, 0.1, 1), attacks.AutoAttack(0.2)],
        attacks.AverageExits(success="any"),
    ),
]


def linear_predict():
    model = reference.LinearExits(3, SHAPE, num_classes=4)
    return attacks.ExitLogits(model, num_exits=3)


def images(count=2, fill=0.5):
    return np.full((count, *SHAPE), fill, "float32")


class Garbage(attacks.Attack):
    """Returns points far outside everything, and says something about them."""

    def perturb(self, predict, images, labels, keys):
        return images * 0 + 7.0 * ops.sign(images - 0.4), {"keys": keys}


class Echo(attacks.Attack):
    """Writes label and randomness of each example into its pixels."""

    def perturb(self, predict, images, labels, keys):
        label = ops.cast(labels, "float32")
        number = label / 10.0 + randomness.uniform(keys) / 100.0
        return images * 0.0 + ops.reshape(number, (-1, 1, 1, 1)), {}


# ExitLogits.


def test_exit_logits_asks_for_all_exits_or_those_named():
    model = reference.LinearExits(3, SHAPE, num_classes=4)
    predict = attacks.ExitLogits(model, num_exits=3)
    x = arrays.tensor(images())
    everything, some = predict(x), predict(x, (2, 0))
    assert model.calls == [(0, 1, 2), (2, 0)]
    assert predict.num_exits == 3
    assert len(everything) == 3
    for received, exit_ in ((some[0], 2), (some[1], 0), (everything[1], 1)):
        arrays.close(received, model.logits(images(), exit_), atol=1e-5)


def test_exit_logits_returns_float32_for_half_precision_models():
    def half(images, exits):
        flat = ops.reshape(images, (-1, 12))
        return [ops.cast(flat, "float16") for _ in exits]

    predict = attacks.ExitLogits(half, num_exits=2)
    for logits in predict(arrays.tensor(images())):
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"


# Promises of `generate`, whatever `perturb` does.


def test_images_are_projected_to_the_ball_and_to_the_pixel_range():
    given = arrays.tensor(images()), [0, 1], ops.convert_to_tensor([5, 6])
    adversarial, info = Garbage(0.3).generate(linear_predict(), *given)
    arrays.close(adversarial, images(fill=0.8), atol=1e-6)
    arrays.equal(info["keys"], [5, 6])


def test_no_gradient_flows_out():
    def values(x):
        adversarial, _ = Garbage(0.3).generate(linear_predict(), x, None, None)
        return ops.sum(adversarial, axis=(1, 2, 3)) + ops.sum(x, axis=(1, 2, 3))

    _, gradient = backend.value_and_input_gradient(
        values, arrays.tensor(images())
    )
    arrays.equal(gradient, np.ones((2, *SHAPE)))


def test_an_attack_without_algorithm_says_so():
    with pytest.raises(NotImplementedError):
        attacks.Attack(0.1)(linear_predict(), images(), [0, 1])


# Calling an attack on arrays.


@pytest.mark.parametrize(
    "labels",
    [
        [2, 1],
        np.array([2, 1], "uint8"),
        np.array([[2], [1]]),
        np.array([2.0, 1.0]),
        np.eye(4, dtype="float32")[[2, 1]],
    ],
)
def test_labels_of_every_form_and_the_keys_of_seed_and_index_arrive(labels):
    keys = reference.bits(4, np.arange(2))
    expected = np.array([0.2, 0.1]) + reference.uniform(keys) / 100
    received = Echo(epsilon=1)(linear_predict(), images(), labels, seed=4)
    expected = np.broadcast_to(expected.reshape(2, 1, 1, 1), (2, *SHAPE))
    arrays.close(received, expected, atol=1e-6)


def test_image_and_seed_decide_an_attack_and_not_what_stands_beside_them():
    first, again, other = (
        arrays.array(Echo(1)(linear_predict(), images(3), labels, seed=seed))
        for labels, seed in (([1, 1, 1], 4), ([1, 2, 1], 4), ([1, 1, 1], 5))
    )
    assert (first == again)[[0, 2]].all()
    assert (first != other).all()


GOOD = {"images": images(), "labels": [0, 1], "seed": 0}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        bad("Images need shape", images=images()[0]),
        bad(
            r"pixels in \[0, 1\].*from 128.0 to 128.0. Divide 8-bit",
            images=images(fill=128.0),
        ),
        bad(r"pixels in \[0, 1\]", images=images(fill=-0.1)),
        bad("NaN or infinity in 2", images=images(fill=np.nan)),
        bad("received 2 images and 3 labels", labels=[0, 1, 2]),
        bad("from 0 .*received values from -1", labels=[0, -1]),
        bad("Labels need shape", labels=0),
        bad("Labels need shape", labels=np.zeros((2, 1, 1))),
        bad("fractional values such as 0.5", labels=[0.5, 1.0]),
        bad("need to be one-hot", labels=[[0.5, 0.5, 0, 0], [0, 0, 0, 1.0]]),
        # The model has four classes. Such a label has no cross-entropy to
        # raise: the image would come back with noise on it and no warning.
        bad("from 0 to 3.*from 0 to 4", labels=[0, 4]),
        bad("`seed` needs", seed=-1),
        bad("`seed` needs an integer", TypeError, seed=0.5),
    ],
)
def test_bad_arrays_are_refused(changed, error, message):
    pgd = attacks.PGD(0.1, 0.05, 1)
    with pytest.raises(error, match=message):
        pgd(linear_predict(), **{**GOOD, **changed})


@pytest.mark.parametrize("predict", [None, lambda images: images])
def test_other_things_than_exit_logits_are_refused(predict):
    message = r"pass `model.exit_logits\(\)` of a MultiExitModel"
    with pytest.raises(TypeError, match=message):
        attacks.PGD(0.1, 0.05, 1)(predict, images(), [0, 1])


@pytest.mark.parametrize(
    "attack",
    [
        attacks.PGD(0.1, 0.1, 1, objective=attacks.SingleExit(3)),
        attacks.PGD(0.1, 0.1, 1, objective=attacks.AverageExits((0, 3))),
        attacks.MaxAverage(attacks.PGD(0.1, 0.1, 1), exits=(0, 3)),
    ],
    ids=repr,
)
def test_exits_that_the_model_lacks_are_refused(attack):
    for call in (
        lambda: attack.validate(3),
        lambda: attack(linear_predict(), images(), [0, 1]),
    ):
        with pytest.raises(ValueError, match="Exit index 3 does not exist"):
            call()
    attack.validate(4)


# Arguments of all attacks.


def pgd_with(**arguments):
    return attacks.PGD(
        **{"epsilon": 0.1, "step_size": 0.1, "num_steps": 1, **arguments}
    )


def test_limits_of_epsilon():
    assert pgd_with(epsilon=0).epsilon == 0
    assert pgd_with(epsilon=1).epsilon == 1
    assert pgd_with(epsilon=8, norm="l2").epsilon == 8


def test_epsilon_is_0_or_a_change_of_float32():
    assert attacks.UniformNoise(2.0**-24).epsilon == 2.0**-24
    with pytest.raises(ValueError, match="`epsilon` is in pixel units .*1e-09"):
        attacks.UniformNoise(1e-9)


# What a new attack returns.


class Returns(attacks.Attack):
    """Returns what it is given, and says that it logs `share`."""

    def __init__(self, returned, names=()):
        super().__init__(0.1)
        self.returned = returned
        self.names = names

    def logged(self, num_exits):
        return dict.fromkeys(self.names, (0,))

    def perturb(self, predict, images, labels, keys):
        return self.returned(images)


def crafted(returned, names=()):
    predict = attacks.ExitLogits(
        lambda images, exits: [ops.mean(images, axis=(1, 2))] * len(exits), 2
    )
    images = np.full((3, 2, 2, 4), 0.5, "float32")
    return Returns(returned, names)(predict, images, np.zeros(3, "int32"))


@pytest.mark.parametrize(
    ("returned", "received"),
    [
        (lambda images: images[:1], r"\(1, 2, 2, 4\)"),
        (lambda images: images[:2], r"\(2, 2, 2, 4\)"),
        (lambda images: images[..., :1], r"\(3, 2, 2, 1\)"),
        (lambda images: images[0], r"\(2, 2, 4\)"),
    ],
)
def test_an_attack_returns_one_image_per_image(returned, received):
    message = (
        "Returns.perturb needs to return one adversarial image per image, of "
        rf"shape \(3, 2, 2, 4\), received shape {received}"
    )
    with pytest.raises(ValueError, match=message):
        crafted(lambda images: (returned(images), {}))


@pytest.mark.parametrize(
    "returned", [lambda images: images, lambda images: (images, {}, 3)]
)
def test_an_attack_returns_images_and_info(returned):
    with pytest.raises(TypeError, match=r"return \(adversarial, info\), rec"):
        crafted(returned)


def test_an_attack_returns_what_it_logs():
    with pytest.raises(ValueError, match=r"names, \['share'\], received {}"):
        crafted(lambda images: (images, {}), ["share"])
    with pytest.raises(ValueError, match="`info` dict .* received None"):
        crafted(lambda images: (images, None))


def test_an_attack_may_return_arrays():
    moved = crafted(lambda images: (np.full((3, 2, 2, 4), 0.55), {}))
    arrays.close(moved, 0.55, atol=1e-7)


# Configuration.


@pytest.mark.parametrize("attack", ALL_ATTACKS, ids=repr)
def test_round_trip_keeps_every_argument(attack):
    loaded = saving.rebuilt(attack)
    assert type(loaded) is type(attack)
    assert repr(loaded) == repr(attack)
    assert loaded.get_config() == attack.get_config()
    assert (loaded.epsilon, loaded.norm) == (attack.epsilon, attack.norm)
    assert repr(loaded.members) == repr(attack.members)


def test_representation_shows_how_to_write_the_attack():
    assert repr(attacks.MaxAverage(pgd_with())) == (
        "MaxAverage(attack=PGD(epsilon=0.1, step_size=0.1, num_steps=1, "
        "norm='linf', random_start=True, num_restarts=1, "
        "objective=AverageExits(exits=None, loss='cross_entropy', "
        "success='all')), "
        "exits=None)"
    )


def test_with_objective_changes_nothing_else():
    original = attacks.PGD(0.2, 0.1, 3, "l2", True, 4)
    objective = attacks.SingleExit(1)
    copy = original.with_objective(objective)
    assert copy.arguments() == {**original.arguments(), "objective": objective}
    assert isinstance(original.objective, attacks.AverageExits)


# Names.


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("max_average", attacks.MaxAverage),
        ("average", attacks.PGD),
        ("pgd", attacks.PGD),
        ("PGD", attacks.PGD),
        ("fgsm", attacks.PGD),
        ("AutoAttack", attacks.AutoAttack),
        ("auto-attack", attacks.AutoAttack),
        ("apgd", attacks.APGD),
        ("CW", attacks.CW),
        ("square", attacks.Square),
    ],
)
def test_names_are_refused_with_what_to_write(name, wanted):
    with pytest.raises(ValueError) as caught:
        attacks.get(name)
    message = str(caught.value)
    assert f"attack={name!r} does not say how strong the attack is" in message
    assert "Give epsilon: attack=keras_neokd.attacks." in message
    written = message.split("attack=keras_neokd.attacks.")[1]
    written = written.split(" (pixel units")[0]
    example = eval(written, vars(attacks))
    assert type(example) is wanted


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        *(
            (
                each,
                ValueError,
                rf"Unknown attack {each[0]!r}.*\['apgd', 'apgd_ce', ",
            )
            for each in (["deepfool"], [""])
        ),
        *(
            ([each], TypeError, "`attack` needs a keras_neokd.attacks.Attack")
            for each in (None, 0.3, attacks.PGD, {"epsilon": 0.3})
        ),
        (
            ["pgd", "validation_attack"],
            ValueError,
            "validation_attack=keras_neokd",
        ),
    ],
)
def test_what_is_no_attack_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        attacks.get(*arguments)


def test_attacks_pass_as_they_are_and_are_their_own_only_member():
    attack = pgd_with()
    assert attacks.get(attack) is attack
    assert attack.members == (attack,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.with_objective(attacks.SingleExit(0)),
            "aimed at one exit .*received UniformNoise",
        ),
        (
            lambda a: a.with_loss("margin"),
            "loss can be replaced .*received UniformNoise.* of your own, write "
            r"with_loss\(self, loss, random_start=None\): it returns a copy",
        ),
    ],
)
def test_an_attack_says_that_it_has_no_objective(change, message):
    with pytest.raises(TypeError, match=message):
        change(attacks.UniformNoise(0.1))
