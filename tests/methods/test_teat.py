"""TEAT: averages per example and exit, ramp, inner loss, positions."""

import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import data
from keras_neokd import methods
from tests import arrays
from tests.methods import crafting
from tests.methods import tiny_network
from tests.reference import equations as reference
from tests.training import tiny


def teat_model(num_examples=5, num_epochs=10, **arguments):
    method = methods.TEAT(num_examples, num_epochs)
    return tiny.compiled(
        tiny_network.student(), method=method, attack=tiny.pgd(), **arguments
    )


def averages_of(model):
    return tiny.array(model.training_step.state["teat_average"])


def labelled(indices, labels):
    return {"label": labels, "index": np.asarray(indices)}


@pytest.mark.parametrize(
    ("num_epochs", "start", "full"),
    [(200, 90, 150), (150, 68, 113), (5, 2, 4), (1, 0, 1)],
)
def test_the_ramp_is_that_of_200_epochs_scaled(num_epochs, start, full):
    method = methods.TEAT(1, num_epochs)

    def ramp(epoch):
        return float(method.ramp(arrays.tensor(epoch, "int32")))

    assert ramp(start - 1) == 0
    assert ramp(start) == pytest.approx(np.exp(-5))
    for epoch in range(start, full):
        share = (epoch - start) / (full - start)
        assert ramp(epoch) == pytest.approx(np.exp(-5 * (1 - share) ** 2))
    assert ramp(full) == ramp(full + 100) == 1


def test_averages_move_once_per_epoch_from_the_start_of_the_ramp_on():
    method = methods.TEAT(9, num_epochs=5, momentum=0.8)
    given = crafting.context(method, 0, example=np.array([8, 0, 3, 1, 5]))
    average = given.state["teat_average"]
    predictions = reference.softmax(
        crafting.STUDENT.logits(crafting.IMAGES.astype("float64"))
    )
    expected = np.zeros((9, 3, 5))
    for epoch in range(4):
        position = given.position._replace(epoch=arrays.tensor(epoch, "int32"))
        method.begin_step(given._replace(position=position))
        if epoch >= 2:
            rows = [8, 0, 3, 1, 5]
            expected[rows] = 0.8 * expected[rows] + 0.2 * predictions
        arrays.close(average, expected, atol=1e-6)
    assert not tiny.array(average)[[2, 4, 6, 7]].any()


@pytest.mark.parametrize(
    ("variant", "factor"), [("pgd", 1.0), ("trades", 1.0), ("pgd", 0.5)]
)
def test_the_attack_climbs_the_whole_inner_loss(variant, factor):
    method = methods.TEAT(5, num_epochs=5, variant=variant, weight=20 / factor)
    if factor != 1:
        # What the sum multiplies its terms by counts in the attack, too.
        method = methods.AdversarialTraining() + factor * method
    given = crafting.context(method, epoch=4)
    # A history of other predictions, so that the term has a say.
    history = np.random.default_rng(3).dirichlet(np.ones(5), (5, 3))
    given.state["teat_average"].assign(history)
    attack = attacks.PGD(
        crafting.EPSILON,
        crafting.STEP_SIZE,
        1,
        random_start=variant == "trades",
    )
    found = crafting.craft(method, attack, given)
    clean = crafting.STUDENT.logits(crafting.IMAGES.astype("float64"))
    average = 0.9 * history + 0.1 * reference.softmax(clean)
    targets = average / average.sum(axis=-1, keepdims=True)

    def objective(images):
        logits = crafting.STUDENT.logits(images)
        distance = np.mean((reference.softmax(logits) - targets) ** 2, axis=-1)
        if variant == "pgd":
            base = reference.cross_entropy(logits, crafting.LABELS)
        else:
            base = 6.0 * reference.kl_of_logits(clean, logits)
        return np.mean(base + 20.0 * distance, axis=1)

    start = crafting.IMAGES
    if variant == "trades":
        start = crafting.normal_start()
    arrays.close(found, crafting.ascend(objective, start), atol=1e-5)


