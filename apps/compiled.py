"""Keep what JAX has compiled, for the next run of the same step.

It lies in `$XDG_CACHE_HOME/keras_neokd/jax` (`~/.cache/keras_neokd/jax` where
the variable is not set), in a folder for each kind of processor of at most
2 GiB. JAX' own variables come first: `JAX_COMPILATION_CACHE_DIR` names another
folder, and `JAX_ENABLE_COMPILATION_CACHE=false` turns all of it off.
docs/performance.md says what it saves.
"""

import contextlib
import hashlib
import os
import platform
import stat
import sys
import tempfile
from pathlib import Path

_LARGEST = 2 * 2**30
# JAX waits as long for who reads or writes, in seconds.
_PATIENCE = 10
# Lines of Linux about a processor, on x86 and on ARM.
_KIND = ("model name", "flags", "CPU part", "Features")


def folder():
    """Return the path of the folder of this user and kind of processor.

    Raises:
        OSError, RuntimeError: if there is no home, or the kind is not known.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # Homes are shared between computers, and what is compiled for one may end
    # the process on another with "illegal instruction".
    described = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    kind = {line for line in described if line.startswith(_KIND)}
    text = "\n".join([platform.machine(), *sorted(kind)])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Path(cache) / "keras_neokd" / "jax" / digest


def keep():
    """Let JAX use the folder, if its settings allow and the folder can be used.

    A folder that cannot be written to, or to which others can write, is left
    alone: what it holds is code that JAX runs. Nothing fails because of it.
    """
    import jax

    try:
        import filelock  # JAX needs it to keep within a size.
    except ImportError:
        return
    settings = jax.config
    if (
        settings.jax_compilation_cache_dir is not None
        or not settings.jax_enable_compilation_cache
        # Elsewhere, JAX has crashed where it read what it had written.
        or sys.platform != "linux"
    ):
        return
    with contextlib.suppress(OSError, RuntimeError):  # No home, or no space.
        path = folder()
        if not _made_private(path):
            return
        with tempfile.TemporaryFile(dir=path):
            pass
        # That of JAX: nobody is writing meanwhile.
        with filelock.FileLock(path / ".lockfile", timeout=_PATIENCE):
            _remove_unfinished(path)
        if settings.jax_compilation_cache_max_size == -1:  # No limit.
            settings.update("jax_compilation_cache_max_size", _LARGEST)
        settings.update("jax_compilation_cache_dir", str(path))


def _made_private(path):
    """Make the three folders of ours; return whether only we can change them.

    The folder that they are in may belong to others, but then it must not let
    them rename ours.
    """
    cache = path.parents[2]
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = cache.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return False
    for folder in (path.parents[1], path.parents[0], path):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
        others = stat.S_IWGRP | stat.S_IWOTH
        if found.st_uid != os.getuid() or found.st_mode & others:
            return False
    return True


def _remove_unfinished(path):
    """Remove what was not written to its end: killed, or out of space.

    JAX writes an entry, then its time of access. It would neither read such
    an entry nor replace it, and write no others once the folder is large.
    """
    for entry in path.glob("*-cache"):
        accessed = entry.with_name(entry.name[: -len("cache")] + "atime")
        if not accessed.exists():
            entry.unlink()
