"""Checks of what `compile` is given and what methods return."""

import keras

from keras_neokd import attacks
from keras_neokd import checks
from keras_neokd import precision

_EXAMPLES = {
    "optimizer": "keras.optimizers.SGD(0.1, momentum=0.9)",
    "method": '"neo_kd"',
    "attack": "keras_neokd.attacks.MaxAverage(keras_neokd.attacks.PGD("
    "epsilon=8/255, step_size=2/255, num_steps=7))",
}


def check_present(**arguments):
    """Raise `ValueError` for an argument of `compile` that is `None`."""
    for name, value in arguments.items():
        if value is None:
            raise ValueError(
                f"`compile` needs `{name}`, for example "
                f"{name}={_EXAMPLES[name]}."
            )


def check_terms(terms, method, num_exits):
    """Raise an error if a method returns other terms than it says.

    Args:
        terms: what the method returned.
        method: a `methods.Method`.
        num_exits: number of exits of the model.

    Raises:
        TypeError: if they are no list of `methods.Term`.
        ValueError: if the names are others than `term_names` says, under
            which training logs them.
    """
    if not all(hasattr(each, "values") for each in terms):
        raise TypeError(
            f"{method!r} needs to return a list of methods.Term, received "
            f"{checks.shown(terms)}."
        )
    found = [each.name for each in terms]
    expected = list(method.term_names(num_exits))
    if sorted(found) != sorted(expected):
        raise ValueError(
            f"{method!r} returned the terms {found}, and its term_names() and "
            f"extra_term_names() say {expected}. Name there what extra_terms() "
            "returns: training logs the terms under these names."
        )


def check_term(term, num_exits):
    """Return the weights of a term as a float32 tensor.

    Args:
        term: a `methods.Term`.
        num_exits: number of exits of the model.

    Raises:
        ValueError: if its values or its weights do not fit its level.
    """
    rank = {"example": 2, "batch": 1, "weights": 1}.get(term.level)
    shape = tuple(term.values.shape)
    if len(shape) != rank or shape[-1] != num_exits:
        raise ValueError(
            f"Term {term.name!r} needs values (batch, exits), or (exits,) "
            'with level="batch" or level="weights", for '
            f"{num_exits} exits; received shape {shape} with "
            f"level={term.level!r}."
        )
    weights = keras.ops.convert_to_tensor(term.weights, "float32")
    if tuple(weights.shape) != (num_exits,):
        raise ValueError(
            f"Term {term.name!r} needs one weight per exit: expected "
            f"{num_exits}, received {checks.shown(term.weights)}."
        )
    return weights


def check_optimizer(optimizer):
    """Return the optimizer of training.

    Args:
        optimizer: a Keras optimizer or its name.

    Raises:
        ValueError: if its learning rate is negative or not finite, with
            which training would climb.
    """
    optimizer = keras.optimizers.get(optimizer)
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    checks.number("learning_rate", rate, minimum=0)
    return optimizer


def check_attack(attack, method, num_exits):
    """Return the attack of training.

    Args:
        attack: argument of `compile`.
        method: a `methods.Method`.
        num_exits: number of exits of the model.

    Raises:
        TypeError, ValueError: if it is none that the method can train with.
    """
    check_present(attack=attack)
    attack = attacks.get(attack)
    attack.validate(num_exits)
    if attack.epsilon == 0:
        raise ValueError(
            "Training needs an attack with epsilon > 0, received "
            f"{attack!r}. epsilon=0 is for evaluation only."
        )
    if method.replaces_attack() and not hasattr(attack, "with_loss"):
        raise ValueError(
            f"{method!r} has an inner objective of its own, so it needs an "
            "attack whose loss can be replaced, PGD or MaxAverage(PGD); "
            f"received {attack!r}."
        )
    return attack


def check_crafting(crafting_batch_size, attack_training_mode):
    """Raise an error if a batch cannot be crafted in such slices.

    Args:
        crafting_batch_size: argument of `compile`.
        attack_training_mode: argument of `compile`.

    Raises:
        TypeError, ValueError: if it is no integer >= 1, the mode is no bool,
            or slices are crafted in training mode or on several devices of a
            `keras.distribution`.
    """
    checks.boolean("attack_training_mode", attack_training_mode)
    if crafting_batch_size is None:
        return
    checks.integer("crafting_batch_size", crafting_batch_size, minimum=1)
    if attack_training_mode:
        raise ValueError(
            "In training mode the images of a batch share statistics and "
            "draws, so a slice of it would give others: received "
            f"crafting_batch_size={crafting_batch_size} with "
            "attack_training_mode=True. Leave one of them out."
        )
    distribution = keras.distribution.distribution()
    devices = (
        1 if distribution is None else distribution.device_mesh.devices.size
    )
    if devices > 1:
        raise ValueError(
            f"crafting_batch_size={crafting_batch_size} is for one device or "
            "a tf.distribute strategy: a slice would lie on few of the "
            f"{devices} devices of this keras.distribution, such as "
            "distribution.strategy='data_parallel'. Leave it out, or use "
            "smaller batches."
        )


def check_jit(jit_compile):
    """Raise an error if the backend cannot compile the training step so.

    Args:
        jit_compile: argument of `compile`.

    Raises:
        TypeError: if it is neither a bool nor a text.
        ValueError: if it is another text than "auto", or True under PyTorch.
    """
    if isinstance(jit_compile, str):
        checks.choice("jit_compile", jit_compile, ("auto", True, False))
    else:
        checks.boolean("jit_compile", jit_compile)
    if keras.config.backend() == "torch" and jit_compile not in ("auto", False):
        raise ValueError(
            f"jit_compile={jit_compile!r} does not work under PyTorch, whose "
            "compiler cannot trace this training step; use "
            'jit_compile="auto".'
        )


def check_replicas(model, optimizer, jit_compile):
    """Raise `ValueError` for what several replicas cannot do.

    Args:
        model: a `MultiExitModel`.
        optimizer: a Keras optimizer.
        jit_compile: argument of `compile`.
    """
    strategy = getattr(model, "distribute_strategy", None)
    replicas = getattr(strategy, "num_replicas_in_sync", 1)
    if replicas == 1:
        return
    where = f"under a tf.distribute strategy with {replicas} replicas"
    if jit_compile is True:
        raise ValueError(
            f'jit_compile=True does not work {where}; use jit_compile="auto".'
        )
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if inner.gradient_accumulation_steps:
        raise ValueError(
            f"gradient_accumulation_steps={inner.gradient_accumulation_steps} "
            f"does not work {where}: Keras cannot add up gradients there. "
            "Use larger batches with `crafting_batch_size`, or one device."
        )
    if precision.uses_float16(model):
        raise ValueError(
            f"Layers that compute in float16 do not train {where}: Keras "
            "looks for gradients that overflow on one replica only. Use "
            "mixed_bfloat16."
        )
