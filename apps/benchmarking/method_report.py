"""The tables of a comparison of training methods."""

from apps.benchmarking import report
from apps.benchmarking.contestants import FRAMEWORK_NAMES
from apps.benchmarking.methods import UNIT

_COLUMNS = ("cost", "ms/step", "min", "max", "first step, s")


def build_tables(record, markdown=False):
    """Return rich tables: the costs on all backends, then all figures.

    Args:
        record: dictionary of `apps.benchmark_methods`.
        markdown: whether to draw the tables as Markdown.
    """
    tables = [_table(record, markdown), _table(record, markdown)]
    _fill_costs(tables[0], record)
    _fill_figures(tables[1], record, markdown)
    return tables


def _table(record, markdown):
    settings = record["settings"]
    title = (
        f"Training step of {settings['model']}, attack {settings['attack']}, "
        f"batch {settings['batch_size']}, PGD-{settings['attack_steps']}, "
        f"{record['environment']['threads']} threads, "
        f"median of {settings['steps']}"
    )
    return report.new_table(title, markdown)


def _fill_costs(table, record):
    results = [each for each in record["results"] if each["methods"]]
    table.add_column("cost relative to Eq. 4", no_wrap=True)
    for result in results:
        name = FRAMEWORK_NAMES[result["backend"]]
        table.add_column(name, justify="right", no_wrap=True)
    measured = [
        {method["name"]: method["cost"] for method in result["methods"]}
        for result in results
    ]
    for name in record["settings"]["methods"]:
        cells = (_cost(name, costs.get(name)) for costs in measured)
        table.add_row(name, *cells)


def _fill_figures(table, record, markdown):
    table.add_column("backend")
    table.add_column("method", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for result in record["results"]:
        heading = FRAMEWORK_NAMES[result["backend"]]
        for method in result["methods"]:
            table.add_row(heading, *_figures(method))
            heading = heading if markdown else ""
        table.add_section()


def _figures(method):
    milliseconds = method["milliseconds"]
    return (
        method["name"],
        _cost(method["name"], method["cost"]),
        f"{milliseconds['median']:,.0f}",
        f"{milliseconds['min']:,.0f}",
        f"{milliseconds['max']:,.0f}",
        f"{method['first_step_seconds']:.1f}",
    )


def _cost(name, cost):
    if cost is None:
        return "-"
    if name == UNIT:
        return "1 (unit)"
    return f"{cost['median']:.2f} ({cost['min']:.2f} to {cost['max']:.2f})"


def notes(record):
    """Return the sentences that belong under the tables."""
    sentences = [
        f"cost: time of a step over that of {UNIT} (Eq. 4) on the same "
        "backend in the same round: median (minimum to maximum). More than 1 "
        "is dearer.",
        "first step: from the built model to the end of its first step, "
        f"compilation included; that of {UNIT}, the first in its process, "
        "also contains what a backend sets up once.",
        f"KDIGA's teacher: {record['teacher']}.",
        f"TEAT: {record['settings']['num_examples']:,} examples.",
    ]
    consequence = "The ratios of single rounds suffer most"
    return sentences + report.busy_notes(record, "methods", consequence)
