"""Program of one contestant's process: build, then one step per request.

    python -m apps.benchmarking.worker '{"backend": "jax", ...}'

reads a request per line and answers each with a line of JSON:

    build    import, model and optimizer: their seconds, versions
    step     one training step: its seconds, processor seconds, loss
    trace    operations that the framework traces for a step, instead of a step
    memory   peak of the memory so far, in bytes

What a framework prints goes to the log, not between the answers.
"""

import importlib.metadata
import itertools
import json
import math
import os
import resource
import sys
import time
from pathlib import Path

_LEARNING_RATE, _MOMENTUM, _WEIGHT_DECAY = 0.001, 0.9, 5e-4
_NUM_CLASSES = 10
_NUM_BATCHES = 4


class KerasStep:
    """Training step of keras_neokd.

    `train_on_batch` is what is timed: its checks on the host take about a
    ten-thousandth of a step, and it waits for the step's results.

    Args:
        spec: dictionary of `processes.start`.
    """

    def __init__(self, spec):
        self._spec = spec
        # Each before Keras: TensorFlow takes no settings once it has started.
        if spec["backend"] == "tensorflow":
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(
                spec["threads"]
            )
            tf.config.threading.set_inter_op_parallelism_threads(
                spec["threads"]
            )
        elif spec["backend"] == "torch":
            import torch

            torch.set_num_threads(spec["threads"])
        import keras_neokd
        import keras_neokd.models

        self._library = keras_neokd
        self.versions = _versions("keras", spec["backend"])

    def build(self):
        """Build and compile the model."""
        library, spec = self._library, self._spec
        constructors = {
            "small_cnn": library.models.SmallCNN.mnist,
            "msdnet_cifar10": library.models.MSDNet.cifar10,
        }
        attack = library.attacks.PGD(
            spec["epsilon"], spec["step_size"], spec["attack_steps"]
        )
        if spec["attack"] == "max_average":
            attack = library.attacks.MaxAverage(attack)
        self._model = constructors[spec["model"]]()
        self._model.compile(
            library.optimizers.TorchSGD(
                _LEARNING_RATE,
                momentum=_MOMENTUM,
                coupled_weight_decay=_WEIGHT_DECAY,
            ),
            method="neo_kd",
            attack=attack,
        )
        self._batches = itertools.cycle(_batches(spec))

    def step(self):
        """Take one step and return the loss."""
        logs = self._model.train_on_batch(
            *next(self._batches), return_dict=True
        )
        return logs["loss"]

    def trace(self):
        """Return the number of operations traced for a step."""
        counters = {
            "tensorflow": _count_tensorflow_nodes,
            "jax": _count_jax_equations,
            "torch": _count_torch_operations,
        }
        return counters[self._spec["backend"]](
            self._model, *next(self._batches)
        )


class EagerStep:
    """Training step of `apps.torch_baseline`, plain eager PyTorch.

    Args:
        spec: dictionary of `processes.start`.
    """

    def __init__(self, spec):
        import torch

        from apps import torch_baseline

        torch.set_num_threads(spec["threads"])
        torch.manual_seed(0)
        self._spec, self._torch, self._baseline = spec, torch, torch_baseline
        self.versions = _versions("torch")

    def build(self):
        """Build model and optimizer."""
        torch, spec = self._torch, self._spec
        self._format = {
            "contiguous": torch.contiguous_format,
            "channels_last": torch.channels_last,
        }[spec["memory_format"]]
        constructors = {
            "small_cnn": self._baseline.SmallCNN,
            "msdnet_cifar10": self._baseline.MSDNet,
        }
        self._model = constructors[spec["model"]]()
        self._model.to(memory_format=self._format)
        self._optimizer = torch.optim.SGD(
            self._model.parameters(),
            _LEARNING_RATE,
            momentum=_MOMENTUM,
            weight_decay=_WEIGHT_DECAY,
        )
        # Drawn once per epoch and looked up by label, as in keras_neokd.
        self._supports = self._baseline.orthogonal_supports(
            torch.arange(_NUM_CLASSES), self._model.num_exits, _NUM_CLASSES
        )
        self._batches = itertools.cycle(
            [self._tensors(x, y) for x, y in _batches(spec)]
        )

    def _tensors(self, x, y):
        images = self._torch.from_numpy(x).permute(0, 3, 1, 2)
        labels = self._torch.from_numpy(y).long()
        return images.contiguous(memory_format=self._format), labels

    def step(self):
        """Take one step and return the loss."""
        x, y = next(self._batches)
        logs = self._baseline.train_step(
            self._model,
            self._optimizer,
            x,
            y,
            self._supports[y],
            attack=self._spec["attack"],
            attack_arguments={
                "epsilon": self._spec["epsilon"],
                "step_size": self._spec["step_size"],
                "num_steps": self._spec["attack_steps"],
                "truncated": self._spec["truncated"],
            },
            memory_format=self._format,
        )
        return logs["loss"]


