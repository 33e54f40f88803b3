"""Who attacks in `apps.benchmark_attacks`, with what, and how."""

import dataclasses
import importlib.util
from pathlib import Path

from apps.benchmarking.contestants import FRAMEWORK_NAMES
from apps.benchmarking.contestants import BaseSettings

ATTACKS = ("pgd", "apgd")


@dataclasses.dataclass(frozen=True)
class Attacker:
    """One implementation of the attacks.

    Attributes:
        name: key in the record.
        label: what tables show.
        framework: Keras' backend in its process.
        tool: `"keras_neokd"`, `"torchattacks"` or `"foolbox"`.
        attacks: those it has.
    """

    name: str
    label: str
    framework: str
    tool: str = "keras_neokd"
    attacks: tuple = ATTACKS

    @property
    def packages(self):
        """Modules that must be installed."""
        return (self.framework, self.tool)


ATTACKERS = {
    each.name: each
    for each in (
        *(
            Attacker(framework, f"keras_neokd on {label}", framework)
            for framework, label in FRAMEWORK_NAMES.items()
        ),
        Attacker("torchattacks", "torchattacks", "torch", "torchattacks"),
        Attacker(
            "foolbox_torch",
            "foolbox on PyTorch",
            "torch",
            "foolbox",
            attacks=("pgd",),
        ),
        Attacker(
            "foolbox_tensorflow",
            "foolbox on TensorFlow",
            "tensorflow",
            "foolbox",
            attacks=("pgd",),
        ),
    )
}
# Whose time the others' is compared with, where they take part.
REFERENCES = ("torchattacks", "foolbox_torch")


@dataclasses.dataclass(frozen=True)
class AttackSettings(BaseSettings):
    """What one comparison of attacks does.

    Args:
        run: folder of a finished run of a SmallCNN.
        attackers: names, keys of `ATTACKERS`.
        attacks: names out of `ATTACKS`.
        epsilon: L-infinity radius, in pixel units.
        step_size: of PGD, in pixel units.
        num_steps: of both attacks, >= 1.
        num_examples: the first test images, >= 1.
        steps: timed evaluations of every attacker, >= 1.
        warmup: untimed evaluations after the first, >= 0.
        batch_size: images at a time, >= 1.
        threads: threads of every attacker; 0 for one per core.

    Raises:
        ValueError: if a name is unknown or a number out of range.
    """

    run: str
    attackers: tuple = tuple(ATTACKERS)
    attacks: tuple = ATTACKS
    epsilon: float = 0.3
    step_size: float = 0.05
    num_steps: int = 50
    num_examples: int = 1000
    steps: int = 3
    warmup: int = 0
    batch_size: int = 250
    threads: int = 0

    def __post_init__(self):
        if not (Path(self.run) / "model.keras").exists():
            raise ValueError(
                f"`run` needs the folder of a finished run: {self.run} holds "
                "no model.keras. Train one with apps.train."
            )
        self.check_names("attackers", self.attackers, ATTACKERS)
        self.check_names("attacks", self.attacks, ATTACKS)
        self.check_numbers(
            {
                "num_steps": 1,
                "num_examples": 1,
                "steps": 1,
                "warmup": 0,
                "batch_size": 1,
                "threads": 0,
            }
        )
        for name, values in (
            ("attackers", self.attackers),
            ("attacks", self.attacks),
        ):
            if not values:
                raise ValueError(f"`{name}` needs at least one name.")

    def takes_part(self, attack):
        """List who knows an attack, and who of them is not installed.

        Args:
            attack: a name out of `ATTACKS`.

        Returns:
            Tuple of two lists of `Attacker`.
        """
        wanted = [
            ATTACKERS[name]
            for name in self.attackers
            if attack in ATTACKERS[name].attacks
        ]
        missing = [each for each in wanted if missing_packages(each)]
        return [each for each in wanted if each not in missing], missing


def missing_packages(attacker):
    """Return the modules that an attacker needs and that are not installed.

    Args:
        attacker: an `Attacker`.
    """
    return [
        name
        for name in attacker.packages
        if importlib.util.find_spec(name) is None
    ]


def missing_sentence(attacker):
    """Say why an attacker is left out, and what to do.

    Args:
        attacker: an `Attacker`.
    """
    missing = " and ".join(missing_packages(attacker))
    return (
        f"Left out: {attacker.label}, because {missing} is not installed "
        "(see docs/adapters.md)."
    )
