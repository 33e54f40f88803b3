"""What a network does to pixels in [0, 1] before its first layer."""

from keras import layers


def normalize(images, normalization):
    """Subtract the mean and divide by the standard deviation.

    It happens inside the model, so that attacks go on seeing pixels in
    [0, 1].

    Args:
        images: Keras tensor `(batch, height, width, channels)`.
        normalization: `None`, or `(mean, standard_deviation)` with one number
            per channel.

    Returns:
        A Keras tensor of the same shape.
    """
    if normalization is None:
        return images
    mean, standard_deviation = normalization
    return layers.Normalization(
        mean=mean,
        variance=[value**2 for value in standard_deviation],
        # Pixels are rounded to fewer bits after it, if at all.
        dtype="float32",
        name="normalization",
    )(images)
