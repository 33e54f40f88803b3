"""Tables as Markdown and LaTeX: alignment, numbers, escaping."""

import re

import pytest

from apps.reporting import writers
from apps.reporting.layout import Table
from tests.apps.reporting import made

TABLE = Table(
    "Accuracy",
    ["model", "exit_1", "kind"],
    [["neo_kd", 12.345, "a"], ["plain", 100, "b"]],
    note="50 steps",
)


def test_markdown_of_a_table():
    assert writers.markdown([TABLE]) == (
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
    assert writers.latex([TABLE]) == (
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
    lines = writers.latex([table]).splitlines()
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
    table = Table("Doubts", ["model", "found"], [["a", "word " * 20]])
    assert r"{tabular}{lp{0.5\linewidth}}" in writers.latex([table])


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
    assert writers.cell(value, 2) == text


def test_tables_follow_each_other():
    for write in (writers.markdown, writers.latex):
        assert write([TABLE, TABLE]) == f"{write([TABLE])}\n{write([TABLE])}"
        assert write([]) == ""


def nasty_table():
    return Table(made.NASTY, [made.NASTY], [[made.NASTY]], note=made.NASTY)


def test_markdown_takes_nothing_in_names_as_markup():
    text = writers.markdown([nasty_table()])
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
    text = writers.latex([nasty_table()])
    (cell,) = [line for line in text.splitlines() if line.startswith(r"\text")][
        :1
    ]
    assert cell.startswith(r"\textless{}script\textgreater{}")
    # What is left when every escape is taken out.
    rest = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]", "", cell[: -len(r" \\")])
    assert not set(rest) & set("\\&%$#_{}~^<>|")


def test_line_breaks_in_names_end_neither_a_row_nor_a_caption():
    table = Table("a\n\nb", ["c\nd"], [["e\n\nf"]])
    assert "| e f |" in writers.markdown([table])
    assert r"\caption{a b}" in writers.latex([table])
    assert "e f \\\\\n" in writers.latex([table])
