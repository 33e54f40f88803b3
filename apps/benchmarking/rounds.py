"""Who works when: one contestant at a time, round after round.

Each takes its own process through the same stages:

    import and build -> first step -> warm-up -> one timed step per round

Timed steps alternate, so that whatever else the computer does slows all of them
alike. Every round has an order of its own, so that none always follows the same
other, whose heat and memory it would inherit. Training methods on one backend
share a process: a dozen of their own would not fit into memory.
"""

import contextlib
import dataclasses
import functools
import random
import time
import types

from apps.benchmarking import attackers
from apps.benchmarking import computer
from apps.benchmarking import processes
from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.contestants import is_installed
from apps.benchmarking.contestants import missing_sentence
from apps.benchmarking.contestants import takes_part

# The threads of some OpenMP libraries go on spinning for 0.2 s after their
# work. OMP_WAIT_POLICY=PASSIVE would stop that, but slow PyTorch down by a
# few per cent and so favour the others: hence a pause before every turn.
_PAUSE_SECONDS = 0.25
GROWTH_STEPS = (2, 20)


class Run:
    """What one contestant has shown so far.

    Attributes:
        contestant: `Contestant`.
        build: answer of its process to `"build"`.
        first: answer to the first `"step"`.
        steps: answers to the timed steps.
        peak_bytes: peak memory of the process.
        multiply_adds: what a step needs for an image; `None` if not asked.
        convolution_rate: multiply-adds per second of its framework's best
            convolution; `None` if not asked.
        growth: answer to `"trace"` by number of attack steps.
    """

    def __init__(self, contestant):
        self.contestant = contestant
        self.build, self.first = None, None
        self.steps, self.growth = [], {}
        self.peak_bytes = None
        self.multiply_adds, self.convolution_rate = None, None


class Turns:
    """Contestants that take their steps in turn.

    Args:
        settings: object with `steps` and `warmup`.
        say: function that shows a line of text.

    Attributes:
        runs: list of `Run`, of those who took every step.
        left_out: list of dictionaries `name`, `reason` (a sentence),
            `is_error` (False if only a framework is missing).
    """

    def __init__(self, settings, say):
        self.settings, self._say = settings, say
        self.runs, self.left_out = [], []

    def take(self, contestants, start):
        """Measure all steps; fills `runs`.

        Args:
            contestants: list of `Contestant`.
            start: function from a `Contestant` to a context manager with
                the worker that answers for it.
        """
        with contextlib.ExitStack() as stack:
            workers = {}
            for contestant in contestants:
                run = Run(contestant)
                worker = stack.enter_context(start(contestant))
                if self._attempt(self._prepare, run, worker):
                    workers[run] = worker
            self._take_turns(workers)
        self.runs = list(workers)

    def _leave_out(self, contestant, sentence, is_error):
        self.left_out.append(
            {
                "name": contestant.name,
                "reason": sentence,
                "is_error": is_error,
            }
        )
        self._say(f"  {sentence}")

    def _has_framework(self, backend):
        """Say whether a backend's framework is there; else leave it out."""
        program = BACKENDS[backend]
        if is_installed(program.framework):
            return True
        self._leave_out(program, missing_sentence(program), False)
        return False

    def _attempt(self, action, run, *arguments):
        try:
            action(run, *arguments)
        except processes.WorkerError as error:
            self._leave_out(run.contestant, str(error), True)
            return False
        return True

    def _prepare(self, run, worker):
        run.build = worker.ask("build")
        run.first = worker.ask("step")
        for _ in range(self.settings.warmup):
            worker.ask("step")
        self._say(
            f"  {run.contestant.label}: built in "
            f"{run.build['construction_seconds']:.1f} s, first step after "
            f"another {run.first['seconds']:.1f} s"
        )

    def _take_turns(self, workers):
        generator = random.Random(0)
        for number in range(1, self.settings.steps + 1):
            order = list(workers.items())
            generator.shuffle(order)
            for run, worker in order:
                time.sleep(_PAUSE_SECONDS)
                if not self._attempt(self._timed_step, run, worker):
                    del workers[run]
            times = ", ".join(
                f"{1000 * run.steps[-1]['seconds']:,.0f}" for run in workers
            )
            self._say(f"  round {number}/{self.settings.steps}: {times} ms")
        for run, worker in workers.items():
            self._finish(run, worker)

    def _finish(self, run, worker):
        run.peak_bytes = worker.ask("memory")["peak_bytes"]

    def _timed_step(self, run, worker):
        before = computer.processor_times()
        answer = worker.ask("step")
        after = computer.processor_times()
        if before is not None:
            busy, available = (
                late - early for early, late in zip(before, after, strict=True)
            )
            answer["others_seconds"] = busy - answer["processor_seconds"]
            answer["available_seconds"] = available
        run.steps.append(answer)


