"""Run an app by its name, as the installed command `neokd`.

    neokd
    neokd train --config=mnist:neo_kd --workdir=runs/x
    neokd train --help

The first line lists the apps. In a checkout `python -m apps.train` does the
same as `neokd train`.
"""

import ast
import pathlib
import runpy
import sys

# The line at the end of every app.
_RUN = "\n    command.run(main)\n"


def main():
    """Run the app that the command line names, or list all.

    An unknown name ends the program with status 1.
    """
    apps = _apps()
    name = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else "help"
    if name in apps:
        sys.argv[:2] = [f"neokd {name}"]
        runpy.run_module(
            f"{__package__}.{name}", run_name="__main__", alter_sys=True
        )
        return
    table = "\n".join(f"  {app:16} {line}" for app, line in apps.items())
    text = f"neokd APP --FLAG=VALUE ...; neokd APP --help says more.\n\n{table}"
    if name not in ("help", "__help"):
        sys.exit(f"Error: There is no app {sys.argv[1]!r}.\n{text}")
    print(text)


def _apps():
    """Return a dict from the name of every app to what it does."""
    sources = {
        path.stem: path.read_text("utf-8")
        for path in sorted(pathlib.Path(__file__).parent.glob("*.py"))
    }
    return {
        name: ast.get_docstring(ast.parse(source)).splitlines()[0]
        for name, source in sources.items()
        if source.endswith(_RUN)
    }
