"""Share rows and values over the devices and processes of JAX."""

import collections
import functools

import jax
import keras


def check_processes(devices):
    """Raise `ValueError` unless all processes have as many devices.

    Each knows those of all, so all raise the error, and none waits.

    Args:
        devices: `jax.devices()`.
    """
    counts = collections.Counter(each.process_index for each in devices)
    if len(set(counts.values())) > 1:
        listed = ", ".join(
            f"{count} on process {process}"
            for process, count in sorted(counts.items())
        )
        raise ValueError(
            "Every process feeds an equal part of each batch, and needs as "
            f"many devices as the others; received {listed}. Leave devices "
            "out where there are more, with CUDA_VISIBLE_DEVICES."
        )


def gather_processes(values):
    """See `backend.gather_processes`."""
    distribution = keras.distribution.distribution()
    if distribution is None or distribution.num_processes == 1:
        return values[None]
    sharded, whole = layouts(distribution)
    devices = distribution.device_mesh.devices.size
    own = devices // distribution.num_processes
    rows = jax.make_array_from_process_local_data(
        sharded, values[None].repeat(own, axis=0), (devices, *values.shape)
    )
    return _every(rows, own, whole)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _every(rows, step, sharding):
    return jax.lax.with_sharding_constraint(rows[::step], sharding)


def layouts(distribution):
    """Return JAX's shardings of rows, and of an array copied to all devices."""
    mesh = distribution.device_mesh
    return (
        distribution.get_data_layout((None,)).backend_layout,
        keras.distribution.TensorLayout((), mesh).backend_layout,
    )


def sharing_rows(function, devices, sharding):
    """Return the function for `backend.compile_per_example` on several devices.

    Args:
        function: as there.
        devices: number of devices.
        sharding: JAX's sharding of rows.
    """

    def shared(*arguments):
        leaves = jax.tree.leaves(arguments)
        count = max(len(each) for each in leaves if each.ndim)
        # JAX shards what it can divide: the last row fills up.
        rows = jax.numpy.minimum(
            jax.numpy.arange(-(-count // devices) * devices), count - 1
        )

        def shard(x):
            if not x.ndim:
                return x
            return jax.lax.with_sharding_constraint(x[rows], sharding)

        outputs = function(*jax.tree.map(shard, arguments))
        return jax.tree.map(lambda x: x[:count], outputs)

    return shared
