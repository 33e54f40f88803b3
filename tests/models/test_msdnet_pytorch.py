"""State files of MSDNet-PyTorch give a Keras model with the same logits.

The PyTorch network is that of the baseline of the benchmarks, under the
names of the public code.
"""

import argparse
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import torch_baseline  # noqa: E402
from keras_neokd import models  # noqa: E402
from keras_neokd.models import MSDNet  # noqa: E402
from keras_neokd.models.msdnet import torch_names  # noqa: E402
from keras_neokd.models.msdnet.plan import Settings  # noqa: E402
from tests import arrays  # noqa: E402
from tests.models.torch_weights import randomized  # noqa: E402

SMALL = {"base": 1, "step": 1, "nChannels": 4, "growthRate": 2}
CIFAR10 = {"data": "cifar10", "num_classes": 10, "nBlocks": 3, **SMALL}
CIFAR100 = {"data": "cifar100", "num_classes": 100, "nBlocks": 7, **SMALL}
IMAGENET = {
    "data": "ImageNet",
    "num_classes": 20,
    "nBlocks": 5,
    "grFactor": (1, 2, 4, 4),
    "bnFactor": (1, 2, 4, 4),
    **SMALL,
}
# The networks of its README, as published.
PUBLISHED = {
    "cifar100 anytime": {
        **CIFAR100,
        "base": 4,
        "step": 2,
        "nChannels": 16,
        "growthRate": 6,
    },
    "cifar100 budget": {
        **CIFAR100,
        "nBlocks": 5,
        "stepmode": "lin_grow",
        "nChannels": 16,
        "growthRate": 6,
    },
    **{
        f"imagenet {step}": {
            **IMAGENET,
            "num_classes": 1000,
            "base": 4,
            "step": step,
            "nChannels": 32,
            "growthRate": 16,
        }
        for step in (4, 6, 7)
    },
}
NETWORKS = {
    "cifar10": {**CIFAR10, "base": 2},
    "cifar100": CIFAR100,
    "lin_grow": {**CIFAR10, "nBlocks": 2, "stepmode": "lin_grow"},
    "min": {**CIFAR10, "base": 2, "prune": "min"},
    "no_transitions": {**CIFAR10, "reduction": 0.0},
    "imagenet": IMAGENET,
}
OURS = {
    "num_classes": "num_classes",
    "nBlocks": "num_blocks",
    "base": "base",
    "step": "step",
    "stepmode": "step_mode",
    "nChannels": "initial_channels",
    "growthRate": "growth_rate",
    "grFactor": "growth_factors",
    "bnFactor": "bottleneck_factors",
    "prune": "prune",
    "reduction": "reduction",
}


def keras_model(arguments, **more):
    """Build our network of the other's arguments."""
    chosen = {OURS[name]: arguments[name] for name in arguments if name in OURS}
    if arguments["data"] == "ImageNet":
        # 132 pixels become 9, 5 and 3, 2 in the heads as 224 would.
        chosen = {"input_shape": (132, 132, 3), **chosen}
        return MSDNet.imagenet(**{**chosen, **more})
    return MSDNet(**{**chosen, **more})


def state_of(name):
    network = torch_baseline.MSDNet(**NETWORKS[name])
    return randomized(network).state_dict()


def logits_of(network, images):
    with torch.no_grad():
        return network(torch.from_numpy(images).permute(0, 3, 1, 2))


def images_for(model):
    shape = (3, *model.input_shape[1:])
    return np.random.default_rng(0).random(shape, "float32")


def assert_same_logits(model, images, expected):
    logits = model(images)
    assert len(expected) == model.num_exits
    for name, others in zip(model.exit_names, expected, strict=True):
        # Images are told apart, so equality says something.
        assert others.std(0).mean() > 0.02
        arrays.close(
            logits[name], others.numpy(), atol=1e-4, rtol=0, err_msg=name
        )


@pytest.fixture(scope="module")
def smallest():
    """A model of the smallest network, its weights, and a state."""
    arguments = {**CIFAR10, "nBlocks": 1, "base": 2}
    network = randomized(torch_baseline.MSDNet(**arguments))
    model = keras_model(arguments)
    return model, model.get_weights(), network.state_dict()