def test_before_the_ramp_it_is_adversarial_training_of_attacked_images():
    images, labels = crafting.IMAGES, crafting.LABELS
    losses = []
    for method, y in (
        (methods.TEAT(5, num_epochs=10), labelled(range(5), labels)),
        (methods.AdversarialTraining(0.0, 1.0), labels),
    ):
        model = tiny.compiled(
            tiny_network.student(), method=method, attack=tiny.pgd()
        )
        for _ in range(3):
            logs = model.train_on_batch(images, y, return_dict=True)
        losses.append(float(logs["loss"]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_shuffled_epochs_and_last_batches_reach_every_row():
    images, labels = tiny.data(
        13, shape=tiny_network.IMAGE_SHAPE, num_classes=tiny_network.NUM_CLASSES
    )
    model = teat_model(13, 2, optimizer=keras.optimizers.SGD(0.0))
    split = data.Split(images, labels, np.arange(100, 113))
    batches = data.TrainingBatches(split, 8, seed=1, with_index=True)
    model.fit(batches, epochs=2, verbose=0)
    # One update with rate 0.1, in the second of two epochs.
    expected = 0.1 * reference.softmax(
        crafting.STUDENT.logits(images.astype("float64"))
    )
    arrays.close(averages_of(model), expected, atol=1e-6)


def test_sample_weights_are_kept():
    images, labels = crafting.IMAGES, crafting.LABELS
    logs = []
    for weights in (None, np.zeros(5)):
        history = teat_model(num_epochs=1).fit(
            images, labelled(range(5), labels), sample_weight=weights, verbose=0
        )
        logs.append(history.history)
    assert logs[0]["adversarial_loss"][0] > 0
    assert logs[1]["adversarial_loss"][0] == 0
    assert logs[0]["clean_accuracy"] == logs[1]["clean_accuracy"]


def test_averages_of_another_data_set_are_refused(tmp_path):
    model = teat_model()
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match=r"shape \(5, 3, 5\).*\(6, 3, 5\)"):
        teat_model(6).load_weights(tmp_path / "model.weights.h5")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (crafting.LABELS, '{"label": labels, "index": positions.*with_index'),
        ({"label": crafting.LABELS}, "received labels alone"),
        (labelled([0, 1, 2, 3, 5], crafting.LABELS), "from 0 to 4.*to 5"),
        (labelled([0, 1, 2, 3, -1], crafting.LABELS), "from -1 to 3"),
        (labelled([0, 1, 2, 3], crafting.LABELS), r"shape \(4,\)"),
        (labelled(np.arange(5.0), crafting.LABELS), "type float64"),
        ({"labels": crafting.LABELS}, r'keys "label" and "index".*labels'),
    ],
)
def test_data_without_positions_are_refused(y, message):
    model = teat_model()
    with pytest.raises(ValueError, match=message):
        model.fit(crafting.IMAGES, y, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(crafting.IMAGES, y)


def test_a_stream_without_positions_is_refused():
    split = data.Split(crafting.IMAGES, crafting.LABELS, np.arange(5))
    with pytest.raises(Exception, match="received labels alone"):
        teat_model().fit(data.TrainingBatches(split, batch_size=5), verbose=0)


def test_evaluation_and_other_methods_take_positions_too():
    images, labels = crafting.IMAGES, crafting.LABELS
    model = teat_model()
    plain = model.evaluate(images, labels, verbose=0)
    with_index = model.evaluate(images, labelled(range(5), labels), verbose=0)
    assert plain == with_index
    other = tiny.compiled(
        tiny_network.student(), method="adversarial_training", attack=tiny.pgd()
    )
    other.fit(images, labelled(range(5), labels), verbose=0)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="a tf.data.Dataset"
)
def test_a_tf_dataset_of_dicts_trains():
    import tensorflow as tf

    y = labelled(np.arange(5), crafting.LABELS)
    dataset = tf.data.Dataset.from_tensor_slices((crafting.IMAGES, y)).batch(3)
    tiny.fit(teat_model(), dataset)
    bad = labelled(np.arange(1, 6), crafting.LABELS)
    dataset = tf.data.Dataset.from_tensor_slices((crafting.IMAGES, bad))
    with pytest.raises(Exception, match="from 0 to 4"):
        tiny.fit(teat_model(), dataset.batch(3))
