"""One training step for all methods and backends: perturb, objective, log.

`Trainer` holds what the steps of the backends share and knows no framework:

    batch      = _batch(data, ...)               images, labels, randomness
    adversarial = _craft_for_training(batch)     the attack
    result     = _objective(batch, adversarial)  the method's loss
    logs       = _log_training(batch, result)    metrics

`keras_neokd/backend` differentiates the objective in its own way, and
`keras_neokd/loops.py` holds `fit` and its like.
"""

import types
import typing

import keras
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import checks
from keras_neokd import logs
from keras_neokd import methods
from keras_neokd import randomness
from keras_neokd.loops import CheckedLoops

# Keep the random numbers of attacks in training and testing apart.
_TRAIN_STREAM, _TEST_STREAM = 1, 2


class Batch(typing.NamedTuple):
    """What a step knows of its examples.

    Attributes:
        images: `(batch, height, width, channels)`.
        labels: integers `(batch,)`.
        weights: sample weights `(batch,)`.
        step: a `methods.Step`.
        keys: int32 `(batch,)`, the randomness of each example's attack.
        global_size: number of examples on all replicas.
    """

    images: typing.Any
    labels: typing.Any
    weights: typing.Any
    step: methods.Step
    keys: typing.Any
    global_size: typing.Any


class Result(typing.NamedTuple):
    """What the objective returns.

    Attributes:
        loss: scalar to differentiate; sums to the global mean over replicas.
        examples: loss of each example `(batch,)`, regularisers included.
        terms: per term its values `(batch, exits)`, unweighted.
        clean: logits `(batch, exits, classes)`.
        adversarial: the same for the attacked images, or `None`.
    """

    loss: typing.Any
    examples: typing.Any
    terms: dict
    clean: typing.Any
    adversarial: typing.Any


