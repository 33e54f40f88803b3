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

import keras
import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import checks
from keras_neokd import crafting
from keras_neokd import logs
from keras_neokd import methods
from keras_neokd import precision
from keras_neokd import randomness
from keras_neokd.batch import Batch
from keras_neokd.batch import Result
from keras_neokd.configurable import check_names
from keras_neokd.data.checks import split_labels
from keras_neokd.data.sharing import num_filling
from keras_neokd.loops import CheckedLoops
from keras_neokd.method_state import MethodState
from keras_neokd.method_state import make_variable
from keras_neokd.training_checks import check_attack
from keras_neokd.training_checks import check_crafting
from keras_neokd.training_checks import check_jit
from keras_neokd.training_checks import check_optimizer
from keras_neokd.training_checks import check_present
from keras_neokd.training_checks import check_replicas
from keras_neokd.training_checks import check_term
from keras_neokd.training_checks import check_terms

# Keep the random numbers of attacks in training and testing apart.
_TRAIN_STREAM, _TEST_STREAM = 1, 2


class Trainer(CheckedLoops, MethodState, backend.TrainStep):
    """Mixin that gives a multi-exit model robust training."""

    def compile(
        self,
        optimizer=None,
        method=None,
        attack=None,
        metrics=None,
        validation_attack=None,
        attack_training_mode=False,
        crafting_batch_size=None,
        seed=0,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        **unknown,
    ):
        """Configure training.

        Args:
            optimizer: a Keras optimizer or its name. One with
                `gradient_accumulation_steps` moves the weights once in so
                many batches, by the mean of their gradients. Where layers
                compute in float16 it is wrapped in a
                `keras.optimizers.LossScaleOptimizer`.
            method: a `keras_neokd.methods.Method`, or its name for the
                paper's settings, see `methods.get`.
            attack: a `keras_neokd.attacks.Attack` that makes the training
                examples. Methods that need no attacked images ignore it.
            metrics: list of Keras metrics of `(labels, logits)` with integer
                labels, for example
                `keras.metrics.SparseTopKCategoricalAccuracy(5)`. Each is
                logged for clean and attacked images of every exit. Accuracy
                is always logged.
            validation_attack: attack for `evaluate` and validation, or
                `None` (default) for clean images only. Callbacks that watch
                `val_adversarial_accuracy`, such as
                `keras.callbacks.EarlyStopping`, need `mode="max"`: Keras
                cannot tell the direction of this metric.
            attack_training_mode: craft training examples with dropout and
                batch statistics as in a training step (triple-wins) instead
                of inference mode. Defaults to False. Neither mode changes
                weights or running statistics while crafting; in training
                mode one dropout mask serves all steps of an attack, on
                PyTorch each step draws its own.
            crafting_batch_size: craft the images of a batch in slices of at
                most so many, one after the other, so that the attack needs
                less memory; `MaxAverage` makes one candidate per exit of
                each. The images are those of the whole batch, so it is not
                for `attack_training_mode`, where examples see each other.
                Per replica of a TensorFlow strategy, and not for several
                devices of a `keras.distribution`. Defaults to `None`: all
                at once.
            seed: integer from 0 to 2**31 - 1 behind all random numbers of
                attacks and methods. Defaults to 0.
            run_eagerly: as in `keras.Model.compile`.
            steps_per_execution: as in `keras.Model.compile`.
            jit_compile: as in `keras.Model.compile`; not True under PyTorch.
            **unknown: refused by the name that was probably meant.

        Raises:
            TypeError: if an argument has the wrong type, or does not exist.
            ValueError: if one is missing, or does not fit the model.
        """
        check_names("MultiExitModel.compile", unknown, Trainer.compile)
        checks.boolean("run_eagerly", run_eagerly)
        checks.integer("steps_per_execution", steps_per_execution, minimum=1)
        check_jit(jit_compile)
        check_present(optimizer=optimizer, method=method)
        method = methods.get(method)
        method.validate(self)
        uses_attack = method.uses_attack(self.num_exits)
        attack = method.own_attack or attack
        if uses_attack or attack is not None:
            attack = check_attack(attack, method, self.num_exits)
        if validation_attack is not None:
            validation_attack = attacks.get(
                validation_attack, "validation_attack"
            )
            validation_attack.validate(self.num_exits)
        optimizer = check_optimizer(optimizer)
        check_replicas(self, optimizer, jit_compile)
        check_crafting(crafting_batch_size, attack_training_mode)
        # Everything that can be refused comes before the first change.
        setup = {
            "seed": randomness.check_seed(seed),
            "logs": logs.Logs(
                self.exit_names,
                method.term_names(self.num_exits),
                attack if uses_attack else None,
                validation_attack,
                metrics,
            ),
            "state": {
                name: make_variable(value, name)
                for name, value in method.initial_state(self).items()
            },
        }
        super().compile(
            optimizer=precision.loss_scaled(self, optimizer),
            auto_scale_loss=False,
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
            attack_training_mode=attack_training_mode,
            crafting_batch_size=crafting_batch_size,
            uses_attack=uses_attack,
            compiled_in=[],
            epoch=make_variable(np.int32(0), "epoch"),
            examples_seen=make_variable(np.int32(0), "examples_seen"),
            **setup,
            config={
                "optimizer": self.optimizer,
                "method": method,
                "attack": attack,
                "metrics": metrics,
                "validation_attack": validation_attack,
                "attack_training_mode": attack_training_mode,
                "crafting_batch_size": crafting_batch_size,
                "seed": seed,
                "run_eagerly": run_eagerly,
                "steps_per_execution": steps_per_execution,
                "jit_compile": jit_compile,
            },
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
        if keras.config.backend() == "torch":  # See `check_jit`.
            config = {**config, "jit_compile": "auto"}
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def method(self):
        """The training method, `None` before `compile`."""
        return self._setup.method if self.compiled else None

    # Keras asks for these two whenever it resets, reports or hands state to
    # a compiled step.

    @property
    def variables(self):
        """Variables of the layers, counters and the state of the method."""
        if not self.compiled:
            return super().variables
        counters = [self._setup.epoch, self._setup.examples_seen]
        return [*super().variables, *counters, *self._setup.state.values()]

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
        self._check_compiled("set_epoch")
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
        filling = num_filling(labels)
        labels, example = split_labels(labels)
        # Keras repeats the weights of arrays for every part of the labels.
        weights = weights["label"] if isinstance(weights, dict) else weights
        if filling:
            images, labels, example, weights = (
                None if each is None else each[:-filling]
                for each in (images, labels, example, weights)
            )
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
            step=step._replace(example=example),
            keys=keys,
            global_size=ops.cast(total, "float32"),
        )

    def _train_index(self, index, total):
        del total
        step = methods.Step(
            seed=self._setup.seed,
            epoch=ops.convert_to_tensor(self._setup.epoch),
            step=ops.cast(self._batches_done(), "int32"),
            index=index,
        )
        return step, randomness.bits(
            step.seed, _TRAIN_STREAM, step.epoch, step.step, index
        )

    def _batches_done(self):
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
        setup = self._setup
        if not setup.uses_attack:
            return None, {}
        predict = self.exit_logits(training=setup.attack_training_mode).frozen()
        setup.method.begin_step(self._context(batch, predict))
        return self._craft(
            batch,
            predict,
            setup.attack,
            lambda part: setup.method.training_attack(
                setup.attack, self._context(part, predict)
            ),
        )

    def _craft(self, batch, predict, attack, aimed=None):
        """Attack a batch; `aimed` gives the attack of a part of it."""

        def craft(images, rows):
            part = batch if rows is None else batch.take(rows, images)
            used = attack if aimed is None else aimed(part)
            return used.generate(predict, part.images, part.labels, part.keys)

        return crafting.in_slices(
            craft,
            batch.images,
            self._setup.crafting_batch_size,
            attack.logged(self.num_exits),
        )

    def _context(self, batch, predict, **seen):
        return methods.Context(
            labels=batch.labels,
            step=batch.step,
            images=batch.images,
            predict=predict,
            state=self._setup.state,
            head_kernels=self.head_kernels,
            **seen,
        )

    def _objective(self, batch, adversarial):
        clean, penalties = self._forward(batch.images)
        attacked = None
        if adversarial is not None:
            attacked, more = self._forward(adversarial)
            penalties += more
        penalties += self._weight_losses()
        method = self._setup.method
        terms = method(
            self._context(
                batch,
                self.exit_logits(training=True),
                clean=clean,
                adversarial=attacked,
                adversarial_images=adversarial,
            )
        )
        check_terms(terms, method, self.num_exits)
        return self._reduce(batch, terms, clean, attacked, penalties)

    def _forward(self, images, training=True):
        """Return logits, and the losses that layers added in this pass."""
        logits = self._stacked_logits(images, training=training)
        # `losses` lists them before the penalties of the weights.
        num_activity = len(self.losses) - self._num_weight_losses()
        return logits, list(self.losses[:num_activity])

    def _weight_losses(self):
        return list(self.losses[len(self.losses) - self._num_weight_losses() :])

    def _num_weight_losses(self):
        return sum(
            weight.regularizer is not None for weight in self.trainable_weights
        )

    def _reduce(self, batch, terms, clean, adversarial, penalties):
        """The one place that turns the values of terms into the loss."""
        values, whole = {}, sum(ops.sum(loss) for loss in penalties)
        examples = ops.zeros_like(batch.weights)
        for term in terms:
            weights = check_term(term, self.num_exits)
            if term.level == "example":
                weighted = ops.expand_dims(batch.weights, 1) * term.values
                examples += ops.sum(weighted * weights, axis=1)
                values[term.name] = weighted
            else:
                whole += ops.sum(term.values * weights)
                values[term.name] = term.values + ops.zeros_like(
                    values["clean"]
                )
        # Replicas add their gradients up, so each divides by the size of
        # the global batch and takes its share of what is no mean.
        share = ops.cast(ops.shape(examples)[0], "float32") / batch.global_size
        return Result(
            loss=ops.sum(examples) / batch.global_size + share * whole,
            examples=examples + whole,
            terms=values,
            clean=clean,
            adversarial=adversarial,
        )

    def _log_training(self, batch, result, info):
        return self._setup.logs.training.update(batch, result, info)

    def _evaluate(self, batch):
        clean, penalties = self._forward(batch.images, training=False)
        attack, attacked, info = self._setup.validation_attack, None, {}
        if attack is not None:
            adversarial, info = self._craft(
                batch, self.exit_logits().frozen(), attack
            )
            attacked, more = self._forward(adversarial, training=False)
            penalties += more
        penalties += self._weight_losses()
        terms = methods.AdversarialTraining()(
            methods.Context(
                batch.labels, batch.step, clean=clean, adversarial=attacked
            )
        )
        result = self._reduce(batch, terms, clean, attacked, penalties)
        return self._setup.logs.testing.update(batch, result, info)
