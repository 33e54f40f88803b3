"""Make the tables of a report, and those that an evaluation prints.

The layout is that of Tables 1 to 8 of NEO-KD: a table per data set and
attack, a row per model, a column per exit and their average. `titled` is a dict
from titles to records.
"""

import json

import numpy as np

from keras_neokd.evaluation import intervals

from ..tables import Table
from . import grouping
from . import measurements
from .measurements import readable


def tables(titled):
    """Return all `Table`s of a report.

    Accuracy under each attack, worst cases, what is left after each attack of
    a search, protocols, costs, findings.
    """
    groups = list(grouping.by_data(titled))

    def of_groups(make):
        return [table for each in groups for table in make(*each)]

    return [
        *of_groups(_accuracies),
        *of_groups(_uncertainties),
        *of_groups(_worst_cases),
        *_searches(titled),
        *measurements.tables(titled),
        *of_groups(_savings),
        *of_groups(_costs),
        _evaluations(titled),
        *_findings(titled),
    ]


def of_record(titled):
    """Return the tables that an evaluation prints, of a single record."""
    (record,) = titled.values()
    return [overview(titled), *measurements.with_settings(record)]


def overview(titled):
    """Return all accuracies of records in one table.

    The records are of the same exits and attacks.
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
    data = first["data"]
    return Table(
        f"Accuracy in % on {data['num_examples']} test images of "
        f"{data['name']}; {grouping.shared_strength(first)}chance "
        f"{100 / data['num_classes']:.3g}",
        ["", *grouping.exits_of(titled), "average"],
        rows,
        note=grouping.note(titled),
        sections=tuple(sections),
    )


def _selected(record):
    found = []
    for attack in record["attacks"]:
        rows = grouping.rows_of(attack, 1)
        shares = [row.get("selected_share") for row in rows]
        if None not in shares:
            name = f"images from each exit, {attack['name']}"
            found.append([name, *(100 * share for share in shares), ""])
    return found


def _costs_of_exits(record):
    return [
        [f"{name} up to the exit", *(f"{each:.3f}" for each in values), ""]
        for name, values in _millions(record)
    ]


def _millions(record):
    return [
        (
            f"million {key.replace('_', '-')}",
            [each[key] / 1e6 for each in record["exits"]],
        )
        for key in ("multiply_adds", "parameters")
    ]


def _accuracies(data, group):
    for name, entries in grouping.by_attack(group):
        for k in (1, 5):
            found = [
                (title, strength, grouping.percent(attack, k))
                for title, strength, attack in entries
                if grouping.accuracies(attack, k)
            ]
            if found:
                what = f"Top-{k} accuracy (%): {name}"
                note = grouping.note(group, [entries[0][2]])
                yield _comparison(what, data, group, found, note)


def _uncertainties(data, group):
    """Yield intervals of top-1 accuracies, and their deviation over seeds."""
    rows = []
    for title, record in group.items():
        for attack in record["attacks"]:
            found = grouping.rows_of(attack, 1)
            if all(row.get("low") is not None for row in found):
                rows.append(
                    [title, readable(attack["name"]), *map(_range, found)]
                )
    if rows:
        yield Table(
            f"Uncertainty of top-1 accuracy (%); {data}",
            ["model", "attack", *grouping.exits_of(group)],
            rows,
            note="95 % interval (Wilson); after ± the standard deviation "
            "over the seeds of the attack, where there are several. "
            f"{grouping.note(group)}".strip(),
        )


def _range(row):
    low, high, spread = row["low"], row.get("high"), row.get("deviation")
    said = f"{100 * low:.1f} to {100 * (low if high is None else high):.1f}"
    return said if spread is None else f"{said} ± {100 * spread:.2f}"


def _worst_cases(data, group):
    """Yield accuracies on images that withstand all attacks of one ball."""
    found = []
    for title, record in group.items():
        by_ball = {}
        for attack in record["attacks"]:
            settings = attack["settings"]
            # What may go as far as it likes says nothing about a ball.
            if settings.get("epsilon") is not None:
                by_ball.setdefault(grouping.ball(settings), []).append(attack)
        found += [
            (title, ball, _worst_case(record, attacked))
            for ball, attacked in by_ball.items()
        ]
    if found:
        yield _comparison(
            "Top-1 accuracy (%) on images that withstand all attacks",
            data,
            group,
            found,
            "Image by image. Records that do not say which images are right "
            f"give the lowest accuracy of each exit. {grouping.note(group)}",
        )


def _comparison(what, data, group, found, note):
    """Return a table of accuracies; it says where attacks were not equal.

    `found` is a list of tuples of a title, the strength, and numbers.
    """
    same = grouping.common([strength for _, strength, _ in found])
    differ = len({strength for _, strength, _ in found}) > 1
    return Table(
        f"{what}{', ' if same else ''}{same}; {data}",
        ["model", *["attack"] * differ, *grouping.exits_of(group), "average"],
        [
            [title, *[strength] * differ, *numbers]
            for title, strength, numbers in found
        ],
        note=note.strip(),
    )


def _worst_case(record, attacked):
    if all(attack.get("correct") for attack in attacked):
        count = record["data"]["num_examples"]
        lowest = [
            100
            * _bits([each["correct"][exit["name"]] for each in attacked], count)
            for exit in record["exits"]
        ]
    else:
        lowest = 100 * np.min(
            [grouping.accuracies(each, 1) for each in attacked], 0
        )
    return [*map(float, lowest), float(sum(lowest) / len(lowest))]


def _bits(texts, count):
    """Return the share of images that are right in all of some texts."""
    rows = [np.frombuffer(bytes.fromhex(each), "uint8") for each in texts]
    right = np.unpackbits(np.bitwise_and.reduce(rows))[:count]
    return float(right.mean())


def _searches(titled):
    for title, record in titled.items():
        for attack in record["attacks"]:
            if attack.get("search"):
                yield Table(
                    f"Images that resist (%): {readable(attack['name'])}; "
                    f"{title}, {record['data']['name']}",
                    [f"after {each['attack']}" for each in attack["search"]],
                    [[100 * each["robust"] for each in attack["search"]]],
                    note=grouping.note({title: record}, [attack]),
                )


def _savings(data, group):
    """Yield what one model saves against another at equal accuracy."""
    curves = {}
    for title, record in group.items():
        for entry in record["diagnostics"]:
            if entry["name"] == "budgeted":
                settings = entry["settings"]
                key = settings["attack"], _same_policies(settings)
                curves.setdefault(key, {})[title] = entry["rows"]
    for (attack, _), by_title in curves.items():
        rows = [
            [first, second, *_saving(by_title[first], by_title[second])]
            for first in by_title
            for second in by_title
            if first != second
        ]
        rows = [row for row in rows if row[3] > 0]
        if rows:
            yield Table(
                "Multiply-adds saved (%) at the highest accuracy that "
                f"both reach; {readable(attack)}, {data}",
                [
                    *("model", "against", "accuracy (%)", "saved (%)"),
                    "saved, 95 % interval",
                ],
                rows,
                note="The interval covers the choice of the test images "
                "for the costs of both models, at the budgets found here. "
                "The accuracy is uncertain, too: see the table of "
                "uncertainty. A dash: the record has no intervals of "
                "costs.",
            )


def _same_policies(settings):
    """Return, as text, the settings that two comparable budget curves share."""
    keys = ("attack_settings", "ensemble", "threshold_data", "num_examples")
    return json.dumps([settings.get(key) for key in keys], sort_keys=True)


def _saving(rows, others):
    """Return accuracy, saving and its interval in %, of two curves."""
    accuracy = min(
        max(row["accuracy"] for row in curve) for curve in (rows, others)
    )
    row, other = (
        min(
            (row for row in curve if row["accuracy"] >= accuracy),
            key=lambda row: row["multiply-adds"],
        )
        for curve in (rows, others)
    )
    cost, other_cost = row["multiply-adds"], other["multiply-adds"]
    saved = 100 * (1 - cost / other_cost)
    ends, other_ends = (
        [each.get(f"multiply-adds {end}") for end in ("low", "high")]
        for each in (row, other)
    )
    if None in (*ends, *other_ends):
        return [100 * accuracy, saved, "-"]
    low, high = intervals.saving_interval(cost, ends, other_cost, other_ends)
    return [100 * accuracy, saved, f"{100 * low:.1f} to {100 * high:.1f}"]


def _costs(data, group):
    yield Table(
        f"Cost up to each exit; {data}",
        ["model", "of", *grouping.exits_of(group)],
        [
            [title, name, *values]
            for title, record in group.items()
            for name, values in _millions(record)
        ],
        digits=3,
    )


def _evaluations(titled):
    keys = ("keras_neokd", "backend", "keras")
    return Table(
        "Evaluations",
        ["model", "data", *keys, "seed", "evaluation, s", "model's SHA-256"],
        [
            [
                title,
                record["data"]["name"],
                *(str(record["environment"].get(key, "-")) for key in keys),
                str(record["settings"]["seed"]),
                f"{sum(each['seconds'] for each in _entries(record)):.0f}",
                record["model_sha256"][:12],
            ]
            for title, record in titled.items()
        ],
    )


def _findings(titled):
    rows = [
        [title, where, each["code"], each["message"]]
        for title, record in titled.items()
        for where, findings in (
            ("model", record.get("findings") or []),
            *((each["name"], each["findings"]) for each in _entries(record)),
        )
        for each in findings
    ]
    if rows:
        yield Table(
            "Findings", ["model", "where", "finding", "what was found"], rows
        )


def _entries(record):
    return (*record["attacks"], *record["diagnostics"])
