"""Commands in configs' docstrings, sweeps and guides are ones that work."""

import importlib
import re
import shlex

import keras
import pytest
from absl import flags

from apps import building
from apps import sweeping
from apps.config_flag import ConfigFlag
from tests.isolation import ROOT

pytestmark = pytest.mark.any_backend

SWEEPS = ROOT / "configs" / "sweeps"
# A row of a table: flags, then the accuracies that the paper has for them.
ROW = re.compile(r"^    (:\w+(?: --\S+)*) +((?:\d\d\.\d\d *)+)$", re.MULTILINE)
ROWS = {"mnist": 5, "cifar10": 17, "cifar100": 17}
NUM_EXITS = {"mnist": 3, "cifar10": 3, "cifar100": 7}
KDIGA = ("kdiga_resnet", "kdiga_vision_transformer")


def parse(arguments):
    """Return the config that `apps.train` reads from its flags."""
    values = flags.FlagValues()
    line = ["train", *arguments]
    config = ConfigFlag()
    values(config.define(line, values))
    return config.value


def rows(name):
    docstring = importlib.import_module(f"configs.{name}").__doc__
    return [
        (row, [float(each) for each in numbers.split()])
        for row, numbers in ROW.findall(docstring)
    ]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_paper_is_a_config_that_builds(name):
    found = rows(name)
    assert len(found) == ROWS[name]
    for row, _ in found:
        config = parse(f"--config=configs/{name}.py{row}".split())
        building.compile_arguments(config, NUM_EXITS[name], 100)


@pytest.mark.parametrize("name", ROWS)
def test_means_of_published_rows_are_means(name):
    width = NUM_EXITS[name] + 1
    tables = [
        numbers[start : start + width]
        for _, numbers in rows(name)
        for start in range(0, len(numbers), width)
        if len(numbers) >= width
    ]
    assert len(tables) == {"mnist": 10, "cifar10": 22, "cifar100": 10}[name]
    for *exits, mean in tables:
        # Some of the paper's means differ by 0.02 from those of its exits.
        assert mean == pytest.approx(sum(exits) / len(exits), abs=0.021)


@pytest.mark.parametrize("name", KDIGA)
def test_commands_of_kdiga_are_flags_that_exist(name):
    docstring = importlib.import_module(f"configs.{name}").__doc__
    commands = commands_in(docstring, "train")
    for *arguments, folder in commands:
        assert folder.startswith("--workdir=")
        assert parse(arguments).data.name == "cifar10"
    assert len(commands) == {KDIGA[0]: 2, KDIGA[1]: 3}[name]


def commands_in(text, app):
    """Return the arguments of an app's commands in a guide or docstring."""
    lines = re.findall(
        rf"(?:python -m apps\.|neokd ){app} (.*)$",
        text.replace("\\\n", " "),
        re.MULTILINE,
    )
    commands = [shlex.split(line, comments=True) for line in lines]
    return [each for each in commands if any("--" in flag for flag in each)]


def changes_in(arguments):
    """Leave out --workdir, variables of the shell, and its `do`."""
    return [each for each in arguments if each.startswith("--config")]


GUIDES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
DOCSTRINGS = [*(ROOT / "configs").glob("*.py")]


@pytest.mark.parametrize(
    ("files", "num_trainings", "num_evaluations"),
    [(GUIDES, 20, 15), (DOCSTRINGS, 18, 10)],
    ids=["guides", "docstrings"],
)
def test_commands_that_are_shown_have_flags_that_exist(
    files, num_trainings, num_evaluations, monkeypatch
):
    monkeypatch.chdir(ROOT)
    texts = [file.read_text("utf-8") for file in files]
    trainings, evaluations = (
        [
            each
            for text in texts
            for each in commands_in(text, app)
            # Tests of tests/test_docs.py and tests/apps/test_users_own.py have
            # what a user registers.
            if not any(flag.startswith("--import") for flag in each)
        ]
        for app in ("train", "evaluate")
    )
    assert len(trainings) >= num_trainings
    assert len(evaluations) >= num_evaluations
    for arguments in trainings:
        config = parse(changes_in(arguments))
        # A network of its own may not be possible, or not for the method.
        # Building all of the others would take minutes.
        own = r"--config\.model\.(?!weights)\w+\."
        if any(re.match(own, each) for each in arguments):
            model = building.build_model(config)
            model.compile(
                **building.compile_arguments(config, model.num_exits, 100)
            )
    for arguments in evaluations:
        # Their config is that of a run.
        parse(["--config=configs/cifar100.py", *changes_in(arguments)])


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("[!_]*.py")))
def test_every_run_of_a_sweep_is_a_config_that_builds(file, tmp_path):
    inputs = keras.Input((28, 28, 1))
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    (tmp_path / "teacher").mkdir()
    keras.Model(inputs, outputs).save(tmp_path / "teacher" / "model.keras")
    runs, evaluations = sweeping.read_sweep(file)
    # No two runs are the same.
    assert len({tuple(each) for each in runs.values()}) == len(runs)
    for arguments in runs.values():
        for changes in evaluations.values():
            line = [*arguments, *changes]
            config = parse(
                [flag.replace("{workdir}", str(tmp_path)) for flag in line]
            )
            section = config.model[config.model.name]
            num_exits = section.get("num_blocks") or NUM_EXITS[config.data.name]
            building.compile_arguments(config, num_exits, 100)


def test_appendix_d_tries_13_pairs_and_two_more_gammas():
    runs, _ = sweeping.read_sweep(SWEEPS / "appendix_d.py")
    methods = [
        building.build_method(parse(arguments), 7)
        for arguments in runs.values()
    ]
    assert len(methods) == 15
    pairs = [(each.nkd_weight, each.eokd_weight) for each in methods]
    assert len(set(pairs[:13])) == 13
    assert {weight for pair in pairs for weight in pair} == {
        0.35,
        0.5,
        1.0,
        2.0,
        3.0,
    }
    assert pairs[13:] == [(3.0, 1.0)] * 2
    # None: the paper's choice, 1.5 for the later exits.
    assert [each.exit_weights for each in methods] == [
        *[None] * 13,
        (1.0,) * 7,
        (1.0, 1.0, 1.0, 1.7, 1.7, 1.7, 1.7),
    ]


def test_the_sweep_of_methods_has_two_seeds_where_it_says_so():
    runs, _ = sweeping.read_sweep(SWEEPS / "mnist_methods.py")
    seeds = [name for name in runs if name.endswith("_seed_1")]
    assert len(runs) == 28
    assert len(seeds) == 4
