"""Protocols in apps.evaluate: rows of the record, what is refused when."""

import json

import numpy as np
import pytest

from apps import attacking
from apps import building
from apps import evaluating
from apps import protocols
from apps.reporting import records
from configs import default
from keras_neokd import evaluation
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.evaluation import protocol
from keras_neokd.evaluation import soundness
from keras_neokd.evaluation.result import check_rows
from keras_neokd.evaluation.result import table
from tests.apps.tiny import leaning_model
from tests.apps.tiny import tiny_config

pytestmark = pytest.mark.any_backend

ALL = ("budgeted", "transferability", "sensitivity", "early_exit")
EXITS = ("exit_1", "exit_2", "exit_3")
COUNT = 24


@pytest.fixture(scope="module")
def model():
    return leaning_model()


@pytest.fixture
def config():
    config = tiny_config()
    config.data.validation_size = 16
    config.evaluate.update(
        {
            "protocols": ALL,
            "budgeted": {"budgets": (2e6, 6e6)},
            "transferability": {"subset": 2},
            "sensitivity": {"epsilons": (0.1, 0.0), "num_steps": (1,)},
            "early_exit": {"num_calls": 2, "batch_size": 8},
        }
    )
    return config


@pytest.fixture
def images_and_labels(model):
    images, _ = building.load_data(tiny_config(), model).test.arrays()
    return images[:COUNT], np.full(COUNT, 6)


def planned(config, model, count=COUNT):
    data = building.load_data(config, model)
    return protocols.plan(config, model, count, data.validation), data


def measured(config, model, name, images_and_labels):
    """Return the entry as JSON gives it back, and the data."""
    config.evaluate.protocols = (name,)
    plan, data = planned(config, model)
    entry, _ = plan[name].measure(model, *images_and_labels)
    check_rows("rows", entry["rows"], plan[name].protocol.result.columns)
    return json.loads(json.dumps(entry)), data


def test_settings_are_all_that_the_numbers_depend_on(config, model):
    plan, _ = planned(config, model)
    assert list(plan) == list(ALL)
    for each in plan.values():
        assert each.settings["num_examples"] == COUNT
    for name in ("budgeted", "transferability", "sensitivity"):
        attack = plan[name].settings["attack_settings"]
        assert attack["class_name"] == "PGD"
        assert attack["config"]["epsilon"] == 0.15
    for name in ("budgeted", "early_exit"):
        assert plan[name].settings["num_validation_examples"] == 16
    config.evaluate.budgeted.attack = "clean"
    plan, _ = planned(config, model)
    assert plan["budgeted"].settings["attack_settings"] == "none"


def test_a_budget_is_a_row(config, model, images_and_labels):
    entry, data = measured(config, model, "budgeted", images_and_labels)
    expected = evaluation.budgeted(
        model,
        data.validation.arrays(),
        images_and_labels,
        building.build_attack(config, name="average", num_steps=1),
        budgets=[2e6, 6e6],
        batch_size=16,
    )
    for row, nominal, cost, accuracy, shares, policy in zip(
        entry["rows"],
        (2e6, 6e6),
        expected.costs,
        expected.accuracy,
        expected.exit_shares,
        expected.policies,
        strict=True,
    ):
        assert row["budget"] == pytest.approx(nominal)
        assert row["multiply-adds"] == pytest.approx(cost)
        low, high = row["multiply-adds low"], row["multiply-adds high"]
        assert low <= cost <= high
        assert low < high
        assert row["accuracy"] == pytest.approx(accuracy)
        received = [row[f"share at {name}"] for name in EXITS]
        np.testing.assert_allclose(received, shares)
        thresholds = [
            np.inf if each is None else each
            for each in (row[f"threshold at {name}"] for name in EXITS[:-1])
        ]
        np.testing.assert_allclose(thresholds, policy.thresholds, rtol=1e-5)


