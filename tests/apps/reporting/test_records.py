"""Reading records: titles, places of errors, versions."""

import copy
import json
import pathlib

import numpy as np
import pytest

from apps import tables
from apps.reporting import layout
from apps.reporting import records
from tests.apps.reporting import made

pytestmark = pytest.mark.any_backend

FILE = pathlib.Path("run/results.json")
VERSION_1 = pathlib.Path(__file__).with_name("version_1.json")
del_ = object()


def replaced(given, place, value):
    """Return a record with a value replaced, or removed where it is `del_`."""
    given = copy.deepcopy(given)
    parent = given
    for key in place[:-1]:
        parent = parent[key]
    if value is del_:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return given


def whole():
    attacks = [
        made.attack("clean", 0.9, 0.9, correct=made.by_exit(*["0" * 250] * 2)),
        made.searched("auto_attack_all", 0.5, 0.5),
    ]
    attacks[0]["rows"][0].update(selected_share=0.5, low=0.8, high=1.0)
    attacks[1]["search"] = [{"attack": "clean", "robust": 0.9}]
    return made.record(
        attacks=attacks,
        diagnostics=made.protocols(),
        findings=[{"code": "no_gradient", "message": "None."}],
    )


def test_a_whole_record_is_returned_as_it_is():
    given = whole()
    before = copy.deepcopy(given)
    assert records.check(given, FILE) == before
    assert given == before


@pytest.mark.parametrize("key", ["correct", "search"])
def test_keys_that_may_be_missing_may_be_null(key):
    given = made.record()
    given["attacks"][1][key] = None
    assert layout.tables({"a": records.check(given, FILE)})


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("method", del_, "header: 'method' needs text, received None"),
        ("method", 3, "header: 'method' needs text, received 3"),
        ("settings.seed", 1.5, "header: 'settings.seed' needs count, received"),
        ("settings.seed", True, "header: 'settings.seed' needs count, receive"),
        ("settings.attack.epsilon", "0.1", ".*epsilon' needs number, received"),
        ("settings.attack", [], "header: 'settings.attack.epsilon' needs"),
        ("data", None, "header: 'data.name' needs text, received None"),
        ("data.num_examples", del_, "header: 'data.num_examples' needs"),
        ("data.checksum", {}, "header: 'data.checksum' needs count"),
        ("exits", {}, "exits needs a list of rows"),
        ("exits", [], "exits needs a list of rows"),
        ("exits", [[]], r"exits\[0\] needs dict, received \[\]"),
        ("exits.1.name", None, r"exits\[1\]: 'name' needs text"),
        ("exits.0.multiply_adds", 10**400, r"exits\[0\]: 'multiply_adds' n"),
        ("attacks", [], "attacks is empty"),
        ("attacks.1", "x", r"attacks\[1\] needs dict, received 'x'"),
        ("attacks.1.seconds", "2", r"attacks\[1\]: 'seconds' needs number"),
        ("attacks.1.seconds", float("nan"), r"attacks\[1\]: 'seconds' needs"),
        ("attacks.1.rows", {}, r"attacks\[1\].rows needs a list of rows"),
        ("attacks.1.rows.1", del_, r"attacks\[1\].rows of top 1 are for the e"),
        (
            "attacks.1.rows.1.accuracy",
            50.0,
            r"attacks\[1\].rows\[1\]: 'accuracy' needs share, received 50.0",
        ),
        (
            "attacks.1.rows.1.accuracy",
            del_,
            r"attacks\[1\].rows\[1\] lacks \['accuracy'\]",
        ),
        ("attacks.0.rows.0.low", [0.1, 0.2], r".*: 'low' needs share\?, recei"),
        ("attacks.1.settings", None, r"attacks\[1\].settings needs dict"),
        ("attacks.1.settings.norm", del_, r"attacks\[1\].settings has no norm"),
        ("attacks.1.search", [1], r"attacks\[1\].search\[0\] needs dict"),
        ("attacks.1.search", [], r"attacks\[1\].search needs a list of rows"),
        ("findings", [{"code": "x"}], r"findings\[0\] lacks \['message'\]"),
        ("findings", [None], r"findings\[0\] needs dict, received None"),
        ("diagnostics.1", [], r"diagnostics\[1\] needs dict"),
        ("diagnostics.0.seconds", "2", r"diagnostics\[0\]: 'seconds' needs"),
        ("diagnostics.0.settings", {}, r"diagnostics\[0\].settings: 'attack'"),
        ("diagnostics.0.rows", [], r"diagnostics\[0\].rows needs a list"),
        ("diagnostics.0.rows.0", 3, r"diagnostics\[0\].rows\[0\] needs dict"),
        (
            "diagnostics.0.rows.1.multiply-adds",
            0,
            ".*'multiply-adds' needs cos",
        ),
        (
            "diagnostics.1.summary.num_attacked",
            [1],
            ".*summary: 'num_attacked'",
        ),
        (
            "attacks.0.correct.exit_2",
            "ff",
            ".*correct.exit_2 needs 250 hexadec",
        ),
        ("attacks.0.correct.exit_2", "zz" * 125, ".*correct.exit_2 needs 250"),
    ],
)
def test_an_error_names_the_file_and_the_place(place, value, message):
    keys = [int(k) if k.isdecimal() else k for k in place.split(".")]
    with pytest.raises(ValueError, match=f"^{FILE}: {message}"):
        records.check(replaced(whole(), keys, value), FILE)


