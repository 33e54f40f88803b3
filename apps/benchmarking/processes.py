"""The parent's end of a contestant's process.

with processes.start(contestant, "small_cnn", "average", settings,
                     folder) as worker:
    worker.ask("build")
    seconds = worker.ask("step")["seconds"]
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from apps.benchmarking.contestants import WORKLOADS

_ROOT = Path(__file__).resolve().parents[2]


class WorkerError(Exception):
    """A contestant's process ended too early; says why and where to look."""


class WorkerProcess:
    """A contestant in a process of its own, which works only when asked.

    Args:
        label: name for messages.
        spec: dictionary of JSON values for `worker`.
        environment: environment variables.
        log_path: file for what the process prints.
    """

    def __init__(self, label, spec, environment, log_path):
        self._label = label
        self._log_path = log_path
        log_path.unlink(missing_ok=True)  # It could be a link.
        with open(log_path, "x", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "apps.benchmarking.worker",
                    json.dumps(spec),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def ask(self, request, method=None):
        """Send a request of `worker` and wait for the answer.

        Args:
            request: its name, see `worker`.
            method: which of several training methods in the process is
                meant. Defaults to the only one.

        Returns:
            Dictionary.

        Raises:
            WorkerError: if the process ended instead, or the one of several
                methods failed.
        """
        label = self._label
        if method is not None:
            label, request = f"{method}, {label}", f"{request} {method}"
        try:
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(self._why(label))
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(
                f"Left out: {label}, because it failed: {answer['error']} "
                f"(all of it in {self._log_path})."
            )
        return answer

    def _why(self, label):
        status = self._process.wait()
        lines = self._log_path.read_text("utf-8").strip().splitlines()
        last = lines[-1].strip() if lines else "nothing was printed"
        return (
            f"Left out: {label}, because its process ended with status "
            f"{status}: {last} (all of it in {self._log_path})."
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


def start(
    contestant,
    model,
    attack,
    settings,
    folder,
    num_examples=None,
    model_options=None,
    without=None,
):
    """Start the process of one contestant.

    Args:
        contestant: `Contestant`.
        model: name of the network.
        attack: name of the attack.
        settings: `Settings`.
        folder: existing folder for the log.
        num_examples: size of the data set, for methods that ask for it.
        model_options: arguments of the network's constructor.
        without: optimisation to take out, a key of `OPTIMISATIONS`.

    Returns:
        `WorkerProcess`, a context manager.
    """
    workload = dataclasses.asdict(WORKLOADS[model])
    spec = {
        **workload,
        "model": model,
        "attack": attack,
        "backend": contestant.framework,
        "memory_format": contestant.memory_format,
        "truncated": contestant.truncated,
        "batch_size": settings.batch_size,
        "attack_steps": settings.attack_steps,
        "threads": settings.num_threads,
        "num_examples": num_examples,
        "model_options": model_options or {},
        "without": without,
    }
    name = f"{model}-{attack}-{contestant.name}.log"
    return WorkerProcess(
        contestant.label,
        spec,
        environment(contestant.framework, settings.num_threads),
        Path(folder) / name,
    )


def start_attack(attacker, attack, settings, folder):
    """Start the process of one attacker.

    Args:
        attacker: `Attacker`.
        attack: name of the attack.
        settings: `AttackSettings`.
        folder: existing folder for the log.

    Returns:
        `WorkerProcess`, a context manager.
    """
    spec = {
        "tool": attacker.tool,
        "attack": attack,
        "backend": attacker.framework,
        "threads": settings.num_threads,
        **{
            name: getattr(settings, name)
            for name in (
                "run",
                "epsilon",
                "step_size",
                "num_steps",
                "num_examples",
                "batch_size",
            )
        },
    }
    return WorkerProcess(
        attacker.label,
        spec,
        environment(attacker.framework, settings.num_threads),
        Path(folder) / f"{attack}-{attacker.name}.log",
    )


def environment(framework, threads):
    """Return the environment variables of a contestant's process.

    Args:
        framework: Keras' backend.
        threads: number of threads.
    """
    variables = {
        # oneDNN is off by default on processors without AVX512-VNNI, where
        # it still makes convolutions about twice as fast.
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "KERAS_BACKEND": framework,
        # The comparison is one of processors.
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "KERAS_TORCH_DEVICE": "cpu",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return variables
