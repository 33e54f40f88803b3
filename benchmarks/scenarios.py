"""What can be measured: scenarios as rows of variants.

`SCENARIOS` maps a name to a function of `Options` that returns a list of
`Scenario`. The words of a scenario's name and the names of its variants are
what `--only` of `benchmarks.run` chooses from.
"""

import dataclasses
import itertools
from pathlib import Path

from benchmarks.scenario import BACKENDS
from benchmarks.scenario import Scenario
from benchmarks.scenario import Variant
from benchmarks.work.optimisations import OPTIMISATIONS
from benchmarks.work.workloads import WORKLOADS


@dataclasses.dataclass(frozen=True)
class Options:
    """The size of the work; 0 stands for what the scenario does by itself.

    Attributes:
        batch_size: images per step, or per batch of an evaluation.
        attack_steps: steps of the attack.
        epsilon: L-infinity radius of evaluations.
        epsilon_l2: L2 radius of evaluations.
        exit: name of the exit that `parity` attacks.
        model: .keras file to evaluate; `attacks` needs a SmallCNN for MNIST.
        images: .npz file with `images` and `labels` to evaluate on.
    """

    batch_size: int = 0
    attack_steps: int = 0
    epsilon: float = 0.3
    epsilon_l2: float = 2.0
    exit: str = "exit_1"
    model: str = ""
    images: str = ""

    def of_steps(self, model, batch_size=128, attack_steps=7):
        """Return settings of a training step, with a scenario's defaults."""
        return {
            "model": model,
            "batch_size": self.batch_size or batch_size,
            "attack_steps": self.attack_steps or attack_steps,
        }

    def of_evaluation(self, attack, exit, batch_size, attack_steps):
        """Return settings of an evaluation, with a scenario's defaults.

        Raises:
            ValueError: if a file is missing.
        """
        for name in ("model", "images"):
            path = Path(getattr(self, name))
            if not path.is_file():
                raise ValueError(f"`{name}` needs a file, received {path}.")
        is_l2 = attack.endswith("l2")
        return {
            "model": str(Path(self.model).resolve()),
            "images": str(Path(self.images).resolve()),
            "attack": attack,
            "exit": exit,
            "batch_size": self.batch_size or batch_size,
            "epsilon": self.epsilon_l2 if is_l2 else self.epsilon,
            "num_steps": self.attack_steps or attack_steps,
        }


def models(options):
    """Compare a NEO-KD step, max-average attack, with eager PyTorch's.

    The unit is the faster of PyTorch's memory formats. Eager PyTorch runs the
    whole network for every exit, as triple-wins does.
    """
    formats = ("contiguous_format", "channels_last")
    return [
        Scenario(
            model,
            (
                *_steps(options.of_steps(model)),
                *(
                    Variant(
                        f"eager_{each}",
                        "torch",
                        "eager_step.EagerStep",
                        {**options.of_steps(model), "memory_format": each},
                        is_library=False,
                    )
                    for each in formats
                ),
            ),
            tuple(f"eager_{each}" for each in formats),
            # Weights and random starts are not the same.
            tolerance=0.1,
        )
        for model in WORKLOADS
    ]


def methods(options):
    """Compare the step of each training method with one of Eq. 4.

    SmallCNN, average attack. KDIGA's teacher is an untrained SmallCNN, and
    TEAT keeps predictions of 10,000 images. A process each: choose some.
    """
    # Keras, which the training scenarios do not need here.
    from benchmarks.work.keras_step import method_names

    settings = {**options.of_steps("small_cnn"), "attack": "average"}
    return [
        Scenario(
            backend,
            _steps(
                settings,
                {name: {"method": name} for name in method_names()},
                backend,
            ),
            ("adversarial_training",),
        )
        for backend in BACKENDS
    ]


def optimisations(options):
    """Compare the step without one optimisation with the step as it is."""
    return [
        Scenario(
            f"{model} {backend}",
            _steps(
                options.of_steps(model),
                {
                    "as_it_is": {},
                    **{
                        f"without_{name}": {"without": name}
                        for name, each in OPTIMISATIONS.items()
                        if backend in each.plain and model in each.models
                    },
                },
                backend,
            ),
            ("as_it_is",),
            tolerance=1e-2,
        )
        for model, backend in itertools.product(WORKLOADS, BACKENDS)
    ]


# Numbers of exits, smaller than the number of classes.
_SERIES = {
    "paper": ("msdnet_cifar10", (3, 5, 7), {"base": 4, "step": 2}, 128, 7),
    "many": ("msdnet_cifar100", (5, 10, 20), {"base": 1, "step": 1}, 16, 2),
}


def exits(options):
    """Compare networks by their exits, beside the ratio of multiply-adds.

    Series paper has 3, 5 and 7 exits; many has 5, 10 and 20 exits of a narrow
    network.
    """
    return [
        Scenario(
            f"{series} {backend}",
            _steps(
                options.of_steps(model, *sizes),
                {
                    f"{count}_exits": {
                        "model_options": {"num_blocks": count, **network}
                    }
                    for count in counts
                },
                backend,
            ),
            (f"{counts[0]}_exits",),
        )
        for series, (model, counts, network, *sizes) in _SERIES.items()
        for backend in BACKENDS
    ]


def _steps(settings, changes=None, backend=None):
    """Return steps of keras_neokd: one per backend, or one per change."""
    if changes is None:
        changes = {each: {} for each in BACKENDS}
    return tuple(
        Variant(
            name,
            backend or name,
            "keras_step.KerasStep",
            {**settings, **change},
        )
        for name, change in changes.items()
    )


_TOOLS = (
    ("torchattacks", "torch", "PlainTorchEvaluation"),
    ("foolbox", "torch", "FoolboxEvaluation"),
)


def attacks(options):
    """Compare evaluations under PGD-50 and APGD with other tools.

    Ours attack the last exit of a SmallCNN, the tools a plain PyTorch copy of
    it.
    """
    return [
        _evaluations(
            options.of_evaluation(attack, "exit_3", 250, 50),
            tools,
        )
        for attack, tools in (("pgd", _TOOLS), ("apgd_ce", _TOOLS[:1]))
    ]


def parity(options):
    """Compare our attacks with torchattacks and AutoAttack, image by image.

    All attack one exit of the same model. The first step has seed 0, the
    others 1, 2 and so on.
    """
    from benchmarks.work.attacks import ATTACKS

    return [
        _evaluations(
            options.of_evaluation(attack, options.exit, 1000, 20),
            [
                (
                    "pyautoattack"
                    if attack == "auto_attack"
                    else "torchattacks",
                    "torch",
                    "TorchEvaluation",
                )
            ],
        )
        for attack in ATTACKS
        if attack != "pgd"
    ]


def _evaluations(settings, tools):
    ours = [
        Variant(each, each, "evaluations.KerasEvaluation", settings)
        for each in BACKENDS
    ]
    theirs = [
        Variant(
            package,
            backend,
            f"evaluations.{work}",
            settings,
            (package,),
            is_library=False,
        )
        for package, backend, work in tools
    ]
    return Scenario(
        settings["attack"],
        (*ours, *theirs),
        (theirs[0].name,),
        tolerance=0.05,
    )


SCENARIOS = {
    each.__name__: each
    for each in (models, methods, optimisations, exits, attacks, parity)
}
