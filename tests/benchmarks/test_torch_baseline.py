"""The eager PyTorch baseline against numbers that were worked out by hand."""

import ast
import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import torch_baseline  # noqa: E402
from benchmarks.torch_baseline import MSDNet  # noqa: E402
from benchmarks.torch_baseline import SmallCNN  # noqa: E402
from keras_neokd import models  # noqa: E402
from tests.training.tiny import randomized  # noqa: E402

if keras.config.backend() != "torch":
    pytest.skip("the same under every backend", allow_module_level=True)

CLEAN = [[2.0, 1, 0, -1], [1.5, 0.5, 1, -0.5], [3, 0, 0.5, 1]]
ADVERSARIAL = [[0.5, 1, 0, -0.5], [0.2, 0.4, 0.6, 0], [1, 0.8, -0.2, 0.3]]
# Exit i keeps the true class 0 and class i.
SUPPORTS = torch.tensor([[[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]]).bool()

TERMS = {
    "clean": (0.440190, 0.746567, 0.236816),
    "adversarial": (1.287339, 1.511154, 0.961841),
    "nkd": (1.326287, 1.436063, 1.254398),
    "eokd": (1.152868, 1.360138, 1.045284),
}
BUDGET = {"epsilon": 8 / 255, "step_size": 2 / 255, "num_steps": 3}


@pytest.fixture(autouse=True)
def _seed_torch():
    torch.manual_seed(0)


def golden_loss(num_copies=1, **arguments):
    """The loss of the worked example, repeated `num_copies` times."""
    return torch_baseline.neo_kd_loss(
        [torch.tensor([row] * num_copies) for row in CLEAN],
        [torch.tensor([row] * num_copies) for row in ADVERSARIAL],
        torch.zeros(num_copies, dtype=torch.int64),
        SUPPORTS.expand(num_copies, -1, -1),
        **arguments,
    )


def small_batch(shape=(3, 32, 32), batch_size=6):
    """Random images, some pixels exactly 0 and 1, and labels."""
    x = (torch.rand(batch_size, *shape) * 1.4 - 0.2).clamp(0, 1)
    return x, torch.arange(batch_size) % 10


def cross_entropies(model, x, y):
    return [torch.nn.functional.cross_entropy(z, y) for z in model(x)]


def trained_a_little(model, shape):
    """Move weights and batch norm statistics away from where they start."""
    x, y = small_batch(shape, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        sum(cross_entropies(model, x, y)).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(params=["small_cnn", "msdnet"])
def model_and_batch(request):
    if request.param == "small_cnn":
        shape, model = (1, 28, 28), SmallCNN.mnist()
    else:
        shape, model = (3, 32, 32), MSDNet.cifar10()
    return trained_a_little(model, shape), *small_batch(shape)


# The loss.


def test_terms_equal_the_worked_example():
    _, terms = golden_loss()
    for name, expected in TERMS.items():
        torch.testing.assert_close(
            terms[name], torch.tensor([expected]), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"alpha": 0, "beta": 0}, 5.183907),
        ({}, 20.792442),
        ({"gamma": (1, 1, 1.5)}, 23.196681),
    ],
)
def test_total_equals_the_worked_example(arguments, expected):
    for num_copies in (1, 3):
        total, _ = golden_loss(num_copies, **arguments)
        assert total.item() == pytest.approx(expected, abs=5e-6)


def test_distillation_sends_no_gradient_to_the_clean_logits():
    clean = [torch.tensor([row], requires_grad=True) for row in CLEAN]
    adversarial = [torch.tensor([row]) for row in ADVERSARIAL]
    y = torch.tensor([0])
    loss, _ = torch_baseline.neo_kd_loss(clean, adversarial, y, SUPPORTS)
    gradient = torch.autograd.grad(loss, clean)[0]
    expected = clean[0].softmax(dim=1) - torch.eye(4)[:1]
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(("num_classes", "num_exits"), [(10, 3), (100, 7)])
def test_supports_are_equal_parts_that_share_the_true_class(
    num_classes, num_exits
):
    y = torch.arange(num_classes)
    supports = torch_baseline.orthogonal_supports(y, num_exits, num_classes)
    assert supports.shape == (num_classes, num_exits, num_classes)
    size = (num_classes - 1) // num_exits + 1
    assert (supports.sum(dim=2) == size).all()
    holders = supports.sum(dim=1)
    assert (holders[y, y] == num_exits).all()
    others = holders[~torch.eye(num_classes, dtype=torch.bool)]
    assert others.max() == 1


