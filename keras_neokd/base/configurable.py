"""Objects that are described by their constructor arguments.

Attacks, objectives and methods are small values: they keep each constructor
argument in an attribute of the same name, and get saving, loading and a
readable `repr` from here. An argument that does not exist is refused with the
name of the right one.
"""

import difflib
import functools
import inspect
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from typing import Self

import keras

# What other libraries and papers call an argument, and what it is called
# here; of several the first that a function has.
SYNONYMS = {
    "alpha": ("step_size", "nkd_weight", "weight"),
    "beta": ("eokd_weight", "weight"),
    "confidence": ("kappa",),
    "eot_iter": ("num_draws",),
    "eps": ("epsilon",),
    "eps_iter": ("step_size",),
    "eps_step": ("step_size",),
    "eta": ("overshoot",),
    "gamma": ("exit_weights", "alignment_weight"),
    "iterations": ("num_steps",),
    "iters": ("num_steps",),
    "loss": ("method", "objective"),
    "lr": ("learning_rate",),
    "max_iter": ("num_steps",),
    "n_iter": ("num_steps",),
    "n_queries": ("num_queries",),
    "n_restarts": ("num_restarts",),
    "n_target_classes": ("num_targets",),
    "nb_iter": ("num_steps",),
    "order": ("norm",),
    "p_init": ("area",),
    "queries": ("num_queries",),
    "radius": ("epsilon",),
    "rand_init": ("random_start",),
    "random_init": ("random_start",),
    "restarts": ("num_restarts",),
    "stepsize": ("step_size",),
    "steps": ("num_steps",),
    "T": ("temperature",),
}


# Stands for the default of an argument that has none.
REQUIRED = inspect.Parameter.empty


class Unset(NamedTuple):
    """Default of an argument that a preset decides on unless it is given.

    Attributes:
        usual: default of the constructor.
    """

    usual: Any


def settings(entry: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a class, a preset or a function.

    Args:
        entry: a class; a class method that builds an object of it; a
            `functools.partial` of one; or another function.

    Returns:
        Dict from names to defaults, `REQUIRED` where there is none. A
        constructor that takes `**` has the arguments of the class before it,
        too. A class method that takes `**` has those of the constructor, each
        `Unset`.
    """
    if isinstance(entry, functools.partial):
        return {**settings(entry.func), **entry.keywords}
    if not inspect.isclass(entry):
        found, takes_more = _parameters(entry)
        owner = getattr(entry, "__self__", None)
        if takes_more and inspect.isclass(owner):
            usual = settings(owner).items()
            found = {**{name: Unset(each) for name, each in usual}, **found}
        return found
    found = {}
    for cls in entry.__mro__:
        if cls is object:
            break
        if "__init__" in vars(cls):
            own, takes_more = _parameters(vars(cls)["__init__"])
            found = {**own, **found}
            if not takes_more:
                break
    return found


def _parameters(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Return names with defaults, and whether there is a `**`."""
    parameters = inspect.signature(function).parameters.values()
    named = {
        each.name: each.default
        for each in parameters
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        and each.name != "self"
    }
    return named, any(each.kind is each.VAR_KEYWORD for each in parameters)


def check_names(
    name: str, given: Iterable[str], known: Collection[str]
) -> None:
    """Raise if a function has no such argument.

    Args:
        name: what the message calls the function.
        given: names of arguments.
        known: names of the arguments that there are.

    Raises:
        TypeError: if one does not exist; the message names the one that was
            probably meant.
    """
    advice = [
        f"has no argument `{each}`: {_meant(each, list(known))}"
        for each in given
        if each not in known
    ]
    if advice:
        raise TypeError(f"{name} {'; it '.join(advice)}.")


def _meant(wrong: str, known: list[str]) -> str:
    meant = [each for each in SYNONYMS.get(wrong, ()) if each in known]
    meant = meant or difflib.get_close_matches(wrong, known, n=1)
    if meant:
        return f"it is called `{meant[0]}`"
    return f"the arguments are {', '.join(f'`{each}`' for each in known)}"


class Configurable:
    """Base class: configuration from the attributes named like arguments."""

    def __new__(cls, *positional: Any, **named: Any) -> Self:
        """Refuse an argument that does not exist by the name of the right one.

        Raises:
            TypeError: as described.
        """
        if cls.__init__ is object.__init__ and (positional or named):
            raise TypeError(f"{cls.__name__} takes no arguments.")
        check_names(cls.__name__, named, settings(cls))
        return super().__new__(cls)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments as a dict of live values."""
        return {name: getattr(self, name) for name in settings(type(self))}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other arguments.

        Args:
            **changes: constructor arguments to replace.

        Raises:
            TypeError, ValueError: as the constructor.
        """
        return type(self)(**{**self.arguments(), **changes})

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments as plain values."""
        return {
            name: keras.saving.serialize_keras_object(value)
            for name, value in self.arguments().items()
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the object from `get_config`'s result."""
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                for name, value in config.items()
            }
        )

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in self.arguments().items()
        )
        return f"{type(self).__name__}({arguments})"
