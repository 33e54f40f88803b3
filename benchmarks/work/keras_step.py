"""Training steps of keras_neokd, by its public names only.

So the same work can be timed with other checkouts of the project.
"""

import functools
import itertools
import operator

import keras
import numpy as np

import keras_neokd
from benchmarks.work import workloads
from benchmarks.work.optimisations import OPTIMISATIONS
from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import models

# Size of the data set of TEAT, whose predictions are kept.
_NUM_EXAMPLES = 10_000


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
        method: a name of a method, or some with `+` between them. Defaults
            to `"neo_kd"`.
        network: arguments of the network. Defaults to none.
        without: optimisation to take out, a key of `OPTIMISATIONS`. Defaults
            to none.
        policy: Keras' dtype policy. Defaults to `"float32"`.
        crafting_dtype: as for `compile`. Defaults to its own default.
        **settings: of the method.
    """

    def __init__(
        self,
        model,
        batch_size,
        attack_steps,
        attack="max_average",
        method="neo_kd",
        network=None,
        without=None,
        policy="float32",
        crafting_dtype=None,
        **settings,
    ):
        compile_options = {}
        if crafting_dtype is not None:
            compile_options["crafting_dtype"] = crafting_dtype
        if without is not None:
            OPTIMISATIONS[without].take_out()
            compile_options |= OPTIMISATIONS[without].compile_options
        keras.config.set_dtype_policy(policy)
        workload = workloads.WORKLOADS[model]
        keras.utils.set_random_seed(0)
        self._model = workload.build(models, **(network or {}))
        self.multiply_adds = None
        if method == "neo_kd" and attack == "max_average":
            needed = multiply_adds(self._model, attack_steps)
            self.multiply_adds = batch_size * needed
        trained = build_method(method, settings, self._model, workload)
        pgd = attacks.PGD(workload.epsilon, workload.step_size, attack_steps)
        self._model.compile(
            keras_neokd.optimizers.TorchSGD(
                workloads.LEARNING_RATE,
                momentum=workloads.MOMENTUM,
                coupled_weight_decay=workloads.WEIGHT_DECAY,
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


def build_method(name, settings, model, workload):
    """Return a training method, or a sum of methods with `+` in its name."""
    # The paper gives no weights for other numbers of exits than 3, 5 and 7.
    exit_weights = (1.0,) * model.num_exits
    if name == "neo_kd":
        # Versions without a registry have it, too.
        return methods.NEOKD(exit_weights=exit_weights)
    from keras_neokd.base.configurable import REQUIRED

    parts = []
    for each in name.split("+"):
        given = {
            "exit_weights": exit_weights,
            "num_examples": _NUM_EXAMPLES,
            "num_epochs": 150,
        }
        # To others, `teacher` is an exit of the network itself.
        if methods.BY_NAME.settings(each).get("teacher") is REQUIRED:
            # Untrained: a step takes as long whatever a network has learned.
            given["teacher"] = workload.build(models)
        parts.append(methods.BY_NAME.build(each, settings, **given))
    return functools.reduce(operator.add, parts)


def multiply_adds(model, attack_steps):
    """Return the multiply-adds of one NEO-KD training step, per image.

    With `m_i` those of exit `i` with no head but its own, `M` those of all
    `L` exits, and `T` steps of the max-average attack:

    - attack: `2 T (m_1 + ... + m_L)`, as it runs each exit alone, forward and
      backward for the image;
    - choosing one of `L` candidates: `L M`;
    - training: `6 M`, forward and backward on clean and attacked images;
      backward for the weights and for the maps counts twice.
    """
    costs = models.exit_costs(model)
    whole = costs[-1].cumulative.multiply_adds
    alone = sum(each.own.multiply_adds for each in costs)
    return 2 * attack_steps * alone + (len(costs) + 6) * whole


def with_positions(batches, num_examples):
    """Return batches that say where in a data set each image stands."""
    positions = np.random.default_rng(0).permutation(num_examples)
    positions = positions.astype("int32")
    size = len(batches[0][1])
    return [
        (x, {"label": y, "index": np.roll(positions, -size * i)[:size]})
        for i, (x, y) in enumerate(batches)
    ]
