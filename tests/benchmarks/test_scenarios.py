"""Scenarios: their rows, what is chosen, another checkout beside this one."""

import importlib
import inspect

import keras
import pytest

from benchmarks import run
from benchmarks import scenario
from benchmarks.scenario import BACKENDS
from benchmarks.scenario import Scenario
from benchmarks.scenario import Variant
from benchmarks.scenario import against
from benchmarks.scenario import chosen
from benchmarks.scenarios import PEERS
from benchmarks.scenarios import SCENARIOS
from benchmarks.work.workloads import WORKLOADS
from keras_neokd import methods

BACKEND = keras.config.backend()


@pytest.fixture
def build(tmp_path):
    """Function that returns a kind of scenarios with some flags."""
    for name in ("model.keras", "images.npz"):
        (tmp_path / name).touch()

    def build(kind, *flags):
        found, _ = run.flags(
            [
                kind,
                "--workdir=unused",
                f"--model={tmp_path / 'model.keras'}",
                f"--images={tmp_path / 'images.npz'}",
                *flags,
            ]
        )
        return SCENARIOS[kind](found)

    return build


def names(found):
    return [(each.name, [v.name for v in each.variants]) for each in found]


@pytest.mark.parametrize("kind", SCENARIOS)
def test_every_variant_has_the_arguments_of_its_work(kind, build):
    found = build(kind)
    assert found
    for each in found:
        variants = [variant.name for variant in each.variants]
        assert len({*variants}) == len(variants)
        assert {*each.unit} <= {*variants}
        for variant in each.variants:
            if variant.backend != BACKEND:
                continue
            module, _, name = variant.work.partition(".")
            module = importlib.import_module(f"benchmarks.work.{module}")
            inspect.signature(getattr(module, name)).bind(
                **variant.settings, **variant.newer
            )


def test_methods_are_listed_by_the_library(build):
    (*_, (_, found)) = names(build("methods"))
    assert {*methods.BY_NAME} < {*found}


def test_every_exit_of_a_series_has_a_class_of_its_own(build):
    for each in build("exits"):
        for variant in each.variants:
            settings = variant.settings
            classes = WORKLOADS[settings["model"]].num_classes
            assert settings["network"]["num_blocks"] < classes


def test_optimisations_go_without_backends_they_are_not_about(build):
    found = dict(names(build("optimisations")))
    common = ["as_it_is", "without_own_layers", "without_pass_per_exit"]
    common.append("without_merged")
    own = ["without_image_gradient", "without_pooling"]
    assert found["small_cnn torch"] == [*common, *own]
    assert found["msdnet_cifar10 jax"] == [*common, "without_cpu_convolution"]


def test_peers_add_to_pytorch_and_the_two_formats_are_the_unit(build):
    for each in build("models"):
        assert each.unit == ("eager_contiguous_format", "eager_channels_last")
        found = {variant.name: variant for variant in each.variants}
        ours = {
            f"{backend}{end}"
            for backend in BACKENDS
            for end in ("", "_crafting", "_mixed")
        }
        assert {*found} == {*ours, *PEERS}
        for name, variant in found.items():
            assert bool(variant.programs) == name.startswith("compiled")


def test_auto_attack_attacks_each_exit_with_the_given_budget(build):
    found = build("auto_attack", "--attack_steps=100", "--num_queries=5000")
    for number, each in enumerate(found, start=1):
        assert each.unit == ("pyautoattack",)
        for variant in each.variants:
            settings = variant.settings
            assert settings["exit"] == each.name == f"exit_{number}"
            assert settings["num_steps"] == 100
            assert settings["num_queries"] == 5000
    assert len(found) == 3
    (first, *_) = build("auto_attack")
    # The attack's own.
    assert "num_queries" not in first.variants[0].settings


def test_flags_change_the_work(build):
    first, *_ = build("models", "--batch_size=3", "--attack_steps=1")
    assert first.variants[0].settings["batch_size"] == 3
    for each in build("parity", "--epsilon=1/10", "--attack_steps=4"):
        settings = each.variants[0].settings
        is_l2 = each.name.endswith("l2")
        assert settings["epsilon"] == (2.0 if is_l2 else 0.1)
        assert settings["num_steps"] == 4


def test_a_missing_file_is_a_sentence(build):
    with pytest.raises(ValueError, match="`model` needs a file, received no"):
        build("attacks", "--model=nowhere.keras")


# What is chosen.


def rows():
    works = {"a": "x.KerasX", "b": "x.KerasX", "c": "x.X"}
    return [
        Scenario(
            f"{model} {backend}",
            tuple(
                Variant(name, backend, work, {}) for name, work in works.items()
            ),
            ("a",),
        )
        for model in ("small", "large")
        for backend in ("jax", "torch")
    ]


@pytest.mark.parametrize(
    ("only", "scenarios", "variants"),
    [
        ((), 4, "abc"),
        (("small",), 2, "abc"),
        (("small", "jax"), 1, "abc"),
        # The unit stays.
        (("large", "b"), 2, "ab"),
    ],
)
def test_names_choose_scenarios_and_variants(only, scenarios, variants):
    found = chosen(rows(), only)
    assert len(found) == scenarios
    for each in found:
        assert "".join(v.name for v in each.variants) == variants
        assert {*only} & {"small", "large"} <= {*each.name.split()}


def test_other_variants_can_be_the_unit():
    (found, *_) = chosen(rows(), ("c",), ("b",))
    assert found.unit == ("b",)
    assert [each.name for each in found.variants] == ["b", "c"]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="not know d; .*jax, torch; a, b, c"):
        chosen(rows(), ("small", "d"))
    with pytest.raises(ValueError, match="`unit` does not know small; .* a, b"):
        chosen(rows(), (), ("small",))


def test_another_checkout_is_the_unit_of_each_variant(tmp_path):
    (tmp_path / "keras_neokd").mkdir()
    (tmp_path / "keras_neokd" / "__init__.py").touch()
    found = against(rows(), tmp_path)
    # c does not measure the library.
    assert [each.name for each in found][:3] == [
        "small jax a",
        "small jax b",
        "small torch a",
    ]
    ours, theirs = found[0].variants
    assert found[0].unit == (theirs.name,)
    assert (ours.checkout, theirs.checkout) == (scenario.ROOT, tmp_path)


def test_evaluations_are_measured_against_another_checkout(build, tmp_path):
    (tmp_path / "keras_neokd").mkdir()
    (tmp_path / "keras_neokd" / "__init__.py").touch()
    for kind in ("attacks", "auto_attack", "repeats"):
        found = against(build(kind), tmp_path)
        backends = [each.variants[0].backend for each in found]
        # Other tools are not of the library.
        assert {*backends} == {*BACKENDS}
        assert all(".Keras" in each.variants[0].work for each in found)


def test_a_folder_without_the_library_is_no_checkout(tmp_path):
    with pytest.raises(ValueError, match="folder of a checkout that holds"):
        against(rows(), tmp_path)


def test_what_is_newer_is_compared_with_a_checkout_without_it(build, tmp_path):
    (tmp_path / "keras_neokd").mkdir()
    (tmp_path / "keras_neokd" / "__init__.py").touch()
    found = {each.name: each for each in against(build("models"), tmp_path)}
    ours, theirs = found["small_cnn jax_crafting"].variants
    assert ours.newer == {"crafting_dtype": "bfloat16"} and not theirs.newer
    assert ours.settings == theirs.settings
