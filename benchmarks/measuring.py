"""Measure the variants of a scenario, one at a time, round after round.

Each takes a process of its own through the same phases:

    import and build -> first step -> warm-up -> one timed step per round

Timed steps alternate, so that whatever else the computer does slows all of them
alike. Every second round has an order that is drawn, the next one the reverse
of it, so that none always follows the same other and inherits its caches and
clock speed.
"""

import concurrent.futures
import multiprocessing
import random
import time

from benchmarks import worker

# The threads of some OpenMP libraries go on spinning for 0.2 s after their
# work. OMP_WAIT_POLICY=PASSIVE would stop that, but slow PyTorch down by a
# few per cent and so favour the others: hence a pause before every step.
PAUSE_SECONDS = 0.25


class WorkerError(Exception):
    """A process failed; says why and where to look."""


class Process:
    """The process of a variant, and its answers.

    Attributes:
        variant: `scenario.Variant`.
        builds, starts, steps: answers to `"build"`, to the first `"step"` and
            to the timed ones, lists.
        facts: answer to `"facts"`.
    """

    def __init__(self, variant, threads, log_path):
        self.variant = variant
        self.builds, self.starts, self.steps, self.facts = [], [], [], {}
        self._threads, self._log_path, self._pool = threads, log_path, None

    def start(self):
        """Take the first step in a new process."""
        self.close()
        self._log_path.unlink(missing_ok=True)  # It could be a link.
        self._log_path.touch()
        self._pool = concurrent.futures.ProcessPoolExecutor(
            1,
            multiprocessing.get_context("spawn"),
            worker.start,
            (self.variant, self._threads, self._log_path),
        )
        self.builds.append(self.ask("build"))
        self.starts.append(self.ask("step"))

    def step(self):
        """Take a timed step."""
        time.sleep(PAUSE_SECONDS)
        self.steps.append(self.ask("step"))

    def finish(self):
        """Ask for the facts."""
        self.facts = self.ask("facts")

    def ask(self, request):
        """Return the worker's answer to a request.

        Raises:
            WorkerError: if the process failed instead.
        """
        try:
            return self._pool.submit(worker.answer, request).result()
        except (RuntimeError, concurrent.futures.BrokenExecutor) as error:
            raise WorkerError(
                f"because {error} (more in {self._log_path})."
            ) from None

    def close(self):
        """End the process, if there is one."""
        if self._pool is not None:
            self._pool.shutdown()


class Measurement:
    """A scenario that is measured.

    Args:
        scenario: `scenario.Scenario`.
        options: the flags `rounds`, `warmup`, `starts` and `threads`.
        folder: existing folder for the logs of the processes.

    Attributes:
        processes: list of `Process`, of those that took every step.
        left_out: list of dictionaries `variant`, `reason` (a sentence) and
            `is_error` (False if only a package is missing).
    """

    def __init__(self, scenario, options, folder):
        self.scenario, self.options = scenario, options
        self.processes, self.left_out = [], []
        self._random, self._drawn = random.Random(0), []
        for variant in scenario.variants:
            missing = " and ".join(variant.missing())
            if missing:
                self._leave_out(variant, f"because {missing} is not installed.")
                continue
            name = f"{scenario.name}-{variant.name}.log"
            for character in " ,/":
                name = name.replace(character, "_")
            self.processes.append(
                Process(
                    variant, variant.threads or options.threads, folder / name
                )
            )

    def measure(self):
        """Fill `processes` and `left_out` by measuring; return itself."""
        options, begun = self.options, list(self.processes)
        try:
            for _ in range(options.starts):
                self._each(Process.start, "starts")
            for _ in range(options.warmup):
                self._each(lambda process: process.ask("step"))
            self._drawn = []
            for _ in range(options.rounds):
                self._each(Process.step, "steps")
            self._each(Process.finish)
        finally:
            for process in begun:
                process.close()
        return self

    def _each(self, action, phase=None):
        """Act for each process in turn, drop those that fail, print times."""
        if self._drawn:
            order, self._drawn = self._drawn[::-1], []
        else:
            self._drawn = order = list(self.processes)
            self._random.shuffle(order)
        for process in filter(self.processes.__contains__, order):
            try:
                action(process)
            except WorkerError as error:
                self.processes.remove(process)
                self._leave_out(process.variant, str(error), is_error=True)
        if phase is not None:
            times = [
                f"{process.variant.name} "
                f"{1000 * getattr(process, phase)[-1]['seconds']:,.0f}"
                for process in self.processes
            ]
            print(f"  {phase}, ms: {', '.join(times)}", flush=True)

    def _leave_out(self, variant, reason, is_error=False):
        reason = f"Left out: {variant.name} of {self.scenario.name}, {reason}"
        self.left_out.append(
            {"variant": variant.name, "reason": reason, "is_error": is_error}
        )
        print(f"  {reason}", flush=True)
