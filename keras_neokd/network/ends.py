"""Check the two ends of a multi-exit model: its images and its logits."""

# Operations that may move the channels of images.
_TURNS = ("Moveaxis", "Permute", "Swapaxes", "Transpose")


def named_outputs(outputs, exit_names):
    """Return a dict from names to logits, in depth order.

    Args:
        outputs: logits, a sequence or a dict of them.
        exit_names: names in depth order, or `None`.
    """
    if not isinstance(outputs, (dict, list, tuple)):
        outputs = [outputs]
    if not isinstance(outputs, dict):
        names = exit_names or [f"exit_{i + 1}" for i in range(len(outputs))]
        if len(names) != len(outputs) or len(set(names)) != len(names):
            raise ValueError(
                "`exit_names` needs one name per output and none twice: "
                f"received {list(names)} for {len(outputs)} outputs."
            )
        return dict(zip(names, outputs, strict=True))
    names = list(outputs) if exit_names is None else list(exit_names)
    if sorted(names) != sorted(outputs):
        raise ValueError(
            "`exit_names` needs each output once: expected the names "
            f"{sorted(outputs)}, received {names}."
        )
    return {name: outputs[name] for name in names}


def single_input(inputs):
    """Return the only input; raise `ValueError` unless it takes images."""
    if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
        inputs = inputs[0]
    if isinstance(inputs, (dict, list, tuple)) or len(inputs.shape) != 4:
        raise ValueError(
            "A multi-exit model needs one input of images (height, width, "
            f"channels), received {inputs}."
        )
    if "float" not in inputs.dtype:
        raise ValueError(
            "Images are floats in [0, 1], which an input of "
            f"dtype={inputs.dtype!r} would round to 0 and 1. Build the "
            "model on a keras.Input of floats."
        )
    return inputs


def count_classes(outputs):
    """Return the number of classes; raise `ValueError` for other outputs."""
    for name, output in outputs.items():
        if len(output.shape) != 2 or output.shape[1] is None:
            raise ValueError(
                f"Exit {name!r} needs logits of shape (batch, classes), "
                f"received shape {tuple(output.shape)}. Add pooling or "
                "flattening and a dense layer."
            )
    counts = {name: output.shape[1] for name, output in outputs.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"All exits need the same number of classes, received {counts}."
        )
    num_classes = next(iter(counts.values()))
    if num_classes == 1:
        raise ValueError(
            "Exits need two logits or more, received one per exit: the softmax "
            "of a single logit is 1 whatever the image. For two classes, end "
            "each exit in a keras.layers.Dense(2), and give labels 0 and 1."
        )
    return num_classes


def check_channels_last(model):
    """Raise `ValueError` for images with their channels first.

    Attacks on squares of the image, augmentation and diagnostics take the
    last axis for the channels.
    """
    operations = list(_operations(model))
    first = [
        operation.name
        for operation in operations
        if getattr(operation, "data_format", None) == "channels_first"
    ]
    turned = {type(each).__name__ for each in operations} & {*_TURNS}
    if first and not turned:
        raise ValueError(
            "A multi-exit model needs images (height, width, channels), and "
            f"layer {first[0]!r} has data_format='channels_first'. Use "
            "'channels_last', or put keras.layers.Permute((3, 1, 2)) behind "
            "the input."
        )


def _operations(model):
    """Yield the operations of a model and of the models nested in it."""
    for operation in model.operations:
        yield operation
        if hasattr(operation, "operations"):
            yield from _operations(operation)
