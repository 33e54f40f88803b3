"""Which training methods are compared, and under which settings."""

import dataclasses

from apps.benchmarking.contestants import ATTACKS
from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.contestants import MINIMA
from apps.benchmarking.contestants import WORKLOADS
from apps.benchmarking.contestants import BaseSettings
from apps.benchmarking.contestants import Contestant

# Eq. 4: the others' cost is given in steps of this one.
UNIT = "adversarial_training"


@dataclasses.dataclass(frozen=True)
class TrainingMethod:
    """A training method as the configs describe it.

    Attributes:
        variant: what follows the colon of `--config`.
        kdiga: changes of the config's section `method.kdiga`.
    """

    variant: str
    kdiga: dict = dataclasses.field(default_factory=dict)


def _variants(*names):
    return {name: TrainingMethod(name) for name in names}


METHODS = {
    **_variants(UNIT, "clean_training", "nkd", "eokd", "neo_kd", "skd", "ard"),
    **_variants("lw", "trades", "teat", "kdiga"),
    # One gradient per exit instead of one for all.
    "kdiga_each": TrainingMethod("kdiga", {"exits": "each"}),
    # kd aligns nothing. Of the first three only kdiga_ard attacks images.
    **_variants("kd", "kdiga_author_2021", "kdiga_ard", "neo_kd+kdiga"),
}


@dataclasses.dataclass(frozen=True)
class MethodSettings(BaseSettings):
    """What one comparison of training methods does.

    Args:
        methods: names, keys of `METHODS`; `UNIT` takes part, and comes
            first, in any case.
        backends: names, keys of `BACKENDS`.
        model: a key of `WORKLOADS`, also the architecture of KDIGA's
            teacher.
        attack: name out of `ATTACKS`, for the methods that attack.
        steps: timed steps of every method, >= 1.
        warmup: untimed steps after the first, >= 0.
        batch_size: images per step, >= 1.
        attack_steps: PGD steps, >= 1.
        num_examples: size of the data set for TEAT, which keeps predictions
            of every example; >= `batch_size`.
        threads: threads of every backend; 0 for one per core.

    Raises:
        ValueError: if a name is unknown or a number out of range.
    """

    methods: tuple = tuple(METHODS)
    backends: tuple = tuple(BACKENDS)
    model: str = "small_cnn"
    attack: str = "average"
    steps: int = 10
    warmup: int = 2
    batch_size: int = 128
    attack_steps: int = 7
    num_examples: int = 10_000
    threads: int = 0

    def __post_init__(self):
        self.check_names("methods", self.methods, METHODS)
        self.check_names("backends", self.backends, BACKENDS)
        self.check_names("model", (self.model,), WORKLOADS)
        self.check_names("attack", (self.attack,), ATTACKS)
        self.check_numbers(MINIMA | {"num_examples": self.batch_size})
        if not self.backends:
            raise ValueError(
                "`backends` needs at least one name out of "
                f"{', '.join(BACKENDS)}; received none."
            )
        others = tuple(name for name in self.methods if name != UNIT)
        object.__setattr__(self, "methods", (UNIT, *others))

    def contestants(self, backend):
        """Return all methods on one backend, a list of `Contestant`."""
        return [Contestant(name, name, backend) for name in self.methods]
