"""A multi-exit model as an attack sees it."""

import functools

from keras_neokd import backend
from keras_neokd.attacks.attack import ExitLogits
from keras_neokd.backend import precision


class ModelLogits(ExitLogits):
    """Logits of a model; calls leave all its variables as they are.

    Args:
        model: a `MultiExitModel`.
        training: whether layers run in training mode.
    """

    def __init__(self, model, training):
        self._model, self._training = model, training
        # In training mode weights may get a gradient, too.
        scope = self._in_scope if training else self._for_images
        super().__init__(scope(self._forward), model.num_exits)

    def _forward(self, images, exits):
        model = self._model.submodel(exits)
        return model(images, training=self._training)

    def _in_scope(self, function, variables=None):
        def scoped(images, exits, noise=None):
            read = self._variables() if variables is None else variables
            with backend.frozen_state(read, noise):
                return function(images, exits)

        return scoped

    def _for_images(self, function, variables=None):
        """Return a function that only images get a gradient from.

        Args:
            function: the function.
            variables: those it may read, or `None` to look for them in each
                call, which takes its time.
        """
        scoped = self._in_scope(function, variables)
        if not precision.uses_float16(self._model):
            return scoped

        def rescaled(images, exits, noise=None):
            return precision.rescaled(
                lambda x: scoped(x, exits, noise), together=self._training
            )(images)

        return rescaled

    def _variables(self):
        return [
            *self._model.trainable_variables,
            *self._model.non_trainable_variables,
        ]

    def frozen(self, dtype="float32"):
        """See `ExitLogits.frozen`.

        Args:
            dtype: see `FrozenNetwork.freeze`. Without meaning in training
                mode and for models without a frozen network.
        """
        network = None if self._training else self._model.frozen_network()
        if network is None:
            if not (self._training and precision.uses_float16(self._model)):
                return self
            function = self._for_images(self._forward)
            return ExitLogits(function, self.num_exits)
        variables = self._variables()
        with backend.frozen_state(variables):
            forward = network.freeze(dtype)
        exact = self._exact_for(network, dtype)
        return FrozenLogits(self, forward, variables, exact)

    def _exact_for(self, network, dtype):
        """Return what `ExitLogits` takes as `exact`."""
        if network.is_of_16_bits:
            # Merged layers round elsewhere, which may decide about a class.
            return lambda: self
        return None if dtype == "float32" else self.frozen


class FrozenLogits(ExitLogits):
    """`ModelLogits` for weights that do not change.

    Args:
        logits: a `ModelLogits`.
        forward: a `FrozenForward`.
        variables: all variables of the model.
        exact: see `ExitLogits`.
    """

    def __init__(self, logits, forward, variables, exact):
        self._forward = forward
        self._scoped = functools.partial(
            logits._for_images, variables=variables
        )
        super().__init__(self._scoped(forward), logits.num_exits, exact)

    def frozen(self):
        """See `ExitLogits.frozen`."""
        return self

    def staggered(self, exits):
        """See `ExitLogits.staggered`: one pass, or one per exit.

        An accelerator gains from large batches and few calls. On processors
        a batch per exit is faster, as more of it stays in their caches.
        """
        if not backend.has_accelerator():
            return super().staggered(exits)

        def forward(images, _):
            return (self._forward.staggered(images, exits),)

        exact = None if self.is_exact else lambda: self.exact.staggered(exits)
        return ExitLogits(self._scoped(forward), 1, exact)
