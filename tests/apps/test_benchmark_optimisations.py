"""The benchmark of optimisations: equal steps, its figures, a tiny real run."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from apps.benchmarking import optimisation_report
from apps.benchmarking import optimisation_turns
from apps.benchmarking import program
from apps.benchmarking import rounds
from apps.benchmarking import summary
from apps.benchmarking.optimisation_turns import OptimisationComparison
from apps.benchmarking.optimisations import OPTIMISATIONS
from apps.benchmarking.optimisations import OptimisationSettings
from apps.benchmarking.optimisations import Variant
from keras_neokd import attacks
from keras_neokd.models import MSDNet
from keras_neokd.models import SmallCNN
from tests.apps.test_benchmark import finished_run
from tests.marks import slow_but_on_tensorflow

pytestmark = slow_but_on_tensorflow

BACKEND = keras.config.backend()
MINE = [
    name
    for name, optimisation in OPTIMISATIONS.items()
    if BACKEND in optimisation.backends
]


def first_loss(optimisation, compile_options=None):
    """Return the loss of a first step, its attack included."""
    keras.utils.set_random_seed(0)
    if "msdnet_cifar10" in optimisation.models:
        model = MSDNet.cifar10(num_blocks=2, base=1, step=1)
    else:
        model = SmallCNN.mnist()
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

    def counted(replacement):
        def call(*arguments, **named):
            calls.append(arguments)
            return replacement(*arguments, **named)

        return call

    for owner, attribute, replacement in optimisation.plain():
        assert getattr(owner, attribute) is not replacement
        monkeypatch.setattr(owner, attribute, counted(replacement))
    received = first_loss(optimisation, optimisation.compile_options)
    assert received == pytest.approx(expected, rel=1e-4)
    assert calls or optimisation.compile_options


def test_a_backend_takes_part_in_what_it_is_about():
    settings = OptimisationSettings()
    common = {"own_layers", "pass_per_exit", "merged"}
    of_small_cnn = {"image_convolution", "pooling"}
    for model, backend, names in (
        ("small_cnn", "torch", of_small_cnn),
        ("msdnet_cifar10", "jax", {"cpu_convolution"}),
    ):
        whole, *others = settings.contestants(model, backend)
        assert whole.without is None
        assert {each.without for each in others} == common | names
    names = {
        each.without for each in settings.contestants("small_cnn", "tensorflow")
    }
    assert "image_convolution" in names and "padding_apart" not in names


@pytest.fixture
def record():
    """Without `merged` a step takes twice as long in every round."""
    settings = OptimisationSettings(("small_cnn",), ("jax",), steps=2)
    comparison = OptimisationComparison(
        "small_cnn", "jax", settings, Path("."), print
    )
    comparison.runs = [
        finished_run(Variant("jax", None), [1.0, 3.0]),
        finished_run(Variant("jax", "merged"), [2.0, 6.0]),
    ]
    return {
        "settings": vars(settings),
        "environment": {"threads": 1},
        "results": [summary.summarise_optimisations(comparison)],
    }


def test_the_table_and_the_plot_show_the_figures(record, tmp_path):
    console = Console(width=250)
    with console.capture() as capture:
        console.print(optimisation_report.build_tables(record)[0])
    row = capture.get().strip().splitlines()[-1]
    figures = ("4,000", "2,000", "2.00 (2.00 to", "30.0")
    for text in ("JAX", "layer by layer", *figures):
        assert text in row
    assert optimisation_report.plot(record, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_step_as_it_is_there_is_no_gain(record, tmp_path):
    (result,) = record["results"]
    settings = OptimisationSettings(("small_cnn",), ("jax",), steps=1)
    comparison = OptimisationComparison(
        "small_cnn", "jax", settings, Path("."), print
    )
    comparison.runs = [finished_run(Variant("jax", "merged"), [2.0])]
    result.update(summary.summarise_optimisations(comparison))
    assert result["variants"][0]["gain"] is None
    assert optimisation_report.build_tables(record)[0].row_count == 0
    assert not optimisation_report.plot(record, tmp_path / "plot.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimisations": ("magic",)}, "`optimisations` knows own_layers"),
        ({"models": ()}, "`models` needs at least one name"),
        ({"backends": ("jax", "jax")}, "names one twice"),
        ({"steps": 0}, "`steps` needs an integer >= 1"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OptimisationSettings(**arguments)


def test_a_tiny_run_leaves_record_table_and_plot(monkeypatch, tmp_path):
    monkeypatch.setattr(rounds, "_PAUSE_SECONDS", 0)
    settings = OptimisationSettings(
        ("small_cnn",), (BACKEND,), ("merged",), 1, 0, 2, 1, 1
    )
    console = program.Console()
    record = optimisation_turns.run(settings, tmp_path, console)
    program.show(record, tmp_path, console, optimisation_report)
    (result,) = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    assert result["left_out"] == []
    whole, plainer = result["variants"]
    assert whole["gain"]["median"] == 1 and plainer["gain"]["median"] > 0
    heading, _, row = (tmp_path / "benchmark.md").read_text().splitlines()
    assert "| layer by layer" in row and row.count("|") == heading.count("|")
    assert (tmp_path / "benchmark.png").exists()
