"""Tables in the terminal."""

import pytest

from apps import sweeping
from apps import tables
from tests.apps.reporting import made

RULE = "auto_attack_all: an image is fooled only where all exits are wrong at"


def searched(name="auto_attack_all"):
    attacks = [made.attack("clean", 0.9, 0.9), made.searched(name, 0.5, 0.5)]
    return made.record(attacks=attacks)


def printed(capsys):
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "show",
    [tables.print_record, lambda record: tables.print_comparison({"": record})],
)
def test_a_search_under_the_rule_all_has_its_note(show, capsys):
    show(searched())
    assert RULE in printed(capsys)
    show(searched("auto_attack_exit_1"))
    assert "all exits" not in printed(capsys)


def test_a_summary_of_a_sweep_has_it_too():
    row = {
        "run": "a",
        "auto_attack_all l2": 1.0,
        "auto_attack_all l2 exits": "1/1",
    }
    *table, empty, note = sweeping._summary([row]).splitlines()
    assert len(table) == 3
    assert empty == ""
    assert note.startswith(RULE)
    assert RULE not in sweeping._summary([{"run": "a", "average": 1.0}])


def test_lists_of_numbers_are_short(capsys):
    entry = {
        "name": "early_exit",
        "settings": {},
        "seconds": 1.0,
        "rows": [{"exit": "exit_1", "ends": [0.123456789, None]}],
        "share_of_full_cost_interval": [0.41234567, 0.61234567],
    }
    tables.print_record(made.record(diagnostics=[entry]))
    said = printed(capsys)
    assert "share of full cost interval 0.4123 0.6123" in said
    assert "0.1235 -" in said


def test_an_attack_without_top_5_and_an_unknown_share(capsys):
    attacks = [
        made.attack("clean", 0.5, 0.5, top5=made.by_exit(1, 1), top5_average=1),
        made.attack("average", 0.5, 0.5),
    ]
    measures = {"abstention_rate": made.by_exit(0.5, None)}
    entry = {"name": "smoothing", "settings": {}, "measures": measures}
    tables.print_record(made.record(attacks=attacks, diagnostics=[entry]))
    said = printed(capsys)
    assert "top-5, clean" in said
    assert "top-5, average" not in said
    assert "undefined" in said