def test_supports_differ_between_draws_and_repeat_with_a_seed():
    y = torch.arange(10)
    draws = [
        torch_baseline.orthogonal_supports(
            y, 3, 10, torch.Generator().manual_seed(seed)
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_supports_need_a_class_per_exit():
    with pytest.raises(ValueError, match="num_classes=3, num_exits=3"):
        torch_baseline.orthogonal_supports(torch.arange(3), 3, 3)


# The networks. MSDNet is compared with ours in tests/models/.


def test_small_cnn_has_the_published_size_and_start():
    model = SmallCNN()
    assert sum(p.numel() for p in model.parameters()) == 836_846
    logits = model(torch.rand(2, 1, 28, 28))
    assert [tuple(z.shape) for z in logits] == [(2, 10)] * 3
    assert not logits[2].any()
    spread = model.trunk_conv_4.weight.std().item()
    assert spread == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)
    assert not model.exit_1.conv.bias.any()
    for dense in (model.exit_1.dense_1, model.exit_3.dense_1):
        bound = 1 / math.sqrt(dense.in_features)
        for values in (dense.weight, dense.bias):
            assert values.abs().max().item() == pytest.approx(bound, rel=0.05)


def test_small_cnn_has_the_logits_of_ours_at_every_exit():
    model = randomized(models.SmallCNN.mnist(), 3)
    weights = {
        each.path: keras.ops.convert_to_numpy(each) for each in model.weights
    }
    network = SmallCNN()
    torch_baseline.load(network, weights)
    network.eval()
    images = np.random.default_rng(0).random((5, 28, 28, 1), "float32")
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    expected = list(model.predict(images, verbose=0).values())
    with torch.no_grad():
        for ours, theirs in zip(expected, network(x), strict=True):
            assert abs(ours).max() > 0.1
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)
    for name, value in torch_baseline.dump(network).items():
        np.testing.assert_array_equal(value, weights[name])
    with pytest.raises(ValueError, match=r"of shape .*, found \(5,\)"):
        torch_baseline.load(network, {**weights, "exit_1/bias": np.zeros(5)})


def test_one_exit_runs_no_further_and_no_other_head(model_and_batch):
    model, x, _ = model_and_batch
    expected, ran = model(x), set()
    for name, module in model.named_modules():
        part = re.match(r"(blocks|classifier)\.\d+|\w+", name)
        if part and not [*module.children()]:
            module.register_forward_hook(lambda *_, part=part[0]: ran.add(part))
    trunk = [f"trunk_conv_{i}" for i in (1, 2, 3, 4)]
    parts = [{*trunk[:1], "exit_1"}, {*trunk[:3], "exit_2"}]
    parts.append({*trunk, "exit_3"})
    if isinstance(model, MSDNet):
        blocks = [f"blocks.{i}" for i in range(3)]
        parts = [{*blocks[: i + 1], f"classifier.{i}"} for i in range(3)]
    for i, logits in enumerate(expected):
        ran.clear()
        (found,) = model(x, i)
        assert torch.equal(found, logits)
        assert ran == parts[i]


@pytest.mark.parametrize(
    ("construct", "head_inputs", "num_weights"),
    [
        (MSDNet.cifar10, (64, 112, 92), 901_182),
        (MSDNet.cifar100, (128, 176, 124, 172, 220, 144, 192), 2_862_480),
    ],
)
def test_msdnet_has_the_published_widths_and_sizes(
    construct, head_inputs, num_weights
):
    model = construct()
    inputs = [each.m[0].net[0].in_channels for each in model.classifier]
    assert tuple(inputs) == head_inputs
    assert sum(each.numel() for each in model.parameters()) == num_weights
    logits = model(torch.rand(2, 3, 32, 32))
    assert len(logits) == model.num_exits == len(head_inputs)


# The attacks.


class Linear(torch.nn.Module):
    """Exits that are linear in the image, so gradients are known."""

    num_exits = 2

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(2, 5, 2))

    def forward(self, x):
        return [x.flatten(1) @ self.weight[i] for i in range(2)]


@pytest.mark.parametrize("exits", [(0,), (1,), None])
def test_one_step_follows_the_sign_of_the_gradient(exits):
    model, epsilon, step_size = Linear(), 0.1, 0.03
    x, y = torch.rand(4, 1, 1, 5), torch.tensor([0, 1, 1, 0])
    start = x + 0.05
    logits = model(start.clamp(0, 1))
    gradient = 0
    for i in (0, 1) if exits is None else exits:
        error = logits[i].softmax(1) - torch.eye(2)[y]
        gradient = gradient + error @ model.weight[i].T
    expected = start.clamp(0, 1) + step_size * gradient.sign().view_as(x)
    expected = expected.clamp(x - epsilon, x + epsilon).clamp(0, 1)
    x_adv = torch_baseline.pgd(model, x, y, exits, epsilon, step_size, 1, start)
    torch.testing.assert_close(x_adv, expected)


@pytest.mark.parametrize("exits", [(0,), (2,), None])
def test_pgd_raises_the_loss_within_ball_and_range(model_and_batch, exits):
    model, x, y = model_and_batch
    start = torch_baseline.random_start(x, BUDGET["epsilon"])
    assert not torch.equal(start, x)
    x_adv = torch_baseline.pgd(model, x, y, exits, start=start, **BUDGET)
    for images in (start, x_adv):
        assert (images - x).abs().max() <= BUDGET["epsilon"] + 1e-6
        assert images.min() >= 0
        assert images.max() <= 1

    def loss(images):
        losses = cross_entropies(model, images, y)
        return sum(losses if exits is None else [losses[i] for i in exits])

    assert loss(x_adv) > loss(start)


