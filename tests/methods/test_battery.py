"""Every training method: values, gradients, files, replicas.

The methods are the rows of tests/methods/table.py. All run through `fit`'s own
training step, on a network that NumPy knows as well.
"""

import contextlib
import copy

import keras
import numpy as np
import pytest

from keras_neokd import methods
from tests import arrays
from tests import saving
from tests.marks import slow
from tests.methods import table
from tests.methods import tiny_network
from tests.reference import equations as reference
from tests.training import tiny

IMAGES, LABELS = tiny.data(
    6, shape=tiny_network.IMAGE_SHAPE, num_classes=tiny_network.NUM_CLASSES
)
ADVERSARIAL = tiny.nearby(IMAGES)
# The teacher is right about these, so that masks let some through.
LABELS[:3] = tiny_network.NumpyTeacher().logits(IMAGES[:3]).argmax(axis=1)
SAMPLE_WEIGHTS = np.array([1.0, 0.5, 2.0, 1.0, 0.0, 1.5], "float32")
INDEX = np.array([4, 0, 12, 7, 2, 9])

all_methods = pytest.mark.parametrize("name", table.ROWS)
# Of these tests, the ones with compiled loops take long: one row of each kind
# in `make test`, the others in `make test-all`.
_OF_EACH_KIND = (
    "neo_kd",
    "skd_annealing",
    "ard",
    "lw",
    "trades",
    "teat",
    "kdiga",
    "kdiga_ard",
    "nkd_and_trades",
)
all_methods_slowly = pytest.mark.parametrize(
    "name",
    [each if each in _OF_EACH_KIND else slow(each) for each in table.ROWS],
)


class GivenAttack(tiny.GivenImages):
    """Given images, whatever loss a method wants maximised."""

    def with_loss(self, loss, random_start=None):
        return self


def compiled(name, **arguments):
    model = tiny_network.student()
    model.compile(
        **{
            "optimizer": keras.optimizers.SGD(1.0),
            "method": table.ROWS[name].make(tiny_network.teacher()),
            "attack": GivenAttack(ADVERSARIAL),
            **arguments,
        }
    )
    return model


def labels_for(model, index, labels):
    if model.method.num_examples:
        return {"label": labels, "index": index}
    return labels


@pytest.fixture(scope="module")
def steps():
    """For each method, weights before and after a step, and its logs."""
    known = {}

    def step(name):
        if name not in known:
            model = compiled(name)
            model.set_epoch(table.EPOCH)
            before = tiny_network.weights_of(model)
            logs = model.train_on_batch(
                IMAGES,
                labels_for(model, INDEX, LABELS),
                sample_weight=SAMPLE_WEIGHTS,
                return_dict=True,
            )
            logs = {key: float(value) for key, value in logs.items()}
            known[name] = before, tiny_network.weights_of(model), logs
        return known[name]

    return step


def given_at(weights, held):
    return table.Given(
        tiny_network.NumpyStudent(weights),
        tiny_network.NumpyStudent(held),
        IMAGES.astype("float64"),
        ADVERSARIAL.astype("float64"),
        LABELS,
    )


def reference_terms(row, given):
    """Values and weights of base and extra terms."""
    clean, adversarial = (
        reference.cross_entropy(given.live.logits(images), LABELS)
        for images in (given.images, given.adversarial)
    )
    return {
        "clean": (clean, row.base[0] * table.ONES),
        "adversarial": (adversarial, row.base[1] * table.ONES),
        **row.terms(given),
    }


def mean(values):
    """Mean over examples, if there are any."""
    if values.ndim == 1:
        return values
    return np.mean(SAMPLE_WEIGHTS[:, None] * values, axis=0)


def reference_loss(row, given):
    terms = reference_terms(row, given).values()
    return sum(np.sum(weights * mean(values)) for values, weights in terms)


@all_methods
def test_every_term_equals_the_reference(name, steps):
    before, _, logs = steps(name)
    row, given = table.ROWS[name], given_at(before, before)
    terms = reference_terms(row, given)
    if "exit_1_adversarial_loss" not in logs:
        del terms["adversarial"]
        assert row.base[1] == 0
    logged = {
        key.removeprefix("exit_1_").removesuffix("_loss")
        for key in logs
        if key.startswith("exit_1_") and key.endswith("_loss")
    }
    assert logged == set(terms)
    for term, (values, weights) in terms.items():
        found = np.array([logs[f"{name}_{term}_loss"] for name in tiny.NAMES])
        counts = weights > 0
        arrays.close(
            found[counts], mean(values)[counts], 1e-5, 1e-6, err_msg=term
        )
    assert logs["loss"] == pytest.approx(reference_loss(row, given), rel=1e-5)


