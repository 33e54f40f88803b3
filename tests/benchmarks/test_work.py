"""The work that processes do: equal steps, its arithmetic, evaluations."""

import shutil

import keras
import numpy as np
import pytest

from benchmarks.scenarios import PEERS
from benchmarks.work import artefacts
from benchmarks.work import attacks as rows
from benchmarks.work import keras_step
from benchmarks.work import repeats
from benchmarks.work.optimisations import OPTIMISATIONS
from benchmarks.work.workloads import WORKLOADS
from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd import methods
from keras_neokd import models
from tests.training.tiny import randomized

BACKEND = keras.config.backend()
MINE = [
    name for name, each in OPTIMISATIONS.items() if BACKEND in each.backends
]


# Steps.


def test_the_arithmetic_of_a_step_of_small_cnn():
    # Million multiply-adds with own head only, and with all heads.
    alone, whole = 1.015 + 7.708 + 9.952, 11.135
    found = keras_step.multiply_adds(models.SmallCNN.mnist(), 7)
    expected = 14 * alone + 3 * whole + 6 * whole
    assert found == pytest.approx(1e6 * expected, rel=1e-3)


def test_batches_say_where_an_image_stands():
    batches = [(i, np.zeros(4)) for i in range(4)]
    placed = keras_step.with_positions(batches, 10)
    assert [x for x, _ in placed] == [0, 1, 2, 3]
    positions = [labels["index"] for _, labels in placed]
    for each in positions:
        assert len(set(each)) == 4
    assert {*np.concatenate(positions)} == set(range(10))


def test_methods_are_what_their_names_say():
    workload = WORKLOADS["small_cnn"]
    model = workload.build(models)
    built = {
        name: keras_step.build_method(name, settings, model, workload)
        for name, settings in (
            *((name, {}) for name in methods.BY_NAME),
            ("neo_kd+kdiga", {}),
            ("kdiga", {"exits": "each"}),
        )
    }
    assert built["neo_kd"].exit_weights == (1, 1, 1)
    assert built["teat"].num_examples == 10_000
    assert built["kdiga"].exits == "each"
    assert built["kd"].alignment_weight == 0
    assert built["kdiga_author_2021"].norm == "batch"
    *others, (_, last) = built["neo_kd+kdiga"].summands
    assert others and isinstance(last, methods.KDIGA)


def test_a_step_of_another_method_trains_and_counts_nothing():
    step = keras_step.KerasStep("small_cnn", 4, 1, method="teat")
    losses = [step.step()[0] for _ in range(2)]
    assert losses[0] != losses[1]
    assert step.multiply_adds is None


def test_a_step_of_neo_kd_knows_its_arithmetic():
    step = keras_step.KerasStep("small_cnn", 4, 1)
    needed = keras_step.multiply_adds(models.SmallCNN(), 1)
    assert step.multiply_adds == 4 * needed


# PyTorch's compiler takes half a minute, and uses what PyTorch deprecates.
COMPILED = (
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is depr"),
)


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(name, marks=COMPILED if "compiled" in name else ())
        for name in PEERS
    ],
)
def test_plain_pytorch_starts_from_the_same_loss(peer):
    pytest.importorskip("torch")
    from benchmarks.work.eager_step import EagerStep

    if "compiled" in peer and not shutil.which("g++"):
        pytest.skip("nothing compiles")
    expected, received = (
        EagerStep("small_cnn", 32, 2, **settings).step()
        for settings in ({}, PEERS[peer])
    )
    # Compiled dropout draws other numbers.
    close = 0.02 if "compiled" in peer else 1e-3
    assert received == pytest.approx(expected, rel=close)
    ours = keras_step.KerasStep("small_cnn", 32, 2).step()
    assert received == pytest.approx(ours, rel=0.05)


def test_autocast_computes_in_bfloat16_and_returns_float32():
    torch = pytest.importorskip("torch")
    from benchmarks.work.eager_step import EagerStep

    for autocast, kind in ((False, torch.float32), (True, torch.bfloat16)):
        step = EagerStep("small_cnn", 4, 1, autocast=autocast)
        kinds = []
        for layer in (step._model.trunk_conv_4, step._model.exit_3):
            layer.register_forward_hook(
                lambda _, given, made, kinds=kinds: kinds.append(made.dtype)
            )
        logits = step._model(torch.zeros(1, 1, 28, 28))
        assert kinds == [kind, kind]
        assert {each.dtype for each in logits} == {torch.float32}


