"""Whatever is written after `--config.KEY=`, the answer is a sentence or a run.

Each key of the schema is given odd values of its kind, as on a command line.
Either planning succeeds, or it ends in an error that the apps print and that
names the key. Nothing is trained or attacked.
"""

import itertools
import random

import pytest
from absl import flags
from ml_collections import config_dict

from apps import command
from apps import evaluating
from apps import flag_values
from apps import training
from apps.config_flag import ConfigFlag
from configs import digits
from keras_neokd import MultiExitModel
from tests.apps.tiny import untrained_run

pytestmark = pytest.mark.slow

# Needs files of other models.
LEFT_OUT = ("method.k", "evaluate.teacher", "evaluate.transfer.")
# Names in use besides those of methods.
USED = ("model.small_cnn_mnist.", "model.weights", "attack.max_average.")
# Everything else that an evaluation may use.
EVERYTHING = {
    "evaluate.attacks": "('average', 'apgd_t', 'square', 'cw', 'auto_attack')",
    "evaluate.protocols": "('budgeted', 'transferability', 'sensitivity', "
    "'early_exit', 'early_exit_attacked')",
    "evaluate.diagnostics": "('local_linearity', 'smoothing')",
    "data.validation_size": "100",
}
ODD = {
    float: ("nan", "inf", "-inf", "-1", "1e-320", "1e300", "8/255", "0", "x"),
    int: ("-1", "-7", "0", "1", "99999999999999999999", "1.5", "1e3", "x"),
    bool: ("maybe", "2", "no", "true"),
    str: ("", "x", "None", " ", "mnist,mnist", "../x", "linf "),
    object: ("nan", "-1", "1e400", "None", "x", "()", "(0, 1, 1)", "((),)"),
    tuple: ("()", "(-1,)", "('',)", "(1e400,)", "((),)", "(0, 1, 1)", "x", "("),
}
# Refused whatever the key: no setting is one of these.
NEVER = {float: ("nan", "-inf"), int: ("99999999999999999999",)}
NUM_OVERRIDES = 600


class Planned(Exception):
    """Everything was checked, and the work would begin."""


def overrides():
    """Return keys, kinds and texts, the same in every run."""
    found = [
        (key, kind, text)
        for key, kind in kinds(digits.get_config("skd"))
        if not key.startswith(LEFT_OUT)
        and (key.count(".") < 2 or key.startswith(("method.", "ev", *USED)))
        for text in ODD[kind]
    ]
    random.Random(0).shuffle(found)
    assert len(found) >= NUM_OVERRIDES
    return found[:NUM_OVERRIDES]


def kinds(schema, prefix=""):
    """Yield all keys of a config with the type of their values."""
    for name in schema:
        if schema.get_type(name) is config_dict.ConfigDict:
            yield from kinds(schema[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", schema.get_type(name)


def parse(key, text):
    """Return the config that the apps read from their flags."""
    values = flags.FlagValues()
    kind, _, rest = key.partition(".")
    is_of_method = kind == "method" and "." in rest
    variant = rest.split(".")[0] if is_of_method else "neo_kd"
    changes = EVERYTHING if key.startswith("evaluate.") else {}
    line = [
        "app",
        f"--config={digits.__file__}:{variant}",
        *(f"--config.{name}={each}" for name, each in changes.items()),
        f"--config.{key}={text}",
    ]
    config = ConfigFlag()
    values(config.define(line, values))
    return config.value


def outcome(run, key, text):
    """Return `None` if an override is planned, else the sentence about it.

    Warnings are errors in tests, so that they are sentences, too.
    """
    try:
        run(parse(key, text))
    except Planned:
        return None
    # What `command` answers with a sentence.
    except (flags.Error, UserWarning, *command.ANSWERED) as error:
        return str(error)
    raise AssertionError("neither planned nor refused")


@pytest.fixture
def plan(monkeypatch, tmp_path):
    """Return a function that plans a training, or an evaluation."""

    def stop(*arguments, **named):
        raise Planned

    monkeypatch.setattr(MultiExitModel, "fit", stop)
    monkeypatch.setattr(evaluating.soundness, "check_model", stop)
    model = untrained_run(tmp_path / "run") / "model.keras"
    numbers = itertools.count()

    def run(config):
        place = tmp_path / str(next(numbers))
        training.train(config, place)

    def evaluate(config):
        place = tmp_path / str(next(numbers))
        evaluating.evaluate(config, model, place / "r.json", place / "p.png")

    return lambda key: evaluate if key.startswith("evaluate.") else run


def test_odd_values_are_refused_in_a_sentence_that_names_their_key(
    plan, capsys
):
    flag_values.register()
    wrong = []
    for key, kind, text in overrides():
        sentence = outcome(plan(key), key, text)
        if sentence is None and text in NEVER.get(kind, ()):
            wrong.append(f"{key}={text} is accepted")
        elif sentence is not None and key.rpartition(".")[2] not in sentence:
            wrong.append(f"{key}={text}: {sentence}")
    assert not wrong, "\n".join(wrong)
