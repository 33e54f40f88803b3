"""Attacks on real models: right gradients, and nothing left behind."""

import keras
import numpy as np
import pytest
from keras import ops

torch = pytest.importorskip("torch")

from benchmarks import torch_baseline  # noqa: E402
from keras_neokd import attacks  # noqa: E402
from keras_neokd import backend  # noqa: E402
from tests import arrays  # noqa: E402
from tests.reference import torch_step  # noqa: E402
from tests.training import tiny  # noqa: E402

EPSILON, STEP_SIZE = 0.1, 0.025
IMAGES, LABELS = tiny.data(40)


@pytest.fixture(scope="module")
def model():
    return tiny.conv_model()


@pytest.fixture(scope="module")
def network(model):
    network = torch_step.Network()
    weights = {each.path: tiny.array(each) for each in model.weights}
    torch_baseline.load(network, weights)
    return network.eval()


def craft(model, attack, training=False):
    """Run an attack as training does: in one compiled function."""

    def function(images, labels, keys):
        predict = model.exit_logits(training=training)
        adversarial, info = attack.generate(predict, images, labels, keys)
        return {"adversarial": adversarial, **info}

    compiled = backend.compile_function(function, model.variables)
    given = IMAGES, LABELS, np.arange(40, dtype="int32")
    results = compiled(*map(ops.convert_to_tensor, given))
    return {name: tiny.array(each) for name, each in results.items()}


def exit_losses(network, images):
    """Cross-entropy of every exit, `(batch, exits)`."""
    labels = torch.as_tensor(LABELS).long()
    losses = [
        torch.nn.functional.cross_entropy(each, labels, reduction="none")
        for each in network(torch_step.channels_first(images))
    ]
    return torch.stack(losses, dim=1)


def gradient(network, images, exits):
    images = images.clone().requires_grad_(True)
    exit_losses(network, images)[:, list(exits)].mean(dim=1).sum().backward()
    return images.grad


def reference_pgd(network, exits, num_steps):
    images = torch_step.channels_first(IMAGES)
    adversarial = torch_baseline.pgd(
        network,
        images,
        torch.as_tensor(LABELS).long(),
        exits,
        EPSILON,
        STEP_SIZE,
        num_steps,
        images,
    )
    return adversarial.permute(0, 2, 3, 1)


def pgd(num_steps, objective):
    return attacks.PGD(
        EPSILON, STEP_SIZE, num_steps, random_start=False, objective=objective
    )


OBJECTIVES = [
    (attacks.AverageExits(), (0, 1, 2)),
    (attacks.AverageExits(exits=(2, 0)), (0, 2)),
    (attacks.SingleExit(1), (1,)),
]


@pytest.mark.parametrize(("objective", "exits"), OBJECTIVES)
def test_one_step_has_the_signs_of_the_pytorch_gradient(
    model, network, objective, exits
):
    crafted = craft(model, pgd(1, objective))["adversarial"]
    expected = reference_pgd(network, exits, 1).numpy()
    start = torch.as_tensor(IMAGES).double()
    clear = gradient(network, start, exits).abs().numpy() > 1e-6
    assert clear.mean() > 0.7  # Exit 2 does not see the last row and column.
    arrays.close(crafted[clear], expected[clear], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("objective", "exits"), OBJECTIVES[:1])
def test_seven_steps_make_the_images_of_the_pytorch_rewrite(
    model, network, objective, exits
):
    crafted = craft(model, pgd(7, objective))["adversarial"]
    expected = reference_pgd(network, exits, 7)
    difference = np.abs(crafted - expected.numpy()).reshape(40, -1).max(axis=1)
    assert (difference <= 1e-6).mean() >= 0.95
    with torch.no_grad():
        own = exit_losses(network, torch.as_tensor(crafted).double())
        reference = exit_losses(network, expected)
        clean = exit_losses(network, torch.as_tensor(IMAGES).double())
    assert own.mean().item() == pytest.approx(reference.mean().item(), abs=1e-2)
    assert own.mean() > clean.mean() + 0.1


def test_max_average_chooses_as_the_pytorch_rewrite(model, network):
    attack = attacks.MaxAverage(pgd(3, attacks.AverageExits()))
    results = craft(model, attack)
    candidates = [reference_pgd(network, (i,), 3) for i in range(3)]
    with torch.no_grad():
        scores = torch.stack(
            [exit_losses(network, each).mean(dim=1) for each in candidates]
        )
    winner = scores.argmax(dim=0)
    assert len(set(winner.tolist())) > 1
    expected = torch.stack(candidates)[winner, torch.arange(40)].numpy()
    same = np.abs(results["adversarial"] - expected).reshape(40, -1).max(axis=1)
    assert (same <= 1e-6).mean() >= 0.95
    shares = results["selected_share"]
    arrays.equal(shares.sum(axis=1), 1)
    assert (shares.argmax(axis=1) == winner.numpy()).mean() >= 0.95


