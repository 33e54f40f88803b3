"""Tables as Markdown and LaTeX; every text is escaped."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
# Longer tables do not fit on a page.
_MOST_ROWS = 40
# In LaTeX, columns of longer text are broken into lines.
_LONG, _LONG_COLUMN = 50, r"p{0.5\linewidth}"
_MARKDOWN = str.maketrans(
    {
        "\\": "\\\\",
        "|": "\\|",
        "*": "\\*",
        "_": "\\_",
        "`": "\\`",
        "~": "\\~",
        "$": "\\$",
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "[": "\\[",
        "]": "\\]",
    }
)


def cell(value, digits):
    """Return a cell as text.

    Args:
        value: text or a number.
        digits: decimals of a number; large ones are whole.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1e5:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}"


def are_text(table):
    """Return for each column whether it is aligned as text: the first is.

    Args:
        table: a `layout.Table`.
    """
    return [
        number == 0 or any(isinstance(row[number], str) for row in table.rows)
        for number in range(len(table.columns))
    ]


def markdown(tables):
    """Return tables as Markdown.

    Args:
        tables: list of `layout.Table`s.
    """
    return "\n".join(_markdown(table) for table in tables)


def latex(tables):
    """Return tables as LaTeX, for the packages booktabs and longtable.

    Args:
        tables: list of `layout.Table`s.
    """
    return "\n".join(_latex(table) for table in tables)


def _markdown(table):
    lines = [
        table.columns,
        ["---" if each else "---:" for each in are_text(table)],
        *_cells(table),
    ]
    rows = [
        "| " + " | ".join(_markdown_text(each) for each in line) + " |"
        if line is not lines[1]
        else "|" + "|".join(line) + "|"
        for line in lines
    ]
    note = [_markdown_text(table.note), ""] if table.note else []
    title = f"## {_markdown_text(table.title)}"
    return "\n".join([title, "", *note, *rows, ""])


def _latex(table):
    columns = "".join(
        _LONG_COLUMN if longest > _LONG else "l" if is_text else "r"
        for is_text, longest in zip(
            are_text(table), _lengths(table), strict=True
        )
    )
    lines = [
        " & ".join(_latex_text(each) for each in line) + r" \\"
        for line in (table.columns, *_cells(table))
    ]
    caption = table.title + (f" ({table.note})" if table.note else "")
    caption = rf"\caption{{{_latex_text(caption)}}}"
    head = [r"\toprule", lines[0], r"\midrule"]
    if len(table.rows) > _MOST_ROWS:
        begin = [rf"\begin{{longtable}}{{{columns}}}", rf"{caption} \\"]
        head.append(r"\endhead")
        end = [r"\end{longtable}"]
    else:
        begin = [r"\begin{table}", r"\centering", caption]
        begin.append(rf"\begin{{tabular}}{{{columns}}}")
        end = [r"\end{tabular}", r"\end{table}"]
    body = [*lines[1:], r"\bottomrule"]
    return "\n".join([*begin, *head, *body, *end, ""])


def _cells(table):
    return [[cell(value, table.digits) for value in row] for row in table.rows]


def _lengths(table):
    """Return the length of the longest cell of each column."""
    return [
        max(map(len, column)) for column in zip(*_cells(table), strict=True)
    ]


def _markdown_text(text):
    return " ".join(text.translate(_MARKDOWN).split())


def _latex_text(text):
    # An empty line would end a caption.
    text = " ".join(text.split())
    return "".join(_LATEX.get(character, character) for character in text)
