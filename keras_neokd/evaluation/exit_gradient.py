"""Where an exit looks: the input gradient of its cross-entropy."""

from keras_neokd import backend
from keras_neokd import losses


def exit_gradient(predict, exit_, images, labels):
    """Return the gradient of each image's cross-entropy at one exit.

    Args:
        predict: what `MultiExitModel.exit_logits` returns.
        exit_: index of the exit in depth order.
        images: tensor `(batch, height, width, channels)`.
        labels: tensor of integers `(batch,)`.

    Returns:
        Tensor like `images`, in nats per pixel unit.
    """
    return backend.value_and_input_gradient(
        lambda x: losses.cross_entropy(predict(x, (exit_,))[0], labels), images
    )[1]
