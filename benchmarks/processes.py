"""The parent's end of a variant's process.

with Process(variant, threads=2, log_path=path) as process:
    process.ask("build")
    seconds = process.ask("step")["seconds"]
"""

import contextlib
import json
import os
import subprocess
import sys

from benchmarks.scenario import ROOT


class WorkerError(Exception):
    """A process ended too early; says why and where to look."""


class Process:
    """A variant in a process of its own, which works only when asked.

    Args:
        variant: `scenario.Variant`.
        threads: number of threads.
        log_path: file for what the process prints; replaced if it exists.
    """

    def __init__(self, variant, threads, log_path):
        self._log_path = log_path
        spec = {
            "backend": variant.backend,
            "threads": threads,
            "checkout": str(variant.checkout),
            "work": variant.work,
            "settings": variant.settings,
            "packages": variant.packages,
        }
        log_path.unlink(missing_ok=True)  # It could be a link.
        with open(log_path, "x", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.worker"),
                    json.dumps(spec),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=environment(variant.backend, threads),
                text=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def ask(self, request):
        """Send a request of `worker`; return the answer, a dictionary.

        Raises:
            WorkerError: if the process ended instead.
        """
        try:
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        status = self._process.wait()
        lines = self._log_path.read_text("utf-8").strip().splitlines()
        last = lines[-1].strip() if lines else "nothing was printed"
        raise WorkerError(
            f"because its process ended with status {status}: {last} (all of "
            f"it in {self._log_path})."
        )

    def close(self):
        """End the process."""
        # A process that died with a request unread breaks the pipe.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(backend, threads):
    """Return the environment variables of a process.

    Args:
        backend: framework of the process.
        threads: number of threads.
    """
    variables = {
        # oneDNN is off by default on processors without AVX512-VNNI, where
        # it still makes convolutions about twice as fast.
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "KERAS_BACKEND": backend,
        # The comparison is one of processors.
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "KERAS_TORCH_DEVICE": "cpu",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        variables.pop(name, None)
    return variables
