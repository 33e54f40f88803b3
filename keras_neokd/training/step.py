"""One step of training or testing: read, attack, loss, log.

    batch = step.read(data)                   images, labels, random keys
    adversarial, info = step.attack(batch)    adversarial images, or None
    result = step.loss(batch, adversarial)    terms of the method, their sum
    logs = step.log(batch, result, info)      means since the last reset

`run` takes the four in this order. In training, `backend.update_weights` calls
the third, differentiates it and moves the weights; nothing else here depends
on the framework.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd import methods
from keras_neokd.base import randomness
from keras_neokd.training import slices
from keras_neokd.training.batch import Batch
from keras_neokd.training.batch import reduced
from keras_neokd.training.batch import unpacked
from keras_neokd.training.checks import check_terms

# Keep the random numbers of attacks in training and testing apart.
_TRAIN_STREAM, _TEST_STREAM = 1, 2


class Step:
    """Base of training and testing steps.

    Args:
        model: a `MultiExitModel`.
        settings: namespace of the arguments of `Trainer.compile`, as objects.
        recorder: a `logs.Recorder`.
    """

    training = False
    state: dict[str, Any] = {}

    def __init__(self, model, settings, recorder):
        self.model, self.settings = model, settings
        self.log = recorder.update

    def read(self, data):
        """Return the `Batch` of images, labels and perhaps sample weights."""
        images, labels, example, weights = unpacked(data)
        size = ops.shape(images)[0]
        offset, total = backend.global_batch(size)
        index = offset + ops.arange(size, dtype="int32")
        position, keys = self.position(index, total)
        return Batch(
            images=images,
            labels=labels,
            weights=weights,
            position=position._replace(example=example),
            keys=keys,
            global_size=ops.cast(total, "float32"),
        )

    def loss(self, batch, adversarial):
        """Return the `Result` of a batch, which can be differentiated."""
        clean, penalties = self._forward(batch.images)
        attacked = None
        if adversarial is not None:
            attacked, more = self._forward(adversarial)
            penalties += more
        penalties += self.model.losses[self._num_activity_losses() :]
        terms = self.terms(
            batch,
            clean=clean,
            adversarial=attacked,
            adversarial_images=adversarial,
        )
        return reduced(batch, terms, clean, attacked, penalties)

    def context(self, batch, predict=None, **seen):
        """Return the `methods.Context` of a batch, with fields in `seen`."""
        return methods.Context(
            labels=batch.labels,
            position=batch.position,
            images=batch.images,
            predict=predict,
            state=self.state,
            head_kernels=self.model.head_kernels,
            **seen,
        )

    def _attacked(self, batch, predict, attack, attack_of=None):
        """Attack a batch; `attack_of` gives the attack of a slice of it."""

        def attack_slice(images, rows):
            part = batch if rows is None else batch.take(rows, images)
            used = attack if attack_of is None else attack_of(part)
            return used.generate(predict, part.images, part.labels, part.keys)

        return slices.attack_in_slices(
            attack_slice,
            batch.images,
            self.settings.crafting_batch_size,
            attack.logged(self.model.num_exits),
        )

    def _forward(self, images):
        """Return logits, and the losses that layers added in this pass."""
        logits = self.model.stacked_logits(images, training=self.training)
        return logits, list(self.model.losses[: self._num_activity_losses()])

    def _num_activity_losses(self):
        # Keras lists them before the penalties of the weights.
        return len(self.model.losses) - sum(
            weight.regularizer is not None
            for weight in self.model.trainable_weights
        )


class TrainingStep(Step):
    """Train on a batch.

    Attributes:
        epoch: variable, 0-based.
        state: dict of the variables that the method keeps between steps.
    """

    training = True

    def __init__(self, model, settings, recorder):
        super().__init__(model, settings, recorder)
        self.epoch = _variable(np.int32(0), "epoch")
        self.state = {
            name: _variable(value, name)
            for name, value in settings.method.initial_state(model).items()
        }
        self._compiled_in = []

    def run(self, data):
        """Train on what Keras hands over, and return the means so far."""
        batch = self.read(data)
        adversarial, info = self.attack(batch)
        result = backend.update_weights(
            self.model, lambda: self.loss(batch, adversarial)
        )
        return self.log(batch, result, info)

    def position(self, index, total):
        """Return the `methods.Position` of a batch, and keys for its attack.

        Args:
            index: int32 `(batch,)`, positions in the global batch.
            total: size of the global batch.
        """
        del total
        position = methods.Position(
            seed=self.settings.seed,
            epoch=ops.convert_to_tensor(self.epoch),
            step=ops.cast(self._batches_done(), "int32"),
            index=index,
        )
        return position, randomness.bits(
            position.seed, _TRAIN_STREAM, position.epoch, position.step, index
        )

    def attack(self, batch):
        """Return adversarial images and the attack's info, or `None, {}`."""
        method, attack = self.settings.method, self.settings.attack
        if not method.uses_attack(self.model.num_exits):
            return None, {}
        predict = self.model.exit_logits(
            training=self.settings.attack_training_mode
        ).frozen(self.settings.crafting_dtype)
        method.begin_step(self.context(batch, predict))
        return self._attacked(
            batch,
            predict,
            attack,
            lambda part: method.training_attack(
                attack, self.context(part, predict)
            ),
        )

    def terms(self, batch, **seen):
        """Return the terms of the method, given logits and images."""
        method = self.settings.method
        predict = self.model.exit_logits(training=True)
        terms = method(self.context(batch, predict, **seen))
        check_terms(terms, method, self.model.num_exits)
        return terms

    def prepare(self):
        """See that training can begin.

        Returns:
            Whether a compiled step is out of date: JAX compiles the weights
            of a teacher in.
        """
        method = self.settings.method
        method.check_ready()
        network = method.teacher_network
        weights = [] if network is None else network.variables
        weights = [variable.value for variable in weights]
        known, self._compiled_in = self._compiled_in, weights
        return len(known) != len(weights) or any(
            new is not old for new, old in zip(weights, known, strict=True)
        )

    def _batches_done(self):
        # `optimizer.iterations` stands still while gradients are accumulated
        # over several batches; the variable behind it does not.
        # Loss scaling wraps an optimizer, and its own count stays 0.
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        for variable in optimizer.variables:
            if variable.name == "iteration":
                return variable
        return optimizer.iterations


