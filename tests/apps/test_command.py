"""Mistakes on the command line are answered in a sentence, at once."""

import pytest

from apps import command
from tests.isolation import python
from tests.isolation import run_apps

pytestmark = pytest.mark.any_backend

DIGITS = "--config=configs/digits.py:nkd"
# What is wrong with a command line, and what is said. `run` is a new folder.
WRONG = {
    (DIGITS, "run", "--config.train.epoch=3"): "--config.train.epoch",
    (DIGITS, "run", "--config.trian.epochs=3"): "--config.trian",
    (DIGITS, "run", "--config.train.epochs=three"): "config.train.epochs=three",
    (DIGITS, "run", "--config.train.epochs=3.5"): "config.train.epochs=3.5",
    (DIGITS, "run", "--config.model.options.depth=3"): (
        "That key is gone: the settings of a model are in the section of"
    ),
    (DIGITS, "run", "--worldir=x"): "worldir",
    (DIGITS,): "--workdir",
    ("run",): "--config",
    ("--config=configs/digits.py:sdk", "run"): (
        "--config=configs/digits.py:sdk: Unknown method 'sdk': expected "
        "one of ['adversarial_training', "
    ),
    (DIGITS, "file/run"): "Error: Cannot write to",
    ("--config=nowhere.py", "run"): "there is no file nowhere.py",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The folder of the runs, and what is said of each command line."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "file").write_text("")
    lines = [
        [
            f"--workdir={folder / each}" if each.endswith("run") else each
            for each in line
        ]
        for line in WRONG
    ]
    found = run_apps([["train", *line] for line in lines])
    return folder, dict(zip(WRONG, found, strict=True))


@pytest.mark.parametrize("line", WRONG, ids=" ".join)
def test_wrong_flags_are_refused_before_anything_is_written(answers, line):
    folder, found = answers
    assert found[line].returncode == 1
    assert WRONG[line] in found[line].stderr
    assert "Traceback" not in found[line].stderr
    assert [each.name for each in folder.iterdir()] == ["file"]


SHORT = """
from apps import command

def main():
    raise MemoryError({message!r})

command.run(main)
"""


@pytest.mark.parametrize(
    ("message", "said"),
    [("x needs 5 bytes.", "x needs 5 bytes."), ("", "smaller batches")],
)
def test_a_lack_of_memory_is_a_sentence_and_a_status(message, said):
    result = python("-c", SHORT.format(message=message))
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ") and said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("flag", "shown"),
    [
        ("--help", "--workdir: Folder of the run"),
        ("--help", "--config: Config by name or path"),
        ("--help", "--import: Module, by name or path, that registers methods"),
        ("--helpshort", "--workdir: Folder of the run"),
        ("--helpfull", "--workdir: Folder of the run"),
        ("--helpxml", "<name>workdir</name>"),
    ],
)
def test_help_that_was_asked_for_is_no_error(flag, shown):
    result = python("-m", "apps.train", flag)
    assert result.returncode == 0
    assert shown in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("model.options", "--config.model.msdnet_cifar10.KEY=VALUE"),
        ("model.options.depth", "--config.model.msdnet_cifar10.KEY=VALUE"),
        ("model.constructor", "a part of --config.model.name"),
        ("method.sum_weights", "neo_kd+0.5*kdiga"),
        ("method.nkd_weight", "--config.method.neo_kd.nkd_weight=VALUE"),
    ],
)
def test_what_took_the_place_of_a_removed_key_is_said(key, said):
    assert said in command._successor(f"config.{key}")
    assert command._successor("config.method.neo_kd.nkd_weight") == ""


IMPORTING = """
from absl import flags
from apps import command

command.run(lambda: print(flags.FLAGS["import"].value))
"""


def test_apps_know_which_modules_were_imported():
    result = python("-c", IMPORTING, "--import=json", "--import", "csv")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "['json', 'csv']\n"


def test_importing_weights_imports_torch_before_keras():
    """In the other order interpreters have crashed."""
    pytest.importorskip("torch")
    imported = imported_for_help("import_weights")
    # The package itself is not listed, being imported by importlib.
    assert any(name.startswith("torch.") for name in imported)
    assert "keras" not in imported


@pytest.mark.parametrize("app", ["train", "evaluate"])
def test_help_does_not_wait_for_keras(app):
    imported = imported_for_help(app)
    assert "absl.flags" in imported
    assert not imported & {"keras", "keras_neokd", "numpy"}


def imported_for_help(app):
    """Return the names of all modules that `--help` imports."""
    result = python("-X", "importtime", "-m", f"apps.{app}", "--help")
    assert result.returncode == 0 and "--config" in result.stdout
    return {line.split("|")[-1].strip() for line in result.stderr.split("\n")}
