"""A scenario: variants that are timed in turn, and the unit of their times."""

import dataclasses
import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("tensorflow", "jax", "torch")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to do the work, in a process of its own.

    Attributes:
        name: name in the report, unique in its scenario.
        backend: framework of the process: `"tensorflow"`, `"jax"`, `"torch"`.
        work: class of `benchmarks.work`, for example `"keras_step.KerasStep"`.
        settings: its arguments, a dict of JSON values.
        packages: further modules that must be installed.
        is_library: whether keras_neokd is what is measured.
        checkout: folder of the keras_neokd that is imported.
    """

    name: str
    backend: str
    work: str
    settings: dict
    packages: tuple = ()
    is_library: bool = True
    checkout: Path = ROOT

    def missing(self):
        """Return the modules that it needs and that are not installed."""
        return [
            name
            for name in (self.backend, *self.packages)
            if importlib.util.find_spec(name) is None
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


def chosen(scenarios, names):
    """Return the scenarios and variants with the given names.

    Args:
        scenarios: list of `Scenario`, with names of as many words.
        names: words of their names, and names of variants; where none is of
            a kind (model, backend, variant) all stay. Units always stay.

    Raises:
        ValueError: if a name is unknown.
    """
    kinds = [
        *(
            set(words)
            for words in zip(*(s.name.split() for s in scenarios), strict=True)
        ),
        {each.name for scenario in scenarios for each in scenario.variants},
    ]
    unknown = set(names) - set().union(*kinds)
    if unknown:
        raise ValueError(
            f"`only` does not know {', '.join(sorted(unknown))}; it knows "
            f"{'; '.join(', '.join(sorted(kind)) for kind in kinds)}."
        )
    *words, variants = [kind & set(names) or kind for kind in kinds]
    return [
        dataclasses.replace(
            scenario,
            variants=tuple(
                each
                for each in scenario.variants
                if each.name in variants.union(scenario.unit)
            ),
        )
        for scenario in scenarios
        if all(map(set.__contains__, words, scenario.name.split()))
    ]


def against(scenarios, checkout):
    """Return a scenario per variant: this checkout beside another.

    Args:
        scenarios: list of `Scenario`; variants that measure something else
            than keras_neokd are left out.
        checkout: folder that holds another keras_neokd.

    Raises:
        ValueError: if the folder holds none.
    """
    checkout = Path(checkout).resolve()
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
                    variant, name="other_checkout", checkout=checkout
                ),
            ),
            ("other_checkout",),
            tolerance=1e-3,
        )
        for scenario in scenarios
        for variant in scenario.variants
        if variant.is_library
    ]
