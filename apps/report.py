"""Compare evaluated runs: tables, figures and one HTML page.

    python -m apps.report --results=runs/neo_kd,runs/plain --output=out

`--results` names files that `apps.evaluate` wrote, or folders that hold such
files (at any depth). Writes report.html (tables that can be sorted, and the
figures; one file that works offline), tables.md, tables.tex (for booktabs and
longtable) and the figures as PNG files. Protocols of yours need `--import`, or
their numbers stand there without their kinds.
"""

import pathlib

from absl import flags

from . import command

_RESULTS = flags.DEFINE_list("results", None, "Files or folders of results.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.")
_TITLE = flags.DEFINE_string(
    "title", "Robust early-exit classifiers", "Title of the page."
)
flags.mark_flags_as_required(["results", "output"])


def main():
    """Write the report as the flags say."""
    command.prepare_keras()
    from .reporting import writing

    paths = [pathlib.Path(each) for each in _RESULTS.value]
    written = writing.write(paths, pathlib.Path(_OUTPUT.value), _TITLE.value)
    print(f"Wrote {', '.join(str(path) for path in written)}.")


if __name__ == "__main__":
    command.run(main)
