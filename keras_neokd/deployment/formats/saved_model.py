"""SavedModels, which TensorFlow and TensorFlow Serving run."""

from keras_neokd.base import writing
from keras_neokd.deployment.formats.format import Format


class SavedModel(Format):
    """A folder with the signature `serving_default`."""

    name = "saved_model"
    ending = "_saved_model"
    extra = "export"
    writers = runners = ("tensorflow",)

    def write(self, source, target, precision, examples):
        """Move the folder, see `Format`."""
        writing.move_folder(source, target)

    def open(self, path, num_threads=None):
        """Return its signature, see `Format`."""
        import tensorflow as tf

        if num_threads is not None:
            try:
                tf.config.threading.set_intra_op_parallelism_threads(
                    num_threads
                )
            except RuntimeError as error:
                raise ValueError(
                    "TensorFlow sets its threads once, for the whole process, "
                    f"and has started already: received {num_threads}. Open "
                    "the artefact before anything else uses TensorFlow."
                ) from error
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures["serving_default"]

        def run(inputs):
            tensors = {
                name: tf.constant(value) for name, value in inputs.items()
            }
            # What is loaded lives as long as the function that uses it.
            return {
                name: value.numpy()
                for name, value in function(**tensors).items()
            }

        run.loaded = loaded
        return run
