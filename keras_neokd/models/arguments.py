"""Checks of constructor arguments that the models share."""

from keras_neokd import checks


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
    sizes = tuple(input_shape)
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
    number = checks.number(name, value, minimum=0)
    if number > 1:
        raise ValueError(
            f"`{name}` is a share and needs to be at most 1, received {value}."
        )
    return number
