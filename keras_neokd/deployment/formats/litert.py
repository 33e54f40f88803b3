"""LiteRT (formerly TensorFlow Lite) files, which phones and servers run."""

from keras_neokd.base import writing
from keras_neokd.deployment.formats.format import PRECISIONS
from keras_neokd.deployment.formats.format import Format


class LiteRT(Format):
    """A `.tflite` file; its runtime is `ai-edge-litert`, with XNNPACK."""

    name = "litert"
    ending = ".tflite"
    extra = "litert"
    writers = ("tensorflow",)
    runners = ("ai_edge_litert",)
    precisions = PRECISIONS

    def write(self, source, target, precision, examples):
        """Write a `.tflite` file, see `Format`."""
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            # Inputs and outputs stay in float32.
            converter.representative_dataset = lambda: examples
        with writing.replacing(target) as path:
            path.write_bytes(converter.convert())

    def open(self, path, num_threads=None):
        """Return an interpreter with XNNPACK, see `Format`."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=num_threads)
        signature = interpreter.get_signature_runner()
        inputs = _indices(signature.get_input_details())
        outputs = _indices(signature.get_output_details())
        shapes = {}

        def run(given):
            wanted = {name: value.shape for name, value in given.items()}
            if shapes != wanted:
                shapes.clear()
                for name, shape in wanted.items():
                    interpreter.resize_tensor_input(inputs[name], shape)
                interpreter.allocate_tensors()
                shapes.update(wanted)
            for name, value in given.items():
                interpreter.set_tensor(inputs[name], value)
            interpreter.invoke()
            return {
                name: interpreter.get_tensor(index)
                for name, index in outputs.items()
            }

        return run


def _indices(details):
    return {name: each["index"] for name, each in details.items()}
