"""Figures of a report: Figures 2 to 4 of NEO-KD, from records.

Budget curves, maps of transferability; besides sensitivity, accuracy against
cost under every attack, and along the settings of methods that runs vary.
"""

import json

import numpy as np

from .. import plots
from . import grouping
from .measurements import readable

_MEAN = "accuracy, mean of the exits (%)"
_RULE = "fooled: all exits wrong at once"


def figures(titled):
    """Return all figures, a dict from captions to PNG files as bytes.

    `titled` is a dict from titles to records.
    """
    found = {}
    for data, group in grouping.by_data(titled):
        drawn = {"Accuracy against cost": _against_cost(group)}
        for name, (caption, draw) in _OF_PROTOCOLS.items():
            entries = {
                title: entry
                for title, record in group.items()
                for entry in record["diagnostics"]
                if entry["name"] == name
            }
            if entries:
                drawn[caption] = draw(entries)
        if swept := _sweeps(group):
            caption = "Accuracy against settings of the method"
            drawn[caption] = plots.draw_lines(swept, _MEAN)
        for caption, figure in drawn.items():
            found[f"{caption}; {data}"] = plots.png(figure)
    return found


def _against_cost(group):
    panels = []
    for name, entries in _attacks(group):
        same = grouping.common([strength for _, strength, _ in entries])
        lines = [
            (
                title if same == strength else f"{title}, {strength}",
                _millions(group[title]["exits"], "multiply_adds"),
                grouping.accuracies(attack, 1),
            )
            for title, strength, attack in entries
        ]
        panels.append(
            (f"{name}\n{same}".strip(), "million multiply-adds", lines)
        )
    return plots.draw_lines(panels, "top-1 accuracy (%)")


def _attacks(group):
    """Yield the attacks on all exits; a name states the rule `all` if noted."""
    for name, entries in grouping.by_attack(group):
        if not name.startswith("single "):
            noted = grouping.note(group, [attack for *_, attack in entries])
            yield f"{name} ({_RULE})" if noted else name, entries


def _budgets(entries):
    lines = [
        (
            f"{title}, {readable(entry['settings']['attack'])}",
            _millions(entry["rows"], "multiply-adds"),
            [row["accuracy"] for row in entry["rows"]],
        )
        for title, entry in _told_apart(entries)
    ]
    panels = [("", "million multiply-adds per image", lines)]
    return plots.draw_lines(panels, "accuracy (%)", is_whole=False, ms=3)


def _millions(rows, name):
    return [row[name] / 1e6 for row in rows]


def _maps(entries):
    figure, panels = plots.new_panels(len(entries))
    for panel, (title, entry) in zip(panels, _told_apart(entries), strict=True):
        rows = entry["rows"]
        names = [name for name in rows[0] if name != "attack on"]
        shares = 100 * np.array([[row[name] for name in names] for row in rows])
        targets = [name.removeprefix("fooled at ") for name in names]
        sources = [row["attack on"] for row in rows]
        plots.draw_matrix(panel, shares, targets, sources, "Reds", digits=1)
        panel.set_xlabel("fooled (%)")
        panel.set_ylabel("attacked")
        mean = entry["summary"].get("off_diagonal_mean")
        end = "" if mean is None else f"\noff the diagonal {100 * mean:.1f} %"
        panel.set_title(f"{plots.literally(title)}{end}", fontsize="medium")
    return figure


def _sensitivity(entries):
    lines = {}
    for title, entry in _told_apart(entries):
        by_value = {}
        for row in entry["rows"]:
            values = by_value.setdefault(row["changed"], {})
            values.setdefault(row["value"], []).append(row["accuracy"])
        for changed, values in by_value.items():
            means = [np.mean(each) for each in values.values()]
            lines.setdefault(changed, []).append((title, list(values), means))
    panels = [("", readable(name), found) for name, found in lines.items()]
    return plots.draw_lines(panels, _MEAN)


def _sweeps(group):
    """Return panels along settings, one per setting and attack."""
    averages = {
        name: {
            title: np.mean(grouping.accuracies(attack, 1))
            for title, _, attack in entries
        }
        for name, entries in _attacks(group)
        if len(entries) == len(group)
    }
    return [
        (
            name,
            readable(key),
            [
                (text, [v for v, _ in points], [by_title[t] for _, t in points])
                for text, points in found.items()
            ],
        )
        for key, found in method_sweeps(group)
        for name, by_title in averages.items()
    ]


def method_sweeps(group):
    """Yield each numeric setting that differs between records, with its values.

    Args:
        group: dict from titles to records; those without `method_settings`
            are left out.

    Yields:
        Tuples of a setting and a dict from what else differs, as text, to
        lists of at least two pairs of a value and a title, sorted.
    """
    settings = {
        title: record["method_settings"]
        for title, record in group.items()
        if record.get("method_settings")
    }
    flat, varied = grouping.varied(settings.values())
    for key in varied:
        found = {}
        for title, each in zip(settings, flat, strict=True):
            value = each.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                others = ", ".join(
                    f"{readable(other)} {json.dumps(each.get(other))}"
                    for other in varied
                    if other != key
                )
                found.setdefault(others, []).append((value, title))
        found = {
            text: sorted(points)
            for text, points in found.items()
            if len({value for value, _ in points}) > 1
        }
        if found:
            yield key, found


def _told_apart(entries):
    """Return pairs of an entry's title, with settings that differ, and it."""
    settings = [entry["settings"] for entry in entries.values()]
    unlike = grouping.differences(settings, ("attack", "budgets"))
    titles = [title + more for title, more in zip(entries, unlike, strict=True)]
    return list(zip(titles, entries.values(), strict=True))


_OF_PROTOCOLS = {
    "budgeted": ("Accuracy within a budget", _budgets),
    "transferability": ("Attacks carried over between exits", _maps),
    "sensitivity": ("Accuracy against strength", _sensitivity),
}
