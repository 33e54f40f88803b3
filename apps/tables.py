"""Tables of results in the terminal."""

import sys

import rich.console
import rich.table

from apps import strong_attacks

_WIDTH_OF_A_FILE = 120
# Entries of a diagnostic that are not told in its title.
_PARTS = (
    "name",
    "settings",
    "seconds",
    "measures",
    "radii",
    "rows",
    "signs",
    "attack_settings",
)
# Of longer tables, rows at equal distances are printed.
_MOST_ROWS = 12
_SHARES = ("certified_accuracy", "abstention_rate")


def print_record(record):
    """Print the record of one evaluated model.

    Args:
        record: what `evaluating.evaluate` returns.
    """
    table = _table(record)
    for k in (1, 5):
        found = [each for each in record["attacks"] if f"top{k}" in each]
        for attack in found:
            _add_accuracy(table, f"top-{k}, {attack['name']}", attack, k)
        if found:
            table.add_section()
    for attack in record["attacks"]:
        if "selected_share" in attack:
            shares = attack["selected_share"].values()
            table.add_row(
                f"images from each exit, {attack['name']}",
                *_percent(shares),
                "",
            )
    for key in ("multiply_adds", "parameters"):
        values = [each[key] for each in record["exits"]]
        table.add_row(
            f"million {key.replace('_', '-')} up to the exit",
            *(f"{value / 1e6:.3f}" for value in values),
            "",
        )
    _print(_title(record), table, _note([record]))
    for entry in record["diagnostics"]:
        _print_diagnostic(record, entry)


def print_comparison(records):
    """Print the top-1 accuracy of several models, grouped by attack.

    Args:
        records: dict from a title to what `evaluating.evaluate` returned for
            it; all of the same exits and attacks.
    """
    first = next(iter(records.values()))
    table = _table(first)
    for index, attack in enumerate(first["attacks"]):
        for title, record in records.items():
            _add_accuracy(
                table,
                f"{attack['name']}, {title}",
                record["attacks"][index],
                1,
            )
        table.add_section()
    _print(_title(first), table, _note(records.values()))


def _note(records):
    names = [each["name"] for record in records for each in record["attacks"]]
    exits = max(len(record["exits"]) for record in records)
    return strong_attacks.note(names, exits)


def markdown(rows, note=""):
    """Return rows as a Markdown table.

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


def _title(record):
    attack = record["settings"]["attack"]
    classes = record["data"]["num_classes"]
    return (
        f"Accuracy in % on {record['data']['num_examples']} test images of "
        f"{record['data']['name']}; PGD-{attack['num_steps']}, epsilon "
        f"{attack['epsilon']:.4g} ({attack['norm']}); chance "
        f"{100 / classes:.3g}"
    )


def _print_diagnostic(record, entry):
    said = ", ".join(
        f"{name.replace('_', ' ')} {_readable(value)}"
        for name, value in (entry["settings"] | entry).items()
        if name not in _PARTS and not name.endswith("_sha256")
    )
    title = f"{entry['name'].replace('_', ' ')}: {said}"
    if "rows" in entry:
        _print_rows(title, entry["rows"])
        return
    table = _table(record)
    for what, by_exit in entry["measures"].items():
        values = list(by_exit.values())
        known = None not in values
        values.append(sum(values) / len(values) if known else None)
        is_share = what.startswith(_SHARES)
        table.add_row(
            what.replace("_", " ") + (" (%)" if is_share else ""),
            *(_percent(values) if is_share else map(_readable, values)),
        )
    _print(title, table)


def _print_rows(title, rows):
    table = rich.table.Table()
    for name in rows[0]:
        table.add_column(name, justify="right")
    every = -(-len(rows) // _MOST_ROWS)
    for row in rows[::every]:
        table.add_row(*(_cell(value) for value in row.values()))
    if every > 1:
        title += f" ({len(rows)} rows, every {every}th printed)"
    _print(title, table)


def _cell(value):
    return "-" if value is None else _readable(value)


def _readable(value):
    if value is None:
        return "undefined"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_cell, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(record):
    table = rich.table.Table()
    table.add_column()
    for each in record["exits"]:
        table.add_column(each["name"], justify="right")
    table.add_column("average", justify="right")
    return table


def _add_accuracy(table, label, attack, k):
    table.add_row(
        label,
        *_percent(attack[f"top{k}"].values()),
        *_percent([attack[f"top{k}_average"]]),
    )


def _percent(values):
    return [
        _readable(None) if value is None else f"{100 * value:.2f}"
        for value in values
    ]


def _print(title, table, note=""):
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    console = rich.console.Console(width=width, highlight=False)
    # A name with brackets is no markup.
    console.print(title, markup=False)
    console.print(table)
    if note:
        console.print(note)
