"""What holds for every attack, image and model."""

import functools

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as numpy_strategies
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.base.exit_policy import ExitPolicy
from tests import arrays
from tests.attacks import running
from tests.marks import slow
from tests.reference import equations as reference
from tests.training import tiny

COUNT = 4
SHAPE = (3, 2, 1)
NUM_CLASSES = 4
FEW = {"epsilon": 0.2, "num_steps": 2}
ATTACKS = [
    attacks.PGD(step_size=0.1, num_restarts=2, **FEW),
    attacks.PGD(step_size=0.5, norm="l2", **FEW),
    attacks.MaxAverage(attacks.PGD(step_size=0.1, norm="l2", **FEW)),
    attacks.APGD(**FEW),
    attacks.TargetedAPGD(num_targets=1, **FEW),
    attacks.FAB(**FEW),
    attacks.Square(0.2, num_queries=3),
    attacks.CW(num_steps=3, learning_rate=0.1),
]
SLOW_ATTACKS = [
    attacks.PGD(step_size=0.1, **FEW),
    attacks.APGD(objective=attacks.AverageExits(loss="dlr"), **FEW),
    attacks.APGD(norm="l2", num_restarts=2, **FEW),
    attacks.TargetedAPGD(norm="l2", loss="margin", **FEW),
    attacks.FAB(norm="l2", num_restarts=2, **FEW),
    attacks.TargetedFAB(**FEW),
    attacks.TargetedFAB(norm="l2", num_targets=1, **FEW),
    attacks.Square(0.2, num_queries=3, norm="l2", num_restarts=2),
    attacks.CW(epsilon=0.2, num_steps=5, learning_rate=0.1),
    attacks.MaxAverage(attacks.APGD(**FEW)),
    attacks.AutoAttack(0.2, num_steps=3, num_queries=6),
    attacks.AutoAttack(0.2, "plus", num_steps=2, num_queries=4),
    attacks.WorstCase([attacks.CW(epsilon=0.2, num_steps=3)]),
]
# With two exits there is one threshold.
OBJECTIVES = [
    attacks.SingleExit(1, loss="margin"),
    attacks.AverageExits(success="any"),
    attacks.AverageExits((1,), loss="dlr", success="all"),
    attacks.EarlyExit(ExitPolicy((0.4,), ensemble=True)),
    attacks.EarlyExit((0.4,), loss="margin"),
    attacks.SlowDown((0.4,)),
]
ATTACKS.append(attacks.Square(0.2, num_queries=3, objective=OBJECTIVES[3]))
SLOW_ATTACKS += [
    make(objective)
    for objective in OBJECTIVES
    for make in (
        lambda each: attacks.PGD(step_size=0.1, objective=each, **FEW),
        lambda each: attacks.Square(0.2, num_queries=3, objective=each),
        lambda each: attacks.WorstCase([attacks.APGD(**FEW)], each),
    )
]
SLOW_ATTACKS += [
    make(objective)
    for objective in OBJECTIVES
    if not objective.has_own_loss
    for make in (
        lambda each: attacks.TargetedFAB(objective=each, **FEW),
        lambda each: attacks.CW(num_steps=3, objective=each),
    )
]


# How many cases are drawn: `make test-all` looks at more.
QUICK, MANY = 20, 100
every_attack = pytest.mark.parametrize(
    ("attack", "count"),
    [
        *((each, QUICK) for each in ATTACKS),
        *(slow(each, MANY) for each in ATTACKS + SLOW_ATTACKS),
    ],
    ids=repr,
)


def for_cases(count, check, **drawn):
    """Call a check with drawn arguments, the same in every run."""
    settings = hypothesis.settings(
        max_examples=count, deadline=None, derandomize=True, database=None
    )
    settings(hypothesis.given(**drawn)(check))()


@functools.cache
def compiled(attack):
    """The attack on linear exits whose weights are arguments."""

    def generate(weights, offsets, *batch):
        def function(images, exits):
            flat = ops.reshape(images, (-1, weights.shape[1], 1))
            # A product of matrices may round a row as its neighbours suit.
            return [
                ops.sum(flat * weights[i], axis=1) + offsets[i] for i in exits
            ]

        predict = attacks.ExitLogits(function, num_exits=2)
        return attack.generate(predict, *batch)[0]

    return backend.compile_function(generate, [])


def attacked(attack, case, rows=slice(None)):
    """Attack some of the images of a case, in any order."""
    model = [ops.convert_to_tensor(each) for each in case["model"]]
    batch = running.tensors(
        case["images"][rows],
        case["labels"][rows],
        np.arange(COUNT)[rows],
        case["seed"],
    )
    return ops.convert_to_numpy(compiled(attack)(*model, *batch))


