"""A multi-exit model as an attack sees it."""

from keras_neokd import backend
from keras_neokd.attacks.attack import ExitLogits


class ModelLogits(ExitLogits):
    """Logits of a model; calls leave all its variables as they are.

    Args:
        model: a `MultiExitModel`.
        training: whether layers run in training mode.
    """

    def __init__(self, model, training):
        super().__init__(self._in_scope(self._forward), model.num_exits)
        self._model, self._training = model, training

    def _forward(self, images, exits):
        model = self._model._submodel(exits)
        return model(images, training=self._training)

    def _in_scope(self, function):
        def scoped(images, exits, noise=None):
            with backend.frozen_state(self._variables(), noise):
                return function(images, exits)

        return scoped

    def _variables(self):
        return [
            *self._model.trainable_variables,
            *self._model.non_trainable_variables,
        ]

    def frozen(self):
        """See `ExitLogits.frozen`."""
        network = None if self._training else self._model._frozen_network()
        if network is None:
            return self
        with backend.frozen_state(self._variables()):
            forward = network.freeze()
        return _FrozenLogits(self, forward)


class _FrozenLogits(ExitLogits):
    def __init__(self, logits, forward):
        super().__init__(logits._in_scope(forward), logits.num_exits)
        self._logits, self._forward = logits, forward

    def frozen(self):
        return self

    def staggered(self, exits):
        def forward(images, _):
            return (self._forward.staggered(images, exits),)

        return ExitLogits(self._logits._in_scope(forward), 1)
