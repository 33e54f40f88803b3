"""Logs of training and testing, against numbers from the predictions."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
from keras import ops

torch = pytest.importorskip("torch")

from benchmarks import torch_baseline  # noqa: E402
from keras_neokd import MultiExitModel  # noqa: E402
from keras_neokd import attacks  # noqa: E402
from tests import arrays  # noqa: E402
from tests.reference import torch_step  # noqa: E402
from tests.training import tiny  # noqa: E402

SEED = 4
IMAGES, LABELS = tiny.data(6)
ADVERSARIAL = tiny.nearby(IMAGES)
TERMS = ("clean", "adversarial", "nkd", "eokd")


def top_2():
    return keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")


@pytest.fixture(scope="module")
def shared():
    """A compiled model and its state before training."""
    attack = tiny.GivenImages(ADVERSARIAL)
    model = tiny.compiled(
        tiny.dense_model(),
        attack=attack,
        validation_attack=attack,
        metrics=[top_2()],
        seed=SEED,
    )
    return model, tiny.fresh(model)


def logits_of(model, images):
    predictions = model.predict(images, verbose=0)
    return np.stack([predictions[name] for name in tiny.NAMES], axis=1)


@pytest.fixture(scope="module")
def logits(shared):
    model, state = shared
    tiny.restore(model, state)
    return {
        "clean": logits_of(model, IMAGES),
        "adversarial": logits_of(model, ADVERSARIAL),
    }


@pytest.fixture(scope="module")
def terms(logits):
    """Every term by name, `(batch, exits)`, in float64."""
    allowed = torch_step.allowed_classes(LABELS, 3, 8, SEED, epoch=0)
    _, terms = torch_baseline.neo_kd_loss(
        *(
            torch.as_tensor(logits[kind]).double().unbind(dim=1)
            for kind in ("clean", "adversarial")
        ),
        torch.as_tensor(LABELS).long(),
        allowed,
    )
    return {name: each.numpy() for name, each in terms.items()}


def total(terms, sample_weights=1.0):
    """The loss: terms weighted, summed over exits, averaged over images."""
    examples = sum(terms[name] @ tiny.TERM_WEIGHTS[name] for name in TERMS)
    return np.mean(sample_weights * examples)


def step(model, labels=LABELS, **arguments):
    return model.train_on_batch(IMAGES, labels, return_dict=True, **arguments)


def assert_terms(logs, terms, sample_weights=None):
    weights = np.ones(len(LABELS)) if sample_weights is None else sample_weights
    for name in TERMS:
        weighted = weights[:, None] * terms[name]
        logged = [logs[f"{each}_{name}_loss"] for each in tiny.NAMES]
        arrays.close(logged, weighted.mean(axis=0), atol=1e-5)
        assert logs[f"{name}_loss"] == pytest.approx(weighted.mean(), abs=1e-5)
    assert logs["loss"] == pytest.approx(total(terms, weights), abs=2e-5)


def assert_scores(logs, kind, logits):
    correct = logits.argmax(axis=2) == LABELS[:, None]
    best = np.argsort(-logits, axis=2)[:, :, :2]
    in_top_2 = (best == LABELS[:, None, None]).any(axis=2)
    for score, values in (("accuracy", correct), ("top_2", in_top_2)):
        logged = [logs[f"{name}_{kind}_{score}"] for name in tiny.NAMES]
        assert logged == pytest.approx(values.mean(axis=0))
    assert logs[f"{kind}_accuracy"] == pytest.approx(correct.mean())
    assert 0 < correct.sum() < correct.size


def test_terms_equal_the_equations_on_the_predictions(model, terms):
    assert_terms(step(model), terms)


def test_accuracies_and_metrics_equal_those_of_the_predictions(model, logits):
    logs = step(model)
    for kind, values in logits.items():
        assert_scores(logs, kind, values)


def test_exactly_the_documented_names_are_logged(model):
    quantities = [f"{name}_loss" for name in TERMS]
    quantities += ["clean_accuracy", "adversarial_accuracy"]
    per_exit = [*quantities, "clean_top_2", "adversarial_top_2"]
    assert set(step(model)) == {
        "loss",
        *quantities,
        *(f"{name}_{each}" for name in tiny.NAMES for each in per_exit),
    }


def test_loss_is_the_weighted_sum_of_the_logged_terms(model):
    logs = step(model)
    expected = sum(
        tiny.TERM_WEIGHTS[term][i] * logs[f"{name}_{term}_loss"]
        for term in TERMS
        for i, name in enumerate(tiny.NAMES)
    )
    assert logs["loss"] == pytest.approx(expected, rel=1e-6)


# Weights of examples.

SAMPLE_WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25], "float32")
BY_CLASS = np.linspace(0.2, 3.0, 8)
CLASS_WEIGHT = dict(enumerate(BY_CLASS))


def test_sample_weights_weigh_every_term(model, terms, logits):
    logs = step(model, sample_weight=SAMPLE_WEIGHTS)
    assert_terms(logs, terms, SAMPLE_WEIGHTS)
    # Accuracies count images.
    correct = logits["clean"].argmax(axis=2) == LABELS[:, None]
    assert logs["clean_accuracy"] == pytest.approx(correct.mean())


def test_sample_weights_weigh_the_gradient(shared):
    model, start = shared
    tiny.restore(model, start)
    counts = {"sample_weight": np.where(LABELS == LABELS[0], 1.0, 0.0)}
    step(model, **counts)
    weighted = tiny.snapshot(model)
    tiny.restore(model, start)
    step(model, sample_weight=np.zeros(6))
    decayed = tiny.snapshot(model)
    tiny.restore(model, start)
    # Nothing but weight decay is left when no example counts ...
    for before, after, variable in zip(
        start, decayed, model.trainable_variables, strict=False
    ):
        arrays.close(
            after, before * (1 - 0.05 * 5e-4), atol=1e-7, err_msg=variable.path
        )
    # ... and wrong labels of examples that do not count change nothing.
    labels = np.where(LABELS == LABELS[0], LABELS, (LABELS + 1) % 8)
    step(model, labels=labels, **counts)
    tiny.assert_equal_states(weighted, tiny.snapshot(model), tolerance=1e-7)


def test_fit_takes_both_kinds_of_weights(shared, terms):
    model, start = shared
    for arguments, weights in (
        ({"sample_weight": SAMPLE_WEIGHTS}, SAMPLE_WEIGHTS),
        ({"class_weight": CLASS_WEIGHT}, BY_CLASS[LABELS]),
    ):
        tiny.restore(model, start)
        history = tiny.fit(model, IMAGES, LABELS, batch_size=6, **arguments)
        logs = {name: values[0] for name, values in history.items()}
        assert_terms(logs, terms, weights)


def test_evaluation_weighs_examples_too(model, terms):
    logs = tiny.evaluate(model, IMAGES, LABELS, sample_weight=SAMPLE_WEIGHTS)
    expected = SAMPLE_WEIGHTS[:, None] * terms["adversarial"]
    assert logs["adversarial_loss"] == pytest.approx(expected.mean(), abs=1e-5)


# Labels.


FORMS = {
    "uint8": LABELS.astype("uint8"),
    "column": LABELS.reshape(-1, 1),
    "one_hot": np.eye(8, dtype="float32")[LABELS],
}


def test_all_forms_of_labels_give_the_same_step(shared, terms):
    """Also one form after another with the same compiled step."""
    model, start = shared
    for labels in (LABELS, *FORMS.values()):
        tiny.restore(model, start)
        logs = step(model, labels=labels, class_weight=CLASS_WEIGHT)
        assert_terms(logs, terms, BY_CLASS[LABELS])


# Testing.


def test_evaluation_logs_both_kinds(model, terms, logits):
    logs = tiny.evaluate(model, IMAGES, LABELS)
    for kind, values in logits.items():
        assert_scores(logs, kind, values)
        losses = [logs[f"{name}_{kind}_loss"] for name in tiny.NAMES]
        assert losses == pytest.approx(terms[kind].mean(axis=0), abs=1e-5)
    expected = sum(terms[kind].sum(axis=1).mean() for kind in logits)
    assert logs["loss"] == pytest.approx(expected, abs=1e-5)
    assert not any("nkd" in name or "eokd" in name for name in logs)


def test_logs_of_a_batch_equal_those_of_the_same_whole_data(model):
    tiny.assert_equal_logs(
        tiny.evaluate(model, IMAGES, LABELS),
        model.test_on_batch(IMAGES, LABELS, return_dict=True),
    )


@pytest.mark.parametrize("call", ["evaluate", "test_on_batch"])
def test_results_as_a_list_are_in_the_order_of_the_names(model, call):
    arguments = {"verbose": 0} if call == "evaluate" else {}
    results = getattr(model, call)
    by_name = results(IMAGES, LABELS, return_dict=True, **arguments)
    as_list = results(IMAGES, LABELS, **arguments)
    assert model.metrics_names[0] == "loss"
    names = [name for name in model.metrics_names if name in by_name]
    assert dict(zip(names, as_list, strict=True)) == pytest.approx(by_name)


def test_training_results_as_a_list_have_exactly_the_names(shared):
    model, start = shared
    tiny.restore(model, start)
    by_name = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    tiny.restore(model, start)
    as_list = model.train_on_batch(IMAGES, LABELS)
    names = model.metrics_names
    assert dict(zip(names, as_list, strict=True)) == pytest.approx(by_name)


def test_training_and_testing_logs_do_not_mix(model):
    model.evaluate(IMAGES, LABELS, verbose=0)
    trained = step(model)
    assert "nkd_loss" in trained
    tested = model.test_on_batch(IMAGES, LABELS, return_dict=True)
    assert "nkd_loss" not in tested
    assert "nkd_loss" in step(model)


def test_clean_evaluation_logs_nothing_adversarial(terms):
    model = tiny.compiled(tiny.dense_model(), metrics=[top_2()])
    logs = tiny.evaluate(model, IMAGES, LABELS)
    quantities = ["clean_accuracy", "clean_loss"]
    assert set(logs) == {
        "loss",
        *quantities,
        *(
            f"{name}_{each}"
            for name in tiny.NAMES
            for each in [*quantities, "clean_top_2"]
        ),
    }
    assert logs["loss"] == pytest.approx(
        terms["clean"].sum(axis=1).mean(), abs=1e-5
    )


def test_selected_shares_are_logged_for_the_attacked_exits():
    attack = attacks.MaxAverage(tiny.pgd(), exits=(2, 0))
    model = tiny.compiled(
        tiny.dense_model(),
        method="adversarial_training",
        attack=attack,
        validation_attack=attack,
    )
    for logs in (
        model.train_on_batch(IMAGES, LABELS, return_dict=True),
        model.test_on_batch(IMAGES, LABELS, return_dict=True),
    ):
        assert "exit_2_selected_share" not in logs
        shares = [logs[f"exit_{i}_selected_share"] for i in (1, 3)]
        assert sum(shares) == pytest.approx(1)


# Regularisers.


@pytest.fixture(scope="module")
def regularised():
    """A model with L2 regularisers, and its logs and state of one step."""
    model = tiny.dense_model(kernel_regularizer=keras.regularizers.L2(0.1))
    kernels = [
        tiny.array(each)
        for each in model.trainable_variables
        if each.regularizer is not None
    ]
    assert len(kernels) == 3
    attack = tiny.GivenImages(ADVERSARIAL)
    tiny.compiled(model, attack=attack, validation_attack=attack, seed=SEED)
    start = tiny.fresh(model)
    penalty = 0.1 * sum(np.sum(np.square(each)) for each in kernels)
    return model, start, penalty


def test_regularisers_are_added_once_to_the_loss(regularised, terms):
    model, start, penalty = regularised
    tiny.restore(model, start)
    tested = tiny.evaluate(model, IMAGES, LABELS)
    trained = step(model)
    assert trained["loss"] == pytest.approx(total(terms) + penalty, abs=2e-5)
    both = terms["clean"] + terms["adversarial"]
    assert tested["loss"] == pytest.approx(
        both.sum(axis=1).mean() + penalty, abs=2e-5
    )


def test_regularisers_are_added_once_to_the_gradient(regularised, model):
    regularised, start, _ = regularised
    tiny.restore(regularised, start)
    step(regularised)
    step(model)
    for with_penalty, without, before in zip(
        regularised.trainable_variables,
        model.trainable_variables,
        start,
        strict=False,
    ):
        strength = 0.0 if with_penalty.regularizer is None else 0.1
        arrays.close(
            tiny.array(without) - tiny.array(with_penalty),
            0.05 * 2 * strength * before,
            atol=1e-6,
        )


class PenaltyOfOutputs(keras.layers.Layer):
    """Adds the mean square of what passes through."""

    def call(self, inputs):
        self.add_loss(ops.mean(ops.square(inputs)))
        return inputs


def test_losses_that_layers_add_count_for_both_forward_passes():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    hidden = PenaltyOfOutputs()(keras.layers.Dense(6)(x))
    outputs = [keras.layers.Dense(tiny.NUM_CLASSES)(hidden) for _ in range(3)]
    model = tiny.randomized(MultiExitModel(inputs, outputs))
    kernel, bias = (tiny.array(each) for each in model.weights[:2])
    attack = tiny.GivenImages(ADVERSARIAL)
    tiny.compiled(model, attack=attack, validation_attack=attack)

    def penalty(images):
        return np.mean((images.reshape(len(images), -1) @ kernel + bias) ** 2)

    both = penalty(IMAGES) + penalty(ADVERSARIAL)
    assert penalty(IMAGES) > 0.01
    tested = model.test_on_batch(IMAGES, LABELS, return_dict=True)
    plain = 3 * (tested["clean_loss"] + tested["adversarial_loss"])
    assert tested["loss"] - plain == pytest.approx(both, abs=2e-5)
    trained = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    plain = sum(
        weight * trained[f"{name}_{term}_loss"]
        for term, weights in tiny.TERM_WEIGHTS.items()
        for name, weight in zip(tiny.NAMES, weights, strict=True)
    )
    assert trained["loss"] - plain == pytest.approx(both, abs=2e-5)


# Metrics of the user.


def mean_largest_logit(labels, logits):
    return ops.max(logits, axis=-1)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (
            "sparse_top_k_categorical_accuracy",
            "sparse_top_k_categorical_accuracy",
        ),
        (mean_largest_logit, "mean_largest_logit"),
        (
            keras.metrics.SparseCategoricalCrossentropy(
                from_logits=True, name="cross_entropy"
            ),
            "cross_entropy",
        ),
    ],
    ids=["name", "function", "object"],
)
def test_metrics_can_be_names_functions_and_objects(metric, name):
    model = tiny.compiled(tiny.dense_model(), metrics=["accuracy", metric])
    logs = tiny.evaluate(model, IMAGES, LABELS)
    for exit_name in tiny.NAMES:
        assert f"{exit_name}_clean_{name}" in logs
    if name == "cross_entropy":
        assert logs["exit_2_clean_cross_entropy"] == pytest.approx(
            logs["exit_2_clean_loss"], abs=1e-5
        )


def test_metrics_start_anew_in_every_epoch(shared):
    model, start = shared
    tiny.restore(model, start)
    model.optimizer.learning_rate.assign(0.0)
    try:
        history = tiny.fit(
            model,
            IMAGES,
            LABELS,
            batch_size=6,
            epochs=2,
            validation_data=(IMAGES, LABELS),
        )
    finally:
        tiny.restore(model, start)
    for name, (first, second) in history.items():
        if "eokd" not in name and name != "loss":
            assert first == pytest.approx(second, abs=1e-6), name


@pytest.mark.parametrize("metrics", [top_2(), {"exit_1": top_2()}])
def test_metrics_that_are_no_list_are_refused(metrics):
    with pytest.raises(TypeError, match="`metrics` needs a list"):
        tiny.compiled(tiny.dense_model(), metrics=metrics)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["categorical_accuracy"], "needs one-hot.*begins with Sparse"),
        ([keras.metrics.TopKCategoricalAccuracy(2)], "needs one-hot"),
        ([keras.metrics.CategoricalCrossentropy()], "needs one-hot"),
        (["binary_accuracy"], "needs one-hot or binary"),
        (["sparse_categorical_crossentropy"], "from_logits=True"),
        (
            [keras.metrics.SparseCategoricalCrossentropy()],
            "expects probabilities.*from_logits=True",
        ),
        (
            [
                keras.metrics.SparseTopKCategoricalAccuracy(2),
                keras.metrics.SparseTopKCategoricalAccuracy(4),
            ],
            "a name of its own",
        ),
    ],
)
def test_metrics_that_would_mislead_are_refused(metrics, message):
    with pytest.raises(ValueError, match=message):
        tiny.compiled(tiny.dense_model(), metrics=metrics)


# Logits that are NaN.


def break_weights(model, first=0):
    """Make variables NaN: all, as a ReLU may turn NaN into 0, or the last."""
    for variable in model.weights[first:]:
        variable.assign(np.full(variable.shape, np.nan, "float32"))


@contextlib.contextmanager
def warned(text):
    """See that there was such a warning, whatever Keras warns of besides."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert any(text in str(each.message) for each in caught)


