"""Configs and sweeps are found by short name and by path."""

import pytest
from absl import flags

from apps import config_files
from apps.config_flag import ConfigFlag

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("text", ["digits:nkd", "configs/digits.py:nkd"])
def test_ours_have_a_short_name_and_a_path(text):
    config = config_files.load(text)
    assert (config.data.name, config.method.name) == ("digits", "nkd")


def test_a_file_of_the_user_with_the_name_of_ours_is_theirs(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text(
        "from configs import default\n\n"
        "def get_config(variant='skd'):\n"
        "    changes = {'model': {}, 'data': {'name': 'x'}}\n"
        "    return default.derive(variant, changes)\n"
    )
    theirs = config_files.load("configs/digits.py")
    assert (theirs.data.name, theirs.method.name) == ("x", "skd")
    assert config_files.load("digits").data.name == "digits"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("nowhere.py", FileNotFoundError, "there is no file nowhere.py"),
        ("mnst:neo_kd", ValueError, "no 'mnst'. Give the path .* mnist"),
        ("digits:sdk", ValueError, "--config=digits:sdk: Unknown method"),
        ("empty.py", ValueError, r"--config=empty.py has no function get_con"),
        ("broken.py", ValueError, "broken.py ended in NameError: .*'nonsense'"),
    ],
)
def test_what_is_no_config_is_refused(
    text, error, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("nonsense")
    with pytest.raises(error, match=message):
        config_files.load(text)


def parsed(*arguments, default=None):
    values = flags.FlagValues()
    config = ConfigFlag(default)
    values(config.define(["app", *arguments], values))
    return config


@pytest.mark.parametrize("given", [["--config=digits"], ["-config", "digits"]])
def test_values_change_the_config_that_is_named(given):
    config = parsed("--config.attack.epsilon=8/255", *given)
    assert config.is_given and config.value.data.name == "digits"
    assert config.value.attack.epsilon == 8 / 255
    assert config.changes == {"attack.epsilon": 8 / 255}


def test_a_default_can_be_changed_without_being_named():
    config = parsed("--config.train.epochs=3", default="mnist")
    assert not config.is_given
    assert (config.value.data.name, config.value.train.epochs) == ("mnist", 3)


def test_a_config_without_a_default_has_to_be_named():
    with pytest.raises(flags.Error, match="--config must have a value"):
        parsed()
