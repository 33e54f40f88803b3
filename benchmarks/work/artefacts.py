"""Early exit in other runtimes: single images, and batches."""

import pathlib
import time

import keras

from benchmarks.work import workloads
from keras_neokd import EarlyExitPredictor
from keras_neokd import ExitPolicy
from keras_neokd import deploy
from keras_neokd import load_artefact
from keras_neokd import models
from keras_neokd.evaluation import exit_shares


class SingleImages:
    """Single random images that all leave an untrained network at one exit.

    Args:
        model: a key of `WORKLOADS`.
        threads: threads of the runtime.
        folder: folder of artefacts; one that is missing is written.
        exit: index of the exit.
        count: images of a step.
        format: of the artefact; None for the `EarlyExitPredictor`.
        form: of the artefact: `"early_exit"` (default) or `"stages"`.
    """

    def __init__(
        self,
        model,
        threads,
        folder,
        exit,
        count,
        format=None,
        form="early_exit",
    ):
        workload, network = _built(model)
        # Each exit before it is asked, and never sure enough.
        last = network.num_exits - 1
        policy = ExitPolicy([1.0] * exit + [0.0] * (last - exit))
        self._images = workload.batches(count)[0][0]
        self.num_images, self.image_seconds = count, None
        if format is None:
            self._decide = EarlyExitPredictor(network, policy)
        else:
            name = f"{model}_{format}_{form}_exit_{exit + 1}"
            self._decide = _artefact(
                pathlib.Path(folder, name),
                *(network, threads, format, form, policy),
            ).decide

    def step(self):
        """Decide for each image by itself; return the exits."""
        exits, seconds = [], []
        for index in range(self.num_images):
            started = time.perf_counter()
            decision = self._decide(self._images[index : index + 1])
            seconds.append(time.perf_counter() - started)
            exits.append(decision.exit_index[0])
        is_first = self.image_seconds is None
        self.image_seconds = [] if is_first else [*self.image_seconds, *seconds]
        return exits


class Batch:
    """A batch of random images at half of the full cost, or at all of it.

    Args:
        model: a key of `WORKLOADS`.
        threads: threads of the runtime.
        folder: folder of artefacts; one that is missing is written.
        format: of the artefact.
        batch_size: number of images.
        form: `"stages"` for half of the cost; `"exits"` for the last exit
            alone.
    """

    def __init__(self, model, threads, folder, format, batch_size, form):
        workload, network = _built(model)
        self._images, labels = workload.batches(batch_size)[0]
        self.num_images = batch_size
        policy, exit = None, -1
        if form == "stages":
            data = self._images, labels
            policy = exit_shares.policy_for_cost(network, data, 0.5)
            exit = None
        self._is_early = form == "stages"
        name = f"{model}_{format}_{form}_batch_{batch_size}"
        path = pathlib.Path(folder, name)
        self._artefact = _artefact(
            path, network, threads, format, form, policy, exit
        )

    def step(self):
        """Return the mean of the logits, or of the exits."""
        if self._is_early:
            return [self._artefact.decide(self._images).exit_index.mean()]
        (logits,) = self._artefact.answers(self._images).values()
        return [logits.mean()]


def _built(name):
    keras.utils.set_random_seed(0)
    workload = workloads.WORKLOADS[name]
    return workload, workload.build(models)


def _artefact(path, network, threads, format, form, policy, exit=None):
    if not path.exists():
        deploy(network, path, format, form, policy, exit)
    # TensorFlow has the threads of the process.
    return load_artefact(path, None if format == "saved_model" else threads)
