"""Measurements that a user can name: protocols and diagnostics.

    @Protocol("mine", MyResult)
    def mine(model, images, labels, attack, strength=2, batch_size=256, seed=0):
        ...
        return MyResult(...)

The signature is the description: a function is given what it takes of the names
below, in `_GIVEN`, `_OPTIONS` and `_NEEDS`. Its other arguments are settings
with their defaults, which JSON has to know. Where a default is None, 0 and ()
stand for it, as in a config.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable
from typing import Any

import keras

from keras_neokd.base import checks
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Entry
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import check_class
from keras_neokd.evaluation.result import check_result

_GIVEN = (
    *("model", "student"),  # The first argument has one of these names.
    *("images", "labels"),  # All test images.
    "test",  # A tuple of both.
)
_OPTIONS = ("batch_size", "seed", "verbose")
_NEEDS = (
    "attack",  # An `Attack`; where the default is None, perhaps no attack.
    "validation",  # A tuple of images and labels that set thresholds.
    *("teacher", "teacher_exit"),  # A model, and name or index of its exit.
    "models",  # A dict from names to models.
    "epsilon",  # The radius of attacks in the L-infinity norm.
)
_KNOWN: dict[str, "Protocol"] = {}


class Unavailable(ValueError):
    """Raised where a model or a run lacks what a protocol needs."""


class WrongResult(ValueError):
    """Raised where a function returns something else than it declares."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One measurement; called with a function, it registers that function.

    Attributes:
        name: its name in a config and in records.
        result: subclass of `Result` that the function returns.
        check: function of the model and the arguments; raises `TypeError` or
            `ValueError` where the function could not run with them, and may
            return a dict of arguments that it has worked out. `None`
            (default) for no check.
        num_exits: number of exits that a model needs at least. Defaults to 1.
        section: name of its settings in a config. Defaults to the name.
        is_diagnostic: True for a slow measurement, made on
            `diagnostics_examples` images. Defaults to False.
        function: the function, once there is one.

    Raises:
        TypeError, ValueError: if `result` is no subclass of `Result`, or has
            no columns, or some of an unknown kind.
    """

    name: str
    result: type[Result]
    check: Callable[..., dict[str, Any] | None] | None = None
    num_exits: int = 1
    section: str | None = None
    is_diagnostic: bool = False
    function: Any = None

    def __post_init__(self) -> None:
        check_class(self.title, self.result)

    def __call__(self, function: Entry) -> Entry:
        """Give a function the name, and return the function.

        Raises:
            ValueError: if another function has the name, or JSON does not
                know the default of a setting.
        """
        there = _KNOWN.get(self.name)
        # A notebook runs the same lines again.
        if there and _place(there.function) != _place(function):
            raise ValueError(
                f"{self.name!r} is {_place(there.function)}: give "
                f"{_place(function)} another name."
            )
        section = self.section or self.name
        named = dataclasses.replace(self, function=function, section=section)
        for name, default in named.settings.items():
            _check_default(f"{self.title}: the default of `{name}`", default)
        _KNOWN[self.name] = named
        return function

    @property
    def title(self) -> str:
        """What messages call it."""
        kind = "diagnostic" if self.is_diagnostic else "protocol"
        return f"The {kind} {self.name!r}"

    @property
    def is_of_the_library(self) -> bool:
        """False for a measurement of the user's."""
        return _place(self.function).startswith("keras_neokd.")

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Dict from the names of its arguments to `inspect.Parameter`s."""
        return {
            name: each
            for name, each in self._signature.items()
            if name not in (*_GIVEN, *_OPTIONS)
        }

    @property
    def settings(self) -> dict[str, Any]:
        """Dict from `parameters` that have a default to that default.

        Without what a measurement needs, which is supplied in other ways.
        """
        return {
            name: each.default
            for name, each in self.parameters.items()
            if name not in _NEEDS and each.default is not each.empty
        }

    @property
    def _signature(self):
        return inspect.signature(self.function).parameters

    def check_ready(
        self, model: keras.Model, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the arguments that were worked out, as a dict.

        Args:
            model: the model to measure.
            arguments: dict of what `parameters` names.

        Raises:
            Unavailable: if the model has too few exits.
            TypeError, ValueError: if an argument is not possible.
        """
        if model.num_exits < self.num_exits:
            raise Unavailable(
                f"{self.name!r} needs at least {self.num_exits} exits, and "
                f"the model has {model.num_exits}. Leave it out."
            )
        found = self.check and self.check(model, **arguments)
        return found or {}

    def run(
        self,
        model: keras.Model,
        images: Array,
        labels: Array,
        arguments: dict[str, Any],
        **options: Any,
    ) -> Result:
        """Measure; return a `Result`.

        Args:
            model: the model to measure.
            images: array `(examples, height, width, channels)` in [0, 1].
            labels: integers `(examples,)`.
            arguments: as for `check_ready`.
            **options: `batch_size`, `seed` and `verbose`; those that the
                function does not take are left out.

        Raises:
            WrongResult: if the function returns something else than `result`
                declares.
        """
        taken, test = self._signature, (images, labels)
        given = {"images": images, "labels": labels, "test": test, **options}
        given = {name: given[name] for name in given if name in taken}
        for name, value in arguments.items():
            is_empty = isinstance(value, (int, tuple)) and not value
            use_none = is_empty and taken[name].default is None
            given[name] = None if use_none else value
        found = self.function(model, **given)
        if not isinstance(found, self.result):
            raise WrongResult(
                f"{self.title} needs to return {self.result.__name__}, "
                f"received {checks.typed(found)}."
            )
        try:
            check_result(self.title, found)
        except ValueError as error:
            raise WrongResult(str(error)) from None
        return found


def diagnostic(
    name: str,
    result: type[Result],
    check: Callable[..., dict[str, Any] | None] | None = None,
) -> Protocol:
    """Return a `Protocol` that is a diagnostic."""
    return Protocol(name, result, check, is_diagnostic=True)


def known(is_diagnostic=None):
    """Return all protocols and diagnostics by name.

    Args:
        is_diagnostic: whether to return diagnostics alone, or protocols;
            `None` (default) for both.
    """
    return {
        name: each
        for name, each in _KNOWN.items()
        if is_diagnostic in (None, each.is_diagnostic)
    }


def _check_default(name, default):
    try:
        json.dumps(default)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} needs a value that JSON knows (text, a number, True, "
            "False, None, or tuples and dicts of these), because configs and "
            f"records hold it; received {checks.typed(default)}."
        ) from error


def _place(function):
    return f"{function.__module__}.{function.__qualname__}"