# Nothing is left behind.

ATTACKS = {
    "pgd": attacks.PGD(0.1, 0.05, 2),
    "pgd_l2_restarts": attacks.PGD(1.0, 0.2, 2, norm="l2", num_restarts=2),
    "max_average": attacks.MaxAverage(attacks.PGD(0.1, 0.05, 2)),
}


@pytest.fixture(scope="module")
def stateful_model():
    """A model with batch norm, dropout, seed generators and velocities."""
    model = tiny.compiled(tiny.dense_model(norm=True, dropout=0.5))
    tiny.fresh(model)
    return model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_change_no_variable(stateful_model, name, training):
    model = stateful_model
    paths = {each.path for each in model.variables}
    for kind in ("kernel", "moving_variance", "seed_generator_state"):
        assert any(kind in path for path in paths)
    before = tiny.snapshot(model)
    crafted = craft(model, ATTACKS[name], training)["adversarial"]
    assert np.abs(crafted - IMAGES).max() > 0.04
    tiny.assert_equal_states(before, tiny.snapshot(model))


def test_direct_calls_of_attacks_change_no_variable(stateful_model):
    before = tiny.snapshot(stateful_model)
    predict = stateful_model.exit_logits(training=True)
    crafted = ATTACKS["pgd"](predict, IMAGES, LABELS, seed=1)
    assert np.abs(tiny.array(crafted) - IMAGES).max() > 0.04
    tiny.assert_equal_states(before, tiny.snapshot(stateful_model))


def test_training_mode_is_that_of_a_training_step():
    model = tiny.dense_model(norm=True)
    images = ops.convert_to_tensor(IMAGES)
    seen = model.exit_logits(training=True)(images)
    inference = model.exit_logits(training=False)(images)
    before = tiny.snapshot(model)
    trained = model(images, training=True)
    for i, name in enumerate(tiny.NAMES):
        arrays.close(seen[i], trained[name], atol=1e-6)
        assert (
            np.abs(tiny.array(seen[i]) - tiny.array(inference[i])).max() > 0.1
        )
    # The real training pass moves the running statistics.
    after = tiny.snapshot(model)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def state_after_a_step(attack, mode):
    """Train once; return all variables."""
    model = tiny.compiled(
        tiny.dense_model(norm=True, dropout=0.5),
        method="adversarial_training",
        attack=attack,
        attack_training_mode=mode,
    )
    before = tiny.fresh(model)
    model.train_on_batch(*tiny.data())
    after = tiny.snapshot(model)
    moved = [(a != b).any() for a, b in zip(before, after, strict=True)]
    assert sum(moved) > 20
    return after


@pytest.fixture(scope="module")
def state_of_given_images():
    return state_after_a_step(tiny.GivenImages(tiny.data()[0]), False)


@pytest.mark.parametrize("attack_training_mode", [False, True])
def test_a_step_moves_statistics_and_seeds_by_its_own_passes_only(
    state_of_given_images, attack_training_mode
):
    # An attack that hardly moves the images must leave the state that given
    # images leave: two passes through batch norm, two draws of each dropout.
    state = state_after_a_step(attacks.PGD(1e-6, 1e-6, 3), attack_training_mode)
    tiny.assert_equal_states(state, state_of_given_images, tolerance=2e-3)


def test_evaluation_under_attack_changes_no_variable():
    images, labels = tiny.data()
    model = tiny.dense_model(norm=True, dropout=0.5)
    tiny.compiled(
        model, validation_attack=tiny.pgd(), attack_training_mode=True
    )
    tiny.fresh(model)
    model.reset_metrics()
    before = tiny.snapshot(model)
    model.evaluate(images, labels, batch_size=6, verbose=0)
    model.test_on_batch(images[:6], labels[:6])
    model.predict(images, verbose=0)
    model.reset_metrics()
    tiny.assert_equal_states(before, tiny.snapshot(model))


def test_a_model_without_gradient_is_reported_by_name_of_the_problem():
    if keras.config.backend() == "jax":
        pytest.skip("JAX differentiates rounding: the gradient is zero")
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    x = ops.cast(ops.cast(10 * x, "int32"), "float32")
    outputs = [keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)]
    model = tiny.MultiExitModel(inputs, outputs)
    tiny.compiled(model, method="adversarial_training")
    images, labels = tiny.data(num_classes=3)
    with pytest.raises(ValueError, match="No gradient reaches the images"):
        model.train_on_batch(images, labels)