def first_loss(optimisation, compile_options=None):
    """Return the loss of a first step, its attack included."""
    keras.utils.set_random_seed(0)
    name = optimisation.models[-1]
    if name == "small_cnn":
        model = models.SmallCNN.mnist()
    else:
        model = models.MSDNet.cifar10(num_blocks=2, base=1, step=1)
    generator = np.random.default_rng(0)
    # Batch norm of an untrained network changes nothing.
    for variable in model.non_trainable_variables:
        if variable.path.endswith(("moving_mean", "moving_variance")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    model.compile(
        "sgd",
        method="adversarial_training",
        attack=attacks.MaxAverage(attacks.PGD(0.03, 0.01, 2)),
        **(compile_options or {}),
    )
    images = generator.random((4, *model.input_shape[1:]), "float32")
    labels = np.arange(4, dtype="int32")
    return model.train_on_batch(images, labels, return_dict=True)["loss"]


@pytest.mark.parametrize("name", MINE)
def test_the_plain_way_takes_the_same_step(name, monkeypatch):
    optimisation = OPTIMISATIONS[name]
    expected = first_loss(optimisation)
    calls = []

    def replace(owner, attribute, plain):
        assert getattr(owner, attribute) is not plain

        def counted(*arguments, **named):
            calls.append(arguments)
            return plain(*arguments, **named)

        monkeypatch.setattr(owner, attribute, counted)

    optimisation.take_out(replace)
    received = first_loss(optimisation, optimisation.compile_options)
    assert received == pytest.approx(expected, rel=1e-4)
    assert calls or optimisation.compile_options


# Evaluations.


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A SmallCNN and images, half of which it classifies correctly."""
    folder = tmp_path_factory.mktemp("evaluations")
    model = randomized(models.SmallCNN.mnist(), 3)
    images = np.random.default_rng(0).random((20, 28, 28, 1), "float32")
    labels = model.predict(images, verbose=0)["exit_3"].argmax(axis=1)
    labels[::2] = (labels[::2] + 1) % 10
    np.savez(folder / "images.npz", images=images, labels=labels)
    model.save(folder / "model.keras")
    return {
        "model": str(folder / "model.keras"),
        "images": str(folder / "images.npz"),
        "exit": "exit_3",
        "batch_size": 8,
        "epsilon": 0.05,
    }


def test_our_evaluation_says_which_images_stay_correct(settings):
    from benchmarks.work.evaluations import KerasEvaluation

    work = KerasEvaluation(attack="pgd", num_steps=2, **settings)
    model = keras.saving.load_model(settings["model"], compile=False)
    arrays = np.load(settings["images"])
    attack = attacks.PGD(0.05, 0.05, 2, objective=attacks.SingleExit(2))
    for seed in (0, 1):
        expected = evaluation.anytime(
            model, arrays["images"], arrays["labels"], attack, seed=seed
        )
        answers = np.asarray(work.step(), int)
        np.testing.assert_array_equal(answers, expected.ranks[:, 2] == 0)
        assert not answers[::2].any()


@pytest.mark.parametrize("name", repeats.MEASUREMENTS)
def test_each_repeat_measures_the_same(name):
    once, twice = (
        repeats.KerasRepeats(name, count, 3, 1).step() for count in (1, 2)
    )
    assert len(once) and np.isfinite(once).all()
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("exit", [0, 1, 2])
def test_the_plain_network_is_that_of_the_exit(settings, exit):
    torch = pytest.importorskip("torch")
    from benchmarks.work.evaluations import plain_network

    model = keras.saving.load_model(settings["model"], compile=False)
    images = np.load(settings["images"])["images"]
    network = plain_network(model, images, exit)
    assert not network.training
    with torch.no_grad():
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    expected = model.predict(images, verbose=0)[f"exit_{exit + 1}"]
    assert abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    other = models.SmallCNN((32, 32, 3))
    with pytest.raises(ValueError, match="needs a weight 'trunk_conv_1/kernel"):
        plain_network(other, np.zeros((1, 32, 32, 3), "float32"), exit)


@pytest.mark.parametrize("name", rows.ATTACKS)
def test_an_attack_takes_the_settings_that_it_has(name):
    attack = rows.on_exit(
        rows.ATTACKS[name], 1, epsilon=0.25, num_steps=3, num_queries=5
    )
    attack.validate(3, 10)
    assert attack.objective.exit == 1
    assert attack.objective.loss == rows.ATTACKS[name].objective.loss
    if name == "cw":
        assert (attack.c, attack.num_steps) == (10, 200)
    else:
        assert attack.epsilon == 0.25
        asked = {"num_steps": 3, "num_queries": 5}
        taken = asked.keys() & attack.arguments()
        assert taken
        for each in taken:
            assert getattr(attack, each) == asked[each]
    assert attack.norm == (
        "l2" if name[-2:] == "l2" or name == "cw" else "linf"
    )


def test_the_networks_of_both_have_the_same_names():
    torch_baseline = pytest.importorskip("benchmarks.torch_baseline")
    for workload in WORKLOADS.values():
        ours, theirs = workload.build(models), workload.build(torch_baseline)
        assert ours.num_exits == theirs.num_exits
        assert sum(each.numel() for each in theirs.parameters()) == sum(
            np.prod(each.shape) for each in ours.trainable_variables
        )


def test_crafting_returns_what_the_model_in_float32_loses(settings):
    from benchmarks.work.crafting import Crafting

    files = {name: settings[name] for name in ("model", "images")}
    exact, again, lowered, clean = (
        np.array(Crafting(**files, **more, batch_size=8).step())
        for more in (
            {"epsilon": 0.1, "num_steps": 2, "crafting_dtype": "float32"},
            {"epsilon": 0.1, "num_steps": 2, "crafting_dtype": "float32"},
            {"epsilon": 0.1, "num_steps": 2, "crafting_dtype": "bfloat16"},
            {"epsilon": 1e-6, "num_steps": 1, "crafting_dtype": "float32"},
        )
    )
    np.testing.assert_array_equal(exact, again)
    assert exact.mean() > clean.mean()
    assert lowered.mean() == pytest.approx(exact.mean(), rel=0.01)
    model = keras.saving.load_model(files["model"], compile=False)
    with np.load(files["images"]) as arrays:
        logits, labels = model(arrays["images"]), arrays["labels"]
    expected = [
        -np.log(keras.ops.convert_to_numpy(keras.ops.softmax(each)))[
            np.arange(len(labels)), labels
        ]
        for each in logits.values()
    ]
    np.testing.assert_allclose(clean, np.mean(expected, axis=0), rtol=1e-3)


@pytest.mark.parametrize("form", ["early_exit", "stages"])
def test_single_images_leave_at_the_exit_and_are_timed(tmp_path, form):
    for package in ("tensorflow", "ai_edge_litert"):
        pytest.importorskip(package)
    work = artefacts.SingleImages(
        "small_cnn", 1, tmp_path, 1, 3, format="litert", form=form
    )
    assert work.num_images == 3
    assert list(map(int, work.step())) == [1, 1, 1]
    assert work.image_seconds == []
    work.step()
    work.step()
    assert len(work.image_seconds) == 6
    assert min(work.image_seconds) > 0
    (written,) = tmp_path.iterdir()
    before = written.stat().st_mtime_ns
    artefacts.SingleImages(
        "small_cnn", 1, tmp_path, 1, 3, format="litert", form=form
    )
    assert written.stat().st_mtime_ns == before


def test_half_of_the_cost_is_some_images_at_early_exits(tmp_path):
    for package in ("tensorflow", "ai_edge_litert"):
        pytest.importorskip(package)
    settings = ("small_cnn", 1, tmp_path, "litert", 16)
    early = artefacts.Batch(*settings, form="stages")
    assert 0 < early.step()[0] < 2
    full = artefacts.Batch(*settings, form="exits")
    assert early.num_images == full.num_images == 16
    assert np.isfinite(full.step()[0])