@pytest.mark.parametrize("version", [0, 3, "1", True, None])
def test_other_versions_are_refused(version):
    message = rf"{FILE} is not a record of version 1 or 2: its schema_version"
    with pytest.raises(ValueError, match=f"{message} is {version!r}"):
        records.check(made.record(schema_version=version), FILE)


@pytest.mark.parametrize("given", [[], "text", None, {}])
def test_what_is_no_record_is_refused(given):
    with pytest.raises(ValueError, match="is not a record of version 1 or 2"):
        records.check(given, FILE)


# Version 1.


def test_a_record_of_version_1_is_read_as_one_of_version_2():
    given = json.loads(VERSION_1.read_text())
    record = records.read_file(VERSION_1)
    assert record["schema_version"] == 2
    assert record["findings"] == given["signs"]
    for old, new in zip(given["attacks"], record["attacks"], strict=True):
        for row in new["rows"]:
            top, exit = f"top{row['top']}", row["exit"]
            assert row["accuracy"] == old[top][exit]
            assert [row["low"], row["high"]] == old[f"{top}_interval"][exit]
        assert new["correct"] == old["correct"]
    shares = [row["selected_share"] for row in record["attacks"][1]["rows"][:3]]
    assert shares == list(given["attacks"][1]["selected_share"].values())
    search = record["attacks"][-1]
    assert search["search"] == given["attacks"][-1]["robust_after_each"]
    assert search["settings"]["num_queries"] == 50
    assert "module" not in json.dumps(search)


def test_protocols_of_version_1_are_read_as_those_of_version_2():
    given = json.loads(VERSION_1.read_text())["diagnostics"]
    found = records.read_file(VERSION_1)["diagnostics"]
    old, new = ({each["name"]: each for each in e} for e in (given, found))
    row, before = new["budgeted"]["rows"][0], old["budgeted"]["rows"][0]
    assert [row["multiply-adds low"], row["multiply-adds high"]] == before[
        "multiply-adds, 95 % interval"
    ]
    assert row["threshold at exit_2"] == before["thresholds"][1]
    accuracies = [row["accuracy"] for row in new["sensitivity"]["rows"]]
    row = old["sensitivity"]["rows"][0]
    assert accuracies[:3] == [row[f"exit_{n}"] for n in (1, 2, 3)]
    bounds = [row["threshold"] for row in new["early_exit"]["rows"]]
    assert bounds == [*old["early_exit"]["thresholds"], None]
    assert new["smoothing"]["rows"][3]["radius"] == 0.25


