"""Training steps of keras_neokd, by its public names only.

So the same work can be timed with other checkouts of the project.
"""

import itertools

import keras
import numpy as np

import keras_neokd
from benchmarks.work import convolutions
from benchmarks.work.optimisations import OPTIMISATIONS
from benchmarks.work.workloads import LEARNING_RATE
from benchmarks.work.workloads import MOMENTUM
from benchmarks.work.workloads import WEIGHT_DECAY
from benchmarks.work.workloads import WORKLOADS
from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import models

# Methods that need more than their name, as functions of the network, of one
# more network of its kind (an untrained teacher: the time of a step does not
# depend on what a network has learned) and of the size of the data set.
METHODS = {
    "clean_training": lambda *_: methods.AdversarialTraining(
        adversarial_weight=0
    ),
    # The paper gives no weights for other numbers of exits than 3, 5 and 7.
    "neo_kd": lambda model, *_: methods.NEOKD(
        exit_weights=(1.0,) * model.num_exits
    ),
    "teat": lambda model, teacher, count: methods.TEAT(count, num_epochs=150),
    "kd": lambda model, teacher, _: methods.KDIGA(
        teacher(), alignment_weight=0
    ),
    "kdiga": lambda model, teacher, _: methods.KDIGA(teacher()),
    "kdiga_each": lambda model, teacher, _: methods.KDIGA(
        teacher(), exits="each"
    ),
    "kdiga_author_2021": lambda model, teacher, _: methods.KDIGA.author_2021(
        teacher()
    ),
    "kdiga_ard": lambda model, teacher, _: methods.KDIGA.kdiga_ard(teacher()),
    "neo_kd+kdiga": lambda model, teacher, _: (
        methods.NEOKD() + methods.KDIGA(teacher())
    ),
}


def method_names():
    """Return the names of all methods: the library's, then `METHODS`."""
    return tuple(dict.fromkeys([*methods.BY_NAME, *METHODS]))


class KerasStep:
    """Training step of a network.

    `train_on_batch` is what is timed. It returns when the step has finished,
    and takes as long as a batch of `fit` to within a hundredth; its checks of
    the data take 0.1 ms.

    Args:
        model: a key of `WORKLOADS`.
        batch_size: images per step.
        attack_steps: PGD steps.
        attack: `"max_average"` (default) or `"average"`, for methods that
            attack.
        method: a name out of `method_names()`. Defaults to `"neo_kd"`.
        model_options: arguments of the network. Defaults to none.
        num_examples: size of the data set, for TEAT. Defaults to 10,000.
        without: optimisation to take out, a key of `OPTIMISATIONS`. Defaults
            to none.
    """

    def __init__(
        self,
        model,
        batch_size,
        attack_steps,
        attack="max_average",
        method="neo_kd",
        model_options=None,
        num_examples=10_000,
        without=None,
    ):
        compile_options = {}
        if without is not None:
            optimisation = OPTIMISATIONS[without]
            optimisation.take_out(keras.config.backend())
            compile_options = optimisation.compile_options
        workload, options = WORKLOADS[model], model_options or {}
        self._batch_size, self._method = batch_size, method
        self._attack, self._attack_steps = attack, attack_steps
        keras.utils.set_random_seed(0)

        def build():
            return workload.build(models, **options)

        self._model = build()
        pgd = attacks.PGD(workload.epsilon, workload.step_size, attack_steps)
        known = METHODS.get(method, lambda *_: methods.get(method))
        trained = known(self._model, build, num_examples)
        self._model.compile(
            keras_neokd.optimizers.TorchSGD(
                LEARNING_RATE,
                momentum=MOMENTUM,
                coupled_weight_decay=WEIGHT_DECAY,
            ),
            method=trained,
            attack=pgd if attack == "average" else attacks.MaxAverage(pgd),
            **compile_options,
        )
        batches = workload.batches(batch_size)
        if trained.num_examples is not None:
            batches = with_positions(batches, trained.num_examples)
        self._batches = itertools.cycle(batches)

    def step(self):
        """Take one step and return the loss."""
        logs = self._model.train_on_batch(
            *next(self._batches), return_dict=True
        )
        return [logs["loss"]]

    def facts(self):
        """Return multiply-adds of a step, and the rate of a convolution.

        They are counted for NEO-KD only.
        """
        if self._method != "neo_kd":
            return {}
        needed = multiply_adds(self._model, self._attack, self._attack_steps)
        return {
            "multiply_adds": self._batch_size * needed,
            "convolution_rate": convolutions.fastest_in_keras(),
        }


def multiply_adds(model, attack, attack_steps):
    """Return the multiply-adds of one NEO-KD training step, per image.

    With `m_i` those of exit `i` with no head but its own, `M` those of all
    exits, and `T` attack steps:

    - attack: `2 T (m_1 + ... + m_L)` for the max-average attack, which runs
      each exit alone, forward and backward for the image; `2 T M` for the
      average attack;
    - choosing one of `L` candidates: `L M` (max-average only);
    - training: `6 M`, forward and backward on clean and attacked images;
      backward for the weights and for the maps counts twice.

    Args:
        model: a `MultiExitModel`.
        attack: `"max_average"` or `"average"`.
        attack_steps: PGD steps.
    """
    costs = models.exit_costs(model)
    whole = costs[-1].cumulative.multiply_adds
    alone = sum(each.own.multiply_adds for each in costs)
    if attack == "average":
        return (2 * attack_steps + 6) * whole
    return 2 * attack_steps * alone + (len(costs) + 6) * whole


def with_positions(batches, num_examples):
    """Say for each image where in a data set it stands.

    Args:
        batches: list of pairs of images and labels, of the same size.
        num_examples: size of the data set, at least that of a batch.

    Returns:
        List of pairs of images and dictionaries `label`, `index`.
    """
    positions = np.random.default_rng(0).permutation(num_examples)
    positions = positions.astype("int32")
    size = len(batches[0][1])
    return [
        (x, {"label": y, "index": np.roll(positions, -size * i)[:size]})
        for i, (x, y) in enumerate(batches)
    ]
