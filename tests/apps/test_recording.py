"""One record that several evaluations write at once."""

import json
import threading

import pytest

from apps import recording
from tests.apps.reporting import made

pytestmark = pytest.mark.any_backend

pytest.importorskip("fcntl", reason="nothing is locked here")


def open_file(folder, settings=None, **changes):
    """Return what an evaluation goes on with, and its file."""
    header = {**made.record(attacks=[], findings=None), **changes}
    path = folder / "results.json"
    return recording.RecordFile(path, header, settings or {})


def measure(file, names, top1=0.5, key="attacks"):
    """Do what an evaluation does; return the names it measured."""
    measured = []
    for name in file.missing(key, names):
        file.add(key, made.attack(name, top1, top1))
        measured.append(name)
    return measured


def recorded(folder):
    attacks = json.loads((folder / "results.json").read_text())["attacks"]
    return {each["name"]: each["rows"][0]["accuracy"] for each in attacks}


def test_two_evaluations_of_other_attacks_both_keep_theirs(tmp_path):
    first, second = open_file(tmp_path), open_file(tmp_path)
    assert measure(first, ["clean", "average"], 0.1) == ["clean", "average"]
    # It was begun when nothing was recorded.
    assert measure(second, ["clean", "square_all"], 0.2) == ["square_all"]
    assert measure(first, ["apgd_ce_all"], 0.1) == ["apgd_ce_all"]
    expected = {"clean": 0.1, "average": 0.1}
    expected |= {"square_all": 0.2, "apgd_ce_all": 0.1}
    assert recorded(tmp_path) == expected
    assert list(recorded(tmp_path)) == list(expected)
    assert first.record == json.loads((tmp_path / "results.json").read_text())


def test_entries_measured_at_once_are_missing_until_all_are_there(tmp_path):
    file = open_file(tmp_path)
    together = {"fab_each": ["fab_exit_1", "fab_exit_2"], "clean": ["clean"]}
    rounds = []
    for entry in ("fab_exit_1", "fab_exit_2", None):
        found = []
        for name in file.missing("attacks", ["fab_each"], together):
            found.append(name)
            file.add("attacks", made.attack(entry, 0.5, 0.5))
        rounds.append(found)
    assert rounds == [["fab_each"], ["fab_each"], []]
    assert list(recorded(tmp_path)) == ["fab_exit_1", "fab_exit_2"]


def test_an_attack_of_both_is_measured_by_the_first_and_the_other_waits(
    tmp_path, capsys
):
    first, second = open_file(tmp_path), open_file(tmp_path)
    measuring = first.missing("attacks", ["clean"])
    assert next(measuring) == "clean"
    found = []
    other = threading.Thread(
        target=lambda: found.extend(measure(second, ["clean", "fab_all"], 0.2))
    )
    other.start()
    # What nobody measures comes first.
    deadline = threading.Event()
    while "waiting" not in capsys.readouterr().out and not deadline.wait(0.01):
        assert other.is_alive()
    assert recorded(tmp_path) == {"fab_all": 0.2}
    first.add("attacks", made.attack("clean", 0.1, 0.1))
    assert list(measuring) == []
    other.join(60)
    assert found == ["fab_all"]
    assert recorded(tmp_path) == {"fab_all": 0.2, "clean": 0.1}


def test_what_the_other_did_not_record_is_measured_here(tmp_path):
    first, second = open_file(tmp_path), open_file(tmp_path)
    measuring = first.missing("attacks", ["clean"])
    next(measuring)
    measuring.close()  # It was killed.
    assert measure(second, ["clean"], 0.2) == ["clean"]
    assert recorded(tmp_path) == {"clean": 0.2}


def test_only_the_lock_of_the_file_is_left(tmp_path):
    measure(open_file(tmp_path), ["clean", "average"])
    names = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")}
    locks = ".results.json.locks"
    assert names == {"results.json", locks, f"{locks}/.lock"}


def test_a_name_does_not_lead_out_of_the_folder(tmp_path):
    """Names hold those of exits, which the maker of a model chose."""
    name = "single_a/../../../outside"
    assert measure(open_file(tmp_path / "run"), [name]) == [name]
    assert list(recorded(tmp_path / "run")) == [name]
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_findings_and_diagnostics_of_both_are_kept(tmp_path):
    first, second = open_file(tmp_path), open_file(tmp_path)
    first.record["findings"] = [{"code": "a", "message": "b"}]
    measure(first, ["clean"])
    second.record["findings"] = []
    for name, file in (("sensitivity", first), ("budgeted", second)):
        entry = next(e for e in made.protocols() if e["name"] == name)
        for _ in file.missing("diagnostics", [name]):
            file.add("diagnostics", entry)
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["findings"] == [{"code": "a", "message": "b"}]
    names = [each["name"] for each in record["diagnostics"]]
    assert names == ["sensitivity", "budgeted"]


def test_other_settings_recorded_in_the_meantime_are_refused(tmp_path):
    settings = {"average": {**made.PGD, "num_steps": 3}}
    first, second = open_file(tmp_path), open_file(tmp_path, settings)
    measuring = second.missing("attacks", ["clean", "average"])
    next(measuring)
    second.add("attacks", made.attack("clean", 0.2, 0.2))
    measure(first, ["average"], 0.1)
    with pytest.raises(
        ValueError, match="average of other settings:\n  num_steps: there 50, n"
    ):
        next(measuring)
    assert recorded(tmp_path) == {"clean": 0.2, "average": 0.1}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("[]", "is damaged: expected a JSON object, received []"),
        ("", "is not a JSON file"),
        ('{"schema_version": 1', "is not a JSON file"),
        ('{"schema_version": 1}', "settings needs dict, received None"),
        ('{"schema_version": 2}', "'environment.backend' needs text, received"),
        (made.record(schema_version=3), "its schema_version is 3"),
        (made.record(data=[]), "'data.name' needs text, received None"),
        (made.record(attacks=[[]]), "attacks[0] needs dict, received []"),
        (made.record(epsilon=0.2), "settings.attack.epsilon: there 0.2, now"),
    ],
)
def test_a_damaged_record_is_named_and_left_as_it_is(tmp_path, damage, message):
    path = tmp_path / "results.json"
    text = damage if isinstance(damage, str) else json.dumps(damage)
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        open_file(tmp_path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "to another " in str(error.value)
    assert path.read_text() == text


def test_what_was_measured_is_kept_when_the_file_was_damaged(tmp_path):
    file = open_file(tmp_path)
    measure(file, ["clean"], 0.3)
    path = tmp_path / "results.json"
    measuring = file.missing("attacks", ["average"])
    next(measuring)
    path.write_text("{")
    with pytest.raises(ValueError) as error:
        file.add("attacks", made.attack("average", 0.2, 0.2))
    kept = tmp_path / "results.rescued_1.json"
    assert f"has measured is in {kept}" in str(error.value)
    assert path.read_text() == "{"
    names = [each["name"] for each in json.loads(kept.read_text())["attacks"]]
    assert names == ["clean", "average"]


def test_a_record_that_was_removed_is_written_again(tmp_path):
    file = open_file(tmp_path)
    measure(file, ["clean"], 0.3)
    (tmp_path / "results.json").unlink()
    measure(file, ["average"], 0.4)
    assert recorded(tmp_path) == {"clean": 0.3, "average": 0.4}
