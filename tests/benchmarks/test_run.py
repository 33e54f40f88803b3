"""The command: tiny real runs, and what it refuses."""

import json

import keras
import pytest

from benchmarks import run
from benchmarks.scenario import ROOT
from tests.isolation import python

pytestmark = pytest.mark.any_backend

BACKEND = keras.config.backend()
TINY = ("--batch_size=8", "--attack_steps=1", "--warmup=0", "--threads=1")


def run_benchmark(*arguments):
    return python(
        "-m", "benchmarks.run", *arguments, timeout=600, PYTHONPATH=""
    )


def record_of(workdir):
    return json.loads((workdir / "benchmark.json").read_text("utf-8"))


def test_a_tiny_run_measures_us_beside_eager_pytorch(tmp_path):
    pytest.importorskip("torch")
    workdir = tmp_path / "new" / "folder"
    result = run_benchmark(
        "models",
        f"--only=small_cnn,{BACKEND},eager_channels_last",
        "--rounds=1",
        "--unit=eager_channels_last",
        *TINY,
        f"--workdir={workdir}",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    record = record_of(workdir)
    assert record["left_out"] == []
    rows = {row["variant"]: row for row in record["rows"]}
    ours, eager = rows[BACKEND], rows["eager_channels_last"]
    assert ours["agrees"] and eager["is_unit"]
    assert ours["ratio"]["median"] == pytest.approx(
        ours["step_seconds"][0] / eager["step_seconds"][0]
    )
    for row in rows.values():
        assert 50 < row["peak_megabytes"] < 5000
        for name in ("milliseconds", "first_step_seconds", "build_seconds"):
            assert row[name]["median"] > 0
    table = (workdir / "benchmark.md").read_text("utf-8")
    assert table in result.stdout and f"| small_cnn | {BACKEND} |" in table


def test_another_checkout_is_measured_beside_this_one(tmp_path):
    checkout = tmp_path / "other"
    checkout.mkdir()
    (checkout / "keras_neokd").symlink_to(ROOT / "keras_neokd")
    result = run_benchmark(
        "models",
        f"--only=small_cnn,{BACKEND}",
        f"--against={checkout}",
        "--rounds=2",
        "--starts=2",
        *TINY,
        f"--workdir={tmp_path / 'runs'}",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    ours, theirs = record_of(tmp_path / "runs")["rows"]
    assert (ours["variant"], theirs["variant"]) == (
        "this_checkout",
        "other_checkout",
    )
    # The same files take the same steps.
    assert ours["result"] == theirs["result"]
    assert ours["agrees"]
    assert theirs["is_unit"] and theirs["other_commit"] is None
    low, high = (ours["first_step_ratio"][each] for each in ("low", "high"))
    assert low < high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "--only=resnet"], "`only` does not know resnet; it knows"),
        (["models", "--unit=gpu"], "`unit` does not know gpu; it knows"),
        (["models", "--rounds=0"], "--rounds: needs an integer >= 1, received"),
        (
            ["models", "--warmup=-1"],
            "--warmup: needs an integer >= 0, received",
        ),
        (["models", "--starts=0"], "--starts: needs an integer >= 1, received"),
        (["models", "--threads=1000000"], "needs an integer >= 1 and <= "),
        (["models", "--against=nowhere"], "folder of a checkout that holds"),
        (["parity"], "`model` needs a file"),
        (["speed"], "invalid choice: 'speed'"),
        (["models", "--model_options=x"], "unrecognized arguments"),
        (["models", "--workdir={0}/file/x"], "file"),
        (
            ["models", "--workdir={0}/earlier"],
            "results of an earlier benchmark",
        ),
    ],
)
def test_what_is_not_possible_is_refused(tmp_path, capsys, arguments, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "benchmark.json").write_text("{}")
    arguments = [each.format(tmp_path) for each in arguments]
    with pytest.raises(SystemExit) as stopped:
        run.main([f"--workdir={tmp_path / 'new'}", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_help_tells_all_scenarios_and_options(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    text = capsys.readouterr().out
    for name in (
        "parity\n    Compare our attacks",
        "untimed steps",
        "exit that `parity` attacks",
    ):
        assert name in text


@pytest.mark.parametrize(("result", "status"), [(7.0, 0), (9.0, 1)])
def test_other_work_is_told_by_the_exit_status(
    fake_processes, tmp_path, capsys, result, status
):
    names = (BACKEND, "eager_channels_last", "eager_contiguous_format")
    fake_processes({name: [1.0, 1.0] for name in names}, {BACKEND: [result]})
    arguments = [f"--only=small_cnn,{BACKEND}", "--rounds=1", *TINY]
    found = run.main(["models", *arguments, f"--workdir={tmp_path}"])
    assert found == status
    assert ("NOT THE SAME WORK" in capsys.readouterr().out) == bool(status)
