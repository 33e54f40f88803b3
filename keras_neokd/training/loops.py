"""`fit`, `evaluate`, `predict` and their like: Keras' loops, data checked.

Lists of results have the order of `metrics_names`, `loss` first; Keras sorts
them by name.
"""

import math
import warnings
from typing import Any

import keras

from keras_neokd.base import checks
from keras_neokd.base.typing import Mixin
from keras_neokd.base.typing import Tensor
from keras_neokd.data.checks import checked
from keras_neokd.data.sharing import share
from keras_neokd.data.streams import own_errors
from keras_neokd.training.callbacks import Checkpoints


class CheckedLoops(Mixin):
    """Mixin in front of `keras.Model` for multi-exit models."""

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Tensor | None = None,
        initial_epoch: int = 0,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit`, after checking the data.

        Whole arrays are checked before training starts, streams batch by
        batch on the host; `data.streams.with_check` lists their kinds. The
        model, and `x` where it has `set_epoch`, are told each epoch: a loop of
        calls with `epochs=1` has to pass `initial_epoch`. `class_weight` works
        with every kind of data and labels. With one `training.Checkpoints`
        among the callbacks, training begins at the newest checkpoint.

        Raises:
            TypeError: if `x` is neither an array nor a stream of such a kind.
            ValueError: if images are not in [0, 1] or of another shape,
                labels do not name classes, devices cannot share the data, or
                `callbacks` has several `Checkpoints`.
        """
        arguments = dict(locals())
        del arguments["self"], arguments["kwargs"]
        arguments = {**arguments, **kwargs, "callbacks": _listed(callbacks)}
        saved = _checkpoints_of(arguments["callbacks"])
        if len(saved) > 1:
            raise ValueError(
                "`callbacks` needs at most one Checkpoints, received "
                f"{len(saved)}. Training goes on from one folder: leave the "
                "others out."
            )
        if saved:
            return saved[0].fit(self, self._fit_checked, arguments)
        return self._fit_checked(**arguments)

    def _fit_checked(
        self,
        x,
        y,
        batch_size,
        callbacks,
        validation_split,
        validation_data,
        shuffle,
        class_weight,
        sample_weight,
        **kwargs,
    ):
        # A stream that shuffles by itself, reproducibly, would have the order
        # of its batches shuffled once more by Keras.
        shuffle = shuffle and not hasattr(x, "set_epoch")
        callbacks = [_TellEpoch(x), *callbacks]
        x = share(x, batch_size, shuffle)
        x, y, sample_weight = self._checked_training(
            x, y, sample_weight, class_weight
        )
        if validation_data is not None:
            validation_data = self._checked_validation(
                validation_data, kwargs.get("validation_batch_size", batch_size)
            )
        elif validation_split and class_weight and hasattr(x, "shape"):
            # As in Keras, classes have no weights in validation.
            first = math.floor(len(x) * (1 - validation_split))
            sample_weight[first:] = 1
        with own_errors(x, validation_data):
            return super().fit(
                x,
                y,
                batch_size=batch_size,
                callbacks=callbacks,
                validation_split=validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                sample_weight=sample_weight,
                **kwargs,
            )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Tensor | None = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as `keras.Model.evaluate`, after checking the data.

        NaN or infinite logits have accuracies of NaN, and give a warning.
        """
        x = share(x, batch_size)
        x, y, sample_weight = self._checked(x, y, sample_weight)
        with own_errors(x):
            logs = super().evaluate(
                x,
                y,
                batch_size=batch_size,
                verbose=verbose,
                sample_weight=sample_weight,
                steps=steps,
                callbacks=callbacks,
                return_dict=True,
                **kwargs,
            )
        accuracies = ("clean_accuracy", "adversarial_accuracy")
        if any(math.isnan(logs.get(name, 0)) for name in accuracies):
            warnings.warn(
                f"Model {self.name!r} returned NaN or infinite logits, which "
                "have no accuracy: it is given as NaN. The model has diverged, "
                "or was loaded from a file that had.",
                stacklevel=2,
            )
        return logs if return_dict else self._in_order(logs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict as `keras.Model.predict`, after checking the images."""
        x, _, _ = self._checked(x, None, labelled=False)
        with own_errors(x):
            return super().predict(x, *args, **kwargs)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Tensor | None = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Train as `keras.Model.train_on_batch`, after checking the data."""
        x, y, sample_weight = self._checked_training(
            share(x, "all"), y, sample_weight, class_weight
        )
        logs = super().train_on_batch(x, y, sample_weight, return_dict=True)
        return logs if return_dict else self._in_order(logs)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Tensor | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Test as `keras.Model.test_on_batch`, after checking the data."""
        x, y, sample_weight = self._checked(share(x, "all"), y, sample_weight)
        logs = super().test_on_batch(x, y, sample_weight, return_dict=True)
        return logs if return_dict else self._in_order(logs)

    def predict_on_batch(self, x: Any) -> Any:
        """Predict as `keras.Model.predict_on_batch`, after checking."""
        x, _, _ = self._checked(x, None, labelled=False)
        return super().predict_on_batch(x)

    def _in_order(self, logs):
        return [logs[name] for name in self.metrics_names if name in logs]

    def _checked_training(self, x, y, sample_weight, class_weight):
        num_examples = None
        if self.compiled:
            num_examples = self.method.num_examples
            if self.training_step.prepare():
                self.train_function = None
        return self._checked(
            x,
            y,
            sample_weight,
            num_examples=num_examples,
            class_weights=checks.class_weights(class_weight, self.num_classes),
        )

    def _checked(self, x, y, sample_weight=None, **requirements):
        return checked(
            x,
            y,
            sample_weight,
            image_shape=self.input_shape[1:],
            num_classes=self.num_classes,
            **requirements,
        )

    def _checked_validation(self, data, batch_size):
        if isinstance(data, (tuple, list)):
            x, y, weights = keras.utils.unpack_x_y_sample_weight(tuple(data))
            x = share(x, batch_size)
            return self._checked(x, y, weights)
        return self._checked(share(data), None)[0]


def _listed(callbacks):
    if callbacks is None:
        return []
    return callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]


def _checkpoints_of(callbacks):
    """Return the `Checkpoints` among callbacks, also within Keras' lists."""
    found = [each for each in callbacks if isinstance(each, Checkpoints)]
    for each in callbacks:
        if isinstance(each, keras.callbacks.CallbackList):
            found += _checkpoints_of(each.callbacks)
    return found


class _TellEpoch(keras.callbacks.Callback):
    """Tell the model which epoch it is, and data that depend on it."""

    def __init__(self, data):
        super().__init__()
        self._data = data

    def on_epoch_begin(self, epoch, logs=None):
        self.model.set_epoch(epoch)
        if hasattr(self._data, "set_epoch"):
            self._data.set_epoch(epoch)
