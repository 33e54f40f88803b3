"""Reading records: titles, places of errors, versions."""

import copy
import pathlib

import numpy as np
import pytest

from apps import tables
from apps.reporting import layout
from apps.reporting import records
from tests.apps.reporting import made

FILE = pathlib.Path("run/results.json")


def broken(place, value):
    """Return a record with a value replaced, or removed where it is `del`."""
    given = made.record(diagnostics=made.protocols())
    parent = given
    *parents, last = place
    for key in parents:
        parent = parent[key]
    if value is del_:
        del parent[last]
    else:
        parent[last] = value
    return given


del_ = object()


def test_a_whole_record_is_returned_as_it_is():
    given = made.record(diagnostics=made.protocols())
    before = copy.deepcopy(given)
    assert records.check(given, FILE) == before
    assert given == before


@pytest.mark.parametrize(
    "key", ["attack", "correct", "robust_after_each", "top5", "top1_interval"]
)
def test_keys_that_may_be_missing_may_be_null(key):
    null, missing = made.record(), made.record()
    null["attacks"][1][key] = None
    missing["attacks"][1].pop(key, None)
    assert records.check(null, FILE) == missing
    assert layout.tables({"a": records.check(null, FILE)})


def test_rows_of_protocols_need_what_figures_draw():
    given = made.record(diagnostics=made.protocols())
    del given["diagnostics"][0]["rows"][1]["accuracy"]
    with pytest.raises(
        ValueError, match=r"diagnostics\[0\].rows\[1\] lacks \['accuracy'\]"
    ):
        records.check(given, FILE)


@pytest.mark.parametrize("missing", ["signs", "diagnostics"])
def test_records_of_the_first_days_of_version_1_are_read(missing):
    records.check(broken([missing], del_), FILE)
    records.check(broken([missing], None), FILE)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["method"], del_, "method needs str, received None"),
        (["method"], 3, "method needs str, received 3"),
        (["settings", "seed"], 1.5, "settings.seed needs int, received 1.5"),
        (["settings", "seed"], True, "settings.seed needs int, received True"),
        (
            ["settings", "attack", "epsilon"],
            "0.1",
            "settings.attack.epsilon needs int or float, received '0.1'",
        ),
        (["settings", "attack"], [], "settings.attack needs dict"),
        (["data"], None, "data needs dict, received None"),
        (["data", "num_examples"], del_, "data.num_examples needs int"),
        (["exits"], {}, "exits needs list"),
        (["exits"], [], "exits is empty"),
        (["exits", 1, "name"], None, r"exits\[1\].name needs str"),
        (["attacks"], [], "attacks is empty"),
        (["attacks", 1, "seconds"], "2", r"attacks\[1\].seconds needs int or"),
        (["attacks", 1, "top1"], [0.5], r"attacks\[1\].top1 needs dict"),
        (
            ["attacks", 1, "top1"],
            {"exit_2": 0.5, "exit_1": 0.5},
            r"attacks\[1\].top1 is for the exits \['exit_2', 'exit_1'\], exp",
        ),
        (
            ["attacks", 1, "top1", "exit_2"],
            50.0,
            r"attacks\[1\].top1.exit_2 needs a number from 0 to 1, received 50",
        ),
        (
            ["attacks", 0, "top5"],
            {"exit_1": 1.0, "exit_2": None},
            r"attacks\[0\].top5.exit_2 needs a number",
        ),
        (["attacks", 0, "attack"], {}, r"attacks\[0\].attack.class_name needs"),
        (["signs"], [{"code": "x"}], r"signs\[0\].message needs str"),
        (["signs"], [None], r"signs\[0\] needs dict, received None"),
        (["exits"], [[]], r"exits\[0\] needs dict, received \[\]"),
        (["attacks", 1], "x", r"attacks\[1\] needs dict, received 'x'"),
        (
            ["attacks", 0, "seconds"],
            float("nan"),
            r"attacks\[0\].seconds needs",
        ),
        (["exits", 0, "multiply_adds"], 10**400, r"exits\[0\].multiply_adds n"),
        (["data", "checksum"], {}, "data.checksum needs int, received {}"),
        (
            ["attacks", 0, "top1_interval"],
            {"exit_1": [0.1, 0.2], "exit_2": [0.1]},
            r"attacks\[0\].top1_interval.exit_2 needs two numbers from 0 to 1",
        ),
        (
            ["attacks", 0, "selected_share"],
            [],
            r"attacks\[0\].selected_share needs dict, received \[\]",
        ),
        (
            ["attacks", 0, "robust_after_each"],
            [],
            ".*robust_after_each is empty",
        ),
        (["attacks", 0, "robust_after_each"], [1], r".*each\[0\] needs dict"),
        (["diagnostics", 1], [], r"diagnostics\[1\] needs dict"),
        (["diagnostics", 0, "seconds"], "2", r"diagnostics\[0\].seconds needs"),
        (["diagnostics", 0, "settings"], {}, r"diagnostics\[0\].settings.att"),
        (["diagnostics", 0, "rows"], [], r"diagnostics\[0\].rows is empty"),
        (["diagnostics", 0, "rows"], del_, r"diagnostics\[0\] has no rows and"),
        (
            ["diagnostics", 0, "rows", 0],
            3,
            r"diagnostics\[0\].rows\[0\] needs di",
        ),
        (
            ["diagnostics", 0, "rows", 1, "accuracy"],
            "0.5",
            r"diagnostics\[0\].rows\[1\]: 'accuracy' needs int or float",
        ),
        (
            ["diagnostics", 0, "rows", 1, "multiply-adds"],
            0,
            r"diagnostics\[0\].rows\[1\]: 'multiply-adds' needs",
        ),
        (
            ["diagnostics", 0, "measures"],
            {"norm": {"exit_1": 1.0, "exit_2": "x"}},
            r"diagnostics\[0\].measures.norm.exit_2 needs a number",
        ),
        (["diagnostics", 0, "rows"], 1, r"diagnostics\[0\].rows needs list"),
    ],
)
def test_an_error_names_the_file_and_the_place(place, value, message):
    with pytest.raises(ValueError, match=f"^{FILE}: {message}"):
        records.check(broken(place, value), FILE)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_versions_are_refused(version):
    message = rf"{FILE} is not a record of version 1: its schema_version is "
    with pytest.raises(ValueError, match=f"{message}{version!r}"):
        records.check(made.record(schema_version=version), FILE)


