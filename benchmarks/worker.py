"""The process of a variant: builds its work and takes steps when asked.

start(variant, threads, log_path)    once, before anything is imported
answer("build"), answer("step"), answer("facts")
"""

import importlib
import math
import os
import re
import sys
import time
import traceback
from pathlib import Path

from apps import memory


def environment(backend, threads):
    """Return the environment variables that a process needs."""
    return {
        # oneDNN is off by default on processors without AVX512-VNNI, where
        # it still makes convolutions about twice as fast.
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": backend,
        # The comparison is one of processors.
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "KERAS_TORCH_DEVICE": "cpu",
        # A first step compiles, whatever earlier processes left behind.
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def start(variant, threads, log_path):
    """Prepare the process; what it prints goes to a log."""
    global _worker
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(environment(variant.backend, threads))
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.pop(name, None)
    memory.keep_freed_memory()
    if hasattr(os, "sched_setaffinity"):
        # The one setting that XLA's thread pool follows too.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    _worker = Worker(variant, threads)


def answer(request):
    """Call a method of the worker and return what it returns."""
    try:
        return getattr(_worker, request)()
    except Exception as error:
        traceback.print_exc()
        # The parent could not read an exception of a framework.
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


class Worker:
    """The work of a variant."""

    def __init__(self, variant, threads):
        self._variant, self._threads, self._work = variant, threads, None

    def build(self):
        """Import everything and make the work ready; return the seconds."""
        variant = self._variant
        _limit_threads(variant.backend, self._threads)
        # This package is imported already; keras_neokd is that of a checkout.
        checkout = str(variant.checkout)
        sys.path.insert(0, checkout)
        module, _, name = variant.work.partition(".")
        module = importlib.import_module(f"benchmarks.work.{module}")
        library = sys.modules.get("keras_neokd")
        if library and not Path(library.__file__).is_relative_to(checkout):
            raise ImportError(
                f"keras_neokd came from {library.__file__}, expected one in "
                f"{checkout}."
            )
        started = time.perf_counter()
        self._work = getattr(module, name)(**variant.settings, **variant.newer)
        return {"seconds": time.perf_counter() - started}

    def step(self):
        """Take a step; return its seconds and its result, numbers."""
        started = time.perf_counter()
        result = [float(each) for each in self._work.step()]
        seconds = time.perf_counter() - started
        if not all(map(math.isfinite, result)):
            raise FloatingPointError(
                f"The result is {result}: the step does not do its work."
            )
        return {"seconds": seconds, "result": result}

    def facts(self):
        """Return peak memory and, where known, what a step is made of.

        That is its multiply-adds, its number of images, and the seconds of
        every image since the first step.
        """
        status = Path("/proc/self/status")
        peak = status.exists() and re.search(
            r"VmHWM:\s+(\d+)", status.read_text()
        )
        return {
            "peak_megabytes": int(peak[1]) / 1024 if peak else None,
            "multiply_adds": getattr(self._work, "multiply_adds", None),
            "num_images": getattr(self._work, "num_images", None),
            "image_seconds": getattr(self._work, "image_seconds", None),
        }


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
