"""Files and folders are whole or not there, whatever lies in their place."""

import ast
import errno
import importlib.util
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_neokd.base import writing
from keras_neokd.base.exit_policy import ExitPolicy
from tests.isolation import ROOT

pytestmark = pytest.mark.any_backend

LEFT_OVER = ".unfinished.0123456789abcdef"
has_locks = pytest.mark.skipif(
    importlib.util.find_spec("fcntl") is None, reason="no locks of files here"
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_text_replaces_another(tmp_path):
    path = tmp_path / "notes.txt"
    for text in ("first", "größer"):
        writing.write_text(path, text)
        assert path.read_bytes() == text.encode("utf-8")
    assert names(tmp_path) == ["notes.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "notes.txt"
    writing.write_text(path, "old")
    with pytest.raises(KeyError), writing.replacing(path) as new:
        new.write_text("half of")
        raise KeyError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


def test_others_may_read_a_file_as_far_as_the_user_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        writing.write_text(tmp_path / "notes.txt", "")
    finally:
        os.umask(before)
    mode = (tmp_path / "notes.txt").stat().st_mode
    assert stat.S_IMODE(mode) == 0o640


# Links.


@pytest.fixture
def precious(tmp_path):
    """A file that nobody asked to write; checked at the end."""
    path = tmp_path / "elsewhere" / "precious.txt"
    path.parent.mkdir()
    path.write_text("years of work")
    yield path
    assert path.read_text() == "years of work"
    assert names(path.parent) == ["precious.txt"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: writing.write_text(path, "new"),
        lambda path: ExitPolicy([0.5], ensemble=False).save(path),
    ],
)
def test_a_link_is_replaced_and_its_target_stays(write, tmp_path, precious):
    link = tmp_path / "policy.json"
    link.symlink_to(precious)
    write(link)
    assert not link.is_symlink()
    assert link.read_text() != "years of work"


def test_links_to_folders_are_replaced_and_their_targets_stay(
    tmp_path, precious
):
    link = tmp_path / "saved_model"
    link.symlink_to(precious.parent)
    with writing.unfinished(link, is_folder=True) as folder:
        (folder / "new").mkdir()
        writing.move_folder(folder / "new", link)
    assert not link.is_symlink()
    assert names(link) == []
    assert names(tmp_path) == ["elsewhere", "saved_model"]


def test_unfinished_files_have_names_that_nobody_can_foresee(
    tmp_path, monkeypatch
):
    made = []
    touch = Path.touch

    def noted(path, **options):
        made.append((path.name, options))
        touch(path, **options)

    monkeypatch.setattr(Path, "touch", noted)
    for _ in range(2):
        writing.write_text(tmp_path / "notes.txt", "")
    assert made[0][0] != made[1][0]
    # Neither a file that is there nor a link is taken.
    assert [options for _, options in made] == 2 * [{"exist_ok": False}]


def test_only_a_file_is_replaced_by_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    made = ["folder"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        made.append("pipe")
    for name in made:
        with pytest.raises(OSError, match=f"{name} is not a file.*another"):
            writing.write_text(tmp_path / name, "")
    assert names(tmp_path) == sorted(made)


def test_only_a_folder_is_replaced_by_a_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("old")
    with pytest.raises(OSError, match="notes.txt is not a folder"):
        with writing.unfinished(tmp_path / "notes.txt", is_folder=True):
            pass
    assert names(tmp_path) == ["notes.txt"]


# What a killed process leaves.

# Without `keras_neokd`, which would import Keras.
KILLED = """
import importlib.util, pathlib, sys, time

spec = importlib.util.spec_from_file_location("writing", sys.argv[1])
writing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(writing)
folder = pathlib.Path(sys.argv[2])
with (
    writing.unfinished(folder / "model.keras") as file,
    writing.unfinished(folder / "saved_model", is_folder=True) as inside,
):
    file.write_text("half")
    (inside / "variables").mkdir()
    (inside / "variables" / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@has_locks
def test_what_is_left_is_removed_when_its_process_was_killed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, writing.__file__, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "writing\n"
        begun = names(tmp_path)
        writing.write_text(tmp_path / "notes.txt", "")
        assert names(tmp_path) == [*begun, "notes.txt"]
        assert len(begun) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names(tmp_path) == [*begun, "notes.txt"]
    writing.write_text(tmp_path / "notes.txt", "")
    assert names(tmp_path) == ["notes.txt"]


@has_locks
def test_nothing_of_others_is_taken_for_a_leftover(tmp_path, precious):
    kept = [".unfinished.txt", "saved_model.a1b2c3d4", f"{LEFT_OVER}0"]
    for name in kept:
        (tmp_path / name).write_text("")
    (tmp_path / f"{LEFT_OVER}.npz").symlink_to(precious)
    (tmp_path / LEFT_OVER).mkdir()
    (tmp_path / LEFT_OVER / "link").symlink_to(precious.parent)
    writing.write_text(tmp_path / "notes.txt", "")
    assert names(tmp_path) == sorted(
        [*kept, f"{LEFT_OVER}.npz", "elsewhere", "notes.txt"]
    )


@has_locks
@pytest.mark.parametrize("is_folder", [False, True])
def test_what_has_no_lock_yet_is_no_leftover(is_folder, tmp_path, monkeypatch):
    flock = writing.fcntl.flock

    def late(descriptor, operation):
        monkeypatch.setattr(writing.fcntl, "flock", flock)
        # As another process does, which removes what is left.
        writing.write_text(tmp_path / "notes.txt", "")
        flock(descriptor, operation)

    monkeypatch.setattr(writing.fcntl, "flock", late)
    with writing.unfinished(tmp_path / "model", is_folder) as new:
        assert new.exists()
        assert names(tmp_path) == [new.name, "notes.txt"]
    assert names(tmp_path) == ["notes.txt"]


def test_where_nothing_can_be_locked_nothing_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "fcntl", None)
    (tmp_path / LEFT_OVER).write_text("perhaps of a process that lives")
    writing.write_text(tmp_path / "notes.txt", "new")
    assert names(tmp_path) == [LEFT_OVER, "notes.txt"]


# Full disks.


class OfTensorFlow(Exception):
    """Like `tf.errors.ResourceExhaustedError`, which is no `OSError`."""


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), errno.ENOSPC),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), errno.EDQUOT),
        (OfTensorFlow("x/variables; No space left on device"), errno.ENOSPC),
    ],
    ids=["disk", "quota", "tensorflow"],
)
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_full_disk_is_said_with_the_file_and_the_room(
    error, number, is_folder, tmp_path
):
    with pytest.raises(OSError) as raised:
        with writing.unfinished(tmp_path / "model.keras", is_folder):
            raise error
    assert raised.value.errno == number
    message = str(raised.value)
    assert f"no room for {tmp_path / 'model.keras'}: " in message
    assert os.strerror(number) in message
    assert f" MB are free in {tmp_path}. " in message
    assert "Make room there, or write to another disk" in message
    assert names(tmp_path) == []


def test_other_errors_are_left_as_they_are(tmp_path):
    error = OSError(errno.EROFS, "Read-only file system")
    with pytest.raises(OSError) as raised:
        with writing.replacing(tmp_path / "model.keras"):
            raise error
    assert raised.value is error


def test_a_folder_that_cannot_be_moved_leaves_the_old_one(
    tmp_path, monkeypatch
):
    target = tmp_path / "saved_model"
    target.mkdir()
    (target / "old").write_text("")
    rename = Path.rename

    def failing(path, to):
        if path.name == "new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no room for .*saved_model"):
        with writing.unfinished(target, is_folder=True) as folder:
            (folder / "new").mkdir()
            writing.move_folder(folder / "new", target)
    assert names(target) == ["old"]
    assert names(tmp_path) == ["saved_model"]


# One way to write.

# What makes a file or lets one appear at once.
WRITING = {"write_text", "write_bytes", "savefig", "replace", "rename"}
# Places that write to memory, within `writing.unfinished` of their caller, into
# folders of the system for passing files, or new files only.
ALLOWED = {
    "apps/plots.py": {"savefig"},
    "keras_neokd/training/checkpoints.py": {"open", "rename"},
    "keras_neokd/base/writing.py": WRITING | {"open"},
}


def is_of_files(item):
    call = ast.unparse(item.context_expr)
    return call.startswith(("writing.replacing(", "writing.unfinished("))


def writing_calls(tree, within=False):
    """Yield the names of calls that write a file in a way of their own."""
    for node in ast.iter_child_nodes(tree):
        here = within or (
            isinstance(node, ast.With) and any(map(is_of_files, node.items))
        )
        if isinstance(node, ast.Call) and not here:
            yield from own_writing(node)
        yield from writing_calls(node, here)


def own_writing(call):
    function = ast.unparse(call.func)
    owner, _, name = function.rpartition(".")
    mode = call.args[1] if len(call.args) > 1 else None
    if name == "open" and isinstance(mode, ast.Constant):
        if set(str(mode.value)) & set("wxa+"):
            yield name
    # Those of texts and of `dataclasses` have other arguments.
    elif name in ("replace", "rename"):
        if function == "os.replace" or len(call.args) == 1 and mode is None:
            if owner != "dataclasses":
                yield name
    elif name in WRITING and owner != "writing":
        yield name


@pytest.mark.parametrize("package", ["keras_neokd", "apps"])
def test_everything_that_is_written_is_written_here(package):
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        own = set(writing_calls(ast.parse(path.read_text("utf-8"))))
        if own - ALLOWED.get(name, set()):
            found[name] = own
    assert not found, "use keras_neokd.base.writing, or say why not in ALLOWED"


def test_a_writer_of_its_own_is_found():
    source = (
        "open(path, 'wb')\npath.write_text(text)\nos.replace(a, b)\n"
        "with writing.replacing(path) as new:\n    new.write_bytes(png)\n"
        "with open(path, 'rb') as file:\n    text.replace('a', 'b')\n"
    )
    assert list(writing_calls(ast.parse(source))) == [
        "open",
        "write_text",
        "replace",
    ]


def test_arrays_are_written_with_the_suffix_that_numpy_wants(tmp_path):
    """NumPy adds one where there is none, and would write another file."""
    with writing.replacing(tmp_path / "labels.npz") as new:
        np.savez(new, train=np.arange(3))
    with np.load(tmp_path / "labels.npz") as arrays:
        np.testing.assert_array_equal(arrays["train"], [0, 1, 2])
    assert names(tmp_path) == ["labels.npz"]
