"""KDIGA: teachers of all kinds, attacks that are not needed, files.

Values, gradients and replicas are in the battery.
"""

import keras
import numpy as np
import pytest
from keras import layers

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd.models.convolution import ImageConv2D
from tests import saving
from tests.marks import slow
from tests.methods import teachers
from tests.training import tiny

IMAGES, LABELS = tiny.data()
SHAPE, teacher = teachers.SHAPE, teachers.single


def step(model, **arguments):
    logs = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    return {name: float(value) for name, value in logs.items()}


def compiled(method, model=None, **arguments):
    model = tiny.dense_model() if model is None else model
    # Tracing would take most of the time; the battery trains compiled steps.
    eagerly = keras.config.backend() == "tensorflow"
    return tiny.compiled(
        model,
        method=method,
        **{"attack": None, "run_eagerly": eagerly, **arguments},
    )


# Teachers.


def test_one_of_several_outputs_teaches():
    network = teachers.network("exits")
    found = step(compiled(methods.KDIGA(network, teacher_exit="exit_1")))
    tiny.assert_equal_logs(
        found, step(compiled(methods.KDIGA(teacher()))), 1e-5
    )


class Subclassed(keras.Model):
    """A teacher without a graph."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.network = teacher()

    def call(self, images, training=None):
        return self.network(images)


def test_a_subclassed_teacher_teaches():
    network = Subclassed()
    network(np.zeros((1, *SHAPE), "float32"))
    found = step(compiled(methods.KDIGA(network)))
    tiny.assert_equal_logs(found, step(compiled(methods.KDIGA(teacher()))))


def test_preprocessing_of_the_teacher_is_part_of_its_gradient():
    inputs = keras.Input(SHAPE)
    scaled = layers.Rescaling(2.0, offset=-1.0)(inputs)
    network = keras.Model(inputs, teacher()(scaled))
    with_it = step(compiled(methods.KDIGA(network)))
    without = step(compiled(methods.KDIGA(teacher())))
    assert with_it["alignment_loss"] != pytest.approx(without["alignment_loss"])


@pytest.mark.parametrize("make", [methods.KDIGA, methods.KDIGA.kdiga_rs])
def test_nothing_in_the_teacher_moves(make):
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization()(layers.Flatten()(inputs))
    x = layers.Dropout(0.5, seed=3)(x)
    network = keras.Model(inputs, layers.Dense(tiny.NUM_CLASSES)(x))
    before = [tiny.array(each) for each in network.variables]
    model = compiled(make(network, mask="teacher_correct"))
    model.fit(IMAGES, LABELS, epochs=2, batch_size=4, verbose=0)
    tiny.assert_equal_states(before, [tiny.array(v) for v in network.variables])
    assert not any("teacher" in each.path for each in model.variables)


def test_a_teacher_that_cannot_teach_is_refused_by_compile():
    for network, exit_, message in (
        (teacher(units=9), -1, r"\(batch, 8\), received.*9"),
        (teachers.network("list"), 2, "index from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            compiled(methods.KDIGA(network, teacher_exit=exit_))


def test_a_model_does_not_teach_itself():
    model = tiny.dense_model()
    with pytest.raises(ValueError, match="shares weights with the model"):
        compiled(methods.KDIGA(model), model)
    copy = keras.models.clone_model(teacher())
    compiled(methods.KDIGA(copy), model)


def test_exits_that_the_student_lacks_are_refused():
    with pytest.raises(ValueError, match="Exit index 3 does not exist"):
        compiled(methods.KDIGA(teacher(), exits=(0, 3)))


# Students.


def test_a_student_of_one_exit_trains():
    model = tiny.dense_model(num_exits=1)
    logs = step(compiled(methods.KDIGA(teacher()), model))
    assert logs["exit_1_alignment_loss"] == logs["alignment_loss"] > 0


def test_running_statistics_move_as_without_alignment():
    results = []
    for weight in (0.0, 1.0):
        model = tiny.conv_model()
        method = methods.KDIGA(teacher(), alignment_weight=weight)
        compiled(method, model, optimizer=keras.optimizers.SGD(0.0))
        model.train_on_batch(IMAGES, LABELS)
        results.append(model.get_weights())
    tiny.assert_equal_states(*results, 1e-7)
    start = tiny.conv_model().get_weights()
    assert any(
        np.abs(a - b).max() > 1e-3
        for a, b in zip(results[0], start, strict=True)
    )


def test_alignment_trains_a_network_of_relus():
    # Their second derivative is zero; that of image and weight is not.
    model = tiny.dense_model()
    compiled(
        methods.KDIGA(teacher(), 0.0, 0.0, 0.0, 1.0),
        model,
        optimizer=keras.optimizers.Adam(0.01),
    )
    first = step(model)["alignment_loss"]
    for _ in range(30):
        model.train_on_batch(IMAGES, LABELS)
    assert step(model)["alignment_loss"] < 0.8 * first


def test_the_fast_first_convolution_can_be_differentiated_twice():
    results = []
    for layer in (ImageConv2D, layers.Conv2D):
        inputs = keras.Input(SHAPE)
        x = layers.Activation("tanh")(layer(4, 3)(inputs))
        x = layers.Dense(tiny.NUM_CLASSES)(layers.Flatten()(x))
        model = tiny.randomized(MultiExitModel(inputs, [x]))
        method = methods.KDIGA(teacher(), 0.0, 0.0, 0.0, 1.0)
        compiled(method, model, optimizer=keras.optimizers.SGD(1.0))
        model.train_on_batch(IMAGES, LABELS)
        results.append(model.get_weights())
    tiny.assert_equal_states(*results, 1e-6)


# Attacks.


@pytest.mark.parametrize(
    ("method", "is_needed"),
    [
        (methods.KDIGA(teacher()), False),
        slow(methods.KDIGA.author_2021(teacher()), False),
        (methods.KDIGA(teacher()) + methods.LW(), False),
        (methods.AdversarialTraining(1.0, 0.0), False),
        slow(methods.KDIGA(teacher(), alignment_weight=0.0), False),
        (
            methods.KDIGA(
                teacher(), alignment_weight=0.0, alignment="adversarial"
            ),
            False,
        ),
        (methods.KDIGA(teacher(), adversarial_weight=0.5), True),
        (methods.KDIGA(teacher(), alignment="adversarial"), True),
        (methods.KDIGA.ard(teacher()), True),
        (methods.KDIGA(teacher()) + methods.ARD(), True),
        (methods.AdversarialTraining(0.0, 1.0), True),
    ],
    ids=lambda value: "" if isinstance(value, bool) else repr(value)[:40],
)
def test_an_attack_is_crafted_only_where_a_term_needs_it(method, is_needed):
    assert method.uses_attack(3) == is_needed
    if is_needed:
        with pytest.raises(ValueError, match="`compile` needs `attack`"):
            compiled(method)
        return
    model = compiled(method, validation_attack=tiny.pgd())
    logs = model.fit(
        IMAGES, LABELS, validation_data=(IMAGES, LABELS), verbose=0
    ).history
    assert not any("adversarial" in name for name in logs if "val" not in name)
    assert "val_adversarial_accuracy" in logs
    # An attack that is given changes nothing.
    other = compiled(method, attack=tiny.pgd())
    tiny.assert_equal_logs(step(compiled(method)), step(other), 1e-6)


def test_noisy_images_are_made_by_an_attack_of_uniform_noise():
    noise = attacks.UniformNoise(0.1)
    adversarial = tiny.array(
        noise(tiny.dense_model().exit_logits(), IMAGES, LABELS)
    )
    change = adversarial - IMAGES
    assert np.abs(change).max() <= 0.1 + 1e-6
    inside = (IMAGES > 0.1) & (IMAGES < 0.9)
    assert abs(change[inside].mean()) < 0.02
    assert change[inside].std() == pytest.approx(0.1 / np.sqrt(3), rel=0.1)


def test_the_noisy_preset_makes_its_own_images():
    method = methods.KDIGA.kdiga_rs(teacher(), noise=0.1)
    own = step(compiled(method, seed=3))
    given = step(compiled(method, seed=3, attack=tiny.pgd()))
    tiny.assert_equal_logs(own, given, 1e-6)
    without = methods.KDIGA(
        **{**method.arguments(), "noise": 0.0, "temperature": 1.0}
    )
    noise = attacks.UniformNoise(0.1)
    same = step(compiled(without, seed=3, attack=noise))
    tiny.assert_equal_logs(own, same, 1e-6)
    with pytest.raises(ValueError, match="images of its own making"):
        methods.LW() + method


# Files.


def test_the_file_does_not_hold_the_teacher(tmp_path):
    method = methods.NKD(exit_weights=tiny.GAMMA) + methods.KDIGA(teacher())
    model = compiled(method, attack=tiny.pgd())
    model.train_on_batch(IMAGES, LABELS)
    loaded = saving.reloaded(model, tmp_path)
    assert len(loaded.weights) == len(tiny.dense_model().weights)
    with pytest.raises(ValueError, match="give it with model.set_teach"):
        loaded.fit(IMAGES, LABELS, verbose=0)
    with pytest.raises(TypeError, match="`teacher` needs .* received None"):
        loaded.set_teacher(None)
    with pytest.raises(ValueError, match="expected input shape"):
        loaded.set_teacher(teacher(shape=(9, 8, 1)))
    loaded.set_teacher(teacher())
    tiny.assert_equal_logs(step(loaded), step(model), 1e-5)
    # And once more.
    again = saving.reloaded(loaded, tmp_path)
    again.set_teacher(teacher())
    tiny.assert_equal_logs(step(loaded), step(again), 1e-5)


def test_another_teacher_takes_effect_in_a_model_that_has_trained():
    model = compiled(methods.KDIGA(teacher()))
    step(model)
    model.set_teacher(teacher(seed=2))
    other = compiled(methods.KDIGA(teacher(seed=2)))
    other.set_weights(model.get_weights())
    found, expected = step(model), step(other)
    assert found["distillation_loss"] == pytest.approx(
        expected["distillation_loss"], rel=1e-5
    )


def test_a_teacher_that_is_changed_in_place_teaches_anew():
    network = teacher()
    model = compiled(
        methods.KDIGA(network), optimizer=keras.optimizers.SGD(0.0)
    )
    first = step(model)["distillation_loss"]
    assert step(model)["distillation_loss"] == pytest.approx(first)
    network.set_weights([3 * each for each in network.get_weights()])
    expected = step(compiled(methods.KDIGA(network)))["distillation_loss"]
    assert expected != pytest.approx(first)
    assert step(model)["distillation_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_missing_teacher_is_noticed_before_anything_changes(tmp_path):
    model = compiled(methods.KDIGA(teacher()), tiny.conv_model())
    step(model)
    loaded = saving.reloaded(model, tmp_path)
    before = tiny.snapshot(loaded)
    with pytest.raises(ValueError, match="has no teacher"):
        loaded.fit(IMAGES, LABELS, verbose=0)
    tiny.assert_equal_states(before, tiny.snapshot(loaded))


def test_a_teacher_needs_a_compiled_model():
    with pytest.raises(ValueError, match="`set_teacher` needs a compiled"):
        tiny.dense_model().set_teacher(teacher())


@pytest.mark.skipif(
    keras.config.backend() == "jax", reason="JAX's gradient is zero instead"
)
def test_a_student_without_an_image_gradient_is_refused():
    inputs = keras.Input(SHAPE)
    x = layers.Lambda(keras.ops.stop_gradient)(layers.Flatten()(inputs))
    model = MultiExitModel(inputs, [layers.Dense(tiny.NUM_CLASSES)(x)])
    with pytest.raises(ValueError, match="No gradient reaches the images"):
        step(compiled(methods.KDIGA(teacher()), model))


@pytest.mark.parametrize(
    "method", [methods.LW(), methods.LW() + methods.ARD()], ids=repr
)
def test_a_method_without_a_teacher_takes_none(method):
    model = compiled(method, attack=tiny.pgd())
    with pytest.raises(ValueError, match="has no teacher network"):
        model.set_teacher(teacher())
