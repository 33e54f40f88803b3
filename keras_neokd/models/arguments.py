"""Constructor arguments of the models: checks, and files that hold them."""

from typing import Any
from typing import Self

import keras

from keras_neokd.base import checks
from keras_neokd.base.typing import Mixin

_FLOAT32 = "float32"


class BuiltFromArguments(Mixin):
    """Mixin in front of a model: files hold `arguments` instead of the graph.

    Attributes:
        arguments: dict of the checked constructor arguments, without `name`
            and `trainable`.
    """

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments, and the precision if not float32.

        Constructors take the precision from `keras.config.dtype_policy()`.
        """
        config = {
            **self.arguments,
            "name": self.name,
            "trainable": self.trainable,
        }
        # Heads and pixels are in float32 in any case.
        names = {layer.dtype_policy.name for layer in self.layers}
        for name in names - {_FLOAT32}:
            config["precision"] = name
        return config

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> Self:
        """Build the model from what `get_config` returned."""
        arguments = dict(config)
        earlier = keras.config.dtype_policy()
        keras.config.set_dtype_policy(arguments.pop("precision", _FLOAT32))
        try:
            return cls(**arguments)
        finally:
            keras.config.set_dtype_policy(earlier)


def given(names):
    """Return the arguments of a network from its constructor's `locals()`."""
    others = ("self", "__class__", "name", "trainable")
    return {key: names[key] for key in names if key not in others}


def checked(settings, num_parts, kind, minimum_size=1):
    """Return the arguments of a backbone, those that all have checked.

    Args:
        settings: dict of the arguments.
        num_parts: number of parts that may end in an exit.
        kind: Name of a part, for the messages.
        minimum_size: as in `image_shape`.
    """
    checks.integer("num_classes", settings["num_classes"], minimum=2)
    exits = _exit_places(settings["exits"], num_parts, kind)
    _check_activation(settings["activation"])
    shape = image_shape(settings["input_shape"], minimum_size)
    return {
        **settings,
        "input_shape": shape,
        "exits": exits,
        "normalization": normalization(settings["normalization"], shape[-1]),
    }


def image_shape(input_shape, minimum_size=1):
    """Return (height, width, channels) as a tuple, or raise.

    Args:
        input_shape: three integers.
        minimum_size: smallest height and width that the model can take.
    """
    sizes = checks.sequence("input_shape", input_shape, "three integers")
    if len(sizes) != 3:
        raise ValueError(
            "`input_shape` needs three integers (height, width, channels), "
            f"received {input_shape!r}."
        )
    sizes = tuple(checks.integer("input_shape", n, minimum=1) for n in sizes)
    if min(sizes[:2]) < minimum_size:
        raise ValueError(
            f"`input_shape` needs a height and width of at least "
            f"{minimum_size} pixels for this model, received {sizes}. "
            "Resize the images."
        )
    return sizes


def normalization(value, channels):
    """Return `(mean, standard_deviation)` as tuples, or `None`.

    Args:
        value: `None`, or two sequences with one number per channel; standard
            deviations are positive.
        channels: Number of channels of the images.
    """
    if value is None:
        return None
    pair = checks.sequence(
        "normalization", value, "mean and standard deviation"
    )
    pair = tuple(
        tuple(
            checks.number("normalization", each)
            for each in checks.sequence(
                "normalization", numbers, "a number per channel"
            )
        )
        for numbers in pair
    )
    if [*map(len, pair)] != [channels] * 2 or min(pair[1]) <= 0:
        raise ValueError(
            "`normalization` must be (mean, standard_deviation) with "
            f"{channels} values each, one per channel, and positive "
            f"standard deviations; received {pair}."
        )
    return pair


def one_per(kind, **sequences):
    """Return tuples of positive integers that are equally long.

    Args:
        kind: Name of a part of the network, for the message.
        **sequences: Two arguments with one integer per part.
    """
    checked = [
        tuple(
            checks.integer(name, each, minimum=1)
            for each in checks.sequence(name, values, "integers")
        )
        for name, values in sequences.items()
    ]
    first, second = checked
    if not first or len(first) != len(second):
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in sequences)} need one value "
            f"per {kind} each; received {first} and {second}."
        )
    return checked


def _check_activation(value):
    if not isinstance(value, str):
        raise TypeError(
            "`activation` needs the name of a function of "
            f"keras.activations, received {value!r}."
        )
    try:
        keras.activations.get(value)
    except ValueError:
        raise ValueError(
            f"Unknown `activation` {value!r}: expected the name of a "
            'function of keras.activations, such as "relu", "silu", "gelu" '
            'or "softplus".'
        ) from None


def _exit_places(exits, count, kind):
    """Return the numbers of the parts that end in an exit."""
    if isinstance(exits, str):
        if exits not in ("last", "all"):
            raise ValueError(
                f'Unknown `exits` {exits!r}: expected "last", "all" or a '
                f"tuple of {kind} numbers from 1 to {count}."
            )
        return tuple(range(1 if exits == "all" else count, count + 1))
    exits = checks.sequence("exits", exits, f"{kind} numbers")
    places = tuple(checks.integer("exits", n, minimum=1) for n in exits)
    if list(places) != sorted(set(places)) or places[-1:] != (count,):
        raise ValueError(
            f"`exits` needs {kind} numbers from 1 to {count} in ascending "
            f"order, the last of them {count} (what follows the last exit "
            f"would be computed for nothing); received {places}."
        )
    return places
