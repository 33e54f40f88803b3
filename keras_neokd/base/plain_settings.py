"""Settings as plain values, as configs and command lines hold them.

    settings(METHODS, "kdiga")     # {"teacher_file": None, "exits": ...}
    arguments(METHODS, "kdiga", {"exits": (1, 3)}, num_exits=3)
    parts("neo_kd+0.5*kdiga")      # [(1.0, "neo_kd"), (0.5, "kdiga")]

They are the arguments of what a name stands for, with two differences: exits
are counted from 1, and a teacher network is a file.
"""

from collections.abc import Mapping
from typing import Any

from keras_neokd.base import checks
from keras_neokd.base.configurable import REQUIRED
from keras_neokd.base.registry import Registry

TEACHER_FILE = "teacher_file"


def parts(name: str) -> list[tuple[float, str]]:
    """Return the methods that a name adds up, as pairs of weight and name.

    Args:
        name: a name, or several with + between them, each perhaps after a
            weight and a *.

    Raises:
        ValueError: if a weight is no number >= 0.
    """
    found = []
    for part in name.split("+"):
        weight, star, known = part.rpartition("*")
        try:
            weight = float(weight) if star else 1.0
        except ValueError:
            raise ValueError(
                f"The sum {name!r} needs a number before each *, received "
                f"{weight!r}: write it as neo_kd+0.5*kdiga."
            ) from None
        checks.number(f"weight of {known!r}", weight, minimum=0)
        found.append((weight, known))
    return found


def settings(registry: Registry, name: str) -> dict[str, Any]:
    """Return the settings of a name and their defaults.

    Args:
        registry: a `Registry`.
        name: a name in it.

    Returns:
        Dict from names to defaults; `None` for an argument that has none,
        and for one that is `Unset` an `Unset`.
    """
    made = registry.made_by(name)
    found = {
        key: None if default is REQUIRED else default
        for key, default in registry.settings(name).items()
    }
    for key in _exits_of(made):
        if key in found:
            found[key] = _numbered(found[key])
    # A sum has a property of this name.
    if getattr(made, "needs_teacher", False) is True:
        found.pop("teacher", None)
        found = {TEACHER_FILE: None, **found}
    return found


def arguments(
    registry: Registry,
    name: str,
    section: Mapping[str, Any],
    num_exits: int | None = None,
) -> dict[str, Any]:
    """Return settings as arguments, without the file of a teacher.

    Args:
        registry: a `Registry`.
        name: a name in it.
        section: mapping with some of its settings; `None` leaves out an
            argument that has no default.
        num_exits: number of exits of the model; `None` if unknown.

    Raises:
        ValueError: if the model has no such exit.
    """
    known = registry.settings(name)
    found = {
        key: _in_tuples(value)
        for key, value in section.items()
        if key != TEACHER_FILE
        and not (value is None and known.get(key) is REQUIRED)
    }
    for key in _exits_of(registry.made_by(name)):
        if key in found:
            # Another network may have more.
            most = None if key == "teacher_exit" else num_exits
            found[key] = exit_index(key, found[key], most)
    return found


def exit_index(key: str, value: Any, num_exits: int | None = None) -> Any:
    """Return the 0-based index of an exit that is counted from 1.

    Args:
        key: what the setting is called in messages.
        value: a number from 1, as integer or text; `"last"`; another word or
            a negative number, which stay; or a sequence of these.
        num_exits: number of exits; `None` if unknown.

    Raises:
        ValueError: if there is no such exit.
    """
    if isinstance(value, (list, tuple)):
        return tuple(exit_index(key, each, num_exits) for each in value)
    if value == "last":
        return -1
    number = value
    if isinstance(value, str) and value.isdecimal():
        number = int(value)
    if type(number) is not int or number < 0:
        return value
    if number == 0 or (num_exits is not None and number > num_exits):
        most = "" if num_exits is None else f" to {num_exits}"
        raise ValueError(
            f"`{key}` counts exits from 1{most}, received {value!r}."
        )
    return number - 1


def _exits_of(made: Any) -> tuple[str, ...]:
    """Return the names of the arguments that are exits."""
    return getattr(made, "exit_arguments", ())


def _numbered(default: Any) -> Any:
    """Return the default of an exit as configs write it."""
    if type(default) is not int:
        return default
    # A word, since another may take its place.
    return "last" if default == -1 else str(default + 1)


def _in_tuples(value: Any) -> Any:
    """Return a value with tuples for the lists that JSON has."""
    if isinstance(value, (list, tuple)):
        return tuple(_in_tuples(each) for each in value)
    return value