def test_an_attacked_exit_is_a_row(config, model, images_and_labels):
    entry, _ = measured(config, model, "transferability", images_and_labels)
    columns = [f"fooled at {name}" for name in (*EXITS, "ensemble")]
    assert [list(row) for row in entry["rows"]] == [["attack on", *columns]] * 3
    assert [row["attack on"] for row in entry["rows"]] == list(EXITS)
    matrix = np.array(
        [[row[name] for name in columns[:-1]] for row in entry["rows"]]
    )
    assert entry["summary"]["num_attacked"] == 2
    off = matrix[~np.eye(3, dtype=bool)].mean()
    assert entry["summary"]["off_diagonal_mean"] == pytest.approx(off)


def test_a_value_is_a_row(config, model, images_and_labels):
    entry, _ = measured(config, model, "sensitivity", images_and_labels)
    said = [tuple(row.values())[:3] for row in entry["rows"]]
    assert said == [
        (*changed, name)
        for changed in (("epsilon", 0.0), ("epsilon", 0.1), ("num_steps", 1))
        for name in EXITS
    ]
    clean = evaluation.anytime(model, *images_and_labels).accuracy()
    received = [row["accuracy"] for row in entry["rows"][:3]]
    np.testing.assert_allclose(received, clean)
    assert entry["findings"] == []


def test_radii_are_around_that_of_the_attack_unless_named(config, model):
    config.attack.epsilon = 0.8
    config.evaluate.sensitivity.epsilons = None
    plan, _ = planned(config, model)
    np.testing.assert_allclose(
        plan["sensitivity"].settings["epsilons"],
        # No further than all pixels.
        [0, 0.2, 0.4, 0.6, 0.8, 1],
    )


def test_an_exit_is_a_row(config, model, images_and_labels):
    entry, _ = measured(config, model, "early_exit", images_and_labels)
    assert [row["exit"] for row in entry["rows"]] == list(EXITS)
    assert sum(row["share"] for row in entry["rows"]) == pytest.approx(1)
    for row in entry["rows"]:
        assert 0 < row["p50 ms"] <= row["p90 ms"] <= row["p99 ms"]
    policy = ExitPolicy([row["threshold"] for row in entry["rows"][:-1]])
    decision = policy.decide(
        evaluation.exit_probabilities(model, *images_and_labels)
    )
    correct = decision.label == images_and_labels[1]
    numbers = entry["summary"]
    assert numbers["accuracy"] == pytest.approx(correct.mean())
    assert numbers["decisions_unlike_simulation"] == 0
    costs = [each.cumulative.multiply_adds for each in model.exit_costs()]
    spent = np.mean([costs[exit_] for exit_ in decision.exit_index])
    assert numbers["share of full cost"] == pytest.approx(spent / costs[-1])
    shares = [row["share"] for row in entry["rows"]]
    ends = evaluation.mean_cost_interval(shares, costs, COUNT)
    for end, expected in zip(("low", "high"), ends, strict=True):
        received = numbers[f"share of full cost {end}"]
        assert received == pytest.approx(expected / costs[-1])


def test_an_attack_on_the_policy_is_a_row(config, model, images_and_labels):
    config.attack.epsilon = 0.3
    config.evaluate.num_steps = 10
    entry, _ = measured(config, model, "early_exit_attacked", images_and_labels)
    rows = {row["attack"]: row for row in entry["rows"]}
    assert list(rows) == ["none", "average attack", "wrong answer", "slow down"]
    policy = ExitPolicy(
        [entry["summary"][f"threshold at {name}"] for name in EXITS[:-1]]
    )
    decision = policy.decide(
        evaluation.exit_probabilities(model, *images_and_labels)
    )
    correct = decision.label == images_and_labels[1]
    assert rows["none"]["accuracy"] == pytest.approx(correct.mean())
    # Who knows the thresholds is no weaker than who does not.
    known, unknown = rows["wrong answer"], rows["average attack"]
    assert known["accuracy"] <= unknown["accuracy"]
    assert rows["slow down"]["multiply-adds"] >= rows["none"]["multiply-adds"]
    for row in rows.values():
        assert (
            row["share of full cost low"]
            <= row["share of full cost"]
            <= row["share of full cost high"]
        )
        assert sum(row[f"share at {name}"] for name in EXITS) == pytest.approx(
            1
        )


