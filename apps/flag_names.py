"""Replace names of arguments by keys of the config in error messages."""

import contextlib
import re

from keras_neokd.base import plain_settings

# How messages of the library name an argument.
_ARGUMENT = re.compile(r"`(\w+)`")


@contextlib.contextmanager
def named_by_keys(keys):
    """Replace names of arguments in the messages of errors raised inside.

        with named_by_keys({"c": "attack.cw.c"}):
            attacks.CW(-1.0)      # `attack.cw.c` needs a number ...

    Args:
        keys: dict from names of arguments to dotted keys of the config.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        message = _ARGUMENT.sub(
            lambda found: f"`{keys.get(found[1], found[1])}`", str(error)
        )
        if message == str(error):
            raise
        # A subclass may be made from more than a message.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(message) from error


def built_by_name(registry, key, name, section, **given):
    """Build what a name of the config stands for.

    Args:
        registry: a `Registry`.
        key: key of the section that holds the name and its settings.
        name: the name.
        section: mapping with its settings, see `plain_settings`.
        **given: what only the caller knows, such as `num_exits`; see
            `Registry.build`.

    Raises:
        ValueError, TypeError: if the name is unknown, or a setting is not
            possible; the message has its key.
    """
    try:
        registry[name]
    except ValueError as error:
        raise ValueError(f"`{key}.name`: {error}") from None
    with named_by_keys(keys_of(f"{key}.{name}", section)):
        arguments = plain_settings.arguments(
            registry, name, section, given.get("num_exits")
        )
        return registry.build(name, arguments, **given)


def keys_of(section, names, **others):
    """Return a dict from names to keys of one section of the config.

    Args:
        section: dotted key of the section.
        names: names of arguments that the section holds under the same name.
        **others: keys of arguments that have another name or place.
    """
    return {**{name: f"{section}.{name}" for name in names}, **others}
