"""Program of one contestant's process: build, then one step per request.

    python -m apps.benchmarking.worker '{"backend": "jax", ...}'

reads a request per line and answers each with a line of JSON:

    build    import, model and optimizer: their seconds, versions
    step     one training step, or one evaluation of an attack: its seconds,
             processor seconds, result (the loss, or the robust accuracy)
    trace    operations that the framework traces for a step, instead of a step
    memory   peak of the memory so far, in bytes
    arithmetic  multiply-adds that a step needs for an image
    convolve    the most multiply-adds per second of a single convolution

After the request comes the name of the training method, NEO-KD by default.
Several may share a process; if one of them fails, the answer is its `error`,
and the others go on.

What a framework prints goes to the log, not between the answers.
"""

import json
import math
import os
import sys
import time
import traceback
from pathlib import Path

from apps.benchmarking import attack_programs
from apps.benchmarking.steps import EagerStep
from apps.benchmarking.steps import KerasStep


def _peak_bytes():
    """Return the largest amount of memory this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count the parent's memory from before the exec.
        for line in status.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _program(spec):
    """Return the class that does what a spec asks for."""
    if "tool" in spec:
        return attack_programs.PROGRAMS[spec["tool"]]
    return KerasStep if spec["memory_format"] is None else EagerStep


class Worker:
    """Answers the requests of the parent.

    Args:
        spec: dictionary of `processes.start`.
    """

    def __init__(self, spec):
        self._spec = spec
        self._contestants = {}

    def answer(self, request):
        """Do what the request says and return a dictionary.

        Args:
            request: a line of text, see the top of this module.
        """
        action, _, method = request.partition(" ")
        act = getattr(self, f"_{action}")
        if not method:
            return act("neo_kd")
        try:
            return act(method)
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}"}

    def _build(self, method):
        started = time.perf_counter()
        contestant = _program(self._spec)({**self._spec, "method": method})
        imported = time.perf_counter()
        contestant.build()
        self._contestants[method] = contestant
        return {
            "import_seconds": imported - started,
            "construction_seconds": time.perf_counter() - imported,
            "versions": contestant.versions,
        }

    def _step(self, method):
        processor, started = time.process_time(), time.perf_counter()
        result = float(self._contestants[method].step())
        seconds = time.perf_counter() - started
        if not math.isfinite(result):
            raise FloatingPointError(
                f"The result is {result}: the step does not do its work."
            )
        return {
            "seconds": seconds,
            "processor_seconds": time.process_time() - processor,
            "result": result,
        }

    def _trace(self, method):
        started = time.perf_counter()
        operations = int(self._contestants[method].trace())
        return {
            "operations": operations,
            "seconds": time.perf_counter() - started,
        }

    def _arithmetic(self, method):
        return {"multiply_adds": self._contestants[method].arithmetic()}

    def _convolve(self, method):
        return {"rate": self._contestants[method].convolve()}

    def _memory(self, method):
        return {"peak_bytes": _peak_bytes()}


def main():
    """Answer requests until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    spec = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        # The one setting that XLA's thread pool follows too.
        cores = sorted(os.sched_getaffinity(0))[: spec["threads"]]
        os.sched_setaffinity(0, cores)
    worker = Worker(spec)
    for line in sys.stdin:
        print(json.dumps(worker.answer(line.strip())), file=answers, flush=True)


if __name__ == "__main__":
    main()
