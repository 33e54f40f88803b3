"""apps.parity: ours beside the answers of another library."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from apps import building
from apps import comparing
from apps.workdir import Workdir
from apps.workdir import digest
from keras_neokd import evaluation
from keras_neokd.attacks import APGD
from keras_neokd.attacks import SingleExit
from tests.apps.tiny import untrained_run

SETTINGS = comparing.Settings(
    exit="exit_2",
    epsilon=0.1,
    epsilon_l2=1.0,
    num_steps=2,
    num_queries=3,
    c=1.0,
    cw_num_steps=2,
    num_examples=20,
    num_seeds=2,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Workdir(untrained_run(tmp_path_factory.mktemp("parity") / "run"))


@pytest.fixture(scope="module")
def ours(run):
    """Which images stay correct, for two seeds."""
    model = keras.saving.load_model(run.model, compile=False)
    test = building.load_data(run.read_config(), model).test
    images, labels = (each[:20] for each in test.arrays())
    attack = APGD(0.1, 2, objective=SingleExit(1))
    return np.array(
        [
            evaluation.anytime(model, images, labels, attack, seed=seed).ranks[
                :, 1
            ]
            == 0
            for seed in (0, 1)
        ]
    )


@pytest.fixture
def theirs(run, ours, tmp_path):
    """A file of answers: more images and seeds, the first answer another."""
    answers = np.ones((3, 24), int)
    answers[:2, :20] = ours
    answers[0, 0] = 1 - answers[0, 0]
    path = tmp_path / "parity.json"
    settings = {
        **dataclasses.asdict(SETTINGS),
        "num_examples": 24,
        "num_seeds": 3,
    }
    record = {
        "settings": settings,
        "model_sha256": digest(run.model),
        "answers": {"apgd_ce": {"theirs": answers.tolist()}},
    }
    path.write_text(json.dumps(record))
    return path


def test_a_row_says_how_far_apart_both_are(run, ours, theirs, tmp_path):
    comparing.compare(run.path, tmp_path / "out", SETTINGS, ["apgd_ce"], theirs)
    record = json.loads((tmp_path / "out" / "parity.json").read_text())
    (row,) = record["rows"]
    assert 0 < ours.mean() < 1
    assert row["ours (%)"] == pytest.approx(100 * ours.mean(), abs=0.01)
    # One answer of 40 is another one.
    step = -2.5 if ours[0, 0] else 2.5
    assert row["theirs (%)"] == pytest.approx(row["ours (%)"] + step)
    assert row["difference"] == pytest.approx(-step)
    assert row["agreement (%)"] == 97.5
    assert record["answers"]["apgd_ce"]["ours"] == ours.astype(int).tolist()
    assert "97.5" in (tmp_path / "out" / "parity.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0.2}, "epsilon: there 0.1, now 0.2"),
        ({"num_examples": 25}, "num_examples=24, fewer than the 25"),
        ({"num_seeds": 4}, "num_seeds=3, fewer than the 4"),
        ({"exit": "exit_7"}, "exit_7"),
    ],
)
def test_answers_of_another_comparison_are_refused(
    run, theirs, tmp_path, changes, message
):
    settings = dataclasses.replace(SETTINGS, **changes)
    with pytest.raises(ValueError, match=message):
        comparing.compare(run.path, tmp_path, settings, ["apgd_ce"], theirs)


def test_answers_for_other_attacks_are_refused(run, theirs, tmp_path):
    with pytest.raises(ValueError, match=r"no answers for fab: .*\(apgd_ce\)"):
        comparing.compare(run.path, tmp_path, SETTINGS, ["fab"], theirs)


def test_an_unknown_attack_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="Unknown `attacks` 'pgd'"):
        comparing.compare(run.path, tmp_path, SETTINGS, ["pgd"])


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="here the others can run"
)
def test_the_others_need_pytorch_or_their_answers(run, tmp_path):
    with pytest.raises(ValueError, match="set KERAS_BACKEND=torch, or give"):
        comparing.compare(run.path, tmp_path, SETTINGS, ["apgd_ce"])


def test_every_pair_takes_the_settings():
    for name, pair in comparing.PAIRS.items():
        attack = pair.ours(SETTINGS, SingleExit(1))
        attack.validate(3, 10)
        is_l2 = name.endswith("l2") or name == "cw"
        assert attack.norm == ("l2" if is_l2 else "linf"), name
        assert attack.objective.exit == 1, name