@all_methods
def test_the_gradient_of_the_loss_is_that_of_finite_differences(name, steps):
    before, after, _ = steps(name)
    row, width = table.ROWS[name], 1e-6
    largest = 0.0
    for exit_, part, which in np.ndindex(tiny_network.NUM_EXITS, 2, 2):
        start = before[exit_][part][which]
        # A step of plain SGD at rate 1 is the gradient.
        found = start - after[exit_][part][which]
        expected = np.zeros_like(start)
        for place in np.ndindex(start.shape):
            ends = []
            for sign in (1, -1):
                moved = copy.deepcopy(before)
                moved[exit_][part][which][place] += sign * width
                ends.append(reference_loss(row, given_at(moved, before)))
            expected[place] = (ends[0] - ends[1]) / (2 * width)
        largest = max(largest, np.abs(expected).max())
        arrays.close(found, expected, rtol=1e-4, atol=2e-5 * max(1, largest))
    assert largest > 1e-3


@all_methods
def test_configuration_comes_back(name):
    teacher = tiny_network.teacher()
    method = table.ROWS[name].make(teacher)
    # Nothing of the teacher.
    assert "softplus" not in str(keras.saving.serialize_keras_object(method))
    loaded = saving.rebuilt(method)
    if "kdiga" in name:
        loaded = loaded.with_teacher(teacher)
    assert repr(loaded) == repr(method)


@all_methods_slowly
def test_a_model_reloaded_in_mid_training_goes_on_the_same(name, tmp_path):
    model = compiled(name, optimizer=tiny.sgd(), attack=tiny.pgd(2))
    y = labels_for(model, INDEX, LABELS)
    model.set_epoch(3)
    for _ in range(2):
        model.train_on_batch(IMAGES, y)
    loaded = saving.reloaded(model, tmp_path)
    if "kdiga" in name:
        with pytest.raises(ValueError, match="model.set_teacher"):
            loaded.train_on_batch(IMAGES, y)
        loaded.set_teacher(tiny_network.teacher())
    for each in (model, loaded):
        each.set_epoch(4)
        for _ in range(2):
            each.train_on_batch(IMAGES, y)
    tiny.assert_equal_states(model.get_weights(), loaded.get_weights(), 1e-6)
    for key, variable in model.training_step.state.items():
        other = loaded.training_step.state[key]
        arrays.close(variable, other, atol=1e-6)


@all_methods_slowly
@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="needs tf.distribute"
)
def test_two_replicas_equal_one_device(name):
    from apps import distributing

    images, labels = tiny.data(
        13, shape=tiny_network.IMAGE_SHAPE, num_classes=tiny_network.NUM_CLASSES
    )
    strategy = distributing.mirrored_strategy()
    assert strategy.num_replicas_in_sync == 2
    logs, weights, state = _train(name, None, images, labels)
    others, other_weights, other_state = _train(name, strategy, images, labels)
    tiny.assert_equal_logs(logs, others, tolerance=2e-5)
    tiny.assert_equal_states(weights, other_weights, tolerance=2e-5)
    tiny.assert_equal_states(state, other_state, tolerance=2e-5)


def _train(name, strategy, images, labels):
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = compiled(name, optimizer=tiny.sgd(), attack=tiny.pgd(2))
    # Batches of 8 and 5: the last one gives 3 images to one replica, 2 to
    # the other.
    history = tiny.fit(
        model,
        images,
        labels_for(model, np.arange(13), labels),
        batch_size=8,
        epochs=4,
        initial_epoch=2,
    )
    state = [tiny.array(each) for each in model.training_step.state.values()]
    return history, model.get_weights(), state


@all_methods_slowly
def test_the_network_is_that_without_a_method(name, tmp_path):
    """No method costs anything at inference."""
    plain = tiny_network.student()
    model = compiled(name)
    assert len(model.weights) == len(plain.weights)
    assert model.exit_costs() == plain.exit_costs()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert len(loaded.variables) == len(plain.variables)
    arrays.equal(loaded(IMAGES)["exit_2"], plain(IMAGES)["exit_2"])


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="a SavedModel"
)
def test_an_exported_model_holds_no_state_of_the_method(tmp_path):
    import tensorflow as tf

    model = compiled("teat")
    model.export(str(tmp_path / "model"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    shapes = {tuple(each.shape) for each in loaded.variables}
    assert (13, 3, 5) not in shapes
    assert set(loaded.serve(IMAGES)) == set(tiny.NAMES)


def test_every_method_has_a_row():
    teacher = tiny_network.teacher()
    with_rows = {
        type(part)
        for row in table.ROWS.values()
        for _, part in methods.method.summands(row.make(teacher))
    }
    public = {
        value
        for value in vars(methods).values()
        if isinstance(value, type) and issubclass(value, methods.Method)
    }
    assert public - with_rows == {methods.Method, methods.Sum}
