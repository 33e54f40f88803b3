"""Figures of a report: those of NEO-KD's Figures 2 to 4, from records.

Budget curves (Figures 2 and 3), transferability maps (Figure 4), and besides
sensitivity, accuracy against cost under every attack, and along the settings
of training methods that several runs vary.
"""

import io

import numpy as np
from matplotlib.figure import Figure

from apps.reporting import layout
from apps.reporting import method_sweeps

_DOTS_PER_INCH = 110
_RULE = "fooled: all exits wrong at once"
_STYLES = ("o-", "s--", "^:", "D-.")


def figures(titled):
    """Return all figures of some records.

    Args:
        titled: what `records.read` returned.

    Returns:
        Dict from captions to PNG files as bytes.
    """
    found = {}
    for data, group in layout.by_data(titled):
        found[f"Accuracy against cost; {data}"] = _draw(_exits, group)
        for name, title, draw in (
            ("budgeted", "Accuracy within a budget", _budgets),
            ("transferability", "Attacks carried over between exits", _maps),
            ("sensitivity", "Accuracy against strength", _sensitivity),
        ):
            entries = _entries(group, name)
            if entries:
                found[f"{title}; {data}"] = _draw(draw, entries)
        swept = _sweeps(group)
        if swept:
            caption = f"Accuracy against settings of the method; {data}"
            found[caption] = _draw(_along_settings, swept)
    return found


def _draw(draw, content):
    figure = draw(content)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DOTS_PER_INCH, format="png")
    return buffer.getvalue()


def _entries(group, name):
    return {
        title: entry
        for title, record in group.items()
        for entry in (record.get("diagnostics") or ())
        if entry["name"] == name
    }


def _exits(group):
    attacked = [
        (name, entries)
        for name, entries in layout.by_attack(group)
        if not name.startswith("single ")
    ]
    figure, panels = _panels(len(attacked))
    for panel, (name, entries) in zip(panels, attacked, strict=True):
        same = layout.common([strength for _, strength, _ in entries])
        for index, (title, strength, attack) in enumerate(entries):
            exits = group[title]["exits"]
            panel.plot(
                [each["multiply_adds"] / 1e6 for each in exits],
                [100 * each for each in attack["top1"].values()],
                _STYLES[index % len(_STYLES)],
                label=_literally(
                    title if same == strength else f"{title}, {strength}"
                ),
            )
        name = _with_rule(name, group, entries)
        what = "\n".join([_literally(name), same]).strip()
        panel.set_title(what, fontsize="medium")
        panel.set_xlabel("million multiply-adds")
        panel.set_ylabel("top-1 accuracy (%)")
        panel.set_ylim(0, 100)
        _finish(panel)
    return figure


def _budgets(entries):
    figure, (panel,) = _panels(1)
    titles = _told_apart(entries)
    for index, (title, entry) in enumerate(
        zip(titles, entries.values(), strict=True)
    ):
        panel.plot(
            [row["multiply-adds"] / 1e6 for row in entry["rows"]],
            [100 * row["accuracy"] for row in entry["rows"]],
            _STYLES[index % len(_STYLES)],
            ms=3,
            label=_literally(
                f"{title}, {layout.readable(entry['settings']['attack'])}"
            ),
        )
    panel.set_xlabel("million multiply-adds per image")
    panel.set_ylabel("accuracy (%)")
    _finish(panel)
    return figure


def _maps(entries):
    figure, panels = _panels(len(entries))
    for panel, title, entry in zip(
        panels, _told_apart(entries), entries.values(), strict=True
    ):
        names = list(entry["rows"][0])[1:]
        shares = 100 * np.array(
            [[row[name] for name in names] for row in entry["rows"]]
        )
        panel.imshow(shares, cmap="Reds", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(shares):
            panel.text(
                column,
                row,
                f"{share:.1f}",
                ha="center",
                va="center",
                color="white" if share > 60 else "black",
            )
        ticks = [_literally(name) for name in names]
        panel.set_xticks(range(len(names)), ticks)
        # The ensemble is attacked by nobody.
        panel.set_yticks(range(len(shares)), ticks[: len(shares)])
        panel.set_xlabel("fooled (%)")
        panel.set_ylabel("attacked")
        mean = entry.get("off_diagonal_mean")
        end = "" if mean is None else f"\noff the diagonal {100 * mean:.1f} %"
        panel.set_title(f"{_literally(title)}{end}", fontsize="medium")
    return figure


def _sensitivity(entries):
    changed = list(
        dict.fromkeys(
            row["changed"]
            for entry in entries.values()
            for row in entry["rows"]
        )
    )
    figure, panels = _panels(len(changed))
    for panel, name in zip(panels, changed, strict=True):
        for index, (title, entry) in enumerate(
            zip(_told_apart(entries), entries.values(), strict=True)
        ):
            rows = [row for row in entry["rows"] if row["changed"] == name]
            panel.plot(
                [row["value"] for row in rows],
                [100 * row["average"] for row in rows],
                _STYLES[index % len(_STYLES)],
                label=_literally(title),
            )
        panel.set_xlabel(layout.readable(name))
        panel.set_ylabel("accuracy, mean of the exits (%)")
        panel.set_ylim(0, 100)
        _finish(panel)
    return figure


def _sweeps(group):
    """Return lines to draw, by setting and attack."""
    return {
        (key, name): [
            (
                text,
                [value for value, _ in points],
                [100 * averages[title] for _, title in points],
            )
            for text, points in found.items()
        ]
        for key, found in method_sweeps.lines(group)
        for name, averages in _averages(group).items()
    }


def _averages(group):
    """Return the mean accuracy of the exits under attacks that all have."""
    return {
        _with_rule(name, group, entries): {
            title: attack["top1_average"] for title, _, attack in entries
        }
        for name, entries in layout.by_attack(group)
        if len(entries) == len(group) and not name.startswith("single ")
    }


def _with_rule(name, group, entries):
    """Return the name of an attack, with the rule that tables have as note."""
    is_noted = layout.note(group, [attack for _, _, attack in entries])
    return f"{name} ({_RULE})" if is_noted else name


def _along_settings(swept):
    figure, panels = _panels(len(swept))
    for panel, ((key, name), found) in zip(panels, swept.items(), strict=True):
        for index, (text, values, accuracies) in enumerate(found):
            style = _STYLES[index % len(_STYLES)]
            panel.plot(values, accuracies, style, label=_literally(text))
        panel.set_xlabel(_literally(layout.readable(key)))
        panel.set_ylabel("accuracy, mean of the exits (%)")
        panel.set_title(_literally(name), fontsize="medium")
        panel.grid(alpha=0.3)
        if any(text for text, *_ in found):
            panel.legend(fontsize="small")
    return figure


def _told_apart(entries):
    """Return titles, with the settings that are not the same for all."""
    settings = [entry["settings"] for entry in entries.values()]
    unlike = layout.differences(settings, ("attack", "budgets"))
    return [title + more for title, more in zip(entries, unlike, strict=True)]


def _literally(text):
    """Return text so that matplotlib takes no part of it as a formula."""
    text = text.replace("$", r"\$")
    # A legend leaves out what begins with an underscore.
    return f" {text}" if text.startswith("_") else text


def _panels(count):
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure((5 * columns, 4 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


def _finish(panel):
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
