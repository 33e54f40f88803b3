"""The versions of packages, as results and artefacts record them."""

import importlib


def of_modules(*names: str) -> dict[str, str]:
    """Return a dict from modules, which this imports, to their versions.

    Modules know them whatever package brought them: `tensorflow` comes from
    `tensorflow-cpu`, `tensorflow-macos` and `tf-nightly`, too.

    Args:
        *names: names of modules that have a `__version__`.
    """
    return {
        name: str(importlib.import_module(name).__version__) for name in names
    }
