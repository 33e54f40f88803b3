"""The eager PyTorch baseline against numbers that were worked out by hand."""

import ast
import math
from pathlib import Path

import keras
import pytest

torch = pytest.importorskip("torch")
if keras.config.backend() != "torch":
    pytest.skip("the same under every backend", allow_module_level=True)

from apps import torch_baseline  # noqa: E402
from apps.torch_baseline import MSDNet  # noqa: E402
from apps.torch_baseline import SmallCNN  # noqa: E402

CLEAN = [[2.0, 1, 0, -1], [1.5, 0.5, 1, -0.5], [3, 0, 0.5, 1]]
ADVERSARIAL = [[0.5, 1, 0, -0.5], [0.2, 0.4, 0.6, 0], [1, 0.8, -0.2, 0.3]]
# Exit i keeps the true class 0 and class i.
SUPPORTS = torch.tensor([[[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]]).bool()

TERMS = {
    "clean": (0.440190, 0.746567, 0.236816),
    "adversarial": (1.287339, 1.511154, 0.961841),
}
DISTANCES = {
    "cross_entropy": {
        "nkd": (1.326287, 1.436063, 1.254398),
        "eokd": (1.152868, 1.360138, 1.045284),
    },
    "kl": {
        "nkd": (0.216199, 0.399733, 0.209149),
        "eokd": (0.570665, 0.697291, 0.679950),
    },
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


def trained_a_little(model, shape):
    """Move weights and batch norm statistics away from where they start."""
    x, y = small_batch(shape, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        sum(
            torch.nn.functional.cross_entropy(z, y) for z in model(x)
        ).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(params=["small_cnn", "msdnet"])
def model_and_batch(request):
    if request.param == "small_cnn":
        shape, model = (1, 28, 28), SmallCNN()
    else:
        shape, model = (3, 32, 32), MSDNet()
    return trained_a_little(model, shape), *small_batch(shape)


def num_parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("kind", ["cross_entropy", "kl"])
def test_terms_equal_the_worked_example(kind):
    _, terms = golden_loss(kind=kind)
    for name, expected in {**TERMS, **DISTANCES[kind]}.items():
        assert terms[name].shape == (1, 3)
        torch.testing.assert_close(
            terms[name], torch.tensor([expected]), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"alpha": 0, "beta": 0}, 5.183907),
        ({}, 20.792442),
        ({"kind": "kl"}, 9.607054),
        ({"gamma": (1, 1, 1.5)}, 23.196681),
        ({"gamma": (1, 1, 1.5), "kind": "kl"}, 10.260752),
    ],
)
def test_total_equals_the_worked_example(arguments, expected):
    for num_copies in (1, 3):
        total, _ = golden_loss(num_copies, **arguments)
        assert total.item() == pytest.approx(expected, abs=5e-6)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match='"cross_entropy" or "kl".*\'l2\''):
        golden_loss(kind="l2")


def test_distillation_sends_no_gradient_to_the_clean_logits():
    clean = [torch.tensor([row], requires_grad=True) for row in CLEAN]
    adversarial = [torch.tensor([row]) for row in ADVERSARIAL]
    y = torch.tensor([0])
    for weights in ({}, {"alpha": 0, "beta": 0}):
        loss, _ = torch_baseline.neo_kd_loss(
            clean, adversarial, y, SUPPORTS, **weights
        )
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


def test_small_cnn_has_the_published_size_and_start():
    model = SmallCNN()
    assert num_parameters(model) == 836_846
    assert num_parameters(model.exit_1) == 162_234
    assert num_parameters(model.exit_2) == 362_410
    assert num_parameters(model.exit_3) == 247_210
    logits = model(torch.rand(2, 1, 28, 28))
    assert [tuple(z.shape) for z in logits] == [(2, 10)] * 3
    assert not logits[2].any()
    spread = model.trunk["conv_4"].weight.std().item()
    assert spread == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)
    for conv in (*model.trunk.values(), model.exit_1.conv):
        assert not conv.bias.any()
    for dense in (model.exit_1.dense_1, model.exit_3.dense_1):
        bound = 1 / math.sqrt(dense.in_features)
        for values in (dense.weight, dense.bias):
            assert values.abs().max().item() == pytest.approx(bound, rel=0.05)


