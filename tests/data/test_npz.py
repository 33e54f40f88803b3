"""A data set of the user's own in an .npz file."""

import numpy as np
import pytest

from keras_neokd.data.npz import read_npz

pytestmark = pytest.mark.any_backend

RANDOM = np.random.default_rng(0)


def save(path, **changes):
    """Write 6 training and 4 test images of 3 classes; return the arrays."""
    written = {
        "x_train": RANDOM.integers(0, 256, (6, 5, 4, 3), "uint8"),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": RANDOM.integers(0, 256, (4, 5, 4, 3), "uint8"),
        "y_test": np.array([0, 1, 0, 1]),
        **changes,
    }
    written = {name: each for name, each in written.items() if each is not None}
    np.savez(path, **written)
    return written


@pytest.mark.parametrize("by_folder", [False, True])
def test_a_file_gives_the_arrays_that_were_written(tmp_path, by_folder):
    path = tmp_path / "mine.npz"
    written = save(path)
    source = read_npz(tmp_path if by_folder else path)
    found = (*source.train, *source.test)
    for array, expected in zip(found, written.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert source.num_classes == 3
    assert source.validation is None


def test_own_validation_data_is_kept(tmp_path):
    x = RANDOM.integers(0, 256, (2, 5, 4, 3), "uint8")
    save(tmp_path / "a.npz", x_val=x, y_val=np.array([4, 0]))
    source = read_npz(tmp_path)
    np.testing.assert_array_equal(source.validation[0], x)
    assert source.num_classes == 5


def test_grey_images_get_a_channel_and_column_labels_lose_an_axis(tmp_path):
    save(
        tmp_path / "a.npz",
        x_train=np.zeros((6, 5, 4), "uint8"),
        x_test=np.zeros((4, 5, 4), "uint8"),
        y_train=np.array([[0], [1], [2], [0], [1], [2]]),
    )
    source = read_npz(tmp_path)
    assert source.train[0].shape == (6, 5, 4, 1)
    assert source.train[1].shape == (6,)


def test_floats_in_the_unit_range_become_float32(tmp_path):
    x = RANDOM.random((6, 5, 4, 3))
    save(tmp_path / "a.npz", x_train=x)
    images, _ = read_npz(tmp_path).train
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, x.astype("float32"))


BAD_PIXEL = np.zeros((6, 5, 4, 3))
BAD_PIXEL[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"y_test": None}, "Missing: y_test; received: x_train"),
        ({"x_val": np.zeros(1)}, "Missing: y_val"),
        ({"x_train": np.zeros((6, 5, 4, 3)) + 2}, "from 2.0 to 2.0"),
        ({"x_train": np.zeros((6, 5, 4, 3)) + 255}, r"\. Divide .* by 255"),
        ({"x_train": np.zeros((6, 5, 4, 3)) + 1.001}, "1.001. .*clip the"),
        ({"x_train": np.zeros((6, 5, 4, 3)) - 1}, "from -1.0 to -1.0. Move"),
        ({"x_train": BAD_PIXEL}, "without NaN.*Replace what is no number"),
        ({"x_train": np.zeros((6, 5, 4, 3), "int64")}, "received int64"),
        ({"x_train": np.zeros((6, 5), "uint8")}, r"received \(6, 5\)"),
        ({"y_train": np.zeros(5, int)}, r"\(6, 5, 4, 3\) and \(5,\)"),
        ({"y_train": np.zeros((6, 3), int)}, r"and \(6, 3\)"),
        ({"y_train": np.zeros(6)}, "received float64"),
        ({"y_train": np.array([0, 1, 2, 0, 1, -1])}, "from -1 to 2"),
        ({"x_test": np.zeros((4, 6, 4, 3), "uint8")}, "images of one shape"),
        (
            {"x_train": np.zeros((0, 5, 4, 3)), "y_train": np.zeros(0, int)},
            r"all >= 1, received \(0,",
        ),
        ({"x_train": np.zeros((6, 0, 0, 3))}, r"all >= 1, received \(6, 0, 0"),
        ({"x_train": np.zeros((6, 0, 4), "uint8")}, r"all >= 1.*\(6, 0, 4\)"),
        ({"x_train": np.full((6, 5, 4, 3), 0.5 + 2j)}, "type complex128"),
        ({"x_train": np.full((6, 5, 4, 3), "0")}, "type <U1"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 2j])}, "type complex128"),
        ({"x_train": np.array([None, "text"])}, "of plain arrays"),
    ],
)
def test_a_file_that_is_not_as_described_is_refused(
    tmp_path, changes, complaint
):
    save(tmp_path / "a.npz", **changes)
    with pytest.raises(ValueError, match=complaint) as caught:
        read_npz(tmp_path)
    assert str(tmp_path / "a.npz") in str(caught.value)


def test_arrays_that_nobody_asked_for_are_not_looked_at(tmp_path):
    written = save(tmp_path / "a.npz", notes=np.array([None, "text"]))
    source = read_npz(tmp_path)
    np.testing.assert_array_equal(source.train[0], written["x_train"])


@pytest.mark.parametrize("keep", [0, 10, 500, "a lone array"])
def test_a_truncated_file_and_a_lone_array_are_refused(tmp_path, keep):
    path = tmp_path / "a.npz"
    if isinstance(keep, int):
        save(path)
        path.write_bytes(path.read_bytes()[:keep])
    else:
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    for place in (path, tmp_path):
        with pytest.raises(ValueError, match="not a readable .npz file"):
            read_npz(place)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="other.npz"):
        read_npz(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match=r"\*\.npz"):
        read_npz(tmp_path)


def test_a_folder_with_two_files_is_refused(tmp_path):
    save(tmp_path / "a.npz")
    save(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="received 2: a.npz, b.npz"):
        read_npz(tmp_path)
