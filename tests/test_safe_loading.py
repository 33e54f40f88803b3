"""Attacks by files, and how each of them ends: refused, with a reason.

Every file of this list really tries to run code, to write outside of its
folder or to read a file of the user's. A test fails if it gets there, even if
an error follows.
"""

import io
import pickle
import tarfile
import zipfile

import h5py
import keras
import numpy as np
import pytest

from apps import teachers
from keras_neokd import data
from keras_neokd import models
from keras_neokd.evaluation import search_state
from keras_neokd.serving import model_files
from keras_neokd.serving import weights
from keras_neokd.training import checkpoints
from tests import malice


@pytest.fixture
def marker(tmp_path):
    """The file that no attack may make."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the attack did what it wanted to do"


@pytest.fixture
def path(tmp_path):
    """Where the malicious model is."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder / "model.keras"


def refused(path, message):
    """See that no loader of model files takes one, and that all say why."""
    for load in (
        model_files.load,
        lambda path: teachers.load("method.kdiga.teacher_file", path),
        lambda path: weights.load_weights(malice.plain_model(), path),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            load(path)
        assert path.name in str(caught.value)


# Code in the description of a `.keras` file.


@pytest.fixture
def model_with_code(marker, path):
    keras.Sequential([keras.Input((2,)), malice.lambda_of(marker)]).save(path)
    # Building the model calls the layer on some backends.
    marker.unlink(missing_ok=True)
    return path


def test_a_lambda_layer(model_with_code):
    refused(model_with_code, "not loaded: it holds Lambda.*run code")


def test_the_lambda_layer_is_one_that_runs(model_with_code, marker):
    """So that the test before this one has something to refuse."""
    model = keras.saving.load_model(model_with_code, safe_mode=False)
    model(np.zeros((1, 2)))
    assert marker.exists()
    marker.unlink()


def test_a_lambda_layer_within_a_layer(marker, path):
    inner = keras.layers.TimeDistributed(malice.lambda_of(marker))
    keras.Sequential([keras.Input((3, 2)), inner]).save(path)
    marker.unlink(missing_ok=True)
    refused(path, "not loaded: it holds Lambda")


def test_a_lambda_as_an_activation(marker, path):
    code = malice.lambda_of(marker).get_config()["function"]
    assert code["class_name"] == "__lambda__"

    def change(layers):
        layers[1]["config"]["activation"] = code

    malice.with_config(path, change)
    refused(path, "not loaded: it holds __lambda__")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.layers", "TorchModuleWrapper"),
        ("keras", "layers.TorchModuleWrapper"),
    ],
)
def test_a_pickled_pytorch_module(marker, path, module, name):
    def change(layers):
        wrapper = malice.torch_module(marker)
        layers[1] = {**wrapper, "module": module, "class_name": name}

    malice.with_config(path, change)
    refused(path, "not loaded: it holds TorchModuleWrapper")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("pathlib", "Path.touch"),
        ("builtins", "exec"),
        ("keras.utils", "get_file"),
    ],
)
def test_a_function_that_is_not_of_keras(marker, path, module, name):
    def change(layers):
        layers[1]["config"]["activation"] = {
            "module": module,
            "class_name": "function",
            "config": name,
            "registered_name": name,
        }

    malice.with_config(path, change)
    with pytest.raises(ValueError, match=f"Keras does not load .*{name}"):
        model_files.load(path)


def test_a_class_that_is_not_of_keras(marker, path):
    def change(layers):
        layers[1] = {
            "module": "subprocess",
            "class_name": "Popen",
            "config": {"args": ["touch", str(marker)]},
            "registered_name": "Popen",
        }

    malice.with_config(path, change)
    with pytest.raises(ValueError, match="Keras does not load .*class 'Popen'"):
        model_files.load(path)