class Comparison(Turns):
    """One network under one attack, measured for all contestants.

    Args:
        model: name of the network.
        attack: name of the attack.
        settings: `Settings`.
        folder: existing folder for the logs of the processes.
        say: function that shows a line of text.

    Attributes:
        runs, left_out: as in `Turns`.
    """

    def __init__(self, model, attack, settings, folder, say):
        super().__init__(settings, say)
        self.model, self.attack = model, attack
        self._folder = folder

    def measure(self):
        """Measure everything; fills `runs` and `left_out`."""
        contestants, missing = takes_part(self.settings, self.attack)
        for contestant in missing:
            self._leave_out(contestant, missing_sentence(contestant), False)
        self.take(
            contestants,
            lambda contestant: self._start(contestant, self.settings),
        )
        if self.settings.check_growth:
            for run in self.runs:
                if run.contestant.name in BACKENDS:
                    self._attempt(self._count_operations, run)
        return self

    def _finish(self, run, worker):
        super()._finish(run, worker)
        run.convolution_rate = worker.ask("convolve")["rate"]
        if run.contestant.name in BACKENDS:
            run.multiply_adds = worker.ask("arithmetic")["multiply_adds"]

    def _start(self, contestant, settings):
        return processes.start(
            contestant, self.model, self.attack, settings, self._folder
        )

    def _count_operations(self, run):
        for attack_steps in GROWTH_STEPS:
            # Tracing is the same for every batch size.
            settings = dataclasses.replace(
                self.settings, attack_steps=attack_steps, batch_size=8
            )
            with self._start(run.contestant, settings) as worker:
                worker.ask("build")
                run.growth[attack_steps] = worker.ask("trace")
        counts = [answer["operations"] for answer in run.growth.values()]
        self._say(
            f"  {run.contestant.label}: {counts[0]:,} operations traced for "
            f"{GROWTH_STEPS[0]} attack steps, {counts[1]:,} for "
            f"{GROWTH_STEPS[1]}"
        )


class AttackComparison(Turns):
    """One attack on one model, measured for all who know it.

    Args:
        attack: a name out of `attackers.ATTACKS`.
        settings: `AttackSettings`.
        folder: existing folder for the logs of the processes.
        say: function that shows a line of text.

    Attributes:
        runs, left_out: as in `Turns`.
    """

    def __init__(self, attack, settings, folder, say):
        super().__init__(settings, say)
        self.attack, self._folder = attack, folder

    def measure(self):
        """Measure everything; fills `runs` and `left_out`."""
        present, missing = self.settings.takes_part(self.attack)
        for attacker in missing:
            sentence = attackers.missing_sentence(attacker)
            self._leave_out(attacker, sentence, False)
        self.take(
            present,
            lambda attacker: processes.start_attack(
                attacker, self.attack, self.settings, self._folder
            ),
        )
        return self


class MethodComparison(Turns):
    """All training methods on one backend, in one process.

    Args:
        backend: a key of `BACKENDS`.
        settings: `MethodSettings`.
        folder: existing folder for the log of the process.
        say: function that shows a line of text.

    Attributes:
        runs, left_out: as in `Turns`.
    """

    def __init__(self, backend, settings, folder, say):
        super().__init__(settings, say)
        self.backend, self._folder = backend, folder

    def measure(self):
        """Measure everything; fills `runs` and `left_out`."""
        if not self._has_framework(self.backend):
            return self
        settings = self.settings
        with processes.start(
            BACKENDS[self.backend],
            settings.model,
            settings.attack,
            settings,
            self._folder,
            settings.num_examples,
        ) as process:
            self.take(
                settings.contestants(self.backend),
                lambda contestant: _share(process, contestant),
            )
        return self


def _share(process, contestant):
    """Return what asks the process for one method; it does not end it."""
    ask = functools.partial(process.ask, method=contestant.name)
    return contextlib.nullcontext(types.SimpleNamespace(ask=ask))
