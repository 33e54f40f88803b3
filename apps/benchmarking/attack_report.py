"""The table of a comparison of attacks."""

from apps.benchmarking import report
from apps.benchmarking.attackers import ATTACKERS
from apps.benchmarking.attackers import REFERENCES

_COLUMNS = (
    "robust, %",
    "images/s",
    "s",
    "min",
    "max",
    *(f"vs {ATTACKERS[name].label}" for name in REFERENCES),
    "first, s",
    "build, s",
    "peak, MB",
)


def build_tables(record, markdown=False):
    """Return a list of one rich table of all results.

    Args:
        record: dictionary of `apps.benchmark_attacks`.
        markdown: whether to draw the table as Markdown.
    """
    settings = record["settings"]
    title = (
        f"{settings['num_examples']} images, {settings['num_steps']} steps, "
        f"epsilon {settings['epsilon']:g}, batch {settings['batch_size']}, "
        f"{record['environment']['threads']} threads, "
        f"median of {settings['steps']}"
    )
    table = report.new_table(title, markdown)
    table.add_column("attack")
    table.add_column("attacker", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for result in record["results"]:
        heading = result["attack"]
        for attacker in result["attackers"]:
            table.add_row(heading, *_row(attacker))
            heading = heading if markdown else ""
        table.add_section()
    return [table]


def _row(attacker):
    seconds = {
        name: each / 1000 for name, each in attacker["milliseconds"].items()
    }
    return (
        attacker["label"],
        f"{100 * attacker['robust_accuracy']:.1f}",
        f"{attacker['images_per_second']:,.1f}",
        *(f"{seconds[name]:.2f}" for name in ("median", "min", "max")),
        *(_speedup(attacker, name) for name in REFERENCES),
        f"{attacker['first_step_seconds']:.1f}",
        f"{attacker['construction_seconds']:.1f}",
        f"{attacker['peak_megabytes']:,.0f}",
    )


def _speedup(attacker, reference):
    if attacker["name"] == reference:
        return "1 (unit)"
    speedup = attacker["speedup"].get(reference)
    if speedup is None:
        return "-"
    return (
        f"{speedup['median']:.2f} "
        f"({speedup['min']:.2f} to {speedup['max']:.2f})"
    )


def notes(record):
    """Return the sentences that belong under the table."""
    sentences = [
        "s: one evaluation of all images. vs: the other's time over one's own "
        "in the same round: median (minimum to maximum). More than 1 is "
        "faster.",
        "first: the first evaluation, compilation included; build: loading "
        "of model and images.",
    ]
    consequence = "The ratios of single rounds suffer most"
    return sentences + report.busy_notes(record, "attackers", consequence)
