"""Program of a variant's process: build, then one step per request.

    python -m benchmarks.worker '{"backend": "jax", "work": ...}'

reads a request per line and answers each with a line of JSON:

    build    make the work ready: its seconds, versions of packages
    step     one step: its seconds, processor seconds, result (numbers)
    facts    what the work knows of itself, such as its multiply-adds
    memory   peak of the memory so far, in bytes

What a framework prints goes to the log, not between the answers.
"""

import importlib
import json
import math
import os
import sys
import time
from pathlib import Path


class Worker:
    """Answers the requests of the parent.

    Args:
        spec: dictionary with `backend`, `threads`, `checkout`, `work`,
            `settings` and `packages`, see `scenario.Variant`.
    """

    def __init__(self, spec):
        self._spec = spec
        self._work = None
        _limit_threads(spec["backend"], spec["threads"])
        module, _, self._class = spec["work"].partition(".")
        # This package is imported already; keras_neokd is that of a checkout.
        sys.path.insert(0, spec["checkout"])
        self._module = importlib.import_module(f"benchmarks.work.{module}")
        library = sys.modules.get("keras_neokd")
        if library and not Path(library.__file__).is_relative_to(
            spec["checkout"]
        ):
            raise ImportError(
                f"keras_neokd came from {library.__file__}, expected one in "
                f"{spec['checkout']}."
            )

    def answer(self, request):
        """Do what a request says and return a dictionary."""
        return getattr(self, f"_{request}")()

    def _build(self):
        started = time.perf_counter()
        work = getattr(self._module, self._class)
        self._work = work(**self._spec["settings"])
        seconds = time.perf_counter() - started
        names = ("keras", self._spec["backend"], *self._spec["packages"])
        return {
            "seconds": seconds,
            "versions": {
                name: str(getattr(sys.modules[name], "__version__", "unknown"))
                for name in names
                if name in sys.modules
            },
        }

    def _step(self):
        processor, started = time.process_time(), time.perf_counter()
        result = [float(each) for each in self._work.step()]
        seconds = time.perf_counter() - started
        if not all(map(math.isfinite, result)):
            raise FloatingPointError(
                f"The result is {result}: the step does not do its work."
            )
        return {
            "seconds": seconds,
            "processor_seconds": time.process_time() - processor,
            "result": result,
        }

    def _facts(self):
        return self._work.facts()

    def _memory(self):
        return {"peak_bytes": _peak_bytes()}


def _limit_threads(backend, threads):
    """Set the number of threads; JAX follows the cores of the process."""
    if backend == "tensorflow":
        # It takes no settings once it has started.
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    elif backend == "torch":
        import torch

        torch.set_num_threads(threads)


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
