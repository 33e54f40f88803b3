"""Define the scenarios that can be measured, each a list of variants.

`SCENARIOS` maps a name to a function of the flags that returns a list of
`Scenario`. The words of a scenario's name and the names of its variants are
what `--only` of `benchmarks.run` chooses from.
"""

import itertools
import os

from benchmarks.scenario import BACKENDS
from benchmarks.scenario import Scenario
from benchmarks.scenario import Variant
from benchmarks.work.optimisations import OPTIMISATIONS
from benchmarks.work.workloads import WORKLOADS

# What a step can compute in besides float32.
_PRECISIONS = {
    "": {},
    "_crafting": {"crafting_dtype": "bfloat16"},
    "_mixed": {"policy": "mixed_bfloat16"},
}

# PyTorch without us: two memory formats, and channels last with more.
_TRUNCATED = {"truncated": True}
PEERS = {
    "eager_contiguous_format": {"memory_format": "contiguous_format"},
    "eager_channels_last": {},
    "eager_truncated": _TRUNCATED,
    "eager_autocast": {**_TRUNCATED, "autocast": True},
    "compiled": {**_TRUNCATED, "compiled": True},
    "compiled_autocast": {**_TRUNCATED, "autocast": True, "compiled": True},
}


def models(flags):
    """Compare a NEO-KD step, max-average attack, with plain PyTorch's.

    The unit is the faster of PyTorch's memory formats, in which it runs the
    whole network for every exit, as triple-wins does. Its other rows, in
    channels last, run the network no further than the exit that is attacked,
    in float32 or with autocast to bfloat16, eager or by `torch.compile`. Ours
    are in float32, with attacks in bfloat16 (crafting) and with the policy
    `mixed_bfloat16` (mixed).
    """
    found = []
    for model in WORKLOADS:
        ours = [
            _steps(flags, model, backend, {f"{backend}{name}": {}}, newer=newer)
            for backend, (name, newer) in itertools.product(
                BACKENDS, _PRECISIONS.items()
            )
        ]
        peers = _steps(flags, model, "torch", PEERS, "eager_step.EagerStep")
        variants = itertools.chain(*ours, peers)
        # Weights and random starts are not the same; bfloat16 adds far less.
        unit = tuple(PEERS)[:2]
        found.append(Scenario(model, tuple(variants), unit, 0.1))
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
    newer=None,
):
    """Return a variant of a training step for each row of further settings."""
    settings = {
        "model": model,
        "batch_size": flags.batch_size or batch_size,
        "attack_steps": flags.attack_steps or attack_steps,
    }
    # What `torch.compile` calls on processors.
    compiler = (os.environ.get("CXX", "g++"),)
    return tuple(
        Variant(
            *(name, backend, work, {**settings, **row}),
            programs=compiler if "compiled" in row else (),
            newer=newer or {},
        )
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
        _evaluations(flags, attack, attack, "exit_3", _beside(tools), 250, 50)
        for attack, tools in (("pgd", both), ("apgd_ce", plain))
    ]


def auto_attack(flags):
    """Compare AutoAttack on each exit of a SmallCNN with pyautoattack.

    The tool attacks a plain PyTorch copy of the network up to the exit. The
    result is the share of images that survive. The published budget is
    `--attack_steps=100 --num_queries=5000`, with 9 target classes as here.
    """
    rows = _beside({"pyautoattack": "PlainTorchEvaluation"})
    return [
        _evaluations(flags, exit, "auto_attack", exit, rows, 250, 20)
        for exit in ("exit_1", "exit_2", "exit_3")
    ]


