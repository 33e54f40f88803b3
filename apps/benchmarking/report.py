"""What the benchmark leaves behind: JSON record, table, plot."""

import json
import platform

from rich import box
from rich.console import Console
from rich.table import Table

from apps.benchmarking import computer
from apps.benchmarking import processes
from keras_neokd import writing

# Environment variables that decide about speed.
_RECORDED = ("TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "OMP_WAIT_POLICY")


def environment(settings):
    """Describe the computer as a dictionary of JSON values."""
    variables = processes.environment("tensorflow", settings.num_threads)
    return {
        "platform": platform.platform(),
        "processor": computer.processor_name(),
        "python": platform.python_version(),
        "available_cores": computer.available_cores(),
        "threads": settings.num_threads,
        "variables": {
            name: variables[name] for name in _RECORDED if name in variables
        },
    }


def new_record(settings, **more):
    """Return a record without results.

    Args:
        settings: a `BaseSettings`.
        **more: further entries.
    """
    return {
        "schema_version": 1,
        "settings": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(settings).items()
        },
        "environment": environment(settings),
        **more,
        "results": [],
    }


def new_table(title, markdown):
    """Return a rich table without columns.

    Args:
        title: what stands above it; Markdown has no place for it.
        markdown: whether to draw the table as Markdown.
    """
    return Table(
        title=None if markdown else title,
        box=box.MARKDOWN if markdown else box.SIMPLE_HEAD,
    )


