"""Figures of the apps, drawn without a display: training, robustness, parts."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_neokd.base import writing

from .reporting import grouping

_DOTS_PER_INCH = 110
_STYLES = ("o-", "s--", "^:", "D-.")
# Of attacks in the plot of an evaluation.
_ATTACK_STYLES = {"clean": "-", "max_average": "--", "average": ":"}


def learning_curves(histories, path):
    """Draw loss and accuracy over the epochs, one row of panels per run.

    Args:
        histories: dict from a title to `(rows, exit_names)`: the rows of a
            run's history and its exits in depth order.
        path: the PNG file to write.
    """
    figure = Figure((16, 3.7 * len(histories)), layout="constrained")
    axes = figure.subplots(len(histories), 4, squeeze=False)
    for panels, (title, (rows, exit_names)) in zip(
        axes, histories.items(), strict=True
    ):
        # The validation loss has fewer terms, so it is not comparable.
        losses = [{"epoch": row["epoch"], "loss": row["loss"]} for row in rows]
        _draw_history(panels[0], losses, {"loss": "weighted sum"}, ["black"])
        terms = _term_names(rows, exit_names)
        colors = [f"C{index}" for index in range(len(terms))]
        _draw_history(panels[1], rows, terms, colors)
        panels[0].set_ylabel(title, fontsize="large", fontweight="bold")
        panels[0].set_title("loss")
        panels[1].set_title("loss terms, mean over exits")
        # Lighter with depth.
        shades = np.linspace(0, 0.85, len(exit_names))
        colors = matplotlib.colormaps["viridis"](shades)
        for panel, kind in zip(
            panels[2:], ("clean", "adversarial"), strict=True
        ):
            names = {f"{exit}_{kind}_accuracy": exit for exit in exit_names}
            _draw_history(panel, rows, names, colors, 100)
            panel.set_title(f"{kind} accuracy in training (%)")
            panel.set_ylim(0, 100)
    _save(figure, path)


def robustness(titled, path):
    """Draw the accuracy of every exit, clean and under every attack.

    Args:
        titled: dict from titles to records of the same exits.
        path: the PNG file to write.
    """
    matrices = {}
    for title, record in titled.items():
        found = [
            grouping.accuracies(attack, 1)
            for attack in record["attacks"]
            if attack["name"].startswith("single_")
        ]
        if found:
            matrices[title] = 100 * np.array(found)
    widths = [7, *[5] * len(matrices)]
    figure = Figure((sum(widths), 5), layout="constrained")
    (axes,) = figure.subplots(
        1, len(widths), squeeze=False, width_ratios=widths
    )
    _draw_exits(axes[0], titled)
    for panel, (title, shares) in zip(axes[1:], matrices.items(), strict=True):
        names = [each["name"] for each in titled[title]["exits"]]
        draw_matrix(panel, shares, names, names[: len(shares)], "Blues")
        panel.set_xlabel("accuracy (%) of")
        panel.set_ylabel("attack on")
        panel.set_title(literally(f"{title}: attacks on single exits"))
    _save(figure, path)


def png(figure):
    """Return a matplotlib `Figure` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DOTS_PER_INCH, format="png")
    return buffer.getvalue()


def _save(figure, path):
    with writing.replacing(path) as unfinished:
        unfinished.write_bytes(png(figure))


def _term_names(rows, exit_names):
    """Return the columns that are means over exits of a loss term."""
    prefixes = tuple(f"{exit}_" for exit in (*exit_names, "val"))
    return {
        name: name.removesuffix("_loss")
        for name in rows[-1]
        if name.endswith("_loss") and not name.startswith(prefixes)
    }


def _draw_history(panel, rows, labels, colors, factor=1):
    """Draw columns of a history, with validation dashed."""
    epochs = [row["epoch"] + 1 for row in rows]
    size = 3 if len(rows) < 40 else 0
    dashed = False
    for (name, label), color in zip(labels.items(), colors, strict=True):
        for key, style in ((name, "o-"), (f"val_{name}", "s--")):
            if key in rows[-1]:
                values = [factor * row[key] for row in rows]
                own = label if key == name else None
                panel.plot(
                    epochs, values, style, color=color, ms=size, label=own
                )
                dashed |= key != name
    panel.set_xlabel("epoch" + (" (dashed: validation)" if dashed else ""))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(panel)


def _draw_exits(panel, titled):
    for index, (title, record) in enumerate(titled.items()):
        by_name = {each["name"]: each for each in record["attacks"]}
        for name, style in _ATTACK_STYLES.items():
            if name in by_name:
                said = name.replace("_", "-") + " attack" * (name != "clean")
                panel.plot(
                    [100 * v for v in grouping.accuracies(by_name[name], 1)],
                    style,
                    marker="o",
                    color=f"C{index}",
                    label=literally(f"{title}, {said}"),
                )
    record = next(iter(titled.values()))
    exits, data = record["exits"], record["data"]
    chance = 100 / data["num_classes"]
    panel.axhline(chance, color="grey", linewidth=1, label="chance")
    panel.set_xticks(
        range(len(exits)),
        [
            literally(f"{each['name']}\n{each['multiply_adds'] / 1e6:.1f} M")
            for each in exits
        ],
    )
    panel.set_title(
        literally(
            f"{data['name']}, {data['num_examples']} images, epsilon "
            f"{record['settings']['attack']['epsilon']:.4g}"
        )
    )
    _finish(panel, "exit, and multiply-adds up to it", "top-1 accuracy (%)")


def draw_matrix(panel, values, columns, rows, colors, digits=0):
    """Draw values from 0 to 100 as coloured cells with their numbers."""
    panel.imshow(values, cmap=colors, vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(values):
        panel.text(
            column,
            row,
            f"{value:.{digits}f}",
            ha="center",
            va="center",
            color="white" if value > 60 else "black",
        )
    panel.set_xticks(range(len(columns)), map(literally, columns))
    panel.set_yticks(range(len(rows)), map(literally, rows))


def literally(text):
    """Return text so that matplotlib takes no part of it as a formula."""
    text = text.replace("$", r"\$")
    # A legend leaves out what begins with an underscore.
    return f" {text}" if text.startswith("_") else text


def new_panels(count):
    """Return a figure and a list of `count` panels, three in a row."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure((5 * columns, 4 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


def draw_lines(panels, y_label, is_whole=True, **style):
    """Draw shares in % as lines.

    Args:
        panels: list of tuples of a title, the label of the x axis, and lines:
            tuples of a label, values and shares.
        y_label: label of the y axis.
        is_whole: whether it goes from 0 to 100. Defaults to True.
        **style: of the lines.
    """
    figure, axes = new_panels(len(panels))
    for panel, (title, x_label, lines) in zip(axes, panels, strict=True):
        for index, (label, values, shares) in enumerate(lines):
            panel.plot(
                values,
                [100 * each for each in shares],
                _STYLES[index % len(_STYLES)],
                label=literally(label),
                **style,
            )
        panel.set_title(literally(title), fontsize="medium")
        _finish(panel, literally(x_label), y_label, is_whole)
    return figure


def _finish(panel, x_label=None, y_label=None, is_whole=True):
    """Draw grid and legend; name the axes."""
    if x_label is not None:
        panel.set_xlabel(x_label)
        panel.set_ylabel(y_label)
        if is_whole:
            panel.set_ylim(0, 100)
    panel.grid(alpha=0.3)
    # Training without an attack has no adversarial accuracy.
    if any(not each.get_label().startswith("_") for each in panel.lines):
        panel.legend(fontsize="small", handlelength=3)