def test_a_module_that_does_harm_when_it_is_imported(
    marker, path, tmp_path, monkeypatch
):
    code = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    (tmp_path / "harmful.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    def change(layers):
        layers[1]["module"] = "harmful"
        layers[1]["class_name"] = layers[1]["registered_name"] = "Layer"

    malice.with_config(path, change)
    with pytest.raises(ValueError, match="Keras does not load .*class 'Layer'"):
        model_files.load(path)


def test_a_layer_that_reads_a_file_for_its_words(path, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a password")

    def change(layers):
        layers[1] = {
            "module": "keras.layers",
            "class_name": "StringLookup",
            "config": {"name": "first", "vocabulary": str(secret)},
            "registered_name": None,
        }

    malice.with_config(path, change)
    with pytest.raises(ValueError, match="Keras does not load .*vocabulary"):
        model_files.load(path)


# Archives that want to write elsewhere.


@pytest.mark.parametrize(
    "name",
    [
        "../marker",
        "assets/../../marker",
        "{folder}/marker",
        "..\\marker",
        "C:\\marker",
    ],
)
def test_an_archive_that_leaves_its_folder(marker, path, tmp_path, name):
    malice.with_member(path, name.format(folder=tmp_path), b"harm")
    refused(path, "outside of the archive's folder")


def test_an_archive_with_a_link(marker, path, tmp_path):
    target = str(tmp_path).encode()
    malice.with_member(path, "assets", target, is_link=True)
    refused(path, "or is a link")


@pytest.mark.filterwarnings("ignore:Skipping invalid path")
@pytest.mark.parametrize("name", ["../marker", "{folder}/marker"])
def test_keras_itself_unpacks_nothing_outside(marker, path, tmp_path, name):
    """For those who load a file in Python."""
    malice.with_member(path, name.format(folder=tmp_path), b"harm")
    keras.saving.load_model(path, compile=False)
    assert not list(tmp_path.rglob("marker"))


# Weights that are taken from files of the user's.


READERS = [
    malice.external_link,
    malice.external_array,
    malice.virtual_array,
    malice.soft_link,
]


@pytest.mark.parametrize("reader", READERS)
def test_weights_that_lie_in_another_file(path, tmp_path, reader):
    secret = malice.secret_file(tmp_path / "secret")
    malice.with_weights(path, reader(secret))
    refused(path, "layers/dense_1/vars/0 is a link, or lies in another file")


@pytest.mark.parametrize("reader", READERS)
def test_a_file_of_weights_alone(path, tmp_path, reader):
    secret = malice.secret_file(tmp_path / "secret")
    path = path.with_name("model.weights.h5")
    malice.with_weights(path, reader(secret))
    with h5py.File(path) as file:  # The attack is one that works.
        stolen = np.asarray(file["layers/dense_1/vars/0"])
    expected = malice.SECRET[:4].reshape(2, 2)
    assert np.array_equal(stolen, expected) == (reader is not malice.soft_link)
    model = malice.plain_model()
    with pytest.raises(ValueError, match="is a link, or lies in another file"):
        weights.load_weights(model, path)


def test_a_group_that_contains_itself(path):
    def change(group):
        group["0"] = group

    malice.with_weights(path, change)
    refused(path, "or it is damaged")


# Files that would take more memory than they are large.


def test_an_archive_that_is_compressed(path):
    malice.plain_model().save(path)
    malice.compress(path)
    refused(path, "members claim .* taken of your memory")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_member_that_claims_a_size(path, name, monkeypatch):
    malice.claiming(path, name, 2**31)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)  # Refused before.
    refused(path, r"members claim 2,147,\d+,\d+, which")


@pytest.mark.parametrize(
    ("change", "claimed"),
    [
        (malice.empty_array, "4,398,046,511,104"),
        (malice.compressed_array, "800"),
    ],
)
def test_an_array_that_claims_more_than_it_holds(path, change, claimed):
    malice.with_weights(path, change)
    refused(path, f"vars/0 claims {claimed} bytes and holds")
    path = path.with_name("model.weights.h5")
    malice.with_weights(path, change)
    with pytest.raises(ValueError, match=f"claims {claimed} bytes"):
        weights.load_weights(malice.plain_model(), path)


def test_models_as_keras_writes_them_are_loaded(path):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.RandomFlip(seed=1),
            keras.layers.Conv2D(2, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, use_bias=False),
        ]
    )
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 4, 4, 1)), np.zeros((2, 3)), verbose=0)
    model.save(path)
    loaded = model_files.load(path)
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Other formats under the name of a model.


def test_a_pickle_under_the_name_of_a_model(marker, path):
    path.write_bytes(pickle.dumps(malice.Touch(marker)))
    refused(path, "or it is damaged")