def test_a_far_start_is_projected():
    x, y = torch.rand(4, 1, 1, 5), torch.tensor([0, 1, 1, 0])
    x_adv = torch_baseline.pgd(Linear(), x, y, (0,), 0.1, 0.01, 0, x + 5)
    torch.testing.assert_close(x_adv, (x + 0.1).clamp(max=1))


def test_max_average_keeps_the_largest_sum_over_exits(model_and_batch):
    model, x, y = model_and_batch
    x_adv, chosen = torch_baseline.attacked(
        model, x, y, **BUDGET, generator=torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(1)
    starts = [
        torch_baseline.random_start(x, BUDGET["epsilon"], generator)
        for _ in range(3)
    ]
    candidates = [
        torch_baseline.pgd(model, x, y, (i,), start=starts[i], **BUDGET)
        for i in range(3)
    ]
    for n in range(len(x)):
        sums = []
        for candidate in candidates:
            logits = model(candidate)
            sums.append(sum(-z.log_softmax(1)[n, y[n]].item() for z in logits))
        assert sums[chosen[n]] == max(sums)
        assert torch.equal(x_adv[n], candidates[chosen[n]][n])


def test_truncated_attacks_find_the_same_images(model_and_batch):
    model, x, y = model_and_batch
    found = [
        torch_baseline.attacked(
            model,
            x,
            y,
            **BUDGET,
            generator=torch.Generator().manual_seed(1),
            truncated=truncated,
        )
        for truncated in (False, True)
    ]
    (expected, chosen), (x_adv, chosen_too) = found
    assert torch.equal(chosen, chosen_too)
    assert not torch.equal(x_adv, x)
    # The sign of a gradient of almost zero may differ.
    assert (x_adv == expected).float().mean() > 0.99


def test_the_first_of_equal_candidates_wins():
    model = Linear()
    torch.nn.init.zeros_(model.weight)
    x, y = torch.rand(4, 1, 1, 5), torch.zeros(4, dtype=torch.int64)
    starts = [x + 0.01, x - 0.01]
    x_adv, chosen = torch_baseline.max_average(
        model, x, y, 0.1, 0.02, 2, starts
    )
    assert chosen.tolist() == [0] * 4
    torch.testing.assert_close(x_adv, starts[0].clamp(0, 1))


def test_attacks_leave_the_model_as_it_was(model_and_batch):
    model, x, y = model_and_batch
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch_baseline.attacked(model, x, y, **BUDGET)
    assert all(module.training for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


# The step; tests/training/test_golden_step.py compares ours with it.


def make_step(model, x, x_adv, y):
    """One training step with the paper's optimizer."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
    )
    supports = torch_baseline.orthogonal_supports(
        y, 3, 10, torch.Generator().manual_seed(0)
    )
    logs = torch_baseline.train_step(model, optimizer, x, x_adv, y, supports)
    return logs, supports


def test_a_step_applies_the_gradient_of_the_loss():
    x, y = small_batch()
    x_adv = torch_baseline.random_start(x, 0.03)
    model, copy = MSDNet.cifar10(), MSDNet.cifar10()
    copy.load_state_dict(model.state_dict())
    logs, supports = make_step(model, x, x_adv, y)
    loss, _ = torch_baseline.neo_kd_loss(copy(x), copy(x_adv), y, supports)
    loss.backward()
    assert logs["loss"] == loss.item()
    after = dict(model.named_parameters())
    for name, parameter in copy.named_parameters():
        expected = parameter - 0.1 * (parameter.grad + 5e-4 * parameter)
        torch.testing.assert_close(after[name], expected)
    for name, buffer in copy.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
        if name.endswith("num_batches_tracked"):
            assert buffer == 2


def test_both_memory_formats_give_the_same_step():
    x, y = small_batch()
    # Rounding of float32 depends on the number of threads, and batch norm of
    # so few images enlarges it.
    x = x.double()
    weights = MSDNet.cifar10().double().state_dict()
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = MSDNet.cifar10().double()
        model.load_state_dict(weights)
        model.to(memory_format=memory_format)
        images = x.contiguous(memory_format=memory_format)
        x_adv, _ = torch_baseline.attacked(
            model, images, y, **BUDGET, generator=torch.manual_seed(0)
        )
        assert x_adv.is_contiguous(memory_format=memory_format)
        logs, _ = make_step(model, images, x_adv, y)
        results.append((logs["loss"], model.state_dict()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for key, value in results[0][1].items():
        torch.testing.assert_close(
            value, results[1][1][key], atol=1e-4, rtol=1e-3
        )


def test_nothing_is_imported_from_the_library_or_keras():
    names = []
    for path in Path(torch_baseline.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names.append(node.module)
    own = "benchmarks.torch_baseline"
    roots = {name.split(".")[0] for name in names if not name.startswith(own)}
    assert roots == {"collections", "contextlib", "math", "torch"}
