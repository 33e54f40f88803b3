"""Attacks carried over between exits, and between models."""

import pathlib

from apps import building
from apps import model_files
from apps import workdir
from apps.diagnosing import Diagnostic
from apps.protocols import shared
from keras_neokd import checks
from keras_neokd import evaluation


def plan_between_exits(config, model, validation):
    """Plan the map between exits, see `protocols.plan`."""
    del model, validation
    section = config.evaluate.transferability
    attack = shared.attack(config, "average")
    subset = section.subset or None
    checks.integer("evaluate.transferability.num_starts", section.num_starts, 1)
    checks.integer("evaluate.transferability.subset", section.subset, 0)

    def measure(model, images, labels):
        result = evaluation.transferability(
            model,
            images,
            labels,
            attack,
            section.num_starts,
            subset,
            **shared.options(config),
        )
        rows = [
            {
                "attack on": source,
                **dict(zip(result.targets, map(float, shares), strict=True)),
                "ensemble": float(ensemble),
            }
            for source, shares, ensemble in zip(
                result.sources, result.matrix, result.ensemble, strict=True
            )
        ]
        numbers = {"num_attacked": result.num_examples}
        if len(rows) > 1:
            numbers["off_diagonal_mean"] = result.off_diagonal_mean()
        return {}, {"rows": rows, **numbers}

    return Diagnostic(
        {**section.to_dict(), "attack_settings": shared.described(attack)},
        measure,
    )


def plan_between_models(config, model, validation):
    """Plan attacks made on this model and others, each on all of them."""
    del validation
    section = config.evaluate.transfer
    if not section.model_files:
        raise ValueError(
            "evaluate.protocols 'transfer' attacks several models: name the "
            ".keras files of the others in evaluate.transfer.model_files."
        )
    others = {
        file: model_files.load(_existing(file)) for file in section.model_files
    }
    # Clean images fool nobody: only images that all classify count.
    attack = shared.attack_of(config, "transfer", building.ATTACKS)
    checks.integer("evaluate.transfer.num_starts", section.num_starts, 1)
    for file, other in others.items():
        same = (other.input_shape, other.num_classes) == (
            model.input_shape,
            model.num_classes,
        )
        if not same:
            raise ValueError(
                f"{file} takes images {other.input_shape[1:]} of "
                f"{other.num_classes} classes, expected "
                f"{model.input_shape[1:]} of {model.num_classes}."
            )

    def measure(model, images, labels):
        result = evaluation.transfer_between(
            {"this model": model, **others},
            images,
            labels,
            attack,
            section.num_starts,
            **shared.options(config),
        )
        rows = [
            {
                "attack made on": source,
                **dict(zip(result.targets, map(float, shares), strict=True)),
            }
            for source, shares in zip(
                result.sources, result.matrix, strict=True
            )
        ]
        return {}, {
            "rows": rows,
            "num_attacked": result.num_examples,
            "off_diagonal_mean": result.off_diagonal_mean(),
        }

    digests = {file: workdir.digest(_existing(file)) for file in others}
    settings = {
        **section.to_dict(),
        "files_sha256": digests,
        "attack_settings": shared.described(attack),
    }
    return Diagnostic(settings, measure)


def _existing(file):
    path = pathlib.Path(file).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"evaluate.transfer.model_files: there is no file {path}."
        )
    return path
