"""What JAX compiled is kept for the next run, in a folder of the user."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from apps import compiled

if keras.config.backend() != "jax":
    pytest.skip("only JAX keeps what it compiled", allow_module_level=True)

import jax

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size")
COMPILE = """
import sys
if sys.argv[1] == "app":
    from apps import command
    command.prepare_keras()
import keras_neokd
import jax
found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
print(jax.jit(lambda x: x * 2 + 1)(3.0))
print("hits", sum("cache_hits" in name for name in found))
"""


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Give JAX the settings of a new process, and no folder yet."""
    earlier = {name: getattr(jax.config, name) for name in SETTINGS}
    enabled = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    jax.config.update("jax_enable_compilation_cache", enabled)
    for name, value in earlier.items():
        jax.config.update(name, value)


def test_the_folder_is_private_and_has_a_size(home):
    compiled.keep()
    used = Path(jax.config.jax_compilation_cache_dir)
    assert used.parent == home / "keras_neokd" / "jax"
    assert used.stat().st_mode & 0o777 == 0o700
    assert jax.config.jax_compilation_cache_max_size == 2 * 2**30


@pytest.mark.parametrize("where", ["link", "file", "read only", "others"])
def test_a_folder_that_cannot_be_used_is_left_alone(home, where, monkeypatch):
    if where == "file":
        home.write_text("")
    elif where == "link":
        home.symlink_to(home.parent / "nowhere" / "else")
    elif where == "read only":
        if os.geteuid() == 0:
            # Nothing is read only to the administrator.
            monkeypatch.setattr(
                compiled.tempfile, "TemporaryFile", _refuse_to_write
            )
        else:
            compiled.folder().mkdir(mode=0o500, parents=True)
    else:
        compiled.folder().mkdir(parents=True)
        compiled.folder().chmod(0o770)
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None


def _refuse_to_write(**_):
    raise PermissionError("Read-only file system")


def test_settings_of_the_user_come_first(home, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None
    assert not home.exists()


def test_what_was_not_written_to_its_end_is_removed(home):
    folder = compiled.folder()
    folder.mkdir(mode=0o700, parents=True)
    for name in ("whole-cache", "whole-atime", "half-cache"):
        (folder / name).write_bytes(b"")
    compiled.keep()
    left = {path.name for path in folder.glob("*-*")}
    assert left == {"whole-cache", "whole-atime"}


def test_the_next_process_compiles_nothing_and_the_library_keeps_nothing(
    home,
):
    def run(kind):
        return subprocess.run(
            [sys.executable, "-c", COMPILE, kind],
            cwd=ROOT,
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(home),
                "JAX_ENABLE_COMPILATION_CACHE": "true",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout.split()

    assert run("library") == ["7.0", "hits", "0"]
    assert not (home / "keras_neokd").exists()
    assert run("app") == ["7.0", "hits", "0"]
    value, _, hits = run("app")
    assert value == "7.0" and int(hits) >= 1
