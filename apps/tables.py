"""Tables for the terminal, as Markdown and as LaTeX; every text is escaped."""

import dataclasses
import sys

import rich.console
import rich.markup
import rich.table

_LATEX = str.maketrans(
    {
        **{each: f"\\{each}" for each in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)
# Longer tables do not fit on a page.
_MOST_ROWS = 40
# Of longer tables, the terminal gets rows at equal distances.
_MOST_PRINTED = 12
_WIDTH_OF_A_FILE = 120
# In LaTeX, columns of longer text are broken into lines.
_LONG, _LONG_COLUMN = 50, r"p{0.5\linewidth}"
_MARKDOWN = str.maketrans(
    {
        **{each: f"\\{each}" for each in "\\|*_`~$[]"},
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
    }
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table to write.

    Attributes:
        title: one line.
        columns: names of the columns.
        rows: lists of cells: text, or numbers to be written with `digits`.
        digits: decimals of numbers, or a list of those of each column.
        note: a line below, or "".
        sections: numbers of the rows before which the terminal has a line.
    """

    title: str
    columns: list
    rows: list
    digits: int | list = 2
    note: str = ""
    sections: tuple = ()

    def texts(self):
        """Return the rows with all cells as text."""
        digits = self.digits
        if isinstance(digits, int):
            digits = [digits] * len(self.columns)
        return [list(map(cell, row, digits)) for row in self.rows]

    def are_text(self):
        """Return a bool per column: True for the first and where text is."""
        return [
            number == 0
            or any(isinstance(row[number], str) for row in self.rows)
            for number in range(len(self.columns))
        ]


def cell(value, digits):
    """Return text or a number as text; large numbers have no decimals."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1e5:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}"


def show(table):
    """Print a `Table`; of a long one rows at equal distances."""
    every = -(-len(table.rows) // _MOST_PRINTED) if not table.sections else 1
    title = table.title
    if every > 1:
        title += f" ({len(table.rows)} rows, every {every}th printed)"
    drawn = rich.table.Table()
    for number, name in enumerate(table.columns):
        drawn.add_column(
            # A name with brackets is no markup.
            rich.markup.escape(name),
            justify="right" if number else "left",
            overflow="fold",
        )
    for number, row in enumerate(table.texts()):
        if number in table.sections:
            drawn.add_section()
        if number % every == 0:
            drawn.add_row(*map(rich.markup.escape, row))
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    console = rich.console.Console(width=width, highlight=False)
    console.print(title, markup=False)
    console.print(drawn)
    if table.note:
        console.print(table.note, markup=False)


def markdown(rows, note=""):
    """Return rows as a plain Markdown table.

    Args:
        rows: list of dicts; the columns are the keys of all of them.
        note: a line below. Defaults to none.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[row.get(name, "") for name in columns] for row in rows]
    table = "".join(
        "| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines
    )
    return f"{table}\n{note}\n" if note else table


def as_markdown(tables):
    """Return a list of `Table`s as Markdown."""
    return "\n".join(_markdown(table) for table in tables)


def as_latex(tables):
    """Return a list of `Table`s as LaTeX, for booktabs and longtable."""
    return "\n".join(_latex(table) for table in tables)


def _markdown(table):
    head, *rows = (
        "| " + " | ".join(map(_markdown_text, line)) + " |"
        for line in (table.columns, *table.texts())
    )
    marks = ["---" if each else "---:" for each in table.are_text()]
    note = [_markdown_text(table.note), ""] if table.note else []
    title = f"## {_markdown_text(table.title)}"
    line = f"|{'|'.join(marks)}|"
    return "\n".join([title, "", *note, head, line, *rows, ""])


def _latex(table):
    texts = table.texts()
    longest = [max(map(len, each)) for each in zip(*texts, strict=True)]
    columns = "".join(
        _LONG_COLUMN if length > _LONG else "l" if is_text else "r"
        for is_text, length in zip(table.are_text(), longest, strict=True)
    )
    head, *lines = (
        " & ".join(map(_latex_text, line)) + r" \\"
        for line in (table.columns, *texts)
    )
    caption = table.title + (f" ({table.note})" if table.note else "")
    caption = rf"\caption{{{_latex_text(caption)}}}"
    head = [r"\toprule", head, r"\midrule"]
    if len(table.rows) > _MOST_ROWS:
        begin = [rf"\begin{{longtable}}{{{columns}}}", rf"{caption} \\"]
        head.append(r"\endhead")
        end = [r"\end{longtable}"]
    else:
        begin = [r"\begin{table}", r"\centering", caption]
        begin.append(rf"\begin{{tabular}}{{{columns}}}")
        end = [r"\end{tabular}", r"\end{table}"]
    return "\n".join([*begin, *head, *lines, r"\bottomrule", *end, ""])


def _markdown_text(text):
    return " ".join(text.translate(_MARKDOWN).split())


def _latex_text(text):
    # An empty line would end a caption.
    return " ".join(text.split()).translate(_LATEX)
