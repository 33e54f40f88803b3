"""Programs that a model keeps: used again, never where they are wrong."""

import gc
import weakref

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd import losses
from tests import arrays
from tests.evaluation import searches
from tests.training import tiny

IMAGES, LABELS = tiny.data(12)
traced = pytest.mark.skipif(
    keras.config.backend() == "torch", reason="PyTorch traces nothing"
)
# An entry each time that Python runs one of the classes below.
TRACES = []
SCALE = 1.0


@pytest.fixture(autouse=True)
def _nothing_traced():
    TRACES.clear()


@pytest.fixture
def model():
    return tiny.dense_model(norm=True, dropout=0.3)


@keras.saving.register_keras_serializable("tests_of_programs")
class Traced(keras.layers.Layer):
    def __init__(self, factor=1.0, **arguments):
        super().__init__(**arguments)
        self.factor = factor

    def call(self, inputs):
        try:
            keras.ops.convert_to_numpy(inputs)
        except Exception:  # Whatever a framework raises without numbers.
            TRACES.append(self.name)
        return self.factor * inputs


def traced_model(**arguments):
    """Return a model of equal exits that counts, and the classes it gives."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(Traced(**arguments)(inputs))
    x = keras.layers.Dense(6, "relu")(x)
    heads = [keras.layers.Dense(tiny.NUM_CLASSES) for _ in range(3)]
    model = MultiExitModel(inputs, [head(x) for head in heads])
    tiny.randomized(model)
    for head in heads:
        head.set_weights(heads[0].get_weights())
    logits = model.predict(IMAGES, verbose=0)
    return model, logits["exit_1"].argmax(axis=1)


@keras.saving.register_keras_serializable("tests_of_programs")
class Registered(attacks.PGD):
    """As `Attack`s are written: its attributes say what it does."""

    share = 1.0

    def __init__(self, epsilon=0.1, step_size=0.05, num_steps=2, **arguments):
        super().__init__(epsilon, step_size, num_steps, **arguments)
        self.strength = 1.0

    def perturb(self, predict, images, labels, keys):
        TRACES.append("attack")
        moved, info = super().perturb(predict, images, labels, keys)
        change = self.share * self.strength * (moved - images)
        return images + change, info


class Notebook(attacks.PGD):
    """Reads what no attribute tells of."""

    def perturb(self, predict, images, labels, keys):
        moved, info = super().perturb(predict, images, labels, keys)
        return images + SCALE * (moved - images), info


def found(model, attack=None, count=12, **arguments):
    """Return adversarial images, or without an attack probabilities."""
    arguments = {"batch_size": 6, **arguments}
    given = model, IMAGES[:count], arguments.pop("labels", LABELS[:count])
    if attack is None:
        return evaluation.exit_probabilities(*given, **arguments)
    return evaluation.adversarial_images(*given, attack, **arguments)


def fresh(model):
    """Return a model of the same weights that has kept nothing."""
    clone = tiny.dense_model(norm=True, dropout=0.3)
    clone.set_weights(model.get_weights())
    return clone


def found_as_fresh(model, attack=None, **arguments):
    """Return what was found, if a model that kept nothing finds the same."""
    own = found(model, attack, **arguments)
    arrays.equal(own, found(fresh(model), attack, **arguments))
    return own


def trained(model):
    """Compile for training that is traced soon."""
    return tiny.compiled(
        model, method="adversarial_training", attack=tiny.NoiseImages()
    )


def differ(first, second):
    return not np.array_equal(first, second)


# Used again.


MEASUREMENTS = {
    "anytime": lambda *data: evaluation.anytime(*data, tiny.pgd()).ranks,
    "search": lambda *data: (
        evaluation.search(*data, searches.walk_and_pgd(), 5).adversarial
    ),
    "transferability": lambda *data: (
        evaluation.transferability(*data, tiny.pgd(), batch_size=6).matrix
    ),
    "sensitivity": lambda *data: (
        evaluation.sensitivity(
            *data, tiny.pgd(), "epsilon", (0.05, 0.1), 6
        ).accuracy
    ),
    "local_linearity": lambda *data: (
        evaluation.local_linearity(
            *data, 0.1, num_steps=2, batch_size=6
        ).deviations
    ),
    "soundness": lambda *data: (
        [each.code for each in evaluation.soundness.check_model(*data, 4)]
    ),
    "smoothing": lambda *data: (
        evaluation.certify(*data, 0.1, 10, 10, batch_size=5).lower_bounds
    ),
}


@traced
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_second_measurement_traces_nothing(name):
    model, labels = traced_model()
    TRACES.clear()
    first = MEASUREMENTS[name](model, IMAGES, labels)
    assert TRACES
    TRACES.clear()
    second = MEASUREMENTS[name](model, IMAGES, labels)
    assert not TRACES
    arrays.equal(first, second)


@traced
def test_other_seeds_and_equal_attacks_trace_nothing(model):
    first = found(model, Registered())
    assert TRACES == ["attack"]
    assert differ(found(model, Registered(), seed=1), first)
    arrays.equal(found(model, Registered()), first)
    assert TRACES == ["attack"]


@traced
def test_training_traces_no_evaluation_again(model):
    trained(model)
    before = found(model, Registered())
    model.fit(IMAGES, LABELS, batch_size=6, verbose=0)
    assert differ(found_as_fresh(model, Registered()), before)
    assert len(TRACES) == 2  # One is of the fresh model.


# Never where they are wrong.


def test_new_weights_are_seen(model):
    before = found_as_fresh(model, tiny.pgd(2))
    tiny.randomized(model, seed=7)
    after = found_as_fresh(model, tiny.pgd(2))
    assert differ(before, after)
    for _ in range(2):
        before = after
        trained(model).fit(IMAGES, LABELS, batch_size=6, verbose=0)
        after = found_as_fresh(model, tiny.pgd(2))
        assert differ(before, after)


@pytest.mark.parametrize(
    "change",
    [
        lambda attack: attack.replace(epsilon=0.2),
        lambda attack: attack.replace(step_size=0.01),
        lambda attack: attack.replace(num_steps=3),
        lambda attack: attack.replace(random_start=False),
        lambda attack: attack.with_objective(attacks.SingleExit(0)),
        lambda attack: attack.with_objective(attacks.AverageExits((0, 1))),
        lambda attack: attack.with_loss("margin"),
        lambda attack: attacks.MaxAverage(attack),
        lambda attack: attacks.MaxAverage(attack, exits=(0, 1)),
        lambda attack: setattr(attack, "epsilon", 0.2) or attack,
        lambda attack: setattr(attack.objective, "exits", (1,)) or attack,
    ],
)
def test_another_attack_is_another_program(model, change):
    attack = tiny.pgd(2)
    before = found(model, attack)
    assert differ(found_as_fresh(model, change(attack)), before)
    arrays.equal(found(model, tiny.pgd(2)), before)


def test_other_thresholds_are_another_program(model):
    by = [
        found_as_fresh(model, tiny.pgd(2, objective=attacks.EarlyExit(each)))
        for each in ((0.2, 0.2), (0.2, 0.9), (0.9, 0.9))
    ]
    assert differ(by[0], by[1]) and differ(by[1], by[2])


def test_batches_of_other_sizes_do_not_mix(model):
    for count, batch_size in ((12, 6), (12, 5), (7, 12), (12, 6)):
        found_as_fresh(model, tiny.pgd(2), count=count, batch_size=batch_size)


def strong(attack):
    attack.strength = 0.5


def of_class(_):
    Registered.share = 0.5


@pytest.mark.parametrize("change", [strong, of_class])
def test_what_a_registered_attack_holds_is_seen(model, change, monkeypatch):
    monkeypatch.setattr(Registered, "share", 1.0)
    attack = Registered()
    before = found(model, attack)
    change(attack)
    assert differ(found(model, attack), before)


def test_what_other_attacks_read_is_seen(model, monkeypatch):
    attack = Notebook(0.1, 0.05, 2)
    before = found(model, attack)
    monkeypatch.setitem(globals(), "SCALE", -1.0)
    assert differ(found(model, attack), before)


def scaled(logits, labels, exit):
    return SCALE * losses.cross_entropy(logits, labels)


def test_what_a_loss_reads_is_seen(model, monkeypatch):
    attack = tiny.pgd(2, objective=attacks.AverageExits(loss=scaled))
    before = found(model, attack)
    monkeypatch.setitem(globals(), "SCALE", -1.0)
    assert differ(found(model, attack), before)


@keras.saving.register_keras_serializable("tests_of_programs")
class Substitute(attacks.PGD):
    """Attacks with the gradients of another model."""

    def __init__(self, other, **arguments):
        super().__init__(0.5, 0.5, 1, **arguments)
        self.other = other

    def perturb(self, predict, images, labels, keys):
        predict = self.other.exit_logits()
        return super().perturb(predict, images, labels, keys)


def among_others(attack):
    return attacks.WorstCase([tiny.pgd(), attack], attacks.SingleExit(2))


@pytest.mark.parametrize("wrap", [lambda attack: attack, among_others])
def test_another_model_in_an_attack_is_seen(model, wrap):
    labels = found(model)[:, 2].argmax(axis=1)
    other = tiny.dense_model()
    attack = wrap(Substitute(other))
    before = found(model, attack, labels=labels)
    tiny.randomized(other, seed=3)
    after = found(model, attack, labels=labels)
    assert differ(before, after)
    arrays.equal(after, found(fresh(model), attack, labels=labels))


def test_images_in_an_attack_are_seen(model):
    attack = tiny.GivenImages(np.zeros((12, 8, 8, 1), "float32"), epsilon=1.0)
    before = found(model, attack, batch_size=12)
    attack.images += 0.5
    assert differ(found(model, attack, batch_size=12), before)


def activation(model):
    model.get_layer("dense").activation = keras.activations.tanh


def convolution(model):
    """Change what is merged once into the network that attacks see."""
    model.get_layer("conv_1").activation = keras.activations.tanh


def precision(model):
    policy = keras.DTypePolicy("mixed_bfloat16")
    for each in model.layers:
        each.dtype_policy = policy


def nothing_trained(model):
    model.trainable = False


def more_variables(model):
    head = model.get_layer("head_1")
    head.enable_lora(2)
    head.lora_kernel_b.assign(np.eye(2, tiny.NUM_CLASSES))


def moved(model):
    return found(model, tiny.pgd(2, random_start=False))


@pytest.mark.parametrize(
    "change",
    [activation, convolution, precision, nothing_trained, more_variables],
)
def test_changed_layers_are_seen(change):
    model, twin = tiny.conv_model(), tiny.conv_model()
    before = moved(model)
    change(model)
    after = moved(model)
    assert differ(after, before) == (change is not nothing_trained)
    change(twin)
    if change is not more_variables:  # They are drawn.
        arrays.equal(after, moved(twin))


def test_a_layer_of_others_that_is_registered_is_seen():
    model, _ = traced_model()
    before = found(model)
    next(each for each in model.layers if isinstance(each, Traced)).factor = 2.0
    assert differ(found(model), before)


def test_a_layer_that_is_not_registered_is_traced_each_time(monkeypatch):
    class Scaled(keras.layers.Layer):
        def call(self, inputs):
            return SCALE * inputs

    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(Scaled()(inputs))
    model = MultiExitModel(inputs, [keras.layers.Dense(tiny.NUM_CLASSES)(x)])
    before = found(tiny.randomized(model))
    monkeypatch.setitem(globals(), "SCALE", -1.0)
    assert differ(found(model), before)


def test_a_model_class_of_others_is_traced_each_time():
    class Scaled(MultiExitModel):
        scale = 1.0

        def exit_logits(self, training=False):
            predict = super().exit_logits(training)
            return attacks.ExitLogits(
                lambda images, exits: predict(self.scale * images, exits),
                self.num_exits,
            )

    plain = tiny.dense_model()
    model = Scaled(plain.inputs, list(plain.outputs))
    before = found(model)
    model.scale = -1.0
    assert differ(found(model), before)


@keras.saving.register_keras_serializable("tests_of_programs")
class Block(keras.Sequential):
    factor = 1.0

    def call(self, inputs, **arguments):
        return self.factor * super().call(inputs, **arguments)


def test_what_a_network_of_others_within_a_model_holds_is_seen():
    inputs = keras.Input((8, 8, 1))
    block = Block([keras.layers.Flatten(), keras.layers.Dense(4)])
    head = keras.layers.Dense(tiny.NUM_CLASSES)
    model = tiny.randomized(MultiExitModel(inputs, [head(block(inputs))]))
    before = found(model)
    block.factor = -1.0
    assert differ(found(model), before)


@keras.saving.register_keras_serializable("tests_of_programs")
class Weaker(attacks.PGD):
    """Is half as strong each time that Python runs it."""

    def __init__(self, epsilon=0.1, step_size=0.05, num_steps=2, **arguments):
        super().__init__(epsilon, step_size, num_steps, **arguments)
        self.strength = 1.0

    def perturb(self, predict, images, labels, keys):
        self.strength /= 2
        moved, info = super().perturb(predict, images, labels, keys)
        return images + self.strength * (moved - images), info


@traced
def test_an_attack_that_changes_itself_begins_anew(model):
    found_as_fresh(model, Weaker())
    found_as_fresh(model, Weaker(), count=5)  # Of another size.
    found_as_fresh(model, Weaker())


def test_keras_policy_is_seen(model):
    before = found(model, Registered())
    own = keras.config.dtype_policy()
    count = len(TRACES)
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        arrays.equal(found(model, Registered()), before)
        assert len(TRACES) > count
    finally:
        keras.config.set_dtype_policy(own)


def test_training_attacks_changed_layers():
    """`compile` has the network made anew that attacks see."""
    model, twin = tiny.conv_model(), tiny.conv_model()
    method = {"method": "adversarial_training"}
    tiny.compiled(model, **method).train_on_batch(IMAGES, LABELS)
    convolution(model)
    convolution(twin)
    model.set_weights(twin.get_weights())
    logs = [
        tiny.compiled(each, **method).train_on_batch(
            IMAGES, LABELS, return_dict=True
        )
        for each in (model, twin)
    ]
    tiny.assert_equal_logs(*logs)


# Kept, and let go.


@traced
def test_programs_that_were_not_used_for_long_are_let_go(model):
    def evaluate(attack):
        evaluation.anytime(model, IMAGES[:4], LABELS[:4], attack)

    def evaluate_others(number):
        for each in range(number):
            evaluate(attacks.UniformNoise(0.01 * (1 + each)))

    evaluate(Registered())
    evaluate_others(31)
    evaluate(Registered())
    assert len(TRACES) == 1
    evaluate_others(32)
    evaluate(Registered())
    assert len(TRACES) == 2


def test_programs_go_with_their_model():
    # The first convolution is of one channel, with a gradient of its own.
    models = searches.small_model(), tiny.conv_model()
    gone = []
    for model, images in zip(models, (searches.IMAGES, IMAGES), strict=True):
        labels = LABELS[:4]
        evaluation.anytime(model, images[:4], labels, tiny.pgd())
        evaluation.search(model, images[:4], labels, searches.walk_and_pgd(), 4)
        gone += map(weakref.ref, [model, *model.layers, *model.weights])
    del model, models
    gc.collect()
    assert [each() for each in gone] == [None] * len(gone)
