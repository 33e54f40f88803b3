"""Plots of the apps: how training went, and how robust the exits are.

The figures are drawn without a display.
"""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_neokd import writing

_ATTACK_STYLES = {"clean": "-", "max_average": "--", "average": ":"}
_DOTS_PER_INCH = 130


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
        _draw_lines(panels[0], losses, {"loss": "weighted sum"}, ["black"])
        terms = _term_names(rows, exit_names)
        colors = [f"C{index}" for index in range(len(terms))]
        _draw_lines(panels[1], rows, terms, colors)
        panels[0].set_ylabel(title, fontsize="large", fontweight="bold")
        panels[0].set_title("loss")
        panels[1].set_title("loss terms, mean over exits")
        for panel, kind in zip(
            panels[2:], ("clean", "adversarial"), strict=True
        ):
            names = {f"{exit}_{kind}_accuracy": exit for exit in exit_names}
            _draw_lines(panel, rows, names, _exit_colors(len(exit_names)), 100)
            panel.set_title(f"{kind} accuracy in training (%)")
            panel.set_ylim(0, 100)
    _save(figure, path)


def robustness(records, path):
    """Draw the accuracy of every exit, clean and under every attack.

    Args:
        records: dict from a title to a record of `evaluating.evaluate`; all
            of the same exits.
        path: the PNG file to write.
    """
    matrices = {
        title: _single_attacks(record)
        for title, record in records.items()
        if _single_attacks(record)
    }
    figure = Figure((7 + 5 * len(matrices), 5), layout="constrained")
    axes = figure.subplots(
        1,
        1 + len(matrices),
        squeeze=False,
        width_ratios=[7, *[5] * len(matrices)],
    )[0]
    _draw_exits(axes[0], records)
    for panel, (title, attacks) in zip(axes[1:], matrices.items(), strict=True):
        _draw_matrix(panel, title, attacks)
    _save(figure, path)


def _save(figure, path):
    with writing.replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=_DOTS_PER_INCH)


def _term_names(rows, exit_names):
    """Return the columns that are means over exits of a loss term."""
    prefixes = tuple(f"{exit}_" for exit in (*exit_names, "val"))
    return {
        name: name.removesuffix("_loss")
        for name in rows[-1]
        if name.endswith("_loss") and not name.startswith(prefixes)
    }


def _exit_colors(count):
    """Return colours that get lighter with depth."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.85, count))


def _draw_lines(panel, rows, labels, colors, factor=1):
    """Draw columns of a history, those of the validation dashed."""
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
    panel.grid(alpha=0.3)
    if panel.lines:  # Training without an attack has no adversarial accuracy.
        panel.legend(fontsize="small", handlelength=3)


def _draw_exits(panel, records):
    for index, (title, record) in enumerate(records.items()):
        accuracy = {each["name"]: each["top1"] for each in record["attacks"]}
        for name, style in _ATTACK_STYLES.items():
            if name in accuracy:
                panel.plot(
                    [100 * value for value in accuracy[name].values()],
                    style,
                    marker="o",
                    color=f"C{index}",
                    label=f"{title}, {_readable(name)}",
                )
    record = next(iter(records.values()))
    exits = record["exits"]
    panel.axhline(
        100 / record["data"]["num_classes"],
        color="grey",
        linewidth=1,
        label="chance",
    )
    panel.set_xticks(
        range(len(exits)),
        [
            f"{each['name']}\n{each['multiply_adds'] / 1e6:.1f} M"
            for each in exits
        ],
    )
    panel.set_xlabel("exit, and multiply-adds up to it")
    panel.set_ylabel("top-1 accuracy (%)")
    panel.set_ylim(0, 100)
    epsilon = record["settings"]["attack"]["epsilon"]
    panel.set_title(
        f"{record['data']['name']}, {record['data']['num_examples']} images, "
        f"epsilon {epsilon:.4g}"
    )
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small", handlelength=3)


def _single_attacks(record):
    return [
        each["top1"]
        for each in record["attacks"]
        if each["name"].startswith("single_")
    ]


def _draw_matrix(panel, title, attacks):
    values = 100 * np.array([list(row.values()) for row in attacks])
    names = list(attacks[0])
    panel.imshow(values, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(values):
        panel.text(
            column,
            row,
            f"{value:.0f}",
            ha="center",
            va="center",
            color="white" if value > 60 else "black",
        )
    panel.set_xticks(range(len(names)), names)
    panel.set_yticks(range(len(names)), names)
    panel.set_xlabel("accuracy (%) of")
    panel.set_ylabel("attack on")
    panel.set_title(f"{title}: attacks on single exits")


def _readable(name):
    return name.replace("_", "-") + ("" if name == "clean" else " attack")
