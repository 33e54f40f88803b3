"""Attack a batch in slices: less memory, the same adversarial images.

An attack keeps the activations of all images that it moves together. Where
examples do not see each other (inference mode), a few at a time do as well.
"""

from keras import ops


def attack_in_slices(attack, images, largest, logged):
    """Attack a batch slice by slice, in one compiled loop.

    The slices are as equal as they can be; where they do not divide the
    batch, its last image fills the last one up, and the surplus is dropped.

    Args:
        attack: function of images `(size, height, width, channels)` and their
            rows in the batch, int32 `(size,)` or `None` for the whole batch;
            returns `(adversarial, info)` as `Attack.generate` does.
        images: the batch, `(batch, height, width, channels)`.
        largest: number of images in a slice, at most; `None` for all.
        logged: see `Attack.logged`; other entries of `info` are dropped.

    Returns:
        Tuple `(adversarial, info)` of the whole batch.
    """
    count = ops.shape(images)[0]
    # A compiled step may not know its batch size before it runs.
    if largest is None or (isinstance(count, int) and count <= largest):
        return attack(images, None)
    slices = -(-count // largest)
    size = -(-count // slices)
    filled = ops.minimum(ops.arange(slices * size, dtype="int32"), count - 1)
    info = {
        name: ops.zeros((slices * size, len(exits)), "float32")
        for name, exits in logged.items()
    }

    def attack_slice(number, state):
        # Clean images stand where no slice has come by yet. Taken from the
        # state, slices wait for each other: TensorFlow runs the rounds of a
        # loop at once where it can, which would need the memory of all.
        images, info = state
        places = number * size + ops.arange(size, dtype="int32")
        adversarial, found = attack(
            ops.take(images, places, axis=0), ops.minimum(places, count - 1)
        )
        places = ops.expand_dims(places, 1)
        return ops.scatter_update(images, places, adversarial), {
            name: ops.scatter_update(
                values, places, ops.cast(found[name], "float32")
            )
            for name, values in info.items()
        }

    state = ops.take(images, filled, axis=0), info
    adversarial, info = ops.fori_loop(0, slices, attack_slice, state)
    return adversarial[:count], {
        name: values[:count] for name, values in info.items()
    }
