"""Write a model as files of another runtime, and check them there.

policy = keras_neokd.ExitPolicy((0.9, 0.8))
artefact = deploy(model, "artefact", "litert", "early_exit", policy)
artefact.decide(images)
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from keras_neokd.base import checks
from keras_neokd.base import writing
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import PathLike
from keras_neokd.deployment import card as cards
from keras_neokd.deployment import comparison
from keras_neokd.deployment import formats
from keras_neokd.deployment import graphs
from keras_neokd.deployment import writer
from keras_neokd.deployment.artefact import Artefact
from keras_neokd.deployment.artefact import load_artefact
from keras_neokd.deployment.card import Card
from keras_neokd.network.multi_exit import MultiExitModel
from keras_neokd.serving import tensorflow_process


def deploy(
    model: MultiExitModel,
    path: PathLike,
    format: str = "litert",
    form: str = "exits",
    policy: ExitPolicy | Sequence[float | None] | PathLike | None = None,
    exit: int | str | None = None,
    images: Array | None = None,
    max_logit_difference: float = 1e-4,
) -> Artefact:
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
        images: array `(n, height, width, channels)` in [0, 1] to compare on:
            real ones say more. Defaults to 8 random images; needed where the
            model takes images of any size.
        max_logit_difference: largest difference of a logit that is allowed,
            relative to the model's largest logit where that exceeds 1.
            Defaults to 1e-4.

    Returns:
        The `Artefact`, opened. Its `card.figures` hold `num_images`,
        `max_logit_difference` and, with a policy, `decisions_changed`, the
        share of the images that leave elsewhere.

    Raises:
        ImportError: if a package of the format is not installed.
        TypeError: if `model` is not a `MultiExitModel`.
        ValueError: if `path` holds something else, or arguments do not fit.
        RuntimeError: if a converter or a runtime cannot take the model, or
            the logits differ by more; `path` is then left as it was.
    """
    request = _request(model, format, form, policy, exit)
    checks.number("max_logit_difference", max_logit_difference, minimum=0.0)
    path = pathlib.Path(path).expanduser()
    _check_path(path)
    images = comparison.images_to_compare(model, images)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing.unfinished(path, is_folder=True) as folder:
        _write_request(request, folder)
        tensorflow_process.call(writer.write, model, folder)
        files = folder / writer.FILES
        card = Card.of(model, files, **request)
        card.write(files)
        figures = comparison.compare(
            model, load_artefact(files), images, max_logit_difference
        )
        dataclasses.replace(card, figures=figures).write(files)
        writing.move_folder(files, path)
    return load_artefact(path)


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
        for layer in model.layers
        if layer.dtype_policy.name != "float32"
    }
    if others:
        name, policy = next(iter(others.items()))
        raise ValueError(
            f"`deploy` takes models of float32; layer {name!r} of model "
            f"{model.name!r} has the policy {policy!r}. Load the weights into "
            "the same model, built with the policy 'float32'."
        )


def _write_request(request, folder):
    policy = request["policy"]
    plain = None if policy is None else policy.get_config()
    text = json.dumps({**request, "policy": plain})
    (folder / writer.REQUEST).write_text(text, "utf-8")


def _check_path(path):
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not is_empty and not (path / cards.NAME).is_file():
        raise ValueError(
            f"{path} exists and is no artefact, so it is not replaced. Give a "
            "folder that does not exist yet."
        )