@strategies.composite
def cases(draw):
    """A model, images, labels, and a seed."""
    images = draw(
        numpy_strategies.arrays(
            np.float32,
            (COUNT, *SHAPE),
            elements=strategies.floats(0, 1, width=32),
        )
    )
    labels = draw(
        strategies.lists(
            strategies.integers(0, NUM_CLASSES - 1),
            min_size=COUNT,
            max_size=COUNT,
        )
    )
    # Saturated and all but flat ones.
    scale = draw(strategies.sampled_from((1.0, 0.1, 1e-6, 30.0, 0.0)))
    rng = np.random.default_rng(draw(strategies.integers(0, 2**16)))
    weights = scale * rng.normal(size=(2, 6, NUM_CLASSES))
    offsets = scale * rng.normal(size=(2, NUM_CLASSES))
    return {
        "images": images,
        "labels": np.array(labels),
        "seed": draw(strategies.integers(0, 2**31 - 1)),
        "model": [each.astype("float32") for each in (weights, offsets)],
    }


@every_attack
def test_images_are_finite_in_the_ball_and_in_the_pixel_range(attack, count):
    def check(case):
        adversarial = attacked(attack, case)
        assert adversarial.dtype == np.float32
        assert adversarial.shape == case["images"].shape
        assert np.isfinite(adversarial).all()
        assert adversarial.min() >= 0 and adversarial.max() <= 1
        if attack.epsilon is not None:
            change = adversarial.astype("float64") - case["images"]
            linf = attack.norm == "linf"
            size = abs(change) if linf else reference.lengths(change)
            assert size.max() <= attack.epsilon + 1e-6

    for_cases(count, check, case=cases())


@every_attack
def test_an_image_is_attacked_the_same_way_beside_any_others(attack, count):
    def check(case, rows):
        # With all rows in order, it says that attacks are deterministic.
        whole = attacked(attack, case)
        found = attacked(attack, case, rows)
        arrays.close(found, whole[rows], rtol=0, atol=1e-6)

    some_rows = strategies.lists(
        strategies.integers(0, COUNT - 1), min_size=COUNT, max_size=COUNT
    )
    for_cases(count, check, case=cases(), rows=some_rows)


@pytest.mark.parametrize(
    "attack", [*ATTACKS, *map(slow, SLOW_ATTACKS)], ids=repr
)
def test_the_same_seed_gives_the_same_images(attack):
    case = {
        "images": np.random.default_rng(1).random((COUNT, *SHAPE), "float32"),
        "labels": np.arange(COUNT),
        "seed": 3,
        "model": [
            np.random.default_rng(2).normal(size=size).astype("float32")
            for size in ((2, 6, NUM_CLASSES), (2, NUM_CLASSES))
        ],
    }
    first = attacked(attack, case)
    keras.utils.set_random_seed(99)
    arrays.equal(attacked(attack, case), first)


PLUS = attacks.AutoAttack(0.2, "plus", 1, 1, num_targets=1)
MARGIN = attacks.AutoAttack(0.2, "standard", 1, 1, 2, "margin")
CW = attacks.CW(num_steps=1)


@pytest.mark.parametrize("attack", [PLUS, CW], ids=["plus", "cw"])
@pytest.mark.parametrize("count", [0, 1])
def test_batches_may_be_empty_or_a_single_image(attack, count):
    model = reference.LinearExits(2, SHAPE, NUM_CLASSES)
    images = np.full((count, *SHAPE), 0.5, "float32")
    predict = attacks.ExitLogits(model, 2)
    adversarial = attack(predict, images, np.zeros(count, "int32"))
    assert adversarial.shape == images.shape


@pytest.mark.parametrize(
    ("attack", "fewest", "num_classes"),
    [
        (PLUS, 4, 2),
        (PLUS, 4, 3),
        (PLUS, 4, 4),
        slow(PLUS, 4, 10),
        slow(PLUS, 4, 100),
        (MARGIN, 2, 2),
        slow(MARGIN, 2, 3),
        slow(MARGIN, 2, 4),
        slow(MARGIN, 2, 10),
        (MARGIN, 2, 100),
        (CW, 2, 2),
        slow(CW, 2, 100),
    ],
)
def test_any_number_of_classes_or_a_refusal_by_name(
    attack, fewest, num_classes
):
    model = reference.LinearExits(2, SHAPE, num_classes)
    predict = attacks.ExitLogits(model, 2)
    images = np.full((2, *SHAPE), 0.5, "float32")
    labels = [0, num_classes - 1]
    if num_classes < fewest:
        with pytest.raises(ValueError, match="needs at least . classes"):
            attack(predict, images, labels)
    else:
        adversarial = ops.convert_to_numpy(attack(predict, images, labels))
        assert np.isfinite(adversarial).all()


@pytest.mark.parametrize("attack", [MARGIN, CW], ids=["standard", "cw"])
def test_an_attack_leaves_the_model_as_it_is(attack):
    model = tiny.dense_model(norm=True, dropout=0.5)
    images, labels = tiny.data(4)
    before = tiny.snapshot(model)
    attack(model.exit_logits(), images, labels)
    tiny.assert_equal_states(tiny.snapshot(model), before)
