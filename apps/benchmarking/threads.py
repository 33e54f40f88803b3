"""How many threads a framework takes."""


def limit(backend, threads):
    """Set the number of threads; before Keras and anything else is imported.

    Args:
        backend: name of the framework.
        threads: number of threads. JAX follows the cores that its process
            may use instead.
    """
    if backend == "tensorflow":
        # It takes no settings once it has started.
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    elif backend == "torch":
        import torch

        torch.set_num_threads(threads)