def test_a_model_that_was_attacked_is_a_row(
    config, model, images_and_labels, tmp_path
):
    file = str(tmp_path / "other.keras")
    model.save(file)
    config.evaluate.transfer.model_files = (file,)
    entry, _ = measured(config, model, "transfer", images_and_labels)
    assert [row["attack on"] for row in entry["rows"]] == ["this model", file]
    # The other one is the same model.
    shares = {row[name] for row in entry["rows"] for name in list(row)[1:]}
    assert len(shares) == 1
    assert entry["summary"]["off_diagonal_mean"] in shares


def test_models_to_transfer_to_are_checked(config, model, tmp_path):
    config.evaluate.protocols = ("transfer",)
    with pytest.raises(ValueError, match="name the .keras files of the others"):
        planned(config, model)
    config.evaluate.transfer.model_files = (str(tmp_path / "x.keras"),)
    with pytest.raises(FileNotFoundError, match="there is no file .*x.keras"):
        planned(config, model)
    other = tiny_config()
    other.model.small_cnn_mnist.input_shape = (32, 32, 1)
    file = str(tmp_path / "other.keras")
    building.build_model(other).save(file)
    config.evaluate.transfer.model_files = (file,)
    with pytest.raises(ValueError, match=r"takes images \(32, 32, 1\)"):
        planned(config, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": ""}, "evaluate.transfer.attack.*''"),
        ({"attack": "clean"}, "evaluate.transfer.attack.*'clean'"),
        ({"num_starts": 0}, "evaluate.transfer.num_starts"),
    ],
)
def test_attacks_between_models_are_checked_when_planned(
    config, model, tmp_path, changes, message
):
    file = str(tmp_path / "other.keras")
    model.save(file)
    config.evaluate.update({"protocols": ("transfer",), "transfer": changes})
    config.evaluate.transfer.model_files = (file,)
    with pytest.raises(ValueError, match=message):
        planned(config, model)


