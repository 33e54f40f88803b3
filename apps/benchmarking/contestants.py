"""What is measured, who takes part and under which settings."""

import dataclasses
import importlib.util

from apps.benchmarking.computer import available_cores


@dataclasses.dataclass(frozen=True)
class Workload:
    """Images and attack of one network, as in the paper.

    Attributes:
        image_shape: height, width, channels.
        num_classes: classes of the labels.
        epsilon: radius of the attack, in pixel units.
        step_size: length of an attack step, in pixel units.
    """

    image_shape: tuple
    num_classes: int
    epsilon: float
    step_size: float


WORKLOADS = {
    "small_cnn": Workload((28, 28, 1), 10, 0.3, 20 / 255),
    "msdnet_cifar10": Workload((32, 32, 3), 10, 8 / 255, 2 / 255),
    "msdnet_cifar100": Workload((32, 32, 3), 100, 8 / 255, 2 / 255),
}
ATTACKS = ("max_average", "average")
FRAMEWORK_NAMES = {
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
}


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One implementation of the training step.

    Attributes:
        name: key in the record.
        label: what tables and plots show.
        framework: module that must be installed.
        memory_format: layout of eager PyTorch's images, `"contiguous"` or
            `"channels_last"`; `None` marks keras_neokd.
        truncated: whether eager PyTorch crafts for an exit with only the
            part of the network which that exit needs.
    """

    name: str
    label: str
    framework: str
    memory_format: str | None = None
    truncated: bool = False

    @property
    def is_baseline(self):
        """Whether this is eager PyTorch with the whole network per exit."""
        return self.memory_format is not None and not self.truncated


BACKENDS = {
    framework: Contestant(framework, f"keras_neokd on {label}", framework)
    for framework, label in FRAMEWORK_NAMES.items()
}


def _eager(memory_format, truncated):
    name = f"truncated_{memory_format}" if truncated else memory_format
    return Contestant(
        name=f"eager_{name}",
        label=f"eager PyTorch, {name.replace('_', ' ')}",
        framework="torch",
        memory_format=memory_format,
        truncated=truncated,
    )


BASELINES = {
    contestant.name.removeprefix("eager_"): contestant
    for contestant in (
        _eager(memory_format, truncated)
        for truncated in (False, True)
        for memory_format in ("contiguous", "channels_last")
    )
}


class BaseSettings:
    """What the settings of all benchmarks have in common."""

    def check_names(self, argument, names, known):
        """Raise `ValueError` if a name is unknown or comes twice."""
        for name in names:
            if name not in known:
                raise ValueError(
                    f"`{argument}` knows {', '.join(known)}; received {name!r}."
                )
        if len(set(names)) < len(names):
            raise ValueError(
                f"`{argument}` names one twice: {', '.join(names)}."
            )

    def check_numbers(self, minima):
        """Raise `ValueError` if a number is out of range.

        Args:
            minima: smallest values by name.
        """
        for name, minimum in minima.items():
            value = getattr(self, name)
            if value < minimum:
                raise ValueError(
                    f"`{name}` needs an integer >= {minimum}, received {value}."
                )
        if self.threads > available_cores():
            raise ValueError(
                "`threads` needs at most one thread per available core: "
                f"expected 0 to {available_cores()}, received {self.threads}."
            )

    @property
    def num_threads(self):
        """Threads of every contestant."""
        return self.threads or available_cores()


# Smallest values of settings that several benchmarks have.
MINIMA = {
    "steps": 1,
    "warmup": 0,
    "batch_size": 1,
    "attack_steps": 1,
    "threads": 0,
}


@dataclasses.dataclass(frozen=True)
class Settings(BaseSettings):
    """What one run of the benchmark does.

    Args:
        models: names, keys of `WORKLOADS`.
        attacks: names out of `ATTACKS`.
        backends: names, keys of `BACKENDS`.
        baselines: names, keys of `BASELINES`.
        steps: timed steps of every contestant, >= 1.
        warmup: untimed steps after the first, >= 0.
        batch_size: images per step, >= 1.
        attack_steps: PGD steps, >= 1.
        threads: threads of every contestant; 0 for one per core.
        check_growth: whether to count operations of short and long attacks.

    Raises:
        ValueError: if a name is unknown, a number out of range, or nobody
            takes part.
    """

    models: tuple = tuple(WORKLOADS)
    attacks: tuple = ATTACKS
    backends: tuple = tuple(BACKENDS)
    baselines: tuple = tuple(BASELINES)
    steps: int = 10
    warmup: int = 2
    batch_size: int = 128
    attack_steps: int = 7
    threads: int = 0
    check_growth: bool = True

    def __post_init__(self):
        for name, known in (
            ("models", WORKLOADS),
            ("attacks", ATTACKS),
            ("backends", BACKENDS),
            ("baselines", BASELINES),
        ):
            self.check_names(name, getattr(self, name), known)
        self.check_numbers(MINIMA)
        if not self.models or not self.attacks:
            raise ValueError(
                "`models` and `attacks` need at least one name each, "
                f"received {self.models} and {self.attacks}."
            )
        if not self.backends and not self.baselines:
            raise ValueError(
                "Nobody takes part: name at least one of `backends` "
                f"({', '.join(BACKENDS)}) or `baselines` "
                f"({', '.join(BASELINES)})."
            )


def takes_part(settings, attack):
    """List the contestants of one attack, and those who cannot take part.

    Args:
        settings: `Settings`.
        attack: name of the attack.

    Returns:
        Tuple of two lists of `Contestant`: those whose framework is
        installed, and the others.
    """
    wanted = [BACKENDS[name] for name in settings.backends]
    wanted += [
        BASELINES[name]
        for name in settings.baselines
        # Crafting for the average of all exits needs the whole network.
        if attack != "average" or not BASELINES[name].truncated
    ]
    present = [each for each in wanted if is_installed(each.framework)]
    return present, [each for each in wanted if each not in present]


def is_installed(framework):
    """Whether a framework can be imported; does not import it."""
    return importlib.util.find_spec(framework) is not None


def missing_sentence(contestant):
    """Say why a contestant is left out, and what to do."""
    framework = FRAMEWORK_NAMES[contestant.framework]
    return (
        f"Left out: {contestant.label}, because {framework} is not installed "
        f'(pip install "keras-neokd[{contestant.framework}]").'
    )
