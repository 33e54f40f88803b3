"""Settings of methods that are not possible: what the messages say."""

import pytest

from apps.building_methods import build_method
from configs import default
from keras_neokd import models

NUM_EXITS = 3


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A file as apps.train writes it."""
    path = tmp_path_factory.mktemp("teacher") / "model.keras"
    models.SmallCNN.mnist().save(path)
    return str(path)


def get_config(variant, teacher_file=None):
    config = default.get_config(variant)
    config.method.kdiga.teacher_file = teacher_file
    return config


def build(config):
    return build_method(config, NUM_EXITS, num_examples=100)


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        (None, ValueError, r"kdiga.*config\.method\.kdiga\.teacher_file"),
        (
            "nowhere.keras",
            FileNotFoundError,
            r"method\.kdiga\.teacher_file.*no file nowhere\.keras",
        ),
    ],
)
def test_kdiga_says_that_it_has_no_teacher(file, error, message):
    with pytest.raises(error, match=message):
        build(get_config("kdiga", file))


def test_a_file_that_is_no_model_is_no_teacher(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no model")
    with pytest.raises(ValueError, match=r"'kdiga'.*notes\.txt"):
        build(get_config("kdiga", str(path)))


def test_teat_needs_the_size_of_the_training_set():
    with pytest.raises(ValueError, match="'teat'.*num_examples.*None"):
        build_method(get_config("teat"), NUM_EXITS)


@pytest.mark.parametrize(
    ("variant", "section", "changes", "message"),
    [
        ("neo_kd", None, {"name": "sdk"}, r"method\.name.*'sdk'.*neo_kd"),
        ("neo_kd", None, {"name": "neo_kd+"}, r"method\.name.*''.*neo_kd"),
        (
            "neo_kd",
            None,
            {"nkd_teacher": "last"},
            "'neo_kd'.*teacher.*'last'.*neighbors",
        ),
        ("neo_kd", None, {"nkd_weight": -1.0}, "'neo_kd'.*>= 0, received -1"),
        (
            "neo_kd",
            None,
            {"sum_weights": (1.0,)},
            r"method\.sum_weights.*'neo_kd', received \(1.0,\)",
        ),
        (
            "neo_kd+lw",
            None,
            {"sum_weights": (1.0, 2.0)},
            r"method\.sum_weights.*'neo_kd\+lw'",
        ),
        (
            "neo_kd+lw",
            None,
            {"sum_weights": (-1.0,)},
            r"method\.sum_weights.*>= 0, received -1",
        ),
        ("trades", None, {"beta": -6.0}, "'trades'.*>= 0, received -6"),
        (
            "skd",
            "skd",
            {"teacher": "none"},
            r"method\.skd\.teacher.*'none'.*'last', 'ensemble', '1', '2', '3'",
        ),
        ("skd", "skd", {"teacher": "4"}, r"method\.skd\.teacher.*'4'"),
        ("ard", "ard", {"teacher": "0"}, r"method\.ard\.teacher.*'0'"),
        (
            "skd_phuong",
            "skd_phuong",
            {"teacher": "first"},
            r"method\.skd_phuong\.teacher.*'first'",
        ),
        ("lw", "lw", {"form": "l1"}, "'lw'.*form.*'l1'.*hinge"),
        ("teat", "teat", {"variant": "mart"}, "'teat'.*variant.*'mart'"),
        ("teat", "teat", {"momentum": 1.0}, "'teat'.*momentum.*received 1"),
        (
            "kdiga",
            "kdiga",
            {"exits": "1,4"},
            r"method\.kdiga\.exits.*from 1 to 3.*received '1,4'",
        ),
        ("kdiga", "kdiga", {"exits": "0"}, r"method\.kdiga\.exits.*'0'"),
        ("kdiga", "kdiga", {"exits": ""}, r"method\.kdiga\.exits.*''"),
        ("kdiga", "kdiga", {"norm": "batches"}, "'kdiga'.*norm.*'batches'"),
    ],
)
def test_an_impossible_setting_is_named(
    variant, section, changes, message, teacher_file
):
    config = get_config(variant, teacher_file)
    (config.method[section] if section else config.method).update(changes)
    with pytest.raises(ValueError, match=message):
        build(config)


def test_a_weight_that_is_no_number_is_refused_with_its_method():
    config = get_config("lw")
    config.method.lw.exit_weights = (1.0, "2")
    with pytest.raises(ValueError, match="'lw'.*exit_weights"):
        build(config)