@pytest.mark.parametrize(
    "name", ["budgeted", "early_exit", "early_exit_attacked"]
)
def test_thresholds_need_validation_images(config, model, name):
    config.evaluate.protocols = (name,)
    config.data.validation_size = 0
    with pytest.raises(ValueError, match="sets thresholds on validation image"):
        planned(config, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocols": ("budget",)}, "evaluate.protocols"),
        ({"budgeted": {"threshold_data": "test"}}, "threshold_data"),
        ({"budgeted": {"attack": ""}}, "evaluate.budgeted.attack.*''"),
        (
            {"budgeted": {"budgets": (2e6, 1e12)}},
            "`evaluate.budgeted.budgets`: A budget of 1.* is out of reach: "
            "the first exit costs",
        ),
        ({"budgeted": {"budgets": (-1.0,)}}, "evaluate.budgeted.budgets"),
        ({"budgeted": {"budgets": (float("nan"),)}}, "evaluate.budgeted.bud"),
        ({"sensitivity": {"attack": ""}}, "evaluate.sensitivity.attack.*''"),
        (
            {"early_exit": {"share_of_cost": 0.0001}},
            "`evaluate.early_exit.share_of_cost` is 0.0001: .* Give a share fr",
        ),
        ({"transferability": {"num_starts": 0}}, "num_starts"),
        ({"transferability": {"subset": -1}}, "subset"),
        ({"sensitivity": {"epsilons": (), "num_steps": ()}}, "both are empty"),
        (
            {"sensitivity": {"epsilons": (-0.1,)}},
            "`evaluate.sensitivity.epsilons` needs",
        ),
        (
            {"sensitivity": {"num_steps": (0,)}},
            "`evaluate.sensitivity.num_steps` n",
        ),
        ({"sensitivity": {"attack": "max_average"}}, "cannot be made stronger"),
        ({"sensitivity": {"attack": "clean"}}, "sensitivity.attack.*'clean'"),
        ({"early_exit": {"share_of_cost": 0.0}}, "share_of_cost"),
        ({"early_exit": {"num_calls": 0}}, "num_calls"),
        ({"early_exit": {"batch_size": 0}}, "batch_size"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_measured(
    config, model, changes, message
):
    config.evaluate.update(changes)
    with pytest.raises(ValueError, match=message):
        planned(config, model)


class Mine(evaluation.Result):
    columns = {"exit": "text", "right": "share"}


@pytest.fixture
def own(monkeypatch):
    """Give back what a test registers."""
    monkeypatch.setattr(protocol, "_KNOWN", dict(protocol._KNOWN))


@pytest.mark.usefixtures("own")
def test_a_new_protocol_needs_no_more_than_its_file(
    config, model, images_and_labels
):
    @evaluation.Protocol("mine", Mine)
    def mine(model, images, labels, attack, k=1, batch_size=256, seed=0):
        assert (batch_size, seed) == (16, 0)  # Of the config.
        found = evaluation.anytime(model, images, labels, attack, batch_size)
        return Mine(table(exit=model.exit_names, right=found.accuracy(k)))

    entry, _ = measured(config, model, "mine", images_and_labels)
    assert entry["settings"]["k"] == 1
    assert entry["settings"]["attack_settings"]["class_name"] == "PGD"
    attack = building.build_attack(config, "average", num_steps=1)
    expected = evaluation.anytime(model, *images_and_labels, attack).accuracy()
    received = [row["right"] for row in entry["rows"]]
    np.testing.assert_allclose(received, expected)


@pytest.mark.usefixtures("own")
def test_a_wrong_result_costs_no_other(
    config, model, tmp_path, capsys, monkeypatch
):
    """The others are recorded, those after it, too; then it is an error."""
    monkeypatch.setattr(soundness, "check_model", lambda *_: [])
    right = [{"exit": "exit_1", "right": 0.5}]
    wrong = [{"exit": "exit_1", "right": 50.0}]
    for name, rows in (("first", right), ("second", wrong), ("third", right)):
        evaluation.Protocol(name, Mine)(lambda model, rows=rows: Mine(rows))
    model.save(tmp_path / "model.keras")
    config.evaluate.update({"attacks": (), "num_examples": 8})
    config.evaluate.protocols = ("first", "second", "third")
    results = tmp_path / "results.json"
    with pytest.raises(
        ValueError,
        match=r"The protocol 'second': rows\[0\]: 'right' needs share, .* 50.0",
    ):
        evaluating.evaluate(
            config, tmp_path / "model.keras", results, tmp_path / "plot.png"
        )
    record = records.read_file(results)
    assert [each["name"] for each in record["attacks"]] == ["clean"]
    names = [each["name"] for each in record["diagnostics"]]
    assert names == ["first", "third"]
    assert "third; num examples 8" in capsys.readouterr().out


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["attacks", "search", "batch_size"])
def test_a_protocol_does_not_take_the_place_of_a_setting(name):
    evaluation.Protocol(name, Mine)(lambda model, strength=1: Mine([]))
    message = f"The protocol '{name}' cannot .*--config.evaluate.{name} is anot"
    with pytest.raises(ValueError, match=message):
        default.get_config()


@pytest.mark.parametrize(
    "changes",
    [
        {"attacks": ("mine",)},
        {"protocols": ("mine",)},
        {"diagnostics": ("mine",)},
        {"budgeted": {"attack": "mine"}},
    ],
)
def test_a_name_that_nothing_registers_may_be_that_of_a_module(
    config, model, changes
):
    config.evaluate.update(changes)
    message = (
        r"'mine': expected one of \[.*'\], or one that a module .*--import="
    )
    with pytest.raises(ValueError, match=f"Unknown `evaluate.*{message}"):
        attacking.plan(config, model)
        planned(config, model)


def test_methods_and_models_say_the_same_of_a_name_that_nothing_registers():
    for section, build in (
        ("method", building.build_method),
        ("model", building.build_model),
    ):
        config = tiny_config()
        config[section].name = "mine"
        arguments = (3, 48) if section == "method" else ()
        with pytest.raises(
            ValueError, match=r"'mine': .*\], or one that a module .*--import="
        ):
            build(config, *arguments)
