"""What every exit says about many images."""

from keras_neokd.evaluation.anytime import Evaluator


def exit_probabilities(model, images, labels, batch_size=256):
    """Return the softmax of every exit.

    Args:
        model: a `MultiExitModel`.
        images: array `(examples, height, width, channels)` in [0, 1].
        labels: integers `(examples,)` or one-hot; only checked.
        batch_size: images per compiled call. Defaults to 256.

    Returns:
        float32 array `(examples, exits, classes)`.

    Raises:
        ValueError: if the data is not as described, or the model returns
            NaN or infinite logits.
    """
    evaluator = Evaluator(model, batch_size=batch_size)
    return evaluator.probabilities(images, labels)
