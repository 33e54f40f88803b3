"""Table and plot of what each optimisation brings."""

from apps.benchmarking import report
from apps.benchmarking.contestants import FRAMEWORK_NAMES
from apps.benchmarking.optimisations import OPTIMISATIONS

_COLUMNS = (
    "before, ms",
    "after, ms",
    "before / after",
    "first step before, s",
    "first step after, s",
)


def build_tables(record, markdown=False):
    """Return a list of one table: a row per optimisation, backend, model.

    Args:
        record: dictionary of `apps.benchmark_optimisations`.
        markdown: whether to draw the table as Markdown.
    """
    settings = record["settings"]
    title = (
        "One NEO-KD training step, max-average attack, batch "
        f"{settings['batch_size']}, PGD-{settings['attack_steps']}, "
        f"{record['environment']['threads']} threads, "
        f"median of {settings['steps']}"
    )
    table = report.new_table(title, markdown)
    for heading in ("model", "backend", "before", "after"):
        table.add_column(heading)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for result in record["results"]:
        for plainer in _plainer(result):
            table.add_row(
                result["model"],
                FRAMEWORK_NAMES[result["backend"]],
                *_row(plainer, result["variants"][0]),
            )
        table.add_section()
    return [table]


def _plainer(result):
    """Return the variants that can be compared with the step as it is."""
    return [
        each
        for each in result["variants"]
        if each["without"] is not None and each["gain"] is not None
    ]


def _row(plainer, whole):
    optimisation = OPTIMISATIONS[plainer["without"]]
    gain = plainer["gain"]
    return (
        optimisation.before,
        optimisation.after,
        f"{plainer['milliseconds']['median']:,.0f}",
        f"{whole['milliseconds']['median']:,.0f}",
        f"{gain['median']:.2f} ({gain['min']:.2f} to {gain['max']:.2f})",
        f"{plainer['first_step_seconds']:.1f}",
        f"{whole['first_step_seconds']:.1f}",
    )


def notes(record):
    """Return the sentences that belong under the table."""
    sentences = [
        "before: the step as it is but for this one optimisation; after: the "
        "step as it is. before / after: in pairs of the same round, median "
        "(minimum to maximum); more than 1 is gained.",
    ]
    consequence = "The smallest gains mean nothing then"
    return sentences + report.busy_notes(record, "variants", consequence)


def plot(record, path):
    """Draw the gain of every optimisation.

    Args:
        record: dictionary of `apps.benchmark_optimisations`.
        path: PNG file to write.

    Returns:
        Whether the plot was drawn; it needs Matplotlib.
    """
    results = [each for each in record["results"] if _plainer(each)]
    if not results:
        return False

    def draw(figure):
        panels = figure.subplots(len(results), sharex=True, squeeze=False)[:, 0]
        for panel, result in zip(panels, results, strict=True):
            _draw(panel, result)
        panels[-1].set_xlabel("time without it, relative to time with it")

    return report.save_figure(path, (8, 1.8 * len(results)), draw)


def _draw(panel, result):
    # The first one goes to the top.
    plainer = _plainer(result)[::-1]
    panel.barh(
        [each["without"] for each in plainer],
        [each["gain"]["median"] for each in plainer],
    )
    panel.axvline(1, color="black", linewidth=0.8)
    backend = FRAMEWORK_NAMES[result["backend"]]
    panel.set_title(f"{result['model']}, {backend}", fontsize=10)
