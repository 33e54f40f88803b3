"""From `config.evaluate` to the attacks that search.

    attack = build(config, "apgd_ce", objective)

Settings are those of `config.evaluate.search`; epsilon and norm those of the
other attacks of the evaluation.
"""

from keras_neokd import attacks
from keras_neokd.base import checks

from .flag_names import keys_of
from .flag_names import named_by_keys

NAMES = (
    "apgd_ce",
    "apgd_dlr",
    "apgd_t",
    "fab",
    "fab_t",
    "square",
    "cw",
    "cw_linf",
    "auto_attack",
    "auto_attack_plus",
    "auto_attack_rand",
)
# The others: all of plus are here with one restart, rand is for models that
# are random at inference.
EVERY = tuple(
    name
    for name in NAMES
    if name not in ("auto_attack_plus", "auto_attack_rand")
)
SUCCESS = ("all", "any", "each")


def possible(config, model):
    """Return the names in `EVERY` that fit a model, and the others.

    Args:
        config: a whole config.
        model: the model to attack.

    Returns:
        Tuple of names, and dict from the other names to what is wrong.
    """
    left_out = {}
    for name in EVERY:
        for objective in objectives(config, model.exit_names).values():
            try:
                attack = build(config, name, objective)
                attack.validate(model.num_exits, model.num_classes)
            except ValueError as error:
                left_out[name] = str(error)
    return tuple(name for name in EVERY if name not in left_out), left_out


def objectives(config, exit_names):
    """Return what to attack, by the end of an entry's name.

    Args:
        config: a whole config.
        exit_names: names of the exits in depth order.

    Returns:
        Dict from a name to an `Objective`: one for `success` all or any, one
        per exit for each.

    Raises:
        ValueError: if `success` is unknown.
    """
    success = checks.choice(
        "evaluate.search.success", config.evaluate.search.success, SUCCESS
    )
    if success == "each":
        return {
            name: attacks.SingleExit(exit_)
            for exit_, name in enumerate(exit_names)
        }
    return {success: attacks.AverageExits(success=success)}


def note(names, num_exits):
    """Return what has to be said beside accuracies under some attacks.

    Args:
        names: names of entries of a record.
        num_exits: number of exits of the model.

    Returns:
        A sentence on attacks with the rule `all`; "" where there are none.
    """
    found = [
        name
        for name in dict.fromkeys(names)
        if name.endswith("_all") and name.removesuffix("_all") in NAMES
    ]
    if not found or num_exits == 1:
        return ""
    return (
        f"{', '.join(found)}: an image is fooled only where all exits are "
        "wrong at once, and is given back clean otherwise. These accuracies "
        "are no bound for any single exit and must not be compared with those "
        "under PGD; --config.evaluate.search.success=each attacks each exit."
    )


def build(config, name, objective):
    """Return an attack that searches.

    Args:
        config: a whole config.
        name: one of `NAMES`.
        objective: which exits, and when they count as fooled.

    Raises:
        ValueError, TypeError: if a setting is not possible.
    """
    epsilon = config.evaluate.epsilon
    keys = keys_of(
        "evaluate.search",
        config.evaluate.search,
        norm="attack.norm",
        epsilon="attack.epsilon" if epsilon is None else "evaluate.epsilon",
        **_OTHER_KEYS.get(name, {}),
    )
    epsilon = config.attack.epsilon if epsilon is None else epsilon
    with named_by_keys(keys):
        return _BUILDERS[name](config, epsilon, objective)


def _apgd(loss):
    def build(config, epsilon, objective):
        section = config.evaluate.search
        return attacks.APGD(
            epsilon,
            section.num_steps,
            config.attack.norm,
            section.num_restarts,
            objective=objective.with_loss(loss),
        )

    return build


def _apgd_t(config, epsilon, objective):
    section = config.evaluate.search
    return attacks.TargetedAPGD(
        epsilon,
        section.num_steps,
        config.attack.norm,
        section.num_restarts,
        num_targets=section.num_targets or None,
        loss=section.targeted_loss,
        objective=objective,
    )


def _fab(config, epsilon, objective):
    section = config.evaluate.search
    return attacks.FAB(
        epsilon,
        section.num_steps,
        config.attack.norm,
        section.num_restarts,
        objective=objective,
    )


def _fab_t(config, epsilon, objective):
    section = config.evaluate.search
    return attacks.TargetedFAB(
        epsilon,
        section.num_steps,
        config.attack.norm,
        section.num_restarts,
        num_targets=section.num_targets or None,
        objective=objective,
    )


def _square(config, epsilon, objective):
    section = config.evaluate.search
    return attacks.Square(
        epsilon,
        section.num_queries,
        config.attack.norm,
        section.num_restarts,
        objective=objective.with_loss("margin"),
    )


def _cw(config, epsilon, objective):
    section = config.evaluate.search
    # Its own norm is L2; an L-infinity epsilon says nothing about it.
    return attacks.CW(
        section.cw_c,
        num_steps=section.cw_num_steps,
        epsilon=epsilon if config.attack.norm == "l2" else None,
        objective=objective,
    )


def _cw_linf(config, epsilon, objective):
    if config.attack.norm != "linf":
        raise ValueError(
            "evaluate.attacks 'cw_linf' knows the L-infinity norm only, and "
            f"attack.norm is {config.attack.norm!r}. Take 'cw' instead."
        )
    pgd = attacks.PGD(
        epsilon,
        config.attack.step_size,
        config.evaluate.num_steps,
        random_start=config.attack.random_start,
        num_restarts=config.evaluate.num_restarts,
        objective=objective.with_loss("margin"),
    )
    # As a search: clean where it fails, as CW itself.
    return attacks.WorstCase([pgd], objective)


def _auto_attack(version):
    def build(config, epsilon, objective):
        section = config.evaluate.search
        return attacks.AutoAttack(
            epsilon,
            version,
            section.num_steps,
            section.num_queries,
            section.num_targets or None,
            section.targeted_loss,
            config.attack.norm,
            objective,
        )

    return build


# Arguments whose key has another name or place than the argument.
_OTHER_KEYS = {
    "apgd_t": {"loss": "evaluate.search.targeted_loss"},
    "cw": {
        "c": "evaluate.search.cw_c",
        "num_steps": "evaluate.search.cw_num_steps",
    },
    "cw_linf": {
        "step_size": "attack.step_size",
        "num_steps": "evaluate.num_steps",
        "num_restarts": "evaluate.num_restarts",
    },
}

_BUILDERS = {
    "apgd_ce": _apgd("cross_entropy"),
    "apgd_dlr": _apgd("dlr"),
    "apgd_t": _apgd_t,
    "fab": _fab,
    "fab_t": _fab_t,
    "square": _square,
    "cw": _cw,
    "cw_linf": _cw_linf,
    "auto_attack": _auto_attack("standard"),
    "auto_attack_plus": _auto_attack("plus"),
    "auto_attack_rand": _auto_attack("rand"),
}
