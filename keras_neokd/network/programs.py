"""Keep what was compiled for a model, for as long as it is right.

    step = model.programs.kept(_compiled_step, attack, shape=(256, 28, 28, 1))

`_compiled_step(model, attack)` compiles. A later call with equal arguments
returns the same program, and traces nothing. Programs read weights whenever
they run; whatever else tracing reads is compared with what it was: attributes
of attacks and layers, the shape, devices, Keras' settings. Programs belong to
their model and go with it.

Nothing is kept for an attack or a model that holds what may change unseen: an
array in an attack, a tensor or a model, a function or an object of others, a
class that is not registered with `keras.saving`. Registered ones promise to
read their own attributes and those of their class, and nothing else.
"""

import copy
import functools
import types

import keras
import numpy as np

from keras_neokd import backend
from keras_neokd.base.configurable import Configurable

# AutoAttack needs nine, and its longest version thirteen.
_MOST = 32
_PLAIN = (type(None), bool, int, float, str, bytes, np.generic)
_OURS = ("keras", "keras_neokd")


class Programs:
    """The 32 programs of a model that were used last.

    Args:
        model: a `MultiExitModel`.
    """

    def __init__(self, model):
        self._model, self._kept, self._layers = model, {}, None

    def kept(self, build, *given, shape=()):
        """Return `build(model, *given)`, that of an equal call if it is kept.

        Args:
            build: function of this library that compiles; what it returns
                depends on its arguments alone.
            *given: further arguments of it.
            shape: sizes of the tensors, an integer or a tuple, that have to
                be equal, too: others would be traced again.
        """
        self.refresh()
        read = None if self._layers is None else _look_at(given, _refuse)
        if read is None:
            return build(self._model, *given)
        key = build, shape, read, _Same(backend.placement())
        program, copies = self._kept.pop(key, (None, None))
        # Tracing may have changed what it was given.
        if copies is None or _look_at(copies, _refuse) != read:
            # Copies: the caller may change what he gave.
            copies = copy.deepcopy(given)
            program = build(self._model, *copies)
        # The last one is the one used last.
        self._kept[key] = program, copies
        if len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]
        return program

    def refresh(self):
        """Let everything go that was made of layers which changed since."""
        model, read = self._model, None
        # PyTorch compiles nothing; a class of others may compute by itself.
        if keras.config.backend() != "torch" and _is_ours(type(model)):
            read = _look_at(
                [_keras_settings(), model.variables, model.layers], _of_layer
            )
        if read is None or read != self._layers:
            self._kept, self._layers = {}, read
            model.forget_frozen_network()


def _keras_settings():
    config = keras.config
    return (
        *(config.floatx(), config.epsilon(), config.image_data_format()),
        config.dtype_policy().name,
    )


class _Same:
    """Equals another one of the same object."""

    def __init__(self, value):
        self._value = value

    def __eq__(self, other):
        return isinstance(other, _Same) and self._value is other._value

    def __hash__(self):
        return id(self._value)


def _look_at(value, look):
    """Return a token that is equal as long as nothing changes, or `None`."""
    try:
        return _token(value, look)
    # What refers to itself is not looked at, either.
    except (NotImplementedError, RecursionError):
        return None


def _token(value, look):
    """Return the token of plain values; `look` returns that of others."""
    if isinstance(value, _PLAIN):
        return type(value), repr(value)
    if isinstance(value, (list, tuple)):
        return type(value), tuple(_token(each, look) for each in value)
    if isinstance(value, dict):
        return type(value), _token([*value.items()], look)
    if isinstance(value, Configurable):
        return _class(type(value)), _token(vars(value), look)
    return look(value)


def _refuse(value):
    """Return the token of a function, all that there may be in an attack."""
    if not isinstance(value, types.FunctionType):
        raise NotImplementedError
    return _known(value)


def _of_layer(value):
    """Return the token of a layer, or of what a layer holds."""
    if isinstance(value, keras.Layer):
        return _layer(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.dtype.str, value.shape, value.tobytes()
    if not keras.ops.is_tensor(value):
        _known(value if isinstance(value, types.FunctionType) else type(value))
    return _Same(value)


def _layer(layer):
    parts = [layer.trainable, layer.dtype_policy, layer.autocast]
    is_graph = isinstance(layer, keras.Sequential) or hasattr(
        layer, "operations"
    )
    if is_graph and _is_ours(type(layer)):
        parts.append(layer.layers)
    else:
        names = vars(layer).keys() - _records()
        parts.append([(each, vars(layer)[each]) for each in sorted(names)])
    return _Same(layer), _class(type(layer)), _token(parts, _of_layer)


@functools.cache
def _records():
    """Return the names of what Keras notes down in all layers."""
    inner = keras.layers.Identity(name="inner")
    # TensorFlow notes down more of a layer that holds another.
    return vars(keras.layers.Wrapper(inner, name="outer")).keys() - {"layer"}


def _class(kind):
    """Return the token of a class, with what classes of others hold."""
    if _is_ours(kind):
        return _Same(kind)
    own = [
        {**vars(each), "__slotnames__": None}  # A note of `copy`.
        for each in kind.__mro__
        if not _is_ours(each)
    ]
    return _known(kind), _token(own, _Same)


def _known(thing):
    """Return the token of a class or function that does not change unseen."""
    name = keras.saving.get_registered_name(thing)
    if not _is_ours(thing) and name == thing.__name__:
        raise NotImplementedError
    return _Same(thing)


def _is_ours(thing):
    return (thing.__module__ or "").partition(".")[0] in _OURS
