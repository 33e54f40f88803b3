"""OpenVINO files, which Intel's runtime runs."""

from keras_neokd.deployment.formats.format import Format


class OpenVINO(Format):
    """An `.xml` file, beside which a `.bin` file holds the weights."""

    name = "openvino"
    ending = ".xml"
    extra = "openvino"
    writers = ("tensorflow", "openvino")
    runners = ("openvino",)
    precisions = ("float32", "float16")

    def write(self, source, target, precision, examples):
        """Write both files, see `Format`."""
        import openvino

        model = openvino.convert_model(str(source))
        openvino.save_model(
            model, str(target), compress_to_fp16=precision == "float16"
        )

    def open(self, path, num_threads=None):
        """Return the model compiled for the processor, see `Format`."""
        import openvino

        options = {
            "PERFORMANCE_HINT": "LATENCY",
            # Else processors with 16-bit products compute in bfloat16.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = num_threads
        compiled = openvino.Core().compile_model(str(path), "CPU", options)

        def run(inputs):
            results = compiled(inputs)
            return {
                each.any_name: results[each].copy() for each in compiled.outputs
            }

        return run
