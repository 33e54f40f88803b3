"""ONNX files, which ONNX Runtime runs.

They are made from a LiteRT file: of a SavedModel tf2onnx does not take the
branches (docs/runtimes.md).
"""

import logging

from keras_neokd.deployment.formats.format import Format
from keras_neokd.deployment.formats.litert import LiteRT


class ONNX(Format):
    """An `.onnx` file with the operators of ONNX alone."""

    name = "onnx"
    ending = ".onnx"
    extra = "onnx"
    writers = ("tensorflow", "tf2onnx", "onnx")
    runners = ("onnxruntime",)

    def write(self, source, target, precision, examples):
        """Write a LiteRT file and convert it, see `Format`."""
        import onnx
        import tf2onnx

        lite = target.with_suffix(LiteRT.ending)
        LiteRT().write(source, lite, precision, examples)
        # It tells about each step on the way.
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        model, _ = tf2onnx.convert.from_tflite(str(lite))
        _rename(onnx, model.graph, *_names(lite))
        lite.unlink()
        onnx.checker.check_model(model)
        onnx.save_model(model, str(target))

    def open(self, path, num_threads=None):
        """Return a session on the processor, see `Format`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or 0
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        names = [each.name for each in session.get_outputs()]

        def run(inputs):
            return dict(zip(names, session.run(names, inputs), strict=True))

        return run


def _names(path):
    """Return what a LiteRT file calls inputs and outputs, by our names."""
    import tensorflow as tf

    signature = tf.lite.Interpreter(str(path)).get_signature_runner()
    return [
        {name: each["name"] for name, each in details.items()}
        for details in (
            signature.get_input_details(),
            signature.get_output_details(),
        )
    ]


def _rename(onnx, graph, inputs, outputs):
    """Give the inputs and outputs of a graph our names."""
    ours = {theirs: name for name, theirs in inputs.items()}
    for value in graph.input:
        theirs, value.name = value.name, ours[value.name]
        node = onnx.helper.make_node("Identity", [value.name], [theirs])
        graph.node.insert(0, node)
    ours = {theirs: name for name, theirs in outputs.items()}
    for value in graph.output:
        theirs, value.name = value.name, ours[value.name]
        node = onnx.helper.make_node("Identity", [theirs], [value.name])
        graph.node.append(node)