def test_nan_logits_have_no_accuracy(model):
    break_weights(model)
    with warned("returned NaN or infinite logits, which have no accuracy"):
        logs = tiny.evaluate(model, IMAGES, LABELS)
    scores = [name for name in logs if name.endswith(("accuracy", "top_2"))]
    assert len(scores) == 2 * (1 + 2 * tiny.NUM_EXITS)
    of_batch = model.test_on_batch(IMAGES, LABELS, return_dict=True)
    for found in (logs, of_batch):
        assert np.isnan([float(found[name]) for name in scores]).all()


def test_an_exit_before_the_broken_one_keeps_its_accuracy(model, logits):
    # The last two variables are those of the last exit's head.
    break_weights(model, first=-2)
    with warned("returned NaN"):
        logs = tiny.evaluate(model, IMAGES, LABELS)
    right = logits["clean"][:, 0].argmax(axis=1) == LABELS
    assert logs["exit_1_clean_accuracy"] == pytest.approx(right.mean())
    assert np.isfinite(logs["exit_1_clean_top_2"])
    assert np.isnan(logs["exit_3_clean_accuracy"])
    assert np.isnan(logs["exit_3_clean_top_2"])
    assert np.isnan(logs["clean_accuracy"])


def test_a_training_whose_validation_breaks_goes_on_and_says_so(model):
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            break_weights(self.model)

    with warned("returned NaN"):
        history = model.fit(
            IMAGES,
            LABELS,
            batch_size=len(IMAGES),
            validation_data=(IMAGES, LABELS),
            callbacks=[Break()],
            verbose=0,
        ).history
    assert np.isfinite(history["clean_accuracy"][0])
    assert np.isnan(history["val_clean_accuracy"][0])
