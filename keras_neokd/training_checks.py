"""Checks of what `compile` is given and what methods return."""

from keras_neokd import attacks

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


def check_term(term, num_exits):
    """Raise `ValueError` if a term's values do not fit its level.

    Args:
        term: a `methods.Term`.
        num_exits: number of exits of the model.
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