@pytest.fixture
def tiny(smallest):
    """The model as it was built, and the state."""
    model, weights, state = smallest
    model.set_weights(weights)
    return model, state


@pytest.mark.parametrize("name", NETWORKS)
def test_every_exit_gives_the_logits_of_pytorch(name, tmp_path):
    network = randomized(torch_baseline.MSDNet(**NETWORKS[name]))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model = keras_model(NETWORKS[name])
    models.load_msdnet_pytorch(model, tmp_path / "weights.pth")
    images = images_for(model)
    assert_same_logits(model, images, logits_of(network, images))


def test_normalisation_is_part_of_the_model(tmp_path):
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    network = randomized(torch_baseline.MSDNet(**CIFAR10))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model = keras_model(CIFAR10, normalization=(mean, deviation))
    models.load_msdnet_pytorch(model, tmp_path / "weights.pth")
    images = images_for(model)
    normalised = (images - np.float32(mean)) / np.float32(deviation)
    assert_same_logits(model, images, logits_of(network, normalised))


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_those_of_the_published_networks(name):
    arguments = PUBLISHED[name]
    with torch.device("meta"):
        network = torch_baseline.MSDNet(**arguments)
    theirs = {
        key: tuple(value.shape)
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    chosen = {OURS[key]: arguments[key] for key in arguments if key in OURS}
    # One small model for the arguments that are left to their defaults.
    is_imagenet = arguments["data"] == "ImageNet"
    defaults = keras_model(IMAGENET if is_imagenet else CIFAR10).arguments
    others = {"step_mode": "even", "prune": "max", "reduction": 0.5}
    settings = Settings(**{**defaults, **others, **chosen})
    ours = {}
    for unit in torch_names.units(settings):
        assert not ours.keys() & unit.shapes.keys()
        ours.update(unit.shapes)
    assert ours == theirs


def test_tensors_that_no_exit_needs_are_named(tmp_path):
    # Of the last layer's two scales, exits use the coarsest alone.
    state = state_of("cifar100")
    torch.save(state, tmp_path / "weights.pth")
    model = keras_model(CIFAR100)
    unused = models.load_msdnet_pytorch(model, tmp_path / "weights.pth")
    counters = {name for name in state if name.endswith("tracked")}
    assert len(unused) == len(set(unused))
    assert {*unused} < {*state} - counters
    assert len(state) - len(counters) - len(unused) == len(model.weights)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "arch": "msdnet"},
        lambda state: {f"module.{name}": state[name] for name in state},
        lambda state: {
            "state_dict": {f"module.{name}": state[name] for name in state},
            "best_prec1": 71.5,
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        },
        # As PyTorch wrote them before it counted batches.
        lambda state: {
            name: state[name] for name in state if "tracked" not in name
        },
        lambda state: {name: state[name].double() for name in state},
    ],
    ids=["checkpoint", "parallel", "both", "no_counters", "double"],
)
@pytest.mark.parametrize("is_new", [True, False], ids=["zip", "old"])
def test_every_form_of_state_file_is_read(tiny, wrap, is_new, tmp_path):
    model, state = tiny
    path = tmp_path / "model_best.pth.tar"
    torch.save(wrap(state), path, _use_new_zipfile_serialization=is_new)
    models.load_msdnet_pytorch(model, path)
    norm = model.get_layer("block_1_stem_scale_2_batch_norm")
    arrays.equal(
        norm.moving_variance,
        state["blocks.0.0.layers.1.net.1.running_var"].numpy(),
    )
    arrays.equal(
        model.get_layer("exit_1").kernel,
        state["classifier.0.linear.weight"].numpy().T,
    )


def without(state, name):
    return {key: state[key] for key in state if key != name}