def parity(flags):
    """Compare our attacks with torchattacks and AutoAttack, image by image.

    All attack one exit of the same model. The first step has seed 0, the
    others 1, 2 and so on.
    """
    from benchmarks.work.attacks import ATTACKS

    tools, found = {"auto_attack": "pyautoattack"}, []
    for attack in ATTACKS:
        if attack != "pgd":
            tool = tools.get(attack, "torchattacks")
            rows = _beside({tool: "TorchEvaluation"})
            found.append(
                _evaluations(flags, attack, attack, flags.exit, rows, 1000, 20)
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


def crafting(flags):
    """Compare images of the training attack in bfloat16 with float32's.

    Max-average PGD-7 on all exits of any model. The result is the mean
    cross-entropy of the model, in float32; the agreement is the share of images
    that are equal.
    """
    settings = {
        "batch_size": flags.batch_size or 128,
        "epsilon": flags.epsilon,
        "num_steps": flags.attack_steps or 7,
        **_files(flags),
    }
    return [
        Scenario(
            backend,
            tuple(
                Variant(
                    *(dtype, backend, "crafting.Crafting"),
                    {**settings, "crafting_dtype": dtype},
                )
                for dtype in ("float32", "bfloat16")
            ),
            ("float32",),
            0.01,
        )
        for backend in BACKENDS
    ]


# Formats of artefacts, and the package that runs each.
_RUNTIMES = {
    "saved_model": "tensorflow",
    "litert": "ai_edge_litert",
    "onnx": "onnxruntime",
    "openvino": "openvino",
}


def runtimes(flags):
    """Compare early exit in the runtimes of artefacts.

    Of untrained networks and random images, on one thread and on all that
    the flags give. Scenarios exit_1, exit_2 and so on: 100 images, one by one,
    that leave there, in artefacts of each format, in one file and in stages,
    beside `EarlyExitPredictor` on TensorFlow. Scenarios of a format: a batch
    through stages at half of the full cost, beside the last exit alone in the
    same runtime. The artefacts stay in the workdir.
    """
    found = []
    size = {"batch_size": flags.batch_size or 256}
    for model, threads in itertools.product(
        ("small_cnn", "msdnet_cifar10"), sorted({1, flags.threads})
    ):
        shared = {
            "model": model,
            "threads": threads,
            "folder": str(flags.workdir.resolve() / "artefacts"),
        }
        name = f"{model} threads_{threads}"
        for exit in range(3):
            rows = {"predictor": {}}
            for each in _RUNTIMES:
                rows[each] = {"format": each}
                rows[f"{each}_stages"] = {"format": each, "form": "stages"}
            settings = {**shared, "exit": exit, "count": 100}
            found.append(
                _artefacts(
                    f"{name} exit_{exit + 1}", "SingleImages", settings, rows
                )
            )
        for format in _RUNTIMES:
            rows = {"full": {"form": "exits"}, "stages": {"form": "stages"}}
            settings = {**shared, **size, "format": format}
            found.append(
                _artefacts(f"{name} {format}", "Batch", settings, rows)
            )
    return found


def _artefacts(name, work, settings, rows):
    """Return a scenario of variants that differ by the given rows."""
    # Single images of all variants leave at the same exit.
    tolerance = None if work == "Batch" else 1e-6
    variants = []
    for each, row in rows.items():
        chosen = {**settings, **row}
        runtime = _RUNTIMES.get(chosen.get("format"))
        variants.append(
            Variant(
                *(each, "tensorflow", f"artefacts.{work}"),
                chosen,
                () if runtime is None else (runtime,),
                threads=settings["threads"],
            )
        )
    return Scenario(name, tuple(variants), tuple(rows)[:1], tolerance)


def _beside(tools):
    """Return rows of other tools, from their classes, and then of ours."""
    rows = {tool: ("torch", work, (tool,)) for tool, work in tools.items()}
    return rows | {each: (each, "KerasEvaluation", ()) for each in BACKENDS}


def _evaluations(flags, name, attack, exit, rows, batch_size, attack_steps):
    """Return a scenario of evaluations under an attack.

    The rows are backend, class and packages by name, the unit first.
    """
    is_l2 = attack.endswith("l2")
    settings = {
        "attack": attack,
        "exit": exit,
        "batch_size": flags.batch_size or batch_size,
        "epsilon": flags.epsilon_l2 if is_l2 else flags.epsilon,
        "num_steps": flags.attack_steps or attack_steps,
    }
    if flags.num_queries is not None:
        settings["num_queries"] = flags.num_queries
    settings |= _files(flags)
    variants = tuple(
        Variant(each, backend, f"evaluations.{work}", settings, packages)
        for each, (backend, work, packages) in rows.items()
    )
    return Scenario(name, variants, tuple(rows)[:1], 0.05)


def _files(flags):
    """Return the paths of model and images."""
    found = {}
    for name in ("model", "images"):
        path = getattr(flags, name)
        if path is None or not path.is_file():
            raise ValueError(f"`{name}` needs a file, received {path}.")
        found[name] = str(path.resolve())
    return found


SCENARIOS = {
    each.__name__: each
    for each in (
        models,
        methods,
        optimisations,
        exits,
        attacks,
        auto_attack,
        parity,
        repeats,
        crafting,
        runtimes,
    )
}
