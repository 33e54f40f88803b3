"""Run an attack on small models: arrays in, arrays out."""

import keras
import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.attacks.search import Problem
from keras_neokd.base import randomness
from tests import arrays
from tests.reference import equations as reference
from tests.reference import searches

SHAPE = (4, 3, 2)
LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 2])


def two_exits(num_classes=5, shape=SHAPE, **arguments):
    return searches.QuadraticExits(2, shape, num_classes, **arguments)


def some_images(count=8, shape=SHAPE, seed=7):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(count, *shape)).astype("float32")


def predicted(model, images):
    """Labels that the mean logits give: none of them starts misclassified."""
    logits = [model.logits(images, i) for i in range(model.num_exits)]
    return np.mean(logits, axis=0).argmax(axis=1)


def batch(shape=SHAPE, **arguments):
    """Return a model, images, and labels that are right."""
    model, images = (
        two_exits(shape=shape, **arguments),
        some_images(shape=shape),
    )
    return model, images, predicted(model, images)


def examples(model, images, labels, seed=0, **arguments):
    """Return an `Example` of the reference for each image."""
    return [
        searches.Example(
            model,
            image,
            label,
            reference.bits_of_words(seed, index),
            **arguments,
        )
        for index, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def expected(examples, attempt, num_attempts=1):
    """What the reference returns: images, and the attempts that fooled them.

    An attempt is called as `attempt(example, number)`.
    """
    found = [
        searches.several_attempts(each, attempt, num_attempts)
        for each in examples
    ]
    images, winners = zip(*found, strict=True)
    return np.array(images), winners


def assert_found(attack, attempt, batch, num_attempts=1, atol=1e-5, **given):
    """Compare an attack's images with a reference's; return its winners."""
    model, images, labels = batch
    found, winners = expected(
        examples(model, images, labels, **given), attempt, num_attempts
    )
    received = attacker(attack, model)(images, labels)
    arrays.close(received, found, atol=atol)
    return winners


def assert_ends(
    attack,
    run,
    batch,
    names,
    attempt=0,
    seed=0,
    rtol=1e-7,
    atol=1e-5,
    success="never",
    **given,
):
    """Compare the end of an attempt, by names; return the reference's.

    `names` are those of the state for those of what `run`, the reference,
    returns for an example.
    """
    state = final_state(attack, *batch, attempt, seed)
    each_example = examples(*batch, seed, success=success, **given)
    ends = [run(each) for each in each_example]
    for name, ours in names.items():
        found = [each[name] for each in ends]
        arrays.close(state[ours], found, rtol, atol, err_msg=name)
    return ends


def start_of(images, attack, *words, seed=0):
    """The reference's start: random numbers of (seed, index), then words."""
    if not attack.random_start:
        return images.astype("float64")
    keys = reference.bits(seed, np.arange(len(images)))
    for word in words:
        keys = reference.bits(keys, word)
    return reference.random_start(images, keys, attack.epsilon, attack.norm)


def iterates_of(attack, model, images, labels, exits, *words, seed=0):
    """The iterates of PGD, from the start on."""
    return reference.pgd(
        model,
        images.astype("float64"),
        labels,
        exits,
        start_of(images, attack, *words, seed=seed),
        attack.epsilon,
        attack.step_size,
        attack.num_steps,
        attack.norm,
        attack.objective.loss,
    )


def tensors(images, labels, index=None, seed=0):
    """Images, labels and keys of (seed, index)."""
    index = np.arange(len(images)) if index is None else np.asarray(index)
    keys = randomness.host_bits(seed, index).view("int32")
    return (
        arrays.tensor(images),
        arrays.tensor(labels, "int32"),
        ops.convert_to_tensor(keys),
    )


def attacker(attack, model, also=None, is_compiled=True):
    """Return a function of (images, labels, index, seed) as NumPy arrays.

    It returns images, and the entry of `info` named by `also`. Compiled, a
    further call of the same shapes costs next to nothing.
    """
    predict = attacks.ExitLogits(model, model.num_exits)

    def generate(*batch):
        adversarial, info = attack.generate(predict, *batch)
        return (adversarial, info[also]) if also else adversarial

    if is_compiled:
        generate = backend.compile_function(generate, [])

    def attacked(images, labels, index=None, seed=0):
        found = generate(*tensors(images, labels, index, seed))
        return keras.tree.map_structure(ops.convert_to_numpy, found)

    return attacked


def quick_attacker(attack, model, also=None):
    """Return an `attacker` of few steps.

    JAX needs it compiled to be fast, TensorFlow to be slow.
    """
    is_compiled = keras.config.backend() == "jax"
    return attacker(attack, model, also, is_compiled)


def calls_of_tracing(attack, model, images, labels):
    """Return how often a model is called where the attack is compiled."""
    attacker(attack, model)(images, labels)
    return len(model.calls)


class NeverFooled(attacks.AverageExits):
    """The mean over all exits, and searches go on to their end."""

    def fooled(self, logits, labels):
        return ops.zeros_like(super().fooled(logits, labels))


def final_state(attack, model, images, labels, attempt=0, seed=0):
    """Return the state at the end of an attempt, as NumPy arrays."""
    predict = attacks.ExitLogits(model, model.num_exits)

    def search(*batch):
        problem = Problem(predict, attack.objective, *batch)
        return ops.fori_loop(
            0,
            attack.num_rounds(),
            lambda round_, state: attack.advance(problem, round_, state),
            attack.start(problem, attempt),
        )

    search = backend.compile_function(search, [])
    state = search(*tensors(images, labels, seed=seed))
    return keras.tree.map_structure(ops.convert_to_numpy, state)
