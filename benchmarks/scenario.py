"""Variants that are timed in turn, and the unit of their times."""

import dataclasses
import importlib.util
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("tensorflow", "jax", "torch")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to do the work, in a process of its own.

    Attributes:
        name: name in the report, unique in its scenario.
        backend: framework of the process, one of `BACKENDS`.
        work: class of `benchmarks.work`, for example `"keras_step.KerasStep"`.
        settings: its arguments.
        packages: further modules that must be installed.
        programs: programs that must be installed.
        newer: further arguments, which an older checkout may not know: it
            runs without them.
        checkout: folder of the keras_neokd that is imported.
        threads: threads of the process; `None` for those of the flags.
    """

    name: str
    backend: str
    work: str
    settings: dict
    packages: tuple = ()
    programs: tuple = ()
    newer: dict = dataclasses.field(default_factory=dict)
    checkout: Path = ROOT
    threads: int | None = None

    def missing(self):
        """Return modules and programs that it needs and that are missing."""
        modules = (self.backend, *self.packages)
        return [
            *(name for name in modules if not importlib.util.find_spec(name)),
            *(name for name in self.programs if not shutil.which(name)),
        ]


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Variants to compare.

    Attributes:
        name: words that tell it from others, such as model and backend.
        variants: tuple of `Variant`.
        unit: names of variants; times are relative to the fastest of them.
        tolerance: largest difference of a variant's result from the unit's:
            of first losses relative to the unit's, of shares of images as it
            is; `None` where results differ by nature.
    """

    name: str
    variants: tuple
    unit: tuple
    tolerance: float | None = None


def chosen(scenarios, only=(), unit=()):
    """Return the scenarios and variants with the given names.

    Args:
        scenarios: list of `Scenario`, with names of as many words.
        only: words of their names, and names of variants; where none is of
            a kind (model, backend, variant) all stay. Units always stay.
        unit: names of variants, instead of the units of the scenarios.

    Raises:
        ValueError: if a name is unknown.
    """
    words_of = [each.name.split() for each in scenarios]
    kinds = [set(words) for words in zip(*words_of, strict=True)]
    kinds.append({each.name for s in scenarios for each in s.variants})
    for flag, names, known in (
        ("only", only, kinds),
        ("unit", unit, kinds[-1:]),
    ):
        unknown = set(names).difference(*known)
        if unknown:
            raise ValueError(
                f"`{flag}` does not know {', '.join(sorted(unknown))}; it "
                f"knows {'; '.join(', '.join(sorted(kind)) for kind in known)}."
            )
    *words, kept = [kind & set(only) or kind for kind in kinds]
    found = []
    for each, own in zip(scenarios, words_of, strict=True):
        if all(map(set.__contains__, words, own)):
            named = kept.union(unit or each.unit)
            variants = tuple(v for v in each.variants if v.name in named)
            found.append(
                dataclasses.replace(
                    each, variants=variants, unit=unit or each.unit
                )
            )
    return found


def against(scenarios, checkout):
    """Return a scenario per variant of keras_neokd: two checkouts of it.

    Args:
        scenarios: list of `Scenario`.
        checkout: folder that holds another keras_neokd.

    Raises:
        ValueError: if the folder holds none.
    """
    checkout = checkout.resolve()
    if not (checkout / "keras_neokd" / "__init__.py").exists():
        raise ValueError(
            "`against` needs the folder of a checkout that holds "
            f"keras_neokd/__init__.py, received {checkout}."
        )
    return [
        Scenario(
            f"{scenario.name} {variant.name}",
            (
                dataclasses.replace(variant, name="this_checkout"),
                dataclasses.replace(
                    variant, name="other_checkout", newer={}, checkout=checkout
                ),
            ),
            ("other_checkout",),
            # What is newer, such as another precision, may change a loss.
            tolerance=1e-2 if variant.newer else 1e-3,
        )
        for scenario in scenarios
        for variant in scenario.variants
        if ".Keras" in variant.work
    ]