class TestingStep(Step):
    """Evaluate a batch, clean or under the validation attack.

    Attributes:
        examples_seen: variable, position in the evaluated data set.
    """

    def __init__(self, model, settings, recorder):
        super().__init__(model, settings, recorder)
        self.examples_seen = _variable(np.int32(0), "examples_seen")

    def run(self, data):
        """Evaluate what Keras hands over, and return the means so far."""
        batch = self.read(data)
        adversarial, info = self.attack(batch)
        return self.log(batch, self.loss(batch, adversarial), info)

    def position(self, index, total):
        """See `TrainingStep.position`; goes on in the data set."""
        seen = self.examples_seen
        index = ops.convert_to_tensor(seen) + index
        seen.assign(seen + ops.cast(total, "int32"))
        position = methods.Position(
            self.settings.seed, epoch=0, step=0, index=index
        )
        return position, randomness.bits(position.seed, _TEST_STREAM, index)

    def attack(self, batch):
        """See `TrainingStep.attack`; with the validation attack."""
        attack = self.settings.validation_attack
        if attack is None:
            return None, {}
        predict = self.model.exit_logits().frozen()
        return self._attacked(batch, predict, attack)

    def terms(self, batch, **seen):
        """Return the cross-entropies, whatever the method."""
        return methods.AdversarialTraining()(self.context(batch, **seen))


def _variable(value, name):
    """Return a variable that is no weight of the model."""
    return keras.Variable(
        value,
        trainable=False,
        dtype=value.dtype.name,
        aggregation="only_first_replica",
        name=name,
    )
