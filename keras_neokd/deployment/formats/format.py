"""What a format of files is."""

import importlib.util
import pathlib
from collections.abc import Callable
from collections.abc import Iterable

from keras_neokd.base.typing import Array

# A file in its runtime: a function from arrays by the names of the inputs to
# arrays by the names of the outputs. For one thread at a time.
Session = Callable[[dict[str, Array]], dict[str, Array]]


PRECISIONS = ("float32", "float16", "int8_weights", "int8")
# A dict of arrays by the names of the inputs, for each representative image.
Examples = Iterable[dict[str, Array]]


class Format:
    """A format of files, and the runtime that runs them.

    Attributes:
        name: what users call it.
        ending: of the name of a file or folder.
        extra: extra of this package that brings what it needs.
        writers: packages that write it.
        runners: packages that run it.
        precisions: those of `PRECISIONS` that it is written in.
    """

    name: str
    ending: str
    extra: str
    writers: tuple[str, ...]
    runners: tuple[str, ...]
    precisions: tuple[str, ...] = ("float32",)

    def write(
        self,
        source: pathlib.Path,
        target: pathlib.Path,
        precision: str,
        examples: Examples,
    ) -> None:
        """Write the file of a graph.

        Args:
            source: `pathlib.Path` of a SavedModel with the signature
                `serving_default`, whose weights are constants.
            target: `pathlib.Path` of the file, which ends in `ending`.
            precision: one of `precisions`.
            examples: inputs of the graph for representative images; empty but
                for `"int8"`.
        """
        raise NotImplementedError

    def open(
        self, path: pathlib.Path, num_threads: int | None = None
    ) -> Session:
        """Return a file in its runtime.

        Args:
            path: `pathlib.Path` of what `write` wrote.
            num_threads: threads that compute; None (default) leaves it to
                the runtime.
        """
        raise NotImplementedError

    def check_installed(self, packages: tuple[str, ...]) -> None:
        """Raise `ImportError` if one of the packages is not installed."""
        missing = [
            each for each in packages if importlib.util.find_spec(each) is None
        ]
        if missing:
            raise ImportError(
                f"The format {self.name!r} needs {', '.join(missing)}, not "
                f'installed: run `pip install "keras-neokd[{self.extra}]"`.'
            )