def test_records_of_the_first_days_of_version_1_are_read():
    given = json.loads(VERSION_1.read_text())
    for key in ("signs", "diagnostics", "method_settings"):
        del given[key]
    del given["data"]["checksum"], given["settings"]["num_seeds"]
    del given["attacks"][0]["correct"], given["attacks"][0]["top1_interval"]
    record = records.check(given, FILE)
    assert record["settings"]["num_seeds"] == 1
    assert record["diagnostics"] == []
    assert layout.tables({"a": record})


def test_records_of_both_versions_share_tables():
    old = records.read_file(VERSION_1)
    new = copy.deepcopy(old)
    new["attacks"][0]["rows"][0]["accuracy"] = 0.125
    clean = layout.tables({"old": old, "new": new})[0]
    assert [row[:2] for row in clean.rows] == [["old", 86], ["new", 12.5]]


# Damage at any place.

WRONG = (del_, None, [], {}, "x", -1, 1.5, [[]], 10**400)


def places(node, place=()):
    """Yield the place of every value in a record."""
    keys = node if isinstance(node, dict) else range(len(node))
    for key in keys:
        yield (*place, key)
        if isinstance(node[key], (dict, list)):
            yield from places(node[key], (*place, key))


@pytest.mark.parametrize("version", [1, 2])
def test_what_passes_the_check_can_be_shown(monkeypatch, version):
    console = tables.rich.console.Console
    monkeypatch.setattr(console, "print", lambda *_, **named: None)
    given = whole() if version == 2 else json.loads(VERSION_1.read_text())
    other = records.check(given, FILE)
    random = np.random.default_rng(0)
    found = list(places(given))
    refused = shown = 0
    for index in random.choice(len(found), 60, replace=False):
        for value in WRONG:
            try:
                record = records.check(
                    replaced(given, found[index], value), FILE
                )
            except ValueError as error:
                assert str(error).startswith(str(FILE))
                refused += 1
                continue
            layout.tables({"a": record, "b": other})
            for table in layout.of_record({"a": record}):
                tables.show(table)
            shown += 1
    assert refused > 100
    assert shown > 50


# Files.


def test_records_are_found_in_folders_at_any_depth(tmp_path):
    files = [
        made.write(tmp_path / place, made.record(method))
        for place, method in (
            ("a/results.json", "neo_kd"),
            ("b/c/results_l2.json", "nkd"),
            ("single.json", "plain"),
        )
    ]
    made.write(tmp_path / "a/config.json", {})
    found = records.read([tmp_path / "a", tmp_path / "b", files[2]])
    assert list(found) == ["neo_kd", "nkd", "plain"]
    assert found["nkd"]["method"] == "nkd"


def test_records_of_one_method_are_told_apart_by_their_folders(tmp_path):
    for place in ("x/run/results.json", "y/run/results.json", "z/results.json"):
        made.write(tmp_path / place, made.record())
    made.write(tmp_path / "z/results_l2.json", made.record())
    made.write(tmp_path / "other/results.json", made.record("nkd"))
    assert set(records.read([tmp_path])) == {
        "nkd",
        "neo_kd (run)",
        "neo_kd (run) 2",
        "neo_kd (z)",
        "neo_kd (z/results_l2)",
    }


def test_the_present_folder_has_a_name_too(tmp_path, monkeypatch):
    for place in ("here/results.json", "there/results.json"):
        made.write(tmp_path / place, made.record())
    monkeypatch.chdir(tmp_path / "here")
    found = records.read([pathlib.Path("."), pathlib.Path("../there")])
    assert list(found) == ["neo_kd (here)", "neo_kd (there)"]


def test_a_file_that_is_named_twice_counts_once(tmp_path):
    file = made.write(tmp_path / "results.json", made.record())
    assert list(records.read([file, tmp_path])) == ["neo_kd"]


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no results\*.json in"):
        records.read([tmp_path])
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        records.read([tmp_path / "missing"])
    file = tmp_path / "results.json"
    file.write_text("{")
    with pytest.raises(ValueError, match="is not a JSON file"):
        records.read([file])