@pytest.mark.parametrize("content", [b"[]", b"{}", b"{", b"\xff", None])
def test_an_archive_that_describes_no_model(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")
        if content is not None:
            archive.writestr("config.json", content)
    refused(path, "or it is damaged: .*config.json")


@pytest.mark.parametrize("name", ["model.h5", "model.pkl", "model"])
def test_another_format(marker, path, name):
    """Old HDF5 models hold Lambda layers that safe_mode does not look at."""
    path = path.with_name(name)
    path.write_bytes(pickle.dumps(malice.Touch(marker)))
    with pytest.raises(ValueError, match="loaded from a .keras file"):
        model_files.load(path)


def test_a_folder_under_the_name_of_a_model(path):
    path.mkdir()
    with pytest.raises(FileNotFoundError, match="There is no file"):
        model_files.load(path)


# Arrays with pickles in them.


def test_an_npz_data_set(marker, tmp_path):
    harm = malice.array_with_pickle(marker)
    path = tmp_path / "data.npz"
    np.savez(path, x_train=harm, y_train=harm, x_test=harm, y_test=harm)
    with pytest.raises(ValueError, match="plain arrays .*allow_pickle"):
        data.load("npz", path)


def test_a_checkpoint(marker, tmp_path):
    folder = checkpoints.CheckpointFolder(tmp_path)
    state = {"model/00000": malice.array_with_pickle(marker)}
    folder.write(state, checkpoints.Position(1))
    with pytest.warns(UserWarning, match="damaged .*allow_pickle"):
        assert folder.newest() is None


def test_the_state_of_a_search(marker, tmp_path):
    path = tmp_path / "state.npz"
    np.savez(path, fingerprint=malice.array_with_pickle(marker))
    images, labels = np.zeros((1, 2, 2, 1), "float32"), np.zeros(1, "int64")
    with pytest.raises(ValueError, match="not the state of a search .*pickle"):
        search_state.SearchState.open(
            path, malice.plain_model(), [None], images, labels, 1, seed=0
        )


# Data sets and weights in the formats of others.


def test_a_cifar_batch(marker, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "test_batch", "data_batch_1"):
        (folder / name).write_bytes(pickle.dumps(malice.Touch(marker)))
    with pytest.raises(ValueError, match="a pickle can run code"):
        data.load("cifar10", tmp_path)


def test_a_cifar_archive_that_leaves_its_folder(marker, tmp_path):
    """Nothing is unpacked: what has another name is not even read."""
    archive = tmp_path / "cifar-10-binary.tar.gz"
    secret = malice.secret_file(tmp_path / "secret")
    folder = "cifar-10-batches-bin"
    malice.tar_with(
        archive,
        {"../marker": b"harm", str(marker): b"harm"},
        {
            f"{folder}/data_batch_1.bin": (tarfile.SYMTYPE, str(secret)),
            f"{folder}/data_batch_2.bin": (tarfile.LNKTYPE, str(secret)),
            f"{folder}/test_batch.bin": (tarfile.CHRTYPE, ""),
        },
    )
    with pytest.raises(ValueError, match=f"missing {folder}/data_batch_1"):
        data.load("cifar10", tmp_path)


def test_a_tensor_that_claims_a_size(tmp_path, monkeypatch):
    """A single number, seen as often as the shape says."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "msdnet.pth.tar"
    large = torch.zeros(1).expand(2**20, 2**20)
    torch.save({"state_dict": {"blocks.0.0.layers.0.0.weight": large}}, path)
    assert path.stat().st_size < 2**20
    model = models.MSDNet(num_blocks=1, base=1, step=1, growth_rate=2)
    monkeypatch.setattr(torch.Tensor, "numpy", None)  # Refused before.
    with pytest.raises(ValueError, match="msdnet.pth.tar is not of an MSDNet"):
        models.load_msdnet_pytorch(model, path)


def test_a_state_file_that_is_compressed(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "msdnet.pth"
    torch.save({"a": torch.zeros(10_000)}, path)
    malice.compress(path)
    model = models.MSDNet(num_blocks=1, base=1, step=1, growth_rate=2)
    with pytest.raises(ValueError, match="members claim .* of your memory"):
        models.load_msdnet_pytorch(model, path)


@pytest.mark.parametrize("form", ["zip", "old", "tar", "pickle"])
def test_a_state_file_of_pytorch(marker, tmp_path, form):
    torch = pytest.importorskip("torch")
    path = tmp_path / "msdnet.pth.tar"
    harm = {"state_dict": malice.Touch(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(harm))
    elif form == "tar":
        content = io.BytesIO()
        torch.save(harm, content, _use_new_zipfile_serialization=False)
        malice.tar_with(path, {"pickle": content.getvalue()}, {})
    else:
        is_new = form == "zip"
        torch.save(harm, path, _use_new_zipfile_serialization=is_new)
    model = models.MSDNet(num_blocks=1, base=1, step=1, growth_rate=2)
    with pytest.raises(ValueError, match="msdnet.pth.tar (was not|is not)"):
        models.load_msdnet_pytorch(model, path)