def test_side_heads_of_small_cnn_are_linear():
    model = SmallCNN(dropout=0.0)
    a, b = torch.randn(2, 3, 576)
    gap = model.exit_1(a) + model.exit_1(b) - model.exit_1(a + b)
    torch.testing.assert_close(
        gap, model.exit_1(torch.zeros(3, 576)), atol=1e-5, rtol=0
    )
    a, b = torch.randn(2, 3, 1024)
    torch.nn.init.normal_(model.exit_3.logits.weight)
    gap = model.exit_3(a) + model.exit_3(b) - model.exit_3(a + b)
    assert gap.abs().max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "head_inputs", "sizes"),
    [
        ({}, (64, 112, 92), (291_882, 602_372, 901_182)),
        (
            {"initial_channels": 16},
            None,
            (345_794, 677_020, 991_222),
        ),
        (
            {"num_classes": 100, "num_blocks": 7},
            (128, 176, 124, 172, 220, 144, 192),
            (367_292, 768_928, 1_136_656, 1_536_516)
            + (1_998_584, 2_408_524, 2_862_480),
        ),
    ],
)
def test_msdnet_has_the_published_widths_and_sizes(
    arguments, head_inputs, sizes
):
    model = MSDNet(**arguments)
    numbers = range(1, model.num_exits + 1)
    heads = [getattr(model, f"exit_{i}") for i in numbers]
    blocks = [getattr(model, f"block_{i}") for i in numbers]
    if head_inputs:
        widths = tuple(head.unit_1.conv.in_channels for head in heads)
        assert widths == head_inputs
    total, totals = 0, []
    for block, head in zip(blocks, heads, strict=True):
        total += num_parameters(block) + num_parameters(head)
        totals.append(total)
    assert tuple(totals) == sizes
    logits = model(torch.rand(2, 3, 32, 32))
    assert len(logits) == model.num_exits
    assert logits[-1].shape == (2, arguments.get("num_classes", 10))


def test_msdnet_feature_maps_follow_the_plan():
    model = MSDNet(num_classes=100, num_blocks=7).eval()
    shapes = []
    x = torch.rand(1, 3, 32, 32)
    for i in range(1, 8):
        x = getattr(model, f"block_{i}")(x)
        shapes.append([tuple(m.shape[1:3]) for m in x])
    assert shapes == [
        [(32, 32), (64, 16), (128, 8)],
        [(44, 32), (88, 16), (176, 8)],
        [(62, 16), (124, 8)],
        [(86, 16), (172, 8)],
        [(110, 16), (220, 8)],
        [(144, 8)],
        [(192, 8)],
    ]


def test_a_truncated_forward_pass_equals_the_full_one(model_and_batch):
    model, x, _ = model_and_batch
    full = model(x)
    for i in range(3):
        part = model(x, last_exit=i)
        assert len(part) == i + 1
        for a, b in zip(part, full[: i + 1], strict=True):
            assert torch.equal(a, b)


class Linear(torch.nn.Module):
    """Exits that are linear in the image, so gradients are known."""

    num_exits = 2

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(2, 5, 2))

    def forward(self, x, last_exit=None):
        exits = range(2 if last_exit is None else last_exit + 1)
        return [x.flatten(1) @ self.weight[i] for i in exits]


