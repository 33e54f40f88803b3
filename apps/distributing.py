"""Several devices and processes: what `config.distribution` stands for.

    with distributing.scope(config):    # model, data and training within

Under `mirrored` and `data_parallel` all devices work on the same batch.
"""

import contextlib
import functools
import os

import keras

from keras_neokd.base import checks

STRATEGIES = ("none", "mirrored", "data_parallel")
_BACKENDS = {"mirrored": "tensorflow", "data_parallel": "jax"}
# How a process is told which one it is, here or as Keras' own variables.
PROCESS_KEYS = ("job_addresses", "num_processes", "process_id")
_VARIABLE = "KERAS_DISTRIBUTION_{}"


@contextlib.contextmanager
def scope(config, max_processes=None):
    """Distribute over devices and processes whatever is made within.

    Args:
        config: a whole config.
        max_processes: how many there may be, `None` (default) for any.

    Raises:
        ValueError: if `config.distribution` is not possible.
        RuntimeError: if the other processes cannot be reached.
    """
    strategy = _check(config.distribution, config.attack.training_mode)
    if strategy == "mirrored":
        with mirrored_strategy().scope():
            yield
    elif strategy == "data_parallel":
        _join(config.distribution, max_processes)
        distribution = keras.distribution.DataParallel(
            auto_shard_dataset=False  # `keras_neokd.data.sharing` does it.
        )
        with distribution.scope():
            yield
    else:
        yield


def _check(section, crafts_in_training_mode):
    strategy = checks.choice(
        "distribution.strategy", section.strategy, STRATEGIES
    )
    name = f"distribution.strategy={strategy!r}"
    used = keras.config.backend()
    needed = _BACKENDS.get(strategy, used)
    if needed != used:
        raise ValueError(
            f"{name} needs KERAS_BACKEND={needed}, it is {used!r}. "
            + _ALTERNATIVES[used]
        )
    given = [
        *(key for key in PROCESS_KEYS if section[key] is not None),
        *(each for each in map(_variable, PROCESS_KEYS) if each in os.environ),
    ]
    if given and strategy != "data_parallel":
        raise ValueError(
            f"{', '.join(given)} say that this is one of several processes, "
            f"and {name} trains in one. Leave them out (unset variables), or "
            "use --config.distribution.strategy=data_parallel with "
            "KERAS_BACKEND=jax."
        )
    if section.synchronized_batch_norm and strategy == "none":
        raise ValueError(
            "distribution.synchronized_batch_norm=True needs several devices: "
            "choose a --config.distribution.strategy, or leave it out."
        )
    if (
        section.synchronized_batch_norm
        and strategy == "mirrored"
        and crafts_in_training_mode
    ):
        raise ValueError(
            "distribution.synchronized_batch_norm=True does not go with "
            "attack.training_mode=True: TensorFlow's replicas cannot wait for "
            "each other within the loop of an attack. Leave one of them out, "
            "or train on JAX."
        )
    return strategy


_ALTERNATIVES = {
    "tensorflow": "TensorFlow distributes with 'mirrored'.",
    "jax": "JAX distributes with 'data_parallel'.",
    "torch": "Keras trains on one device under PyTorch: use 'none', or "
    "another backend.",
}


def _variable(key):
    return _VARIABLE.format(key.upper())


@functools.cache
def mirrored_strategy():
    """Return this process's one strategy over all its GPUs, or all its CPUs.

    TensorFlow numbers the collective operations of each strategy from the same
    start: a second one over the same devices meets those of the first and
    fails with "Shape mismatch in the collective instance".
    """
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([each.name for each in devices])


def _join(section, max_processes):
    """Find the other processes, if this is one of several."""
    given = {key: _given(section, key) for key in PROCESS_KEYS}
    if all(value is None for value in given.values()):
        return
    missing = [key for key, value in given.items() if value is None]
    if missing:
        raise ValueError(
            f"Several processes need {', '.join(PROCESS_KEYS)}; missing: "
            f"{', '.join(missing)}. Give --config.distribution.{missing[0]} "
            f"or {_variable(missing[0])}."
        )
    count = checks.integer(
        "distribution.num_processes", given["num_processes"], minimum=1
    )
    number = checks.integer(
        "distribution.process_id", given["process_id"], minimum=0
    )
    if number >= count:
        raise ValueError(
            f"distribution.process_id needs 0 to {count - 1} for "
            f"num_processes={count}; received {number}."
        )
    addresses = given["job_addresses"].split(",")
    if len(addresses) not in (1, count):
        raise ValueError(
            "distribution.job_addresses needs the address of process 0, or "
            f"of all {count} processes; received {len(addresses)}: "
            f"{given['job_addresses']}."
        )
    if not all(each.rpartition(":")[2].isdigit() for each in addresses):
        raise ValueError(
            "distribution.job_addresses needs HOST:PORT, such as "
            f"10.0.0.1:1234; received {given['job_addresses']!r}."
        )
    if max_processes is not None and count > max_processes:
        raise ValueError(
            f"This app runs in one process, on all its devices; received "
            f"num_processes={count}. Several machines can each do a part, "
            "such as one attack."
        )
    if count > 1:
        keras.distribution.initialize(addresses[0], count, number)
        _check_devices()


def _check_devices():
    # Here, since other backends work without JAX.
    import jax

    from keras_neokd.backend.jax import devices

    devices.check_processes(jax.devices())


def _given(section, key):
    if section[key] is not None or _variable(key) not in os.environ:
        return section[key]
    value = os.environ[_variable(key)]
    if key == "job_addresses":
        return value
    try:
        return int(value)
    except ValueError:
        raise ValueError(
            f"{_variable(key)} needs an integer, received {value!r}."
        ) from None


def check_batches(config, **counts):
    """Raise `ValueError` if a batch would leave a replica without images.

    Args:
        config: a whole config.
        **counts: number of images of each data set.
    """
    if config.distribution.strategy != "mirrored":
        return  # JAX gives every device as many.
    replicas = mirrored_strategy().num_replicas_in_sync
    batch_size = config.data.batch_size
    for name, count in counts.items():
        for size in (min(batch_size, count), count % batch_size):
            # Each gets as many as the first one, as long as there are any.
            if size and size <= (replicas - 1) * -(-size // replicas):
                raise ValueError(
                    f"A batch of {size} of the {count} {name} images leaves "
                    f"one of {replicas} devices without images. Choose "
                    "another --config.data.batch_size (it is "
                    f"{batch_size}, over all devices), or another "
                    f"number of {name} images."
                )


@contextlib.contextmanager
def synchronized(model, config):
    """Let batch norm see the whole batch within, if the config says so.

    A layer saved with it could not be loaded under another backend.
    """
    section = config.distribution
    layers = []
    # JAX compiles one step for the whole batch, and does so anyway.
    if section.synchronized_batch_norm and section.strategy == "mirrored":
        layers = [
            layer
            for layer in _layers(model)
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
    for layer in layers:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer in layers:
            layer.synchronized = False


def _layers(model):
    for layer in model.layers:
        yield layer
        yield from _layers(layer) if hasattr(layer, "layers") else ()