class Trainer(CheckedLoops, backend.TrainStep):
    """Mixin that gives a multi-exit model robust training."""

    def compile(
        self,
        optimizer=None,
        method=None,
        attack=None,
        metrics=None,
        validation_attack=None,
        attack_training_mode=False,
        seed=0,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
    ):
        """Configure training.

        Args:
            optimizer: a Keras optimizer or its name.
            method: a `keras_neokd.methods.Method`, or its name for the
                paper's settings: `"neo_kd"`, `"nkd"`, `"eokd"`,
                `"adversarial_training"`.
            attack: a `keras_neokd.attacks.Attack` that makes the training
                examples.
            metrics: list of Keras metrics of `(labels, logits)` with integer
                labels, for example
                `keras.metrics.SparseTopKCategoricalAccuracy(5)`. Each is
                logged for clean and attacked images of every exit. Accuracy
                is always logged.
            validation_attack: attack for `evaluate` and validation, or
                `None` (default) for clean images only.
            attack_training_mode: craft training examples with dropout and
                batch statistics as in a training step (triple-wins) instead
                of inference mode. Defaults to False. Neither mode changes
                weights or running statistics while crafting; in training
                mode one dropout mask serves all steps of an attack, on
                PyTorch each step draws its own.
            seed: integer from 0 to 2**31 - 1 behind all random numbers of
                attacks and methods. Defaults to 0.
            run_eagerly: as in `keras.Model.compile`.
            steps_per_execution: as in `keras.Model.compile`.
            jit_compile: as in `keras.Model.compile`.

        Raises:
            TypeError: if an argument has the wrong type.
            ValueError: if one is missing, or does not fit the model.
        """
        _check_present(optimizer, method, attack)
        method = methods.get(method)
        method.validate(self.num_exits, self.num_classes)
        attack = attacks.get(attack)
        if validation_attack is not None:
            validation_attack = attacks.get(validation_attack)
            validation_attack.validate(self.num_exits)
        attack.validate(self.num_exits)
        if attack.epsilon == 0:
            raise ValueError(
                "Training needs an attack with epsilon > 0, received "
                f"{attack!r}. epsilon=0 is for evaluation only."
            )
        self._check_jit_compile(jit_compile)
        # Everything that can be refused comes before the first change.
        setup = {
            "seed": randomness.check_seed(seed),
            "logs": logs.Logs(
                self.exit_names,
                method.term_names(),
                attack,
                validation_attack,
                metrics,
            ),
        }
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
        )
        # A plain namespace: Keras would track a dict or list and store its
        # variables in the weights file.
        self._setup = types.SimpleNamespace(
            method=method,
            attack=attack,
            validation_attack=validation_attack,
            attack_training_mode=bool(attack_training_mode),
            epoch=_counter("epoch"),
            examples_seen=_counter("examples_seen"),
            **setup,
            config={
                "optimizer": self.optimizer,
                "method": method,
                "attack": attack,
                "metrics": metrics,
                "validation_attack": validation_attack,
                "attack_training_mode": attack_training_mode,
                "seed": seed,
                "run_eagerly": run_eagerly,
                "steps_per_execution": steps_per_execution,
                "jit_compile": jit_compile,
            },
        )

    def _check_jit_compile(self, jit_compile):
        strategy = getattr(self, "distribute_strategy", None)
        replicas = getattr(strategy, "num_replicas_in_sync", 1)
        if jit_compile is True and replicas > 1:
            raise ValueError(
                "jit_compile=True does not work under a tf.distribute "
                f"strategy with {replicas} replicas; use "
                'jit_compile="auto".'
            )

    def get_compile_config(self):
        """Return the arguments of `compile` as plain values."""
        if not self.compiled:
            return {}
        return {
            name: keras.saving.serialize_keras_object(value)
            for name, value in self._setup.config.items()
        }

    def compile_from_config(self, config):
        """Compile with the result of `get_compile_config`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    # Keras asks for these two whenever it resets, reports or hands state to
    # a compiled step.

    @property
    def variables(self):
        """Variables of the layers, and the counters of training."""
        if not self.compiled:
            return super().variables
        counters = [self._setup.epoch, self._setup.examples_seen]
        return [*super().variables, *counters]

    @property
    def metrics(self):
        """The metrics of training and testing."""
        return self._setup.logs.metrics if self.compiled else []

    def get_metrics_result(self):
        """Return results of the metrics that saw data since the reset."""
        return self._setup.logs.results_with_data()

    def reset_metrics(self):
        """Reset the metrics, and the position in the evaluated data set."""
        super().reset_metrics()
        if self.compiled:
            self._setup.examples_seen.assign(0)

    def set_epoch(self, epoch):
        """Say which epoch it is; `fit` does so by itself.

        Args:
            epoch: 0-based integer. Only needed by custom loops over
                `train_on_batch`: EOKD draws new classes with every epoch.
        """
        self._setup.epoch.assign(checks.integer("epoch", epoch, minimum=0))

    @property
    def metrics_names(self):
        """Names of everything that training logs, `loss` first."""
        return list(self._setup.logs.training_names) if self.compiled else []

    # The parts of a step.

    def _batch(self, data, place):
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        # `train_on_batch` hands NumPy arrays over on PyTorch.
        images = ops.cast(ops.convert_to_tensor(images), "float32")
        size = ops.shape(images)[0]
        offset, total = backend.global_batch(size)
        index = offset + ops.arange(size, dtype="int32")
        step, keys = place(index, total)
        if weights is None:
            weights = ops.ones((size,), dtype="float32")
        return Batch(
            images=images,
            labels=checks.class_indices(ops.convert_to_tensor(labels)),
            weights=ops.reshape(ops.cast(weights, "float32"), (-1,)),
            step=step,
            keys=keys,
            global_size=ops.cast(total, "float32"),
        )

    def _train_index(self, index, total):
        del total
        step = methods.Step(
            seed=self._setup.seed,
            epoch=ops.convert_to_tensor(self._setup.epoch),
            step=ops.cast(self._updates_made(), "int32"),
            index=index,
        )
        return step, randomness.bits(
            step.seed, _TRAIN_STREAM, step.epoch, step.step, index
        )

    def _updates_made(self):
        # `optimizer.iterations` stands still while gradients are accumulated
        # over several batches; the variable behind it does not.
        # Loss scaling wraps an optimizer, and its own count stays 0.
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        for variable in optimizer.variables:
            if variable.name == "iteration":
                return variable
        return optimizer.iterations

    def _test_index(self, index, total):
        seen = self._setup.examples_seen
        index = ops.convert_to_tensor(seen) + index
        seen.assign(seen + ops.cast(total, "int32"))
        step = methods.Step(self._setup.seed, epoch=0, step=0, index=index)
        return step, randomness.bits(step.seed, _TEST_STREAM, index)

    def _craft_for_training(self, batch):
        return self._setup.attack.generate(
            self.exit_logits(training=self._setup.attack_training_mode),
            batch.images,
            batch.labels,
            batch.keys,
        )

    def _objective(self, batch, adversarial):
        clean = self._stacked_logits(batch.images, training=True)
        penalties = self._activity_losses()
        attacked = self._stacked_logits(adversarial, training=True)
        terms = self._setup.method(clean, attacked, batch.labels, batch.step)
        return self._reduce(batch, terms, clean, attacked, penalties)

    def _activity_losses(self):
        """Return the losses that layers added in the last forward pass.

        The next pass drops them. `losses` lists them before the penalties
        of the weights, which do not depend on a pass.
        """
        regularised = [
            weight for weight in self.trainable_weights if weight.regularizer
        ]
        return self.losses[: len(self.losses) - len(regularised)]

    def _reduce(self, batch, terms, clean, adversarial, penalties):
        """The one place that turns per-example values into the loss."""
        examples = batch.weights * sum(
            ops.sum(term.values * ops.convert_to_tensor(term.weights), axis=1)
            for term in terms
        )
        # Replicas add their gradients up, so each divides by the size of
        # the global batch and takes its share of the regularisers.
        share = ops.cast(ops.shape(examples)[0], "float32") / batch.global_size
        regularisation = sum(
            ops.sum(loss) for loss in [*penalties, *self.losses]
        )
        return Result(
            loss=ops.sum(examples) / batch.global_size + share * regularisation,
            examples=examples + regularisation,
            terms={term.name: term.values for term in terms},
            clean=clean,
            adversarial=adversarial,
        )

    def _log_training(self, batch, result, info):
        return self._setup.logs.training.update(batch, result, info)

    def _evaluate(self, batch):
        clean = self._stacked_logits(batch.images, training=False)
        attack, attacked, info = self._setup.validation_attack, None, {}
        penalties = []
        if attack is not None:
            penalties = self._activity_losses()
            adversarial, info = attack.generate(
                self.exit_logits(), batch.images, batch.labels, batch.keys
            )
            attacked = self._stacked_logits(adversarial, training=False)
        terms = methods.AdversarialTraining()(
            clean,
            clean if attacked is None else attacked,
            batch.labels,
            batch.step,
        )
        if attacked is None:
            terms = terms[:1]
        result = self._reduce(batch, terms, clean, attacked, penalties)
        return self._setup.logs.testing.update(batch, result, info)


def _check_present(optimizer, method, attack):
    for name, value, example in (
        ("optimizer", optimizer, "keras.optimizers.SGD(0.1, momentum=0.9)"),
        ("method", method, '"neo_kd"'),
        (
            "attack",
            attack,
            "keras_neokd.attacks.MaxAverage(keras_neokd.attacks.PGD("
            "epsilon=8/255, step_size=2/255, num_steps=7))",
        ),
    ):
        if value is None:
            raise ValueError(
                f"`compile` needs `{name}`, for example {name}={example}."
            )


def _counter(name):
    return keras.Variable(
        0,
        trainable=False,
        dtype="int32",
        aggregation="only_first_replica",
        name=name,
    )
