"""Tables in the terminal, as Markdown and LaTeX: numbers, escaping."""

import re

import pytest

from apps import sweeping
from apps import tables
from apps.reporting import layout
from apps.tables import Table
from tests.apps.reporting import made

pytestmark = pytest.mark.any_backend

TABLE = Table(
    "Accuracy",
    ["model", "exit_1", "kind"],
    [["neo_kd", 12.345, "a"], ["plain", 100, "b"]],
    note="50 steps",
)


def test_markdown_of_a_table():
    assert tables.as_markdown([TABLE]) == (
        "## Accuracy\n"
        "\n"
        "50 steps\n"
        "\n"
        "| model | exit\\_1 | kind |\n"
        "|---|---:|---|\n"
        "| neo\\_kd | 12.35 | a |\n"
        "| plain | 100 | b |\n"
    )


def test_latex_of_a_table():
    assert tables.as_latex([TABLE]) == (
        "\\begin{table}\n"
        "\\centering\n"
        "\\caption{Accuracy (50 steps)}\n"
        "\\begin{tabular}{lrl}\n"
        "\\toprule\n"
        "model & exit\\_1 & kind \\\\\n"
        "\\midrule\n"
        "neo\\_kd & 12.35 & a \\\\\n"
        "plain & 100 & b \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


def test_a_latex_table_longer_than_a_page_is_broken():
    table = Table("Budgets", ["model", "cost"], [["a", 0.5]] * 41)
    lines = tables.as_latex([table]).splitlines()
    assert lines[:6] == [
        r"\begin{longtable}{lr}",
        r"\caption{Budgets} \\",
        r"\toprule",
        r"model & cost \\",
        r"\midrule",
        r"\endhead",
    ]
    assert lines[6:47] == [r"a & 0.50 \\"] * 41
    assert lines[47:] == [r"\bottomrule", r"\end{longtable}"]


def test_long_text_is_broken_into_lines_in_latex():
    table = Table("Findings", ["model", "found"], [["a", "word " * 20]])
    assert r"{tabular}{lp{0.5\linewidth}}" in tables.as_latex([table])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.125, "0.12"),
        (99.996, "100.00"),
        (5, "5"),
        (1234567, "1,234,567"),
        (1234567.8, "1,234,568"),
        (-0.5, "-0.50"),
        ("as it is", "as it is"),
    ],
)
def test_cells(value, text):
    assert tables.cell(value, 2) == text


def test_tables_follow_each_other():
    for write in (tables.as_markdown, tables.as_latex):
        assert write([TABLE, TABLE]) == f"{write([TABLE])}\n{write([TABLE])}"
        assert write([]) == ""


def nasty_table():
    return Table(made.NASTY, [made.NASTY], [[made.NASTY]], note=made.NASTY)


def test_markdown_takes_nothing_in_names_as_markup():
    text = tables.as_markdown([nasty_table()])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert " & " not in text
    for character in "|_`[]$~\\":
        cell = text.splitlines()[-1][2:-2]
        assert character in cell
        # Each has a backslash before it, and backslashes come in pairs.
        rest = re.sub(r"\\[\\|*_`~$\[\]]", "", cell)
        assert character not in rest


def test_latex_takes_nothing_in_names_as_a_command():
    text = tables.as_latex([nasty_table()])
    (cell,) = [line for line in text.splitlines() if line.startswith(r"\text")][
        :1
    ]
    assert cell.startswith(r"\textless{}script\textgreater{}")
    # What is left when every escape is taken out.
    rest = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]", "", cell[: -len(r" \\")])
    assert not set(rest) & set("\\&%$#_{}~^<>|")


def test_line_breaks_in_names_end_neither_a_row_nor_a_caption():
    table = Table("a\n\nb", ["c\nd"], [["e\n\nf"]])
    assert "| e f |" in tables.as_markdown([table])
    assert r"\caption{a b}" in tables.as_latex([table])
    assert "e f \\\\\n" in tables.as_latex([table])


# The terminal.

RULE = "auto_attack_all: an image is fooled only where all exits are wrong at"


def printed(capsys, *found):
    for each in found:
        tables.show(each)
    return " ".join(capsys.readouterr().out.split())


def searched(name="auto_attack_all"):
    attacks = [made.attack("clean", 0.9, 0.9), made.searched(name, 0.5, 0.5)]
    return made.record(attacks=attacks)


@pytest.mark.parametrize("titles", [["a"], ["a", "b"]])
def test_a_search_under_the_rule_all_has_its_note(titles, capsys):
    titled = dict.fromkeys(titles, searched())
    assert RULE in printed(capsys, layout.overview(titled))
    titled = dict.fromkeys(titles, searched("auto_attack_exit_1"))
    assert "all exits" not in printed(capsys, layout.overview(titled))


def test_a_summary_of_a_sweep_has_it_too(tmp_path):
    made.write(tmp_path / "a" / "l2" / "results.json", searched())
    made.write(tmp_path / "b" / "l2" / "results.json", made.record())
    row = {"run": "a", "auto_attack_all l2": 1.0}
    summary = sweeping._summary(tmp_path, [row], ["l2"])
    *table, empty, note = summary.splitlines()
    assert len(table) == 3
    assert empty == ""
    assert note.startswith(RULE)
    row = {"run": "b", "average l2": 1.0}
    assert RULE not in sweeping._summary(tmp_path, [row], ["l2"])


def test_an_evaluation_prints_everything_that_it_recorded(capsys):
    top5 = made.accuracy_rows(1.0, 0.75, top=5)
    attacks = [
        made.attack("clean", 0.5, 0.25, rows=top5),
        made.attack("max_average", 0.5, 0.5),
    ]
    for row, share in zip(attacks[1]["rows"], (0.625, 0.375), strict=True):
        row["selected_share"] = share
    entries = [
        made.entry(
            "local_linearity",
            [
                {"exit": "exit_1", "deviation_from_linear": 0.123456789},
                {"exit": "exit_2", "deviation_from_linear": None},
            ],
            {"num_examples": 5, "epsilon": 0.1, "radii": [0.5, None]},
        ),
        made.entry("smoothing", certificates(), confidence=0.999),
    ]
    record = made.record(attacks=attacks, diagnostics=entries)
    said = printed(capsys, *layout.of_record({"a": record}))
    for each in (
        "top-5, clean \u2502 100.00 \u2502 75.00 \u2502 87.50",
        "images from each exit, max_average \u2502 62.50 \u2502 37.50",
        "million multiply-adds up to the exit \u2502 1.000 \u2502 4.000",
        "local linearity; num examples 5, epsilon 0.1, radii 0.5 -",
        # Nothing is said about a mean of which a part is unknown.
        "deviation from linear \u2502 0.1235 \u2502 - \u2502 -",
        "smoothing; confidence 0.999",
        "certified accuracy (%) \u2502 0.2500 \u2502 50.00 \u2502 70.00",
    ):
        assert each in said, each
    assert "top-5, max_average" not in said


def certificates():
    return [
        {
            "exit": exit,
            "radius": 0.25,
            "certified_accuracy": accuracy,
            "abstention_rate": 0.0,
        }
        for exit, accuracy in made.by_exit(0.5, 0.7).items()
    ]


def test_of_a_long_table_some_rows_are_printed(capsys):
    table = Table("Budgets", ["[bold]n", "x"], [["row", n] for n in range(30)])
    said = printed(capsys, table)
    assert "Budgets (30 rows, every 3th printed) " in said
    assert said.count("row \u2502") == 10
    assert "[bold]n" in said  # No markup.
