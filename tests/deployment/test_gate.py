"""The gate passes honest files and catches others, clean and attacked."""

import numpy as np
import pytest

from keras_neokd import ExitPolicy
from keras_neokd import attacks
from keras_neokd import deploy
from keras_neokd import evaluation
from keras_neokd import load_artefact
from keras_neokd.deployment import stand_in
from keras_neokd.deployment.accuracy import CLEAN
from keras_neokd.deployment.accuracy import POLICY
from keras_neokd.deployment.artefact import Artefact
from keras_neokd.deployment.artefact import EarlyExitArtefact
from keras_neokd.deployment.artefact import StagesArtefact
from keras_neokd.deployment.card import Card
from keras_neokd.deployment.gate import Gate
from tests.deployment import tiny
from tests.reference import equations

FORMS = ("exits", "early_exit", "stages")
PGD = attacks.PGD(0.05, 0.02, 5)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def logits_of(model, images):
    found = model.predict(images, verbose=0)
    return np.stack([found[name] for name in model.exit_names], axis=1)


@pytest.fixture(scope="module")
def policy(model):
    """A policy by which some images leave at the first and third exit."""
    found = equations.softmax(logits_of(model, tiny.IMAGES)).max(axis=2)
    found = np.sort(found, axis=0)
    middle = float(found[15:17, 0].mean()), float(found[15:17, 2].mean())
    return ExitPolicy((middle[0], None, middle[1]))


@pytest.fixture(scope="module")
def labels(model):
    """Labels that the last exit gives to most images."""
    found = logits_of(model, tiny.IMAGES)[:, -1].argmax(axis=1)
    return np.where(np.arange(24) % 4, found, 0).astype("int32")


def card(form, policy=None, precision="float32"):
    return Card(
        format="litert",
        form=form,
        precision=precision,
        exit_names=tiny.NAMES,
        input_shape=(6, 5, 1),
        num_classes=4,
        policy=policy,
        weights_sha256="",
        files={},
        multiply_adds=None,
        versions={},
        figures={},
    )


@pytest.fixture(scope="module")
def honest(model, policy, tmp_path_factory):
    """Artefacts of all forms as they should be."""
    for package in ("tensorflow", "ai_edge_litert"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("honest")
    for form in FORMS:
        given = None if form == "exits" else policy
        deploy(model, folder / form, form=form, policy=given)
    return {form: load_artefact(folder / form) for form in FORMS}


def changed(honest, change, precision="float32"):
    """Return an artefact of exits whose answers are changed.

    Args:
        honest: the artefact.
        change: function of images and of logits by the name of the exit.
        precision: what the card says.
    """

    def session(inputs):
        images = inputs["images"]
        return change(images, honest["exits"].answers(images))

    return Artefact(card("exits", precision=precision), [session])


@pytest.mark.parametrize("form", FORMS)
def test_honest_files_pass_with_the_accuracy_of_the_model(
    form, model, policy, labels, honest
):
    gate = Gate(
        tiny.IMAGES,
        labels,
        PGD,
        num_queries=20,
        max_accuracy_drop=0.0,
        max_robust_drop=0.0,
    )
    found = gate.figures(model, honest[form])
    assert found["max_logit_difference"] < 1e-5
    assert found["num_images"] == 24
    names = tiny.NAMES if form == "exits" else (POLICY,)
    rows = {(row["images"], row["exit"]): row for row in found["accuracy"]}
    kinds = (CLEAN, "model attacked", "each attacked")
    assert set(rows) == {(kind, name) for kind in kinds for name in names}
    logits = logits_of(model, tiny.IMAGES)
    attacked = evaluation.adversarial_images(model, tiny.IMAGES, labels, PGD)
    for kind, seen in (
        (CLEAN, logits),
        ("model attacked", logits_of(model, attacked)),
    ):
        for index, name in enumerate(names):
            right = seen[:, index].argmax(axis=1) == labels
            if form != "exits":
                right = policy.decide(equations.softmax(seen)).label == labels
            assert rows[kind, name]["artefact"] == pytest.approx(right.mean())
    for row in found["accuracy"]:
        assert row["model"] == row["artefact"]
    # Square finds something, and so says something.
    clean = np.mean([rows[CLEAN, name]["model"] for name in names])
    fooled = np.mean([rows[kinds[2], name]["model"] for name in names])
    assert fooled < clean
    if form != "exits":
        assert found["decisions_changed"] == 0


def scaled(_, answers):
    return {name: 1.01 * logits for name, logits in answers.items()}


def swapped(_, answers):
    return {**answers, "exit_1": answers["exit_10"]}


def broken(_, answers):
    return {**answers, "exit_2": np.nan * answers["exit_2"]}


def shortened(_, answers):
    return {name: logits[:, :3] for name, logits in answers.items()}


def renamed(_, answers):
    return {**answers, "Identity": answers["exit_10"]}


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scaled, "differs from the model's by"),
        (swapped, "differs from the model's by"),
        (broken, "'exit_2' .* differs from the model's by nan"),
        (shortened, "has shape"),
        (renamed, "other outputs than written"),
    ],
)
def test_bad_files_are_caught(model, honest, change, message):
    bad = changed(honest, change)
    with pytest.raises(RuntimeError, match=message):
        Gate(tiny.IMAGES).figures(model, bad)


