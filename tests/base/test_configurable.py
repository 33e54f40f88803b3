"""Arguments that do not exist are refused by the name of the right one."""

import copy
import inspect
import pickle

import pytest

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd.base.configurable import SYNONYMS
from keras_neokd.base.configurable import Configurable
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.optimizers import TorchSGD

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("make", "wrong", "right"),
    [
        # By what other libraries and papers call it.
        (attacks.PGD, "eps", "epsilon"),
        (attacks.PGD, "alpha", "step_size"),
        (attacks.PGD, "steps", "num_steps"),
        (attacks.Square, "n_queries", "num_queries"),
        (attacks.CW, "lr", "learning_rate"),
        (methods.NEOKD, "alpha", "nkd_weight"),
        (methods.NEOKD, "gamma", "exit_weights"),
        (methods.TRADES, "beta", "weight"),
        (methods.SKD, "T", "temperature"),
        # By a slip.
        (attacks.PGD, "epsilons", "epsilon"),
        (attacks.AverageExits, "exit", "exits"),
        (ExitPolicy, "treshold", "thresholds"),
    ],
)
def test_a_wrong_name_is_refused_by_the_right_one(make, wrong, right):
    message = (
        f"^{make.__name__} has no argument `{wrong}`: it is called `{right}`"
    )
    with pytest.raises(TypeError, match=message):
        make(**{wrong: 1})


def test_all_wrong_names_are_named():
    with pytest.raises(TypeError) as caught:
        attacks.PGD(eps=0.1, step_size=0.1, steps=3)
    assert str(caught.value) == (
        "PGD has no argument `eps`: it is called `epsilon`; it has no "
        "argument `steps`: it is called `num_steps`."
    )


def test_a_name_like_no_other_lists_the_arguments():
    message = "no argument `xyz`: the arguments are `attack`, `exits`"
    with pytest.raises(TypeError, match=message):
        attacks.MaxAverage(attacks.PGD(0.1, 0.1, 1), xyz=3)


def test_every_synonym_leads_to_an_argument():
    takers = [getattr(attacks, name) for name in attacks.__all__]
    takers += [getattr(methods, name) for name in methods.__all__]
    takers += [MultiExitModel.compile, TorchSGD]
    known = {
        name
        for taker in takers
        if callable(taker)
        for name in inspect.signature(taker).parameters
    }
    assert {each for right in SYNONYMS.values() for each in right} <= known


class Plain(Configurable):
    """Takes no arguments."""


class Forwarding(attacks.PGD):
    """Hands on what it is given."""

    def __init__(self, **settings):
        super().__init__(**{"step_size": 0.05, "num_steps": 1, **settings})


def test_a_class_without_a_constructor_takes_no_arguments():
    assert Plain().arguments() == {}
    assert repr(Plain()) == "Plain()"
    for bad in ({"a": 1}, {"epsilon": 1}):
        with pytest.raises(TypeError, match="^Plain takes no arguments"):
            Plain(**bad)
    with pytest.raises(TypeError, match="^Plain takes no arguments"):
        Plain(3)


def test_a_subclass_may_hand_arguments_on():
    assert Forwarding(epsilon=0.1).epsilon == 0.1
    assert Forwarding(epsilon=0.1).replace(epsilon=0.2).epsilon == 0.2
    with pytest.raises(TypeError, match="^Forwarding has no argument `eps`"):
        Forwarding(eps=0.1)


def test_objects_are_copied_and_pickled():
    attack = attacks.PGD(0.1, 0.05, 1)
    for other in (copy.deepcopy(attack), pickle.loads(pickle.dumps(attack))):
        assert repr(other) == repr(attack)