@pytest.mark.parametrize("exit_index", [0, 1, None])
def test_one_step_follows_the_sign_of_the_gradient(exit_index):
    model, epsilon, step_size = Linear(), 0.1, 0.03
    x, y = torch.rand(4, 1, 1, 5), torch.tensor([0, 1, 1, 0])
    start = x + 0.05
    logits = model(start.clamp(0, 1))
    gradient = 0
    for i in (0, 1) if exit_index is None else (exit_index,):
        error = logits[i].softmax(1) - torch.eye(2)[y]
        gradient = gradient + error @ model.weight[i].T
    expected = start.clamp(0, 1) + step_size * gradient.sign().view_as(x)
    expected = expected.clamp(x - epsilon, x + epsilon).clamp(0, 1)
    x_adv = torch_baseline.pgd(
        model, x, y, exit_index, epsilon, step_size, 1, start
    )
    torch.testing.assert_close(x_adv, expected)


@pytest.mark.parametrize("exit_index", [0, 1, 2, None])
def test_pgd_raises_the_loss_within_ball_and_range(model_and_batch, exit_index):
    model, x, y = model_and_batch
    start = torch_baseline.random_start(x, BUDGET["epsilon"])
    assert not torch.equal(start, x)
    x_adv = torch_baseline.pgd(model, x, y, exit_index, start=start, **BUDGET)
    for images in (start, x_adv):
        assert (images - x).abs().max() <= BUDGET["epsilon"] + 1e-6
        assert images.min() >= 0
        assert images.max() <= 1

    def loss(images):
        losses = [
            torch.nn.functional.cross_entropy(z, y) for z in model(images)
        ]
        return sum(losses) if exit_index is None else losses[exit_index]

    assert loss(x_adv) > loss(start)


def test_a_far_start_is_projected():
    x, y = torch.rand(4, 1, 1, 5), torch.tensor([0, 1, 1, 0])
    x_adv = torch_baseline.pgd(Linear(), x, y, 0, 0.1, 0.01, 0, x + 5)
    torch.testing.assert_close(x_adv, (x + 0.1).clamp(max=1))


def test_truncated_attacks_equal_full_ones(model_and_batch):
    model, x, y = model_and_batch
    starts = [torch_baseline.random_start(x, 0.03) for _ in range(3)]
    for i in range(3):
        full, truncated = (
            torch_baseline.pgd(
                model, x, y, i, start=starts[i], truncated=flag, **BUDGET
            )
            for flag in (False, True)
        )
        assert torch.equal(full, truncated)
    full, truncated = (
        torch_baseline.max_average(
            model, x, y, starts=starts, truncated=flag, **BUDGET
        )
        for flag in (False, True)
    )
    assert torch.equal(full[0], truncated[0])
    assert torch.equal(full[1], truncated[1])


def test_max_average_keeps_the_largest_sum_over_exits(model_and_batch):
    model, x, y = model_and_batch
    starts = [torch_baseline.random_start(x, 0.03) for _ in range(3)]
    x_adv, chosen = torch_baseline.max_average(
        model, x, y, starts=starts, **BUDGET
    )
    candidates = [
        torch_baseline.pgd(model, x, y, i, start=starts[i], **BUDGET)
        for i in range(3)
    ]
    for n in range(len(x)):
        sums = []
        for candidate in candidates:
            logits = model(candidate)
            sums.append(sum(-z.log_softmax(1)[n, y[n]].item() for z in logits))
        assert sums[chosen[n]] == max(sums)
        assert torch.equal(x_adv[n], candidates[chosen[n]][n])


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