@pytest.mark.any_backend
def test_other_thresholds_are_counted(model, policy, honest):
    """Files that let all images leave first, whatever the card says."""

    def session(inputs):
        answers = honest["exits"].answers(inputs["images"])
        logits = np.log(equations.softmax(answers["exit_1"]))
        return {
            "logits": logits,
            "exit_index": np.zeros(len(logits), "int32"),
            "confidence": np.exp(logits).max(axis=1),
        }

    bad = EarlyExitArtefact(card("early_exit", policy), [session])
    with pytest.raises(RuntimeError, match="leave .* at another exit"):
        Gate(tiny.IMAGES).figures(model, bad)
    gate = Gate(tiny.IMAGES, max_decisions_changed=1.0)
    found = gate.figures(model, bad)
    expected = policy.decide(equations.softmax(logits_of(model, tiny.IMAGES)))
    assert found["decisions_changed"] == np.mean(expected.exit_index != 0) > 0
    assert found["max_logit_difference"] < 1e-5
    counts = np.bincount(expected.exit_index, minlength=4)
    assert found["images_at_exits"] == counts.tolist()


@pytest.mark.any_backend
@pytest.mark.parametrize("form", FORMS)
def test_outputs_of_other_names_are_caught(model, policy, form):
    def session(inputs):
        return {"Identity": np.zeros((len(inputs["images"]), 4), "float32")}

    kinds = {
        "exits": (Artefact, [session]),
        "early_exit": (EarlyExitArtefact, [session]),
        "stages": (StagesArtefact, [session] * 4),
    }
    kind, sessions = kinds[form]
    given = card(form, None if form == "exits" else policy)
    with pytest.raises(RuntimeError, match=r"instead of .*'(exit_1|logits)'"):
        Gate(tiny.IMAGES).figures(model, kind(given, sessions))


@pytest.mark.any_backend
def test_random_images_leave_at_all_exits(model, policy):
    images = Gate().checked_images(model)
    assert images.shape == (64, 6, 5, 1)
    assert 0 <= images.min() <= images.max() <= 1
    exits = policy.decide(equations.softmax(logits_of(model, images)))
    assert set(exits.exit_index) == {0, 2, 3}


@pytest.mark.any_backend
def test_infinite_logits_are_caught_in_any_precision(model, honest):
    def endless(_, answers):
        return {**answers, "exit_2": np.inf * np.ones_like(answers["exit_2"])}

    with pytest.raises(RuntimeError, match="'exit_2' .* by inf"):
        Gate(tiny.IMAGES).figures(model, changed(honest, endless, "int8"))


