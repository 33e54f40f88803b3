"""What every exit says about many images."""

from keras import ops

from keras_neokd import backend
from keras_neokd.evaluation import batches


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
    images, labels = batches.check(model, images, labels, batch_size)
    predict = model.exit_logits()

    def step(images, labels, index):
        del labels, index
        logits = ops.stack(predict(ops.convert_to_tensor(images)), axis=1)
        return {"probabilities": ops.softmax(logits, axis=-1)}

    variables = [*model.trainable_variables, *model.non_trainable_variables]
    probabilities = batches.over_examples(
        backend.compile_function(step, variables), images, labels, batch_size
    )["probabilities"]
    batches.check_finite(model, probabilities, "probabilities")
    return probabilities
