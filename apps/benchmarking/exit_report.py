"""Table and plot of what exits cost, with what was to be expected."""

from apps.benchmarking import report
from apps.benchmarking.contestants import FRAMEWORK_NAMES
from apps.benchmarking.exits import SERIES

_COLUMNS = (
    "exits",
    "ms/step",
    "cost",
    "predicted",
    "cost / predicted",
    "first step, s",
    "peak, MB",
)


def build_tables(record, markdown=False):
    """Return a list of one rich table of all networks.

    Args:
        record: dictionary of `apps.benchmark_exits`.
        markdown: whether to draw the table as Markdown.
    """
    title = (
        "One NEO-KD training step of MSDNet, max-average attack, "
        f"{record['environment']['threads']} threads, "
        f"median of {record['settings']['steps']}"
    )
    table = report.new_table(title, markdown)
    table.add_column("series")
    table.add_column("backend")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for result in record["results"]:
        series = SERIES[result["series"]]
        heading = (
            f"{result['series']}: base {series.base}, step {series.step}, "
            f"batch {series.batch_size}, PGD-{series.attack_steps}"
        )
        for network in result["networks"]:
            backend = FRAMEWORK_NAMES[result["backend"]]
            table.add_row(heading, backend, *_row(network))
        table.add_section()
    return [table]


def _row(network):
    against = network["cost_against_prediction"]
    return (
        str(network["num_exits"]),
        f"{network['milliseconds']['median']:,.0f}",
        f"{network['cost']['median']:.2f}",
        f"{network['predicted_cost']:.2f}",
        f"{against['median']:.2f} ({against['min']:.2f} to "
        f"{against['max']:.2f})",
        f"{network['first_step_seconds']:.1f}",
        f"{network['peak_megabytes']:,.0f}",
    )


def notes(record):
    """Return the sentences that belong under the table."""
    sentences = [
        "cost: time of a step relative to that of the network with the "
        "fewest exits of its series, in pairs of the same round.",
        "predicted: the same ratio of multiply-adds: num_steps x 2 x the sum "
        "over exits of the network up to that exit with its own head only, "
        "one forward pass per candidate to choose, and training on clean and "
        "attacked images.",
    ]
    consequence = "Short steps lose most by that"
    return sentences + report.busy_notes(record, "networks", consequence)


def plot(record, path):
    """Draw the time of a step over the number of exits.

    Args:
        record: dictionary of `apps.benchmark_exits`.
        path: PNG file to write.

    Returns:
        Whether the plot was drawn; it needs Matplotlib.
    """
    results = [each for each in record["results"] if each["networks"]]
    names = list(dict.fromkeys(each["series"] for each in results))
    if not names:
        return False

    def draw(figure):
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            _draw(panel, [each for each in results if each["series"] == name])
            series = SERIES[name]
            panel.set_title(
                f"base {series.base}, step {series.step}, batch "
                f"{series.batch_size}, PGD-{series.attack_steps}"
            )

    return report.save_figure(path, (5 * len(names), 4), draw)


def _draw(panel, results):
    for number, result in enumerate(results):
        networks = result["networks"]
        exits = [each["num_exits"] for each in networks]
        times = [each["milliseconds"]["median"] for each in networks]
        label = FRAMEWORK_NAMES[result["backend"]]
        panel.plot(exits, times, "o", color=f"C{number}", label=label)
        panel.plot(
            exits,
            [times[0] * each["predicted_cost"] for each in networks],
            "--",
            color=f"C{number}",
            label=f"{label}, predicted from {exits[0]} exits",
        )
    panel.set_xlabel("exits")
    panel.set_ylabel("milliseconds per step")
    panel.set_ylim(bottom=0)
    panel.legend()