def save_figure(path, size, draw):
    """Draw a figure into a file.

    Args:
        path: PNG file to write.
        size: width and height in inches.
        draw: function that draws into a `matplotlib.figure.Figure`.

    Returns:
        Whether it was drawn; that needs Matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    with writing.replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=150)
    return True


def write_tables(tables, path):
    """Write tables that are drawn as Markdown."""
    # Wider than any table: Markdown has no cells of several lines.
    wide, texts = Console(width=1000), []
    for table in tables:
        with wide.capture() as capture:
            wide.print(table)
        texts.append(capture.get().strip())
    writing.write_text(path, "\n\n".join(texts) + "\n")


def write_record(record, path):
    """Write the record as JSON."""
    writing.write_text(path, json.dumps(record, indent=2) + "\n")


# More of the processor than this, taken by other programs, moves the ratios.
_QUIET_SHARE = 0.03
_COLUMNS = (
    "images/s",
    "ms/step",
    "min",
    "max",
    "vs eager PyTorch",
    "first step, s",
    "build, s",
    "peak, MB",
    "of conv. peak",
    "operations traced",
)


def build_tables(record, markdown=False):
    """Return a list of one rich table of all results.

    Args:
        record: dictionary of `apps.benchmark`.
        markdown: whether to draw the table as Markdown.
    """
    settings = record["settings"]
    title = (
        f"One NEO-KD training step, batch {settings['batch_size']}, "
        f"PGD-{settings['attack_steps']}, "
        f"{record['environment']['threads']} threads, "
        f"median of {settings['steps']}"
    )
    table = new_table(title, markdown)
    table.add_column("model, attack")
    table.add_column("contestant", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for result in record["results"]:
        heading = f"{result['model']}, {result['attack']}"
        for contestant in result["contestants"]:
            is_baseline = contestant["name"] == result["baseline"]
            table.add_row(heading, *_row(contestant, is_baseline))
            heading = heading if markdown else ""
        table.add_section()
    return [table]


def _row(contestant, is_baseline):
    milliseconds = contestant["milliseconds"]
    growth = contestant["growth"]
    return (
        contestant["label"],
        f"{contestant['images_per_second']:,.1f}",
        f"{milliseconds['median']:,.0f}",
        f"{milliseconds['min']:,.0f}",
        f"{milliseconds['max']:,.0f}",
        _speedup(contestant["speedup"], is_baseline),
        f"{contestant['first_step_seconds']:.1f}",
        f"{contestant['construction_seconds']:.1f}",
        f"{contestant['peak_megabytes']:,.0f}",
        _share(contestant["convolution_share"]),
        "-" if growth is None else _operations(growth),
    )


def _share(share):
    return "-" if share is None else f"{share:.0%}"


def _speedup(speedup, is_baseline):
    if speedup is None:
        return "-"
    if is_baseline:
        return "1 (baseline)"
    return (
        f"{speedup['median']:.2f} "
        f"({speedup['min']:.2f} to {speedup['max']:.2f})"
    )


def _operations(growth):
    if not any(growth["operations"]):
        return "none (eager)"
    return " / ".join(f"{operations:,}" for operations in growth["operations"])


def notes(record):
    """Return the sentences that belong under the table."""
    sentences = [
        "vs eager PyTorch: time of its faster memory format, whole network "
        "per exit, over own time, in pairs of the same round: median "
        "(minimum to maximum). More than 1 is faster.",
        "first step: from the built model to the end of its first step, "
        "compilation included; build: model and optimizer.",
    ]
    rates = {
        result["convolution_rate"]
        for result in record["results"]
        if result["convolution_rate"]
    }
    if rates:
        sentences.append(
            "of conv. peak: the least time for the multiply-adds of a step, "
            "at the rate of the fastest single convolution measured beside it "
            f"({2e-9 * min(rates):,.0f} to {2e-9 * max(rates):,.0f} GFLOP/s), "
            "relative to the time taken."
        )
    if record["settings"]["check_growth"]:
        sentences.append(
            "operations traced: for an attack of 2 / of 20 steps; equal "
            "numbers mean that longer attacks take no longer to compile."
        )
    consequence = "Eager PyTorch loses most by that, so the ratios are too good"
    return sentences + busy_notes(record, "contestants", consequence)


def busy_notes(record, key, consequence):
    """Return a sentence if the computer was busy, in a list.

    Args:
        record: dictionary with `results`.
        key: of a result's list of measurements.
        consequence: what that does to the figures.
    """
    shares = [
        each["others_share"]
        for result in record["results"]
        for each in result[key]
        if each["others_share"] is not None
    ]
    if not shares or max(shares) <= _QUIET_SHARE:
        return []
    return [
        f"NOT QUIET: other programs took up to {max(shares):.0%} of the "
        "processor during a contestant's steps. "
        f"{consequence}; measure again."
    ]


def plot(record, path):
    """Draw images per second of every contestant.

    Args:
        record: dictionary of `apps.benchmark`.
        path: PNG file to write.

    Returns:
        Whether the plot was drawn; it needs Matplotlib.
    """
    results = [each for each in record["results"] if each["contestants"]]
    if not results:
        return False

    def draw(figure):
        axes = figure.subplots(len(results), squeeze=False)[:, 0]
        batch_size = record["settings"]["batch_size"]
        for axis, result in zip(axes, results, strict=True):
            _draw(axis, result, batch_size)
        axes[-1].set_xlabel("images per second (line: slowest to fastest step)")

    return save_figure(path, (8, 2.6 * len(results)), draw)


def _draw(axis, result, batch_size):
    # The first contestant goes to the top.
    contestants = result["contestants"][::-1]
    rates = [each["images_per_second"] for each in contestants]
    times = [each["milliseconds"] for each in contestants]
    slowest = [1000 * batch_size / each["max"] for each in times]
    fastest = [1000 * batch_size / each["min"] for each in times]
    axis.barh(
        [each["label"] for each in contestants],
        rates,
        color=[
            "tab:gray" if each["name"].startswith("eager") else "tab:blue"
            for each in contestants
        ],
        xerr=[
            [rate - low for rate, low in zip(rates, slowest, strict=True)],
            [high - rate for rate, high in zip(rates, fastest, strict=True)],
        ],
    )
    axis.set_title(f"{result['model']}, {result['attack']}", fontsize=10)
