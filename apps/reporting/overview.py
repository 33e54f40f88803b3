"""Tables that an evaluation prints, and of models side by side."""

from ..tables import Table
from . import grouping
from . import measurements


def of_record(titled):
    """Return the tables that an evaluation prints.

    Args:
        titled: dict from a title to a record.
    """
    (record,) = titled.values()
    return [overview(titled), *measurements.with_settings(record)]


def overview(titled):
    """Return all accuracies of one model or several in one table.

    Args:
        titled: dict from titles to records of the same exits and attacks.
    """
    first = next(iter(titled.values()))
    rows, sections = [], []
    for k in (1, 5):
        for index, attack in enumerate(first["attacks"]):
            for title, record in titled.items():
                numbers = grouping.percent(record["attacks"][index], k)
                name = f"top-{k}, {attack['name']}"
                if len(titled) > 1:
                    name += f", {title}"
                if numbers:
                    rows.append([name, *numbers])
            if len(titled) > 1:
                sections.append(len(rows))
        sections.append(len(rows))
    if len(titled) == 1:
        rows += _selected(first) + _costs_of_exits(first)
    settings, data = first["settings"]["attack"], first["data"]
    return Table(
        f"Accuracy in % on {data['num_examples']} test images of "
        f"{data['name']}; PGD-{settings['num_steps']}, epsilon "
        f"{settings['epsilon']:.4g} ({settings['norm']}); chance "
        f"{100 / data['num_classes']:.3g}",
        ["", *grouping.exits_of(titled), "average"],
        rows,
        note=grouping.note(titled),
        sections=tuple(sections),
    )


def _selected(record):
    found = []
    for attack in record["attacks"]:
        shares = [
            row.get("selected_share") for row in grouping.rows_of(attack, 1)
        ]
        if None not in shares:
            name = f"images from each exit, {attack['name']}"
            found.append([name, *(100 * share for share in shares), ""])
    return found


def _costs_of_exits(record):
    return [
        [
            f"million {key.replace('_', '-')} up to the exit",
            *(f"{each[key] / 1e6:.3f}" for each in record["exits"]),
            "",
        ]
        for key in ("multiply_adds", "parameters")
    ]