@pytest.mark.any_backend
def test_files_that_are_less_accurate_are_caught(model, labels, honest):
    """In integers logits may differ, so accuracy has to tell."""

    def reversed_classes(_, answers):
        return {name: logits[:, ::-1] for name, logits in answers.items()}

    bad = changed(honest, reversed_classes, "int8")
    found = Gate(tiny.IMAGES, labels).figures(model, bad)
    (last,) = [row for row in found["accuracy"] if row["exit"] == "exit_10"]
    assert last["artefact"] < last["model"] - 0.1
    # A drop as large as the limit is allowed.
    drops = [row["model"] - row["artefact"] for row in found["accuracy"]]
    Gate(tiny.IMAGES, labels, max_accuracy_drop=max(drops)).figures(model, bad)
    with pytest.raises(RuntimeError, match=r"'exit_.* more than the 10\.00%"):
        Gate(tiny.IMAGES, labels, max_accuracy_drop=0.1).figures(model, bad)


@pytest.mark.any_backend
def test_files_that_lose_robustness_alone_are_caught(model, labels, honest):
    """They answer right on clean images and wrongly beside them."""
    known = {image.tobytes() for image in tiny.IMAGES}

    def weak(images, answers):
        beside = [image.tobytes() not in known for image in images]
        for logits in answers.values():
            logits[beside] = logits[beside][:, ::-1]
        return answers

    bad = changed(honest, weak)
    gate = Gate(tiny.IMAGES, labels, PGD, 5, max_accuracy_drop=0.0)
    rows = gate.figures(model, bad)["accuracy"]
    for kind in ("model attacked", "each attacked"):
        drops = [
            row["model"] - row["artefact"]
            for row in rows
            if row["images"] == kind
        ]
        assert max(drops) > 0.1
    with pytest.raises(RuntimeError, match=r"attacked'.*`max_robust_drop`"):
        Gate(tiny.IMAGES, labels, PGD, 5, max_robust_drop=0.05).figures(
            model, bad
        )


@pytest.mark.any_backend
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_rounded_model_is_attacked_for_files_of_lower_precision(
    model, labels, honest, precision
):
    same = changed(honest, lambda _, answers: answers, precision)
    gate = Gate(tiny.IMAGES, labels, PGD, num_queries=0)
    rows = gate.figures(model, same)["accuracy"]
    found = [row for row in rows if row["images"] == "rounded model attacked"]
    assert [row["exit"] for row in found] == list(model.exit_names)
    rounded = stand_in.of(model, precision)
    made = evaluation.adversarial_images(rounded, tiny.IMAGES, labels, PGD)
    right = logits_of(model, made).argmax(axis=2) == labels[:, None]
    assert [row["model"] for row in found] == right.mean(axis=0).tolist()


@pytest.mark.any_backend
def test_rounded_weights_by_hand(model):
    assert stand_in.of(model, "float32") is model
    before = model.get_weights()
    eighths = stand_in.of(model, "int8").get_weights()
    halves = stand_in.of(model, "float16").get_weights()
    for weight, eight, half in zip(before, eighths, halves, strict=True):
        np.testing.assert_array_equal(half, weight.astype("float16"))
        if weight.ndim < 2:
            np.testing.assert_array_equal(eight, weight)
            continue
        # At most half a step of 1 / 127 of the largest of its output channel.
        largest = np.abs(weight).reshape(-1, weight.shape[-1]).max(axis=0)
        assert (np.abs(eight - weight) <= largest / 253.99).all()
        assert len(np.unique(eight[..., 0])) > 2
        assert (eight != weight).any()
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


REFUSED = [
    ({"labels": [0]}, ValueError, "`labels` of a Gate needs `images`"),
    ({"attack": PGD}, ValueError, "`attack` of a Gate needs `labels`"),
    (
        {"max_robust_drop": 0.1, "images": tiny.IMAGES, "labels": [0] * 24},
        ValueError,
        "needs `attack`",
    ),
    ({"max_accuracy_drop": 0.1}, ValueError, "needs `labels`"),
    ({"max_logit_difference": -1}, ValueError, "max_logit_difference"),
    ({"num_queries": -1}, ValueError, "num_queries"),
    (
        {"images": tiny.IMAGES, "labels": [0] * 24, "attack": "pgd"},
        TypeError,
        "needs an Attack",
    ),
    (
        {
            "images": tiny.IMAGES,
            "labels": [0] * 24,
            "attack": attacks.CW(),
        },
        ValueError,
        "needs the radius",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_gates_that_make_no_sense_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Gate(**arguments)
