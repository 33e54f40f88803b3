"""Define the scenarios that can be measured, each a list of variants.

`SCENARIOS` maps a name to a function of the flags that returns a list of
`Scenario`. The words of a scenario's name and the names of its variants are
what `--only` of `benchmarks.run` chooses from.
"""

import itertools

from benchmarks.scenario import BACKENDS
from benchmarks.scenario import Scenario
from benchmarks.scenario import Variant
from benchmarks.work.optimisations import OPTIMISATIONS
from benchmarks.work.workloads import WORKLOADS

_EAGER = {
    f"eager_{each}": {"memory_format": each}
    for each in ("contiguous_format", "channels_last")
}


def models(flags):
    """Compare a NEO-KD step, max-average attack, with eager PyTorch's.

    The unit is the faster of PyTorch's memory formats. Eager PyTorch runs the
    whole network for every exit, as triple-wins does.
    """
    found = []
    for model in WORKLOADS:
        ours = [_steps(flags, model, each, {each: {}}) for each in BACKENDS]
        eager = _steps(flags, model, "torch", _EAGER, "eager_step.EagerStep")
        variants = itertools.chain(*ours, eager)
        # Weights and random starts are not the same.
        found.append(Scenario(model, tuple(variants), tuple(_EAGER), 0.1))
    return found


def methods(flags):
    """Compare the step of each training method with one of Eq. 4.

    SmallCNN, average attack. KDIGA's teacher is an untrained SmallCNN, and
    TEAT keeps predictions of 10,000 images. A process each: choose some.
    """
    # Keras, which the training scenarios do not need here.
    from keras_neokd.methods import BY_NAME

    rows = {name: {"method": name} for name in (*BY_NAME, "neo_kd+kdiga")}
    rows["kdiga_each"] = {"method": "kdiga", "exits": "each"}
    rows = {name: {**row, "attack": "average"} for name, row in rows.items()}
    return [
        Scenario(
            backend,
            _steps(flags, "small_cnn", backend, rows),
            ("adversarial_training",),
        )
        for backend in BACKENDS
    ]


def optimisations(flags):
    """Compare the step without one optimisation with the step as it is."""
    found = []
    for model, backend in itertools.product(WORKLOADS, BACKENDS):
        rows = {"as_it_is": {}}
        for name, each in OPTIMISATIONS.items():
            if backend in each.backends and model in each.models:
                rows[f"without_{name}"] = {"without": name}
        variants = _steps(flags, model, backend, rows)
        found.append(
            Scenario(f"{model} {backend}", variants, ("as_it_is",), 1e-2)
        )
    return found


# Model, arguments of the network, numbers of exits (smaller than that of
# classes), and the settings of a step.
_SERIES = {
    "paper": ("msdnet_cifar10", {"base": 4, "step": 2}, (3, 5, 7), {}),
    "many": (
        "msdnet_cifar100",
        {"base": 1, "step": 1},
        (5, 10, 20),
        {"batch_size": 16, "attack_steps": 2},
    ),
}


def exits(flags):
    """Compare networks by their exits, beside the ratio of multiply-adds.

    Series paper has 3, 5 and 7 exits; many has 5, 10 and 20 exits of a narrow
    network.
    """
    found = []
    for series, (model, network, counts, settings) in _SERIES.items():
        rows = {
            f"{count}_exits": {"network": {**network, "num_blocks": count}}
            for count in counts
        }
        for backend in BACKENDS:
            variants = _steps(flags, model, backend, rows, **settings)
            found.append(
                Scenario(f"{series} {backend}", variants, tuple(rows)[:1])
            )
    return found


def _steps(
    flags,
    model,
    backend,
    rows,
    work="keras_step.KerasStep",
    batch_size=128,
    attack_steps=7,
):
    """Return a variant of a training step for each row of further settings."""
    settings = {
        "model": model,
        "batch_size": flags.batch_size or batch_size,
        "attack_steps": flags.attack_steps or attack_steps,
    }
    return tuple(
        Variant(name, backend, work, {**settings, **row})
        for name, row in rows.items()
    )


def attacks(flags):
    """Compare evaluations under PGD-50 and APGD with other tools.

    Ours attack the last exit of a SmallCNN, the tools a plain PyTorch copy of
    it.
    """
    plain = {"torchattacks": "PlainTorchEvaluation"}
    both = {**plain, "foolbox": "FoolboxEvaluation"}
    return [
        _evaluations(flags, attack, tools, "exit_3", 250, 50)
        for attack, tools in (("pgd", both), ("apgd_ce", plain))
    ]


def parity(flags):
    """Compare our attacks with torchattacks and AutoAttack, image by image.

    All attack one exit of the same model. The first step has seed 0, the
    others 1, 2 and so on.
    """
    from benchmarks.work.attacks import ATTACKS

    tools = {"auto_attack": "pyautoattack"}
    found = []
    for attack in ATTACKS:
        if attack != "pgd":
            tool = tools.get(attack, "torchattacks")
            work = {tool: "TorchEvaluation"}
            found.append(
                _evaluations(flags, attack, work, flags.exit, 1000, 20)
            )
    return found


def repeats(flags):
    """Compare eight equal evaluations in a row with one.

    Of a SmallCNN that is new in each step, with batches of 16.
    """
    from benchmarks.work.repeats import MEASUREMENTS

    rows = {"one": {"count": 1}, "eight": {"count": 8}}
    found = []
    for measurement, backend in itertools.product(MEASUREMENTS, BACKENDS):
        settings = {
            "measurement": measurement,
            "batch_size": flags.batch_size or 16,
            "attack_steps": flags.attack_steps or 7,
        }
        variants = tuple(
            Variant(name, backend, "repeats.KerasRepeats", {**settings, **row})
            for name, row in rows.items()
        )
        name = f"{measurement} {backend}"
        found.append(Scenario(name, variants, ("one",), 1e-6))
    return found


def _evaluations(flags, attack, tools, exit, batch_size, attack_steps):
    """Return the scenario of an attack: ours, and classes of other tools."""
    is_l2 = attack.endswith("l2")
    settings = {
        "attack": attack,
        "exit": exit,
        "batch_size": flags.batch_size or batch_size,
        "epsilon": flags.epsilon_l2 if is_l2 else flags.epsilon,
        "num_steps": flags.attack_steps or attack_steps,
    }
    for name in ("model", "images"):
        path = getattr(flags, name)
        if path is None or not path.is_file():
            raise ValueError(f"`{name}` needs a file, received {path}.")
        settings[name] = str(path.resolve())
    rows = [(each, each, "KerasEvaluation", ()) for each in BACKENDS]
    rows += [(tool, "torch", work, (tool,)) for tool, work in tools.items()]
    variants = tuple(
        Variant(name, backend, f"evaluations.{work}", settings, packages)
        for name, backend, work, packages in rows
    )
    return Scenario(attack, variants, tuple(tools)[:1], 0.05)


SCENARIOS = {
    each.__name__: each
    for each in (
        models,
        methods,
        optimisations,
        exits,
        attacks,
        parity,
        repeats,
    )
}