LINEAR = "classifier.0.linear.weight"
STEM = "blocks.0.0.layers.0.net.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, LINEAR), rf"missing: {LINEAR}\. Give the model"),
        (
            lambda s: {**s, "blocks.0.9.x.weight": torch.zeros(3)},
            r"not known: blocks\.0\.9\.x\.weight\.",
        ),
        (
            lambda s: {**s, LINEAR: torch.zeros(7, 128)},
            rf"shapes: {LINEAR} has \(7, 128\), expected \(10, 128\)",
        ),
        # A kernel of the right size, turned round.
        (
            lambda s: {**s, STEM: s[STEM].permute(1, 0, 2, 3)},
            rf"shapes: {STEM} has \(3, 4, 3, 3\), expected \(4, 3, 3, 3\)",
        ),
        # The stem alone is of several parallel modules.
        (
            lambda s: (
                {f"module.{key}": s[key] for key in s if key != STEM}
                | {STEM: s[STEM]}
            ),
            r"missing: .* more; not known: module\.blocks",
        ),
        (
            lambda s: {"conv1.weight": torch.zeros(64, 3, 7, 7)},
            r"missing: .* and \d+ more; not known: conv1\.weight",
        ),
        (
            lambda s: {**s, STEM: s[STEM] / 0},
            rf"{STEM} has values that are not finite",
        ),
        (lambda s: {**s, "epoch": 3}, "type int under 'epoch'"),
        (lambda s: {"state_dict": [1, 2]}, "holds an object of type list"),
        (lambda s: {}, "holds an empty dictionary"),
        (lambda s: torch.zeros(3), "holds an object of type Tensor"),
    ],
)
def test_another_network_is_refused_and_changes_nothing(
    tiny, change, message, tmp_path
):
    model, state = tiny
    before = model.get_weights()
    torch.save(change(state), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"weights.pth.*{message}"):
        models.load_msdnet_pytorch(model, tmp_path / "weights.pth")
    for old, new in zip(before, model.get_weights(), strict=True):
        arrays.equal(old, new)


def test_other_arguments_are_refused(tiny, tmp_path):
    _, state = tiny
    torch.save(state, tmp_path / "weights.pth")
    other = keras_model({**CIFAR10, "nBlocks": 1, "base": 2, "growthRate": 4})
    with pytest.raises(ValueError, match="shapes: .* more. Give the model the"):
        models.load_msdnet_pytorch(other, tmp_path / "weights.pth")


@pytest.mark.parametrize("version", ["2.5.1+cpu", "1.13.0"])
def test_a_pytorch_that_files_can_deceive_is_refused(
    tiny, version, tmp_path, monkeypatch
):
    model, state = tiny
    torch.save(state, tmp_path / "weights.pth")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ImportError, match=f"2.6 or newer, found {version[:5]}"):
        models.load_msdnet_pytorch(model, tmp_path / "weights.pth")


@pytest.mark.parametrize("version", ["2.6.0", "2.10.1", "2.7.0a0+git"])
def test_newer_pytorch_is_not(tiny, version, tmp_path, monkeypatch):
    model, state = tiny
    torch.save(state, tmp_path / "weights.pth")
    monkeypatch.setattr(torch, "__version__", version)
    models.load_msdnet_pytorch(model, tmp_path / "weights.pth")


@pytest.mark.parametrize("is_new", [True, False], ids=["zip", "old"])
def test_objects_of_python_are_refused(tiny, is_new, tmp_path):
    model, state = tiny
    path = tmp_path / "weights.pth"
    content = {"args": argparse.Namespace(nBlocks=1), "state_dict": state}
    torch.save(content, path, _use_new_zipfile_serialization=is_new)
    with pytest.raises(
        ValueError,
        match=r"not loaded: it asks for argparse\.Namespace.*state_dict\(\)",
    ):
        models.load_msdnet_pytorch(model, path)


@pytest.mark.parametrize("keep", [0, 10, 3000])
def test_a_damaged_file_is_refused(tiny, keep, tmp_path):
    model, state = tiny
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"damaged \(.*\)\. Get it again"):
        models.load_msdnet_pytorch(model, path)


def test_a_missing_file_is_named(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*none\.pth"):
        models.load_msdnet_pytorch(tiny[0], tmp_path / "none.pth")


def test_another_model_is_refused():
    with pytest.raises(TypeError, match="needs a keras_neokd.models.MSDNet"):
        models.load_msdnet_pytorch(models.SmallCNN.mnist(), "weights.pth")


def test_pytorch_is_named_where_it_is_missing(tiny, tmp_path, monkeypatch):
    torch.save(tiny[1], tmp_path / "weights.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r'install "keras-neokd\[torch\]"'):
        models.load_msdnet_pytorch(tiny[0], tmp_path / "weights.pth")
