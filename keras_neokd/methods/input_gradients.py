"""Input gradients of a student, and their distance from a teacher's."""

from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.attacks.objective import select_exits


def squared_distances(context, images, teaching, exits):
    """Return squared L2 distances between input gradients.

    Args:
        context: a `Context`; its `predict` and labels count.
        images, teaching: images and the teacher's gradients, of one shape.
        exits: `"average"` for the gradient of the mean cross-entropy over
            exits, `"each"` or a sequence of indices for each exit's own.

    Returns:
        Tuple of the indices of the exits that are aligned and `(batch,
        exits)`, 0 for the others; with `"average"` all exits have the same.
    """
    taught = _student_gradients(context, images, exits)
    axes = tuple(range(1, len(images.shape)))
    squares = [
        ops.sum(ops.square(taught.get(exit, teaching) - teaching), axis=axes)
        for exit in range(context.predict.num_exits)
    ]
    return set(taught), ops.stack(squares, axis=1)


def _student_gradients(context, images, exits):
    """Return a dict from exits to the gradients that are aligned."""
    num_exits = context.predict.num_exits

    def gradient(chosen):
        def score(x):
            values = [
                losses.cross_entropy(logits, context.labels)
                for logits in context.predict(x, chosen)
            ]
            return sum(values) / len(values)

        return backend.differentiable_input_gradient(score, images)

    if exits == "average":
        everywhere = tuple(range(num_exits))
        return dict.fromkeys(everywhere, gradient(everywhere))
    chosen = select_exits(None if exits == "each" else exits, num_exits)
    return {exit: gradient((exit,)) for exit in chosen}
