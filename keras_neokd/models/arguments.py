"""What the models share about their constructor arguments."""

import keras

from keras_neokd.base import checks

_FLOAT32 = "float32"


class BuiltFromArguments:
    """Mixin in front of a model that keeps them in `arguments`.

    Files hold the arguments instead of the graph.
    """

    def get_config(self):
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
    def from_config(cls, config, custom_objects=None):
        """Build the model from what `get_config` returned."""
        arguments = dict(config)
        earlier = keras.config.dtype_policy()
        keras.config.set_dtype_policy(arguments.pop("precision", _FLOAT32))
        try:
            return cls(**arguments)
        finally:
            keras.config.set_dtype_policy(earlier)


def image_shape(input_shape, minimum_size=1):
    """Return `input_shape` as a tuple.

    Args:
        input_shape: height, width and channels of one image.
        minimum_size: smallest height and width that the model can take.

    Returns:
        A tuple of three integers.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If there are not three sizes, or one is too small.
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


def share(name, value):
    """Return `value` as a float in [0, 1].

    Args:
        name: Name of the argument, for the message.
        value: A number.

    Returns:
        A float.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it lies outside [0, 1].
    """
    return checks.number(name, value, minimum=0, maximum=1)


def normalization(value, channels):
    """Return `(mean, standard_deviation)` as tuples, or `None`.

    Args:
        value: `None`, or two sequences with one number per channel.
        channels: Number of channels of the images.

    Returns:
        A pair of tuples, or `None`.

    Raises:
        ValueError: If there is not one mean and one positive standard
            deviation per channel.
    """
    if value is None:
        return None
    value = tuple(
        tuple(checks.number("normalization", each) for each in numbers)
        for numbers in (
            checks.sequence("normalization", each, "a number per channel")
            for each in checks.sequence(
                "normalization", value, "mean and standard deviation"
            )
        )
    )
    if (
        len(value) != 2
        or any(len(values) != channels for values in value)
        or min(value[1]) <= 0
    ):
        raise ValueError(
            "`normalization` must be (mean, standard_deviation) with "
            f"{channels} values each, one per channel, and positive "
            f"standard deviations; received {value}."
        )
    return value


def activation(value):
    """Return the name of an activation function if Keras knows it.

    Args:
        value: A name such as `"relu"`.

    Returns:
        The name.

    Raises:
        TypeError: If it is not a string.
        ValueError: If Keras has no such function.
    """
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
    return value


def exit_places(exits, count, kind):
    """Return which parts of a network end in an exit.

    Args:
        exits: `"last"`, `"all"`, or the numbers of the parts in ascending
            order, from 1; the last part is one of them.
        count: Number of parts.
        kind: What a part is called, for the messages.

    Returns:
        A tuple of integers.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If the numbers are not as described.
    """
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


def positive_integers(name, values):
    """Return a non-empty sequence of positive integers as a tuple.

    Args:
        name: Name of the argument, for the message.
        values: A sequence.

    Raises:
        TypeError: If a value is not an integer.
        ValueError: If there is none, or one is smaller than 1.
    """
    values = checks.sequence(name, values, "integers")
    values = tuple(checks.integer(name, n, minimum=1) for n in values)
    if not values:
        raise ValueError(f"`{name}` needs at least one integer, received ().")
    return values
