"""The step as it is and without each optimisation, measured in turn."""

import functools

from apps.benchmarking import processes
from apps.benchmarking import program
from apps.benchmarking import summary
from apps.benchmarking.rounds import Turns


class OptimisationComparison(Turns):
    """The step on one backend, as it is and without each optimisation.

    Args:
        model: name of the network.
        backend: a key of `BACKENDS`.
        settings: `OptimisationSettings`.
        folder: existing folder for the logs of the processes.
        say: function that shows a line of text.

    Attributes:
        runs, left_out: as in `Turns`.
    """

    def __init__(self, model, backend, settings, folder, say):
        super().__init__(settings, say)
        self.model, self.backend, self._folder = model, backend, folder

    def measure(self):
        """Measure everything; fills `runs` and `left_out`."""
        if not self._has_framework(self.backend):
            return self
        self.take(
            self.settings.contestants(self.model, self.backend),
            lambda variant: processes.start(
                variant,
                self.model,
                "max_average",
                self.settings,
                self._folder,
                without=variant.without,
            ),
        )
        return self


def run(settings, workdir, console):
    """Measure and write the record.

    Args:
        settings: `OptimisationSettings`.
        workdir: existing folder, a `Path`.
        console: `program.Console` for progress.

    Returns:
        The record, a dictionary.
    """
    comparisons = {
        f"{model}, {backend}": functools.partial(
            OptimisationComparison, model, backend
        )
        for model in settings.models
        for backend in settings.backends
    }
    return program.measure(
        settings,
        workdir,
        console,
        comparisons,
        summary.summarise_optimisations,
    )
