"""Versions of what a result depends on."""

import importlib


def of_modules(*names):
    """Return the versions of modules, which are imported.

    Modules know them whatever package brought them: `tensorflow` comes from
    `tensorflow-cpu`, `tensorflow-macos` and `tf-nightly`, too.

    Args:
        *names: of modules that can be imported.

    Returns:
        Dict from names to texts, such as `{"numpy": "2.4.0"}`.
    """
    return {
        name: str(importlib.import_module(name).__version__) for name in names
    }
