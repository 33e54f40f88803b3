"""Measure the variants of a scenario, one at a time, round after round.

Each takes a process of its own through the same stages:

    import and build -> first step -> warm-up -> one timed step per round

Timed steps alternate, so that whatever else the computer does slows all of them
alike. Every second round has an order that is drawn, the next one the reverse
of it, so that none always follows the same other and inherits its caches and
clock speed.
"""

import contextlib
import dataclasses
import random
import time

from benchmarks import computer
from benchmarks import processes

# The threads of some OpenMP libraries go on spinning for 0.2 s after their
# work. OMP_WAIT_POLICY=PASSIVE would stop that, but slow PyTorch down by a
# few per cent and so favour the others: hence a pause before every step.
PAUSE_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Plan:
    """How often each variant is measured, the same for all.

    Attributes:
        rounds: timed steps, >= 1.
        warmup: untimed steps after the first, >= 0.
        starts: processes whose first step is timed, >= 1; the last of them
            goes on with the other steps.
        threads: threads of each process; 0 for one per available core.

    Raises:
        ValueError: if a number is out of range.
    """

    rounds: int = 10
    warmup: int = 2
    starts: int = 1
    threads: int = 0

    def __post_init__(self):
        cores = computer.available_cores()
        for name, least, most in (
            ("rounds", 1, None),
            ("warmup", 0, None),
            ("starts", 1, None),
            ("threads", 0, cores),
        ):
            value = getattr(self, name)
            if value < least or most is not None and value > most:
                limit = "" if most is None else f" and <= {most}"
                raise ValueError(
                    f"`{name}` needs an integer >= {least}{limit}, received "
                    f"{value}."
                )
        object.__setattr__(self, "threads", self.threads or cores)


class Run:
    """What one variant has shown.

    Attributes:
        variant: `scenario.Variant`.
        builds, starts, steps: answers of its process to `"build"`, to the
            first `"step"` and to the timed ones, lists.
        facts: answer to `"facts"`.
        peak_bytes: peak memory of the process.
    """

    def __init__(self, variant):
        self.variant = variant
        self.builds, self.starts, self.steps = [], [], []
        self.facts, self.peak_bytes = {}, None


class Measurement:
    """A scenario that is measured.

    Args:
        scenario: `scenario.Scenario`.
        plan: `Plan`.
        folder: existing folder for the logs of the processes.
        say: function that shows a line of text.

    Attributes:
        runs: list of `Run`, of those that took every step.
        left_out: list of dictionaries `variant`, `reason` (a sentence) and
            `is_error` (False if only a package is missing).
    """

    def __init__(self, scenario, plan, folder, say):
        self.scenario, self.plan = scenario, plan
        self.runs, self.left_out = [], []
        self._folder, self._say = folder, say
        self._random, self._drawn = random.Random(0), []

    def measure(self):
        """Measure everything; fills `runs` and `left_out`, returns itself."""
        plan = self.plan
        present = []
        for variant in self.scenario.variants:
            missing = " and ".join(variant.missing())
            if missing:
                reason = f"because {missing} is not installed."
                self._leave_out(variant, reason, is_error=False)
            else:
                present.append(variant)
        with contextlib.ExitStack() as stack:
            processes_of = {Run(each): None for each in present}
            for number in range(plan.starts):
                self._each(self._close, processes_of)
                self._each(self._start, processes_of, stack)
                self._say_times("start", number, plan.starts, processes_of)
            self._each(self._warm_up, processes_of)
            self._drawn = []
            for number in range(plan.rounds):
                self._each(self._time, processes_of)
                self._say_times("round", number, plan.rounds, processes_of)
            self._each(self._finish, processes_of)
        self.runs = list(processes_of)
        return self

    def _each(self, action, processes_of, *arguments):
        """Act for each run in turn; forget those that fail."""
        if self._drawn:
            order, self._drawn = self._drawn[::-1], []
        else:
            self._drawn = order = list(processes_of)
            self._random.shuffle(order)
        for run in filter(processes_of.__contains__, order):
            try:
                processes_of[run] = action(run, processes_of[run], *arguments)
            except processes.WorkerError as error:
                self._leave_out(run.variant, str(error), is_error=True)
                del processes_of[run]

    def _leave_out(self, variant, reason, is_error):
        reason = f"Left out: {variant.name} of {self.scenario.name}, {reason}"
        self.left_out.append(
            {"variant": variant.name, "reason": reason, "is_error": is_error}
        )
        self._say(f"  {reason}")

    def _say_times(self, stage, number, count, runs):
        times = ", ".join(
            f"{run.variant.name} "
            f"{1000 * (run.steps or run.starts)[-1]['seconds']:,.0f}"
            for run in runs
        )
        if times:
            self._say(f"  {stage} {number + 1}/{count}, ms: {times}")

    def _close(self, run, process):
        if process is not None:
            process.close()

    def _start(self, run, _, stack):
        variant = run.variant
        name = f"{self.scenario.name}-{variant.name}.log"
        for character in " ,/":
            name = name.replace(character, "_")
        process = stack.enter_context(
            processes.Process(variant, self.plan.threads, self._folder / name)
        )
        run.builds.append(process.ask("build"))
        run.starts.append(process.ask("step"))
        return process

    def _warm_up(self, run, process):
        for _ in range(self.plan.warmup):
            process.ask("step")
        return process

    def _time(self, run, process):
        time.sleep(PAUSE_SECONDS)
        before = computer.processor_times()
        answer = process.ask("step")
        after = computer.processor_times()
        if before is not None:
            busy, available = (
                late - early for early, late in zip(before, after, strict=True)
            )
            answer["others_seconds"] = busy - answer["processor_seconds"]
            answer["available_seconds"] = available
        run.steps.append(answer)
        return process

    def _finish(self, run, process):
        run.peak_bytes = process.ask("memory")["peak_bytes"]
        run.facts = process.ask("facts")
        return process
