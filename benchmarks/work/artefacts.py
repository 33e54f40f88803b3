"""Early exit in other runtimes: single images, and batches."""

import tempfile

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
        exit: index of the exit.
        threads: threads of the runtime.
        count: images of a step.
        format: of the artefact; None for the `EarlyExitPredictor`.
    """

    def __init__(self, model, exit, threads, count, format=None):
        workload, network = _built(model)
        # Each exit before it is asked, and never sure enough.
        last = network.num_exits - 1
        policy = ExitPolicy([1.0] * exit + [0.0] * (last - exit))
        self._images = workload.batches(count)[0][0]
        if format is None:
            self._decide = EarlyExitPredictor(network, policy)
        else:
            self._decide = _artefact(
                network, threads, format, "early_exit", policy
            ).decide

    def step(self):
        """Decide for each image by itself; return the exits."""
        return [
            self._decide(self._images[index : index + 1]).exit_index[0]
            for index in range(len(self._images))
        ]


class Batch:
    """A batch of random images at half of the full cost, or at all of it.

    Args:
        model: a key of `WORKLOADS`.
        format: of the artefact.
        batch_size: number of images.
        threads: threads of the runtime.
        form: `"stages"` for half of the cost; `"exits"` for the last exit
            alone.
    """

    def __init__(self, model, format, batch_size, threads, form):
        workload, network = _built(model)
        self._images, labels = workload.batches(batch_size)[0]
        policy, exit = None, -1
        if form == "stages":
            policy, exit = (
                exit_shares.policy_for_cost(
                    network, (self._images, labels), 0.5
                ),
                None,
            )
        self._is_early = form == "stages"
        self._artefact = _artefact(network, threads, format, form, policy, exit)

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


def _artefact(network, threads, format, form, policy, exit=None):
    folder = tempfile.mkdtemp()
    deploy(network, f"{folder}/artefact", format, form, policy, exit)
    # TensorFlow has the threads of the process.
    if format == "saved_model":
        threads = None
    return load_artefact(f"{folder}/artefact", threads)
