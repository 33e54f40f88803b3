"""Our attacks as objects, and what other libraries call the same attack."""

import operator

from keras_neokd import attacks

_LINF, _L2 = 0.3, 2.0


def _losing(loss):
    return attacks.AverageExits(loss=loss)


ATTACKS = {
    "pgd": attacks.PGD(_LINF, 0.05, num_steps=50),
    "apgd_ce": attacks.APGD(_LINF, 20),
    "apgd_dlr": attacks.APGD(_LINF, 20, objective=_losing("dlr")),
    "apgd_ce_l2": attacks.APGD(_L2, 20, norm="l2"),
    "apgd_t": attacks.TargetedAPGD(_LINF, 20, num_targets=None),
    "fab": attacks.FAB(_LINF, 20),
    "fab_l2": attacks.FAB(_L2, 20, norm="l2"),
    "fab_t": attacks.TargetedFAB(_LINF, 20, num_targets=None),
    "square": attacks.Square(_LINF, 300, objective=_losing("margin")),
    "square_l2": attacks.Square(
        _L2, 300, norm="l2", objective=_losing("margin")
    ),
    "cw": attacks.CW(c=10.0, num_steps=200),
    "auto_attack": attacks.AutoAttack(_LINF, num_steps=20, num_queries=300),
}


def on_exit(attack, exit, **changes):
    """Return a copy of an attack that attacks one exit, with the same loss.

    Args:
        attack: an `Attack`.
        exit: 0-based index of the exit; -1 is the last.
        **changes: its arguments; those that it does not have, and those of
            CW, which needs hundreds of steps and has no radius, are ignored.
    """
    settings = attack.arguments()
    if not isinstance(attack, attacks.CW):
        known = settings.keys() & changes.keys()
        settings |= {name: changes[name] for name in known}
    settings["objective"] = attacks.SingleExit(exit, attack.objective.loss)
    return type(attack)(**settings)


_SEARCH = {"norm": "norm", "eps": "epsilon", "steps": "num_steps"}
# The class of torchattacks, its arguments as attributes of ours, and those
# that have no counterpart.
_THEIRS = {
    attacks.PGD: (
        "PGD",
        {"eps": "epsilon", "alpha": "step_size", "steps": "num_steps"},
        {},
    ),
    attacks.APGD: ("APGD", {**_SEARCH, "loss": "objective.loss"}, {}),
    attacks.TargetedAPGD: ("APGDT", _SEARCH, {}),
    attacks.FAB: ("FAB", _SEARCH, {}),
    attacks.TargetedFAB: ("FAB", _SEARCH, {"multi_targeted": True}),
    attacks.Square: (
        "Square",
        {"norm": "norm", "eps": "epsilon", "n_queries": "num_queries"},
        {"resc_schedule": False},
    ),
    attacks.CW: ("CW", {"c": "c", "steps": "num_steps"}, {}),
}
_WORDS = {"linf": "Linf", "l2": "L2", "cross_entropy": "ce"}


def _torchattacks(attack, network, seed):
    """Return the attack of torchattacks that ours stands for."""
    import torchattacks

    name, names, fixed = _THEIRS[type(attack)]
    values = {
        theirs: operator.attrgetter(ours)(attack)
        for theirs, ours in names.items()
    }
    # PGD and CW have no norm and take no seed.
    seeds = {"seed": seed} if "norm" in names else {}
    arguments = {key: _WORDS.get(each, each) for key, each in values.items()}
    build = getattr(torchattacks, name)
    return build(network, **arguments, **fixed, **seeds)


def _pyautoattack(attack, network, seed):
    """Return pyautoattack's AutoAttack as a function of images and labels."""
    import pyautoattack

    theirs = pyautoattack.AutoAttack(
        network, eps=attack.epsilon, seed=seed, version="standard"
    )
    count = attack.num_steps
    for apgd in (theirs.apgd, theirs.apgd_targeted):
        # Their constructor works out from 100 iterations when it looks back.
        apgd.n_iter = count
        apgd.n_iter_2 = max(int(0.22 * count), 1)
        apgd.n_iter_min = max(int(0.06 * count), 1)
        apgd.size_decr = max(int(0.03 * count), 1)
    theirs.fab.n_iter = count
    theirs.square.n_queries = attack.num_queries
    # Images come with their predicted labels.
    return lambda *batch: theirs.run_standard_evaluation(*batch)[0]


def correct_answers(attack, network, images, labels, seed):
    """Attack a batch with another library; return which images stay correct.

    FAB looks for the smallest change: only changes within `attack.epsilon`
    count.

    Args:
        attack: one of our attacks, of a class in `ATTACKS`.
        network: classifier, a `torch.nn.Module`.
        images: tensor, channels first.
        labels: tensor of integers.
        seed: seed of the random numbers.
    """
    import torch

    is_auto = isinstance(attack, attacks.AutoAttack)
    build = _pyautoattack if is_auto else _torchattacks
    torch.manual_seed(seed)
    adversarial = build(attack, network, seed)(images, labels)
    if isinstance(attack, attacks.FAB):
        order = 2 if attack.norm == "l2" else float("inf")
        change = (adversarial - images).flatten(1)
        length = torch.linalg.vector_norm(change, order, dim=1)
        # The length itself is rounded.
        inside = (length <= attack.epsilon + 1e-6)[:, None, None, None]
        adversarial = torch.where(inside, adversarial, images)
    with torch.no_grad():
        return (network(adversarial).argmax(1) == labels).cpu().numpy()