@pytest.mark.parametrize("given", [[], "text", None, {}])
def test_what_is_no_record_is_refused(given):
    with pytest.raises(ValueError, match="is not a record of version 1"):
        records.check(given, FILE)


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


@pytest.mark.parametrize("text", ["ff", "zz" * 125, 7, None])
def test_bits_of_correct_images_are_checked(text):
    attack = made.attack(
        "clean", 0.5, 0.5, correct=made.by_exit("0" * 250, text)
    )
    message = r"attacks\[0\].correct.exit_2 needs 250 hexadecimal digits"
    with pytest.raises(ValueError, match=message):
        records.check(made.record(attacks=[attack]), FILE)


WRONG = (del_, None, [], {}, "x", -1, 1.5, [[]], 10**400)


def places(node, place=()):
    """Yield the place of every value in a record."""
    keys = node if isinstance(node, dict) else range(len(node))
    for key in keys:
        yield (*place, key)
        if isinstance(node[key], (dict, list)):
            yield from places(node[key], (*place, key))


def replaced(given, place, value):
    given = copy.deepcopy(given)
    parent = given
    for key in place[:-1]:
        parent = parent[key]
    if value is del_:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return given


def test_what_passes_the_check_can_be_shown(monkeypatch):
    console = tables.rich.console.Console
    monkeypatch.setattr(console, "print", lambda *_, **named: None)
    attacks = [
        made.attack("clean", 0.9, 0.9, selected_share=made.by_exit(0.5, 0.5)),
        made.searched("auto_attack_all", 0.5, 0.5),
    ]
    whole = made.record(attacks=attacks, diagnostics=made.protocols())
    random = np.random.default_rng(0)
    found = list(places(whole))
    refused = shown = 0
    for index in random.choice(len(found), 60, replace=False):
        for value in WRONG:
            given = replaced(whole, found[index], value)
            try:
                record = records.check(given, FILE)
            except ValueError as error:
                assert str(error).startswith(str(FILE))
                refused += 1
                continue
            layout.tables({"a": record, "b": whole})
            diagnostics = record.get("diagnostics") or []
            tables.print_record({**record, "diagnostics": diagnostics})
            shown += 1
    assert refused > 100
    assert shown > 50