def test_crafting_leaves_the_model_as_it_was(model_and_batch):
    model, x, y = model_and_batch
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    starts = [torch_baseline.random_start(x, 0.03) for _ in range(3)]
    torch_baseline.max_average(model, x, y, starts=starts, **BUDGET)
    torch_baseline.pgd(model, x, y, None, start=starts[0], **BUDGET)
    assert all(module.training for module in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def make_step(model, x, y, **arguments):
    """One training step with the paper's optimizer."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
    )
    supports = torch_baseline.orthogonal_supports(
        y, 3, 10, torch.Generator().manual_seed(0)
    )
    return torch_baseline.train_step(
        model,
        optimizer,
        x,
        y,
        supports,
        attack_arguments=BUDGET,
        generator=torch.Generator().manual_seed(0),
        **arguments,
    )


def test_a_step_with_given_images_applies_the_gradient_of_the_loss():
    x, y = small_batch()
    x_adv = torch_baseline.random_start(x, 0.03)
    model, copy = MSDNet(), MSDNet()
    copy.load_state_dict(model.state_dict())
    logs = make_step(model, x, y, x_adv=x_adv, loss_arguments={"kind": "kl"})
    supports = torch_baseline.orthogonal_supports(
        y, 3, 10, torch.Generator().manual_seed(0)
    )
    loss, _ = torch_baseline.neo_kd_loss(
        copy(x), copy(x_adv), y, supports, kind="kl"
    )
    loss.backward()
    assert logs["loss"] == loss.item()
    assert "exit_1_selected_share" not in logs
    after = dict(model.named_parameters())
    for name, parameter in copy.named_parameters():
        expected = parameter - 0.1 * (parameter.grad + 5e-4 * parameter)
        torch.testing.assert_close(after[name], expected)
    for name, buffer in copy.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
        if name.endswith("num_batches_tracked"):
            assert buffer == 2


@pytest.mark.parametrize("attack", ["max_average", "average"])
def test_a_step_reports_every_exit(model_and_batch, attack):
    model, x, y = model_and_batch
    logs = make_step(model, x, y, attack=attack)
    assert model.training
    assert all(math.isfinite(value) for value in logs.values())
    total = 0
    weights = {"clean": 1, "adversarial": 1, "nkd": 3, "eokd": 1}
    for i in (1, 2, 3):
        for name, weight in weights.items():
            total += weight * logs[f"exit_{i}_{name}_loss"]
        assert 0 <= logs[f"exit_{i}_clean_accuracy"] <= 1
        assert 0 <= logs[f"exit_{i}_adversarial_accuracy"] <= 1
    assert logs["loss"] == pytest.approx(total, rel=1e-5)
    shares = [v for k, v in logs.items() if k.endswith("selected_share")]
    if attack == "average":
        assert shares == []
    else:
        assert sum(shares) == pytest.approx(1)


def test_an_unknown_attack_is_refused():
    with pytest.raises(ValueError, match="received 'minimum'"):
        make_step(SmallCNN(), *small_batch((1, 28, 28)), attack="minimum")


def test_both_memory_formats_give_the_same_step():
    x, y = small_batch()
    # Rounding of float32 depends on the number of threads, and batch norm of
    # so few images enlarges it.
    x = x.double()
    x_adv = torch_baseline.random_start(x, 0.03)
    weights = MSDNet().double().state_dict()
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = MSDNet().double()
        model.load_state_dict(weights)
        model.to(memory_format=memory_format)
        logs = make_step(model, x, y, x_adv=x_adv, memory_format=memory_format)
        results.append((logs["loss"], model.state_dict()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for key, value in results[0][1].items():
        torch.testing.assert_close(
            value, results[1][1][key], atol=1e-4, rtol=1e-3
        )


def test_crafting_keeps_the_memory_format():
    model = MSDNet().to(memory_format=torch.channels_last)
    x, y = small_batch()
    x = x.contiguous(memory_format=torch.channels_last)
    start = torch_baseline.random_start(x, 0.03)
    x_adv = torch_baseline.pgd(model, x, y, 1, start=start, **BUDGET)
    for images in (start, x_adv):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_nothing_is_imported_from_the_library_or_keras():
    names = []
    for path in Path(torch_baseline.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names.append(node.module)
    own = "apps.torch_baseline"
    roots = {name.split(".")[0] for name in names if not name.startswith(own)}
    assert roots == {"contextlib", "math", "torch"}