def _batches(spec):
    """Return a few batches of random images and labels."""
    import numpy as np

    generator = np.random.default_rng(0)
    shape = (spec["batch_size"], *spec["image_shape"])
    return [
        (
            generator.random(shape, dtype="float32"),
            generator.integers(0, _NUM_CLASSES, shape[0]).astype("int32"),
        )
        for _ in range(_NUM_BATCHES)
    ]


def _versions(*names):
    return {name: importlib.metadata.version(name) for name in names}


class _Traced(Exception):
    """Ends a step that was to be traced only; `args[0]` is the count."""


def _trace(model, x, y, train_step):
    model.train_step = train_step
    try:
        model.train_on_batch(x, y)
    except _Traced as traced:
        return traced.args[0]
    raise RuntimeError("Keras did not trace the training step.")


def _count_tensorflow_nodes(model, x, y):
    """Count the nodes of the step's graph and of all functions in it."""
    import tensorflow as tf

    original = model.train_step

    def train_step(data):
        original(data)
        graph = tf.compat.v1.get_default_graph().as_graph_def()
        functions = graph.library.function
        raise _Traced(
            len(graph.node)
            + sum(len(function.node_def) for function in functions)
        )

    return _trace(model, x, y, train_step)


def _count_jax_equations(model, x, y):
    """Count the equations of the step's jaxpr, inner ones included."""
    import jax

    original = model.train_step

    def count(value):
        if isinstance(value, (tuple, list)):
            return sum(count(each) for each in value)
        value = getattr(value, "jaxpr", value)
        return sum(
            1 + count(list(equation.params.values()))
            for equation in getattr(value, "eqns", ())
        )

    def train_step(state, data):
        raise _Traced(count(jax.make_jaxpr(original)(state, data)))

    return _trace(model, x, y, train_step)


def _count_torch_operations(model, x, y):
    """Count the operations that torch.compile captured in a step."""
    model.train_on_batch(x, y)
    # Loaded only where something was compiled.
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return 0
    return dynamo.counters["stats"]["calls_captured"]


def _peak_bytes():
    """Return the largest amount of memory this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count the parent's memory from before the exec.
        for line in status.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class Worker:
    """Answers the requests of the parent.

    Args:
        spec: dictionary of `processes.start`.
    """

    def __init__(self, spec):
        self._spec = spec
        self._contestant = None

    def answer(self, request):
        """Do what the request says and return a dictionary."""
        return getattr(self, f"_{request}")()

    def _build(self):
        started = time.perf_counter()
        is_keras = self._spec["memory_format"] is None
        contestant = (KerasStep if is_keras else EagerStep)(self._spec)
        imported = time.perf_counter()
        contestant.build()
        self._contestant = contestant
        return {
            "import_seconds": imported - started,
            "construction_seconds": time.perf_counter() - imported,
            "versions": contestant.versions,
        }

    def _step(self):
        processor, started = time.process_time(), time.perf_counter()
        loss = float(self._contestant.step())
        seconds = time.perf_counter() - started
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss}: the step does not do its work."
            )
        return {
            "seconds": seconds,
            "processor_seconds": time.process_time() - processor,
            "loss": loss,
        }

    def _trace(self):
        started = time.perf_counter()
        operations = int(self._contestant.trace())
        return {
            "operations": operations,
            "seconds": time.perf_counter() - started,
        }

    def _memory(self):
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
