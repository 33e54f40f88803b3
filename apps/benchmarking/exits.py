"""How the cost of a step grows with the number of exits."""

import dataclasses
import functools

from apps.benchmarking import processes
from apps.benchmarking import program
from apps.benchmarking import summary
from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.contestants import FRAMEWORK_NAMES
from apps.benchmarking.contestants import MINIMA
from apps.benchmarking.contestants import BaseSettings
from apps.benchmarking.rounds import Turns

ATTACK = "max_average"


@dataclasses.dataclass(frozen=True)
class Series:
    """Networks that differ in their number of exits, and how to train them.

    Attributes:
        model: a key of `WORKLOADS`, with more classes than exits, as EOKD
            needs.
        exits: numbers of exits.
        base: layers before the first exit.
        step: layers between exits.
        batch_size: images per training step.
        attack_steps: PGD steps.
    """

    model: str
    exits: tuple
    base: int
    step: int
    batch_size: int
    attack_steps: int


SERIES = {
    "paper": Series("msdnet_cifar10", (3, 5, 7), 4, 2, 128, 7),
    "many": Series("msdnet_cifar100", (5, 10, 20), 1, 1, 16, 2),
}


@dataclasses.dataclass(frozen=True)
class ExitSettings(BaseSettings):
    """What one run of the comparison does.

    Args:
        series: names, keys of `SERIES`.
        backends: names, keys of `BACKENDS`.
        steps: timed steps of every network, >= 1.
        warmup: untimed steps after the first, >= 0.
        threads: threads of every process; 0 for one per core.

    Raises:
        ValueError: if a name is unknown, a number out of range, or nothing
            is to be measured.
    """

    series: tuple = tuple(SERIES)
    backends: tuple = tuple(BACKENDS)
    steps: int = 10
    warmup: int = 2
    threads: int = 0

    def __post_init__(self):
        self.check_names("series", self.series, SERIES)
        self.check_names("backends", self.backends, BACKENDS)
        self.check_numbers(
            {name: MINIMA[name] for name in ("steps", "warmup", "threads")}
        )
        if not self.series or not self.backends:
            raise ValueError(
                "`series` and `backends` need at least one name each, "
                f"received {self.series} and {self.backends}."
            )


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a series on one backend.

    Attributes:
        framework: Keras' backend.
        num_exits: number of exits.
    """

    framework: str
    num_exits: int

    @property
    def name(self):
        """Key in the record, and in the name of the log."""
        return f"{self.framework}-{self.num_exits}"

    @property
    def label(self):
        """What messages show."""
        return f"{FRAMEWORK_NAMES[self.framework]}, {self.num_exits} exits"

    # What `processes.start` asks of a contestant.
    memory_format = None
    truncated = False


class ExitComparison(Turns):
    """The networks of one series on one backend, measured in turn.

    Args:
        series: a key of `SERIES`.
        backend: a key of `BACKENDS`.
        settings: `ExitSettings`.
        folder: existing folder for the logs of the processes.
        say: function that shows a line of text.

    Attributes:
        runs, left_out: as in `Turns`.
    """

    def __init__(self, series, backend, settings, folder, say):
        super().__init__(settings, say)
        self.series, self.backend, self._folder = series, backend, folder

    def measure(self):
        """Measure everything; fills `runs` and `left_out`."""
        if not self._has_framework(self.backend):
            return self
        networks = [
            Network(self.backend, count) for count in SERIES[self.series].exits
        ]
        self.take(networks, self._start)
        return self

    def _start(self, network):
        series = SERIES[self.series]
        return processes.start(
            network,
            series.model,
            ATTACK,
            _Workload(
                series.batch_size,
                series.attack_steps,
                self.settings.num_threads,
            ),
            self._folder,
            model_options={
                "num_blocks": network.num_exits,
                "base": series.base,
                "step": series.step,
            },
        )

    def _finish(self, run, worker):
        super()._finish(run, worker)
        run.multiply_adds = worker.ask("arithmetic")["multiply_adds"]


@dataclasses.dataclass(frozen=True)
class _Workload:
    """What `processes.start` reads of settings."""

    batch_size: int
    attack_steps: int
    num_threads: int


def run(settings, workdir, console):
    """Measure and write the record.

    Args:
        settings: `ExitSettings`.
        workdir: existing folder, a `Path`.
        console: `program.Console` for progress.

    Returns:
        The record, a dictionary.
    """
    comparisons = {
        f"{series}, {backend}": functools.partial(
            ExitComparison, series, backend
        )
        for series in settings.series
        for backend in settings.backends
    }
    return program.measure(
        settings, workdir, console, comparisons, summary.summarise_exits
    )
