"""Write the report of `apps.report`: tables, figures and a page."""

from keras_neokd.base import writing

from .. import tables
from .. import workdir
from . import figures
from . import layout
from . import page
from . import records


def write(paths, folder, title):
    """Write the report on some records; return the files written.

    Args:
        paths: list of `pathlib.Path`s, see `records.read`.
        folder: `pathlib.Path` to write to.
        title: title of the page.

    Raises:
        ValueError, OSError: if a record is broken or missing, or nothing can
            be written.
    """
    titled = records.read(paths)
    workdir.check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = layout.tables(titled)
    drawn = figures.figures(titled)
    texts = {
        "report.html": page.page(title, found, drawn),
        "tables.md": tables.as_markdown(found),
        "tables.tex": tables.as_latex(found),
    }
    for name, text in texts.items():
        writing.write_text(folder / name, text)
    written = [folder / name for name in texts]
    for number, png in enumerate(drawn.values(), 1):
        path = folder / f"figure_{number}.png"
        with writing.replacing(path) as new:
            new.write_bytes(png)
        written.append(path)
    return written
