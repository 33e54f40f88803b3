"""Mistakes on the command line are answered in a sentence, at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps import command

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ("apps.train", "--config=configs/digits.py:nkd")


def run(*arguments):
    return start("-m", *arguments)


def start(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TRAIN, "--config.train.epoch=3"), "--config.train.epoch"),
        ((*TRAIN, "--config.trian.epochs=3"), "--config.trian"),
        ((*TRAIN, "--config.train.epochs=three"), "config.train.epochs=three"),
        ((*TRAIN, "--config.train.epochs=3.5"), "config.train.epochs=3.5"),
        (
            (*TRAIN, "--config.model.options.depth=3"),
            "That key is gone: the settings of a model are in the section of",
        ),
        ((*TRAIN, "--worldir=x"), "worldir"),
        (TRAIN, "--workdir"),
        (("apps.train", "--workdir=x"), "--config"),
        (
            ("apps.train", "--config=configs/digits.py:sdk", "--workdir=x"),
            "--config=configs/digits.py:sdk: Unknown method 'sdk': expected "
            "one of ['adversarial_training', ",
        ),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_written(
    arguments, message, tmp_path
):
    if "--workdir" not in message and "--workdir=x" not in arguments:
        arguments = (*arguments, f"--workdir={tmp_path / 'run'}")
    result = run(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_error_of_an_app_is_a_sentence_and_a_status(tmp_path):
    (tmp_path / "file").write_text("")
    result = run(*TRAIN, f"--workdir={tmp_path / 'file' / 'run'}")
    assert result.returncode == 1
    assert "Error: Cannot write to" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_config_file_is_named(tmp_path):
    result = run("apps.train", "--config=nowhere.py", f"--workdir={tmp_path}")
    assert result.returncode == 1
    assert "there is no file nowhere.py" in result.stderr
    assert "Traceback" not in result.stderr


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
    result = start("-c", SHORT.format(message=message))
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ") and said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("flag", "shown"),
    [
        ("--help", "--workdir: Folder of the run"),
        ("--helpshort", "--workdir: Folder of the run"),
        ("--helpfull", "--workdir: Folder of the run"),
        ("--helpxml", "<name>workdir</name>"),
    ],
)
def test_help_that_was_asked_for_is_no_error(flag, shown):
    result = run("apps.train", flag)
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
    result = start("-c", IMPORTING, "--import=json", "--import", "csv")
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
    result = start("-X", "importtime", "-m", f"apps.{app}", "--help")
    assert result.returncode == 0 and "--config" in result.stdout
    return {line.split("|")[-1].strip() for line in result.stderr.split("\n")}
