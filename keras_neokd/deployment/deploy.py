"""Write a model as files of another runtime, and check them there.

policy = keras_neokd.ExitPolicy((0.9, 0.8))
deploy(model, "artefact", "litert", "early_exit", policy)
load_artefact("artefact").decide(images)
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_neokd.base import checks
from keras_neokd.base import writing
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import PathLike
from keras_neokd.deployment import formats
from keras_neokd.deployment import graphs
from keras_neokd.deployment import writer
from keras_neokd.deployment.artefact import load_artefact
from keras_neokd.deployment.card import Card
from keras_neokd.deployment.formats import PRECISIONS
from keras_neokd.deployment.gate import Gate
from keras_neokd.evaluation import batches
from keras_neokd.network.multi_exit import MultiExitModel
from keras_neokd.serving import tensorflow_process


def deploy(
    model: MultiExitModel,
    path: PathLike,
    format: str = "litert",
    form: str = "exits",
    policy: ExitPolicy | Sequence[float | None] | PathLike | None = None,
    exit: int | str | None = None,
    precision: str = "float32",
    representative: Array | None = None,
    gate: Gate | None = None,
) -> Card:
    """Write a folder with a model's files for one runtime, and their card.

    The files are opened in their runtime and compared with the model before
    the folder appears. They take float32 images in [0, 1]; a normalisation
    belongs inside the model.

    Args:
        model: a `MultiExitModel` of float32; under JAX and PyTorch without
            layers of your own.
        path: folder to write; one that holds an artefact is replaced.
        format: `"litert"` (default), `"onnx"`, `"openvino"` or
            `"saved_model"`.
        form: `"exits"` (default) for one file with the logits of all exits by
            name, or of `exit` alone; `"early_exit"` for one that takes single
            images and computes no further than the exit where they leave;
            `"stages"` for a file per exit, which goes on from the features of
            the one before, for batches and for two computers.
        policy: an `ExitPolicy`, its thresholds, or the path of its file; for
            `"early_exit"` and `"stages"`, which need it.
        exit: name or 0-based index of the only exit of the form `"exits"`.
            Defaults to None, all exits.
        precision: `"float32"` (default), `"float16"` (weights of half the
            size), `"int8_weights"` (kernels of a quarter, quantised again at
            each call) or `"int8"` (integers, where the runtime has a kernel
            for them), as far as the format has it.
        representative: for `"int8"`, training images `(n, height, width,
            channels)` in [0, 1] that show the range of every tensor: a few
            hundred, and never test images.
        gate: a `Gate`: what the files are compared on, and what may differ.
            Defaults to `Gate()`.

    Returns:
        The `Card`; its `figures` are what `Gate.figures` found. Open the
        files with `load_artefact`.

    Raises:
        ImportError: if a package of the format is not installed.
        TypeError: if `model` is not a `MultiExitModel`.
        ValueError: if `path` holds something else, or arguments do not fit.
        RuntimeError: if a converter or a runtime cannot take the model, or
            a limit of the gate is missed; `path` is then left as it was.
    """
    request = _request(model, format, form, policy, exit)
    request["precision"] = _check_precision(
        model, format, form, precision, representative
    )
    gate = Gate() if gate is None else gate
    gate.checked_images(model)
    path = pathlib.Path(path).expanduser()
    _check_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing.unfinished(path, is_folder=True) as folder:
        _write_request(request, representative, folder)
        tensorflow_process.call(writer.write, model, folder)
        files = folder / writer.FILES
        written_by = json.loads((folder / writer.VERSIONS).read_text("utf-8"))
        card = Card.of(model, files, **request, written_by=written_by)
        card.write(files)
        figures = gate.figures(model, load_artefact(files))
        card = dataclasses.replace(card, figures=figures)
        card.write(files)
        writing.move_folder(files, path)
    return card


def _request(model, format, form, policy, exit):
    """Return checked arguments that say what is written."""
    if not isinstance(model, MultiExitModel):
        raise TypeError(
            f"`deploy` needs a MultiExitModel, received {model!r}. Convert a "
            "functional model with MultiExitModel.from_functional."
        )
    checks.choice("format", format, tuple(formats.BY_NAME))
    checks.choice("form", form, graphs.FORMS)
    kind = formats.BY_NAME[format]
    kind.check_installed((*kind.writers, *kind.runners))
    if (form == "exits") != (policy is None):
        raise ValueError(
            "`policy` is needed for the forms 'early_exit' and 'stages', and "
            f"for them alone: received {policy!r} for {form!r}."
        )
    if policy is not None:
        policy = ExitPolicy.of(policy, model.num_exits)
    if exit is not None:
        if form != "exits":
            raise ValueError(
                f"`exit` is for the form 'exits', received {exit!r} for "
                f"{form!r}."
            )
        exit = model.exit_names[model.exit_index(exit)]
    _check_float32(model)
    return {"format": format, "form": form, "policy": policy, "exit": exit}


def _check_float32(model):
    """Raise unless all layers keep and compute in float32."""
    others = {
        layer.name: layer.dtype_policy.name
        for layer in _layers_in(model)
        if layer.dtype_policy.name != "float32"
    }
    if others:
        name, policy = next(iter(others.items()))
        raise ValueError(
            f"`deploy` takes models of float32; layer {name!r} of model "
            f"{model.name!r} has the policy {policy!r}. Load the weights into "
            "the same model, built with the policy 'float32'."
        )


def _layers_in(model):
    """Yield all layers, those of models and wrappers within it, too."""
    inner = [*getattr(model, "layers", ()), getattr(model, "layer", None)]
    for layer in filter(None, inner):
        yield layer
        yield from _layers_in(layer)


def _check_precision(model, format, form, precision, representative):
    """Return the precision, if the format has it."""
    precisions = formats.BY_NAME[format].precisions
    checks.choice("precision", precision, PRECISIONS)
    if precision not in precisions:
        raise ValueError(
            f"The format {format!r} has the precisions {list(precisions)}, "
            f"received {precision!r}."
        )
    if (precision == "int8") != (representative is not None):
        raise ValueError(
            "`representative` training images are needed for the precision "
            f"'int8', and for it alone: received {precision!r} "
            f"{'without' if representative is None else 'with'} them."
        )
    if representative is not None:
        if form == "early_exit":
            raise ValueError(
                "No converter quantises branches by representative images: "
                "use the form 'stages', or the precision 'int8_weights'."
            )
        labels = np.zeros(len(representative), "int32")
        batches.check(model, representative, labels, 1)
    return precision


def _write_request(request, representative, folder):
    if representative is not None:
        images = np.asarray(representative, "float32")
        np.save(folder / writer.REPRESENTATIVE, images)
    policy = request["policy"]
    plain = None if policy is None else policy.get_config()
    text = json.dumps({**request, "policy": plain})
    writing.write_text(folder / writer.REQUEST, text)


def _check_path(path):
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not is_empty and not Card.describes_all_of(path):
        raise ValueError(
            f"{path} exists and is no artefact, or holds other files, too, so "
            "it is not replaced. Give a folder that does not exist yet."
        )
