"""Checks of the arguments of `compile` and of the terms of methods."""

import types
import warnings

import keras

from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd.backend import precision
from keras_neokd.backend import speed
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.training import processes

_EXAMPLES = {
    "optimizer": "keras.optimizers.SGD(0.1, momentum=0.9)",
    "method": '"neo_kd"',
    "attack": "keras_neokd.attacks.MaxAverage(keras_neokd.attacks.PGD("
    "epsilon=8/255, step_size=2/255, num_steps=7))",
}


def checked_settings(model, **arguments):
    """Return all arguments of `compile` as a namespace of objects."""
    new = types.SimpleNamespace(**arguments)
    checks.boolean("run_eagerly", new.run_eagerly)
    checks.integer("steps_per_execution", new.steps_per_execution, minimum=1)
    _check_jit(new.jit_compile)
    _check_present(optimizer=new.optimizer, method=new.method)
    new.method = methods.get(new.method)
    new.method.validate(model)
    new.attack = new.method.own_attack or new.attack
    uses_attack = new.method.uses_attack(model.num_exits)
    if uses_attack or new.attack is not None:
        new.attack = _check_attack(new.attack, new.method, model.num_exits)
    if new.validation_attack is not None:
        new.validation_attack = attacks.get(
            new.validation_attack, "validation_attack"
        )
        new.validation_attack.validate(model.num_exits)
    new.optimizer = _check_optimizer(new.optimizer)
    _check_replicas(model, new.optimizer, new.jit_compile)
    _warn_of_slow_layers(model)
    check_slices(new.crafting_batch_size, new.attack_training_mode)
    new.crafting_dtype = _crafting_dtype(
        model,
        new.crafting_dtype,
        new.attack_training_mode,
        new.attack if uses_attack else None,
    )
    new.seed = randomness.check_seed(new.seed)
    return new


def _check_present(**arguments):
    for name, value in arguments.items():
        if value is None:
            raise ValueError(
                f"`compile` needs `{name}`, for example "
                f"{name}={_EXAMPLES[name]}."
            )


def check_terms(terms, method, num_exits):
    """Raise an error if a method returns other terms than it names."""
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
    """Return the weights of a checked `methods.Term` as a float32 tensor."""
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


def _check_optimizer(optimizer):
    """Return the optimizer; a negative rate would climb."""
    optimizer = keras.optimizers.get(optimizer)
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    checks.number("learning_rate", rate, minimum=0)
    return optimizer


def _check_attack(attack, method, num_exits):
    """Return the attack of training, which the method can use."""
    _check_present(attack=attack)
    attack = attacks.get(attack)
    attack.validate(num_exits)
    if attack.epsilon == 0:
        raise ValueError(
            "Training needs an attack with epsilon > 0, received "
            f"{attack!r}. epsilon=0 is for evaluation only."
        )
    if method.replaces_attack():
        attack.with_loss("cross_entropy")  # Or the attack says why not.
    return attack


def check_slices(crafting_batch_size, attack_training_mode):
    """Raise an error if batches cannot be attacked in slices."""
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


def _crafting_dtype(model, dtype, attack_training_mode, attack):
    """Return the precision of the network that training attacks see.

    For `"auto"` this is what is chosen and printed here, once and for all.
    """
    checks.choice("crafting_dtype", dtype, ("float32", "bfloat16", "auto"))
    if dtype == "float32" or attack is None:
        return "float32"
    refused = _reason_for_float32(model, attack_training_mode, attack)
    slow = speed.known_to_be_slow()
    if dtype == "auto":
        reason = refused or slow
        dtype, reason = ("float32", reason) if reason else _measured_dtype()
        print(f"crafting_dtype='auto' is {dtype!r} here: {reason}.")
    elif refused:
        raise ValueError(
            f"`crafting_dtype` cannot be {dtype!r}: {refused}. Leave it out, "
            "or choose 'auto' or 'float32'."
        )
    elif slow:
        warnings.warn(
            f"crafting_dtype={dtype!r} cannot make attacks faster: {slow}. "
            "Leave it out, or choose 'auto'.",
            stacklevel=4,
        )
    return dtype


def _measured_dtype():
    """Return what `speed.measured_dtype` does, where one process measures."""
    if processes.num_processes() > 1:
        raise ValueError(
            "`crafting_dtype` cannot be 'auto': it measures this device, and "
            f"the {processes.num_processes()} processes that train together "
            "could come to different results. Choose 'float32' or 'bfloat16'."
        )
    return speed.measured_dtype()


def _warn_of_slow_layers(model):
    slow = speed.slow_layers(model)
    if slow:
        warnings.warn(
            f"Layers of model {model.name!r}, {slow[0]!r} the first of "
            f"{len(slow)}, convolve in 16 bits, which takes JAX five times as "
            "long on processors as float32. Build the model in float32, or "
            "with keras_neokd.models.convolution.Convolution, which computes "
            "in float32 here.",
            stacklevel=4,
        )


def _reason_for_float32(model, attack_training_mode, attack):
    """Return why attacks cannot see a network in 16 bits, or `None`."""
    name = f"model {model.name!r}"
    if attack_training_mode:
        return "attack_training_mode=True runs the layers as they are"
    if all(isinstance(each, attacks.SearchAttack) for each in attack.members):
        return f"{type(attack).__name__} judges each step, in float32"
    dtypes = precision.layer_dtypes(model)
    if precision.uses_16_bits(model):
        return (
            f"layers of {name} compute in {dtypes} already, and attacks see "
            "them so"
        )
    if dtypes != ["float32"]:
        return f"layers of {name} compute in {dtypes}, expected float32 alone"
    network = model.frozen_network()
    if network is None:
        return f"layers of {name} do not keep the images of a batch apart"
    if not network.computes_in_16_bits():
        return (
            f"{name} has no undilated convolution before its logits, and other "
            "layers stay in float32 (a precision for all layers is that of the "
            "model, such as 'mixed_bfloat16')"
        )
    return None


def _check_jit(jit_compile):
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


def _check_replicas(model, optimizer, jit_compile):
    """Raise `ValueError` for what several replicas cannot do."""
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
