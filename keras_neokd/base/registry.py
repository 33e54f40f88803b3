"""Build methods, attacks and models by their names.

    @methods.register("my_method")
    class MyMethod(methods.Method): ...

    methods.BY_NAME.settings("my_method")               # {"weight": 1.0}
    methods.BY_NAME.build("my_method", {"weight": 2.0})

An entry is a class, or any other function that builds an object. Its settings
are its arguments, so nothing else needs to list them.
"""

import functools
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keras_neokd.base.configurable import REQUIRED
from keras_neokd.base.configurable import Unset
from keras_neokd.base.configurable import check_names
from keras_neokd.base.configurable import settings
from keras_neokd.base.typing import Entry

# Ends a message that lists known names.
OF_YOURS = (
    ", or one that a module of yours registers (the apps: --import=MODULE)"
)


class Registry:
    """Names of one kind of things.

    Args:
        kind: what they are called in messages, such as `"method"`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Callable[..., Any]] = {}

    def register(
        self, name: str, **presets: str | dict[str, Any]
    ) -> Callable[[Entry], Entry]:
        """Return a decorator that gives a class or a function a name.

        Args:
            name: the name, of letters, digits and `_`.
            **presets: further names, each of the same class with other
                settings: a dict of these, or the name of a class method that
                builds the object.

        Raises:
            ValueError: by the decorator, if something else has the name.
        """

        def decorate(entry: Entry) -> Entry:
            self._add(name, entry)
            for preset, changes in presets.items():
                if isinstance(changes, str):
                    self._add(preset, getattr(entry, changes))
                else:
                    self._add(preset, functools.partial(entry, **changes))
            return entry

        return decorate

    def names(self) -> list[str]:
        """Return all names in alphabetical order."""
        return sorted(self._entries)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """Return the entry of a name.

        Raises:
            ValueError: if there is none; the message lists the names.
        """
        if not isinstance(name, str) or name not in self._entries:
            raise ValueError(
                f"Unknown {self.kind} {name!r}: expected one of "
                f"{self.names()}{OF_YOURS}."
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def settings(self, name: str) -> dict[str, Any]:
        """Return the arguments of an entry, see `configurable.settings`.

        Args:
            name: a name.
        """
        return settings(self[name])

    def made_by(self, name: str) -> Callable[..., Any]:
        """Return the class whose objects a name builds, or the function.

        Args:
            name: a name.
        """
        entry = self[name]
        if isinstance(entry, functools.partial):
            entry = entry.func
        owner = getattr(entry, "__self__", None)
        return owner if inspect.isclass(owner) else entry

    def build(
        self,
        name: str,
        changes: Mapping[str, Any] | None = None,
        /,
        **given: Any,
    ) -> Any:
        """Build what a name stands for.

        Args:
            name: a name.
            changes: mapping with some of the entry's settings. `None` leaves
                an argument that is `Unset` to the preset.
            **given: what only the caller knows, such as `num_epochs`;
                passed on where the entry has such an argument and neither
                `changes` nor a preset sets it.

        Raises:
            TypeError: if a setting does not exist, or one is missing.
            ValueError: if the name is unknown. Both also as the entry raises
                them.
        """
        entry, known = self[name], self.settings(name)
        title = f"The {self.kind} {name!r}"
        changes = dict(changes or {})
        check_names(title, changes, known)
        arguments = {
            key: given[key]
            for key, default in known.items()
            # A preset that leaves it out sets it itself.
            if key in given
            and key not in changes
            and default != Unset(REQUIRED)
        }
        for key, value in changes.items():
            if value is not None or not isinstance(known[key], Unset):
                arguments[key] = value
        missing = [
            f"`{key}`"
            for key, default in known.items()
            if default is REQUIRED and key not in arguments
        ]
        if missing:
            raise TypeError(
                f"{title} needs {', '.join(missing)}, which has no default."
            )
        return entry(**arguments)

    def _add(self, name: str, entry: Callable[..., Any]) -> None:
        if not name.isidentifier():
            raise ValueError(
                f"A {self.kind} needs a name of letters, digits and _, "
                f"received {name!r}."
            )
        earlier = self._entries.setdefault(name, entry)
        # A notebook runs the same lines again.
        if _origin(earlier) != _origin(entry):
            raise ValueError(
                f"The {self.kind} {name!r} is {_origin(earlier)}: give "
                f"{_origin(entry)} another name."
            )
        self._entries[name] = entry


def _origin(entry: Any) -> str:
    """Return where an entry was written, and its changed settings."""
    if isinstance(entry, functools.partial):
        return f"{_origin(entry.func)} with {sorted(entry.keywords)}"
    return f"{entry.__module__}.{entry.__qualname__}"


METHODS = Registry("method")
ATTACKS = Registry("attack")
MODELS = Registry("model")
