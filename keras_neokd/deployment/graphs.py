"""What the files of an artefact compute.

    for graph in build(model, "stages"):
        graph.compute(*tensors)      # {"logits": ..., "features_1": ...}

Weights are constants, made where they are used. A branch that gets its weights
from outside is written without an error and runs several times slower, or not
at all (docs/runtimes.md).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Tensors
from keras_neokd.network.multi_exit import MultiExitModel
from keras_neokd.network.stages import build_stages

FORMS = ("exits", "early_exit", "stages")
# Name of the file where there is one.
WHOLE = "model"


class Graph(NamedTuple):
    """A function of one file.

    Attributes:
        name: of the file, without its ending.
        inputs: a `keras.InputSpec` for each argument, with its name.
        compute: function of tensors; returns a dict of tensors by the names
            of the outputs.
    """

    name: str
    inputs: list[keras.InputSpec]
    compute: Callable[..., Tensors]


def build(
    model: MultiExitModel,
    form: str,
    policy: ExitPolicy | None = None,
    exit: str | None = None,
) -> list[Graph]:
    """Return the graphs of a form, which `deploy` describes.

    Args:
        model: a `MultiExitModel`.
        form: one of `FORMS`.
        policy: an `ExitPolicy`; for `"early_exit"`.
        exit: name of the only exit, or None for all; for `"exits"`.
    """
    if form == "exits":
        return [_exits(model, exit)]
    if form == "early_exit":
        return [_early_exit(model, policy)]
    return _stages(model)


def stage_name(index: int) -> str:
    """Return the name of the file of a stage, counted from 0."""
    return f"stage_{index + 1}"


def handed_on(count: int) -> list[str]:
    """Return the names of the outputs of a stage besides `logits`."""
    return [f"features_{number + 1}" for number in range(count)]


def taken_over(count: int) -> list[str]:
    """Return the names of the inputs of a stage but the first.

    Converters take no tensor that is called as an output is.
    """
    return [f"input_{number + 1}" for number in range(count)]


def _exits(model, exit):
    if exit is None:
        compute = _with_constants(model)
    else:
        logits = _with_constants(model.exit_model(exit))

        def compute(images):
            return {exit: logits(images)}

    return Graph(WHOLE, [_images(model)], compute)


def _stages(model):
    graphs, inputs = [], [_images(model)]
    for number, stage in enumerate(build_stages(model)):
        graphs.append(Graph(stage_name(number), inputs, _stage(stage)))
        tensors = stage.outputs[1:]
        names = taken_over(len(tensors))
        inputs = [
            keras.InputSpec(dtype=each.dtype, shape=each.shape, name=name)
            for each, name in zip(tensors, names, strict=True)
        ]
    return graphs


def _stage(stage):
    call = _with_constants(stage)

    def compute(*tensors):
        logits, *rest = _as_list(call(list(tensors)))
        names = handed_on(len(rest))
        return {"logits": logits, **dict(zip(names, rest, strict=True))}

    return compute


def _early_exit(model, policy):
    stages = [_with_constants(stage) for stage in build_stages(model)]
    bounds = [float(each) for each in policy.bounds("float32")]

    def answer(index, tensors, votes):
        """Return the outputs for an image that has come to a stage."""
        logits, *rest = _as_list(stages[index](tensors))
        # By the formula of `ExitPolicy`: a threshold may be 1.
        confidence = policy.at(index, ops.softmax(logits, axis=-1), ops)[1]
        if policy.temperatures is not None:
            logits = logits / policy.temperatures[index]
        logits = ops.log_softmax(logits, axis=-1)
        if policy.ensemble:
            votes = logits if votes is None else ops.logaddexp(votes, logits)
            logits = votes - math.log(index + 1)
        here = (logits, ops.full((1,), index, "int32"), confidence)
        if index + 1 == len(stages):
            return here
        if bounds[index] == math.inf:
            return answer(index + 1, rest, votes)
        return ops.cond(
            # NaN leaves here, too, and is then found.
            ops.logical_not(confidence[0] < bounds[index]),
            lambda: here,
            lambda: answer(index + 1, rest, votes),
        )

    def compute(images):
        names = ("logits", "exit_index", "confidence")
        return dict(zip(names, answer(0, [images], None), strict=True))

    return Graph(WHOLE, [_images(model, batch=1)], compute)


def _images(model, batch=None):
    shape = (batch, *model.input_shape[1:])
    return keras.InputSpec(dtype="float32", shape=shape, name="images")


def _with_constants(model):
    """Return a function of tensors like a model, in inference mode."""
    # Read now: where the function is traced, variables have no values.
    values = [
        [ops.convert_to_numpy(each) for each in group]
        for group in (model.trainable_variables, model.non_trainable_variables)
    ]

    def call(tensors):
        weights = keras.tree.map_structure(ops.convert_to_tensor, values)
        return model.stateless_call(*weights, tensors, training=False)[0]

    return call


def _as_list(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
