"""What an artefact is: `card.json`, beside its files."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_neokd.base import checks
from keras_neokd.base import versions
from keras_neokd.base import writing
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.deployment import formats
from keras_neokd.deployment import graphs
from keras_neokd.network.multi_exit import MultiExitModel

NAME = "card.json"
_SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Card:
    """The content of `card.json`.

    Attributes:
        format, form, precision: as given to `deploy`.
        exit_names: names of the exits that it has, in depth order.
        input_shape: shape of an image.
        num_classes: number of classes.
        multiply_adds: of an image that leaves at each exit; None where images
            have any size.
        policy: its `ExitPolicy`, or None.
        weights_sha256: digest of the weights of the model.
        files: dict from each file to its size in `bytes` and its `sha256`.
        versions: dict of the modules that wrote and ran it to their versions.
        figures: dict of what the check found, see `deploy`.
    """

    format: str
    form: str
    precision: str
    exit_names: tuple[str, ...]
    input_shape: tuple[int | None, ...]
    num_classes: int
    multiply_adds: tuple[int, ...] | None
    policy: ExitPolicy | None
    weights_sha256: str
    files: dict[str, dict[str, Any]]
    versions: dict[str, str]
    figures: dict[str, Any]

    @property
    def kind(self) -> formats.Format:
        """The `Format`."""
        return formats.BY_NAME[self.format]

    @property
    def graph_names(self) -> list[str]:
        """Names of the files, without their ending, in depth order."""
        if self.form != "stages":
            return [graphs.WHOLE]
        return [graphs.stage_name(each) for each in range(len(self.exit_names))]

    @classmethod
    def of(
        cls,
        model: MultiExitModel,
        folder: pathlib.Path,
        format: str,
        form: str,
        precision: str,
        policy: ExitPolicy | None,
        exit: str | None,
        written_by: dict[str, str],
    ) -> Self:
        """Describe the files in a folder, without figures."""
        exit_names = model.exit_names if exit is None else (exit,)
        kind = formats.BY_NAME[format]
        return cls(
            format=format,
            form=form,
            precision=precision,
            exit_names=exit_names,
            input_shape=tuple(model.input_shape[1:]),
            num_classes=model.num_classes,
            multiply_adds=_multiply_adds(model, exit_names),
            policy=policy,
            weights_sha256=weights_digest(model),
            files=_files(folder),
            versions={**versions.of_modules(*kind.runners), **written_by},
            figures={},
        )

    @classmethod
    def read(cls, folder: pathlib.Path) -> Self:
        """Return the card of a folder, whose files are as it says.

        Raises:
            ValueError: if there is none, it is none, or a file is missing or
                another one.
        """
        path = folder / NAME
        if not path.is_file():
            raise ValueError(
                f"{folder} is no artefact: it holds no {NAME}. Write one with "
                "keras_neokd.deploy."
            )
        try:
            card = cls._from_plain(json.loads(path.read_text("utf-8")))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} does not describe an artefact: {error}. Deploy the "
                "model again."
            ) from None
        found = _files(folder)
        differ = sorted(
            name
            for name, facts in card.files.items()
            if facts != found.get(name)
        )
        if differ:
            raise ValueError(
                f"{folder} does not hold the files that its {NAME} describes: "
                f"{', '.join(differ[:4])} differ. Deploy the model again."
            )
        return card

    @staticmethod
    def describes_all_of(folder: pathlib.Path) -> bool:
        """Return whether a folder holds no file but those of its card."""
        try:
            plain = json.loads((folder / NAME).read_text("utf-8"))
            return _files(folder).keys() <= plain["files"].keys()
        except (OSError, TypeError, KeyError, ValueError, AttributeError):
            return False

    def write(self, folder: pathlib.Path) -> None:
        """Write the card into a folder."""
        plain = {"schema": _SCHEMA, **dataclasses.asdict(self)}
        if self.policy is not None:
            plain["policy"] = self.policy.get_config()
        text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
        writing.write_text(folder / NAME, text)

    @classmethod
    def _from_plain(cls, plain):
        if plain.pop("schema") != _SCHEMA:
            raise ValueError(f"it needs schema {_SCHEMA}")
        checks.choice("format", plain["format"], tuple(formats.BY_NAME))
        checks.choice("form", plain["form"], graphs.FORMS)
        checks.choice("precision", plain["precision"], formats.PRECISIONS)
        policy = plain["policy"]
        if (policy is None) != (plain["form"] == "exits"):
            raise ValueError(f"policy {policy!r} in the form {plain['form']!r}")
        plain["exit_names"] = tuple(plain["exit_names"])
        plain["input_shape"] = tuple(plain["input_shape"])
        costs = plain["multiply_adds"]
        plain["multiply_adds"] = None if costs is None else tuple(costs)
        if policy is not None:
            num_exits = len(plain["exit_names"])
            plain["policy"] = ExitPolicy.from_config(policy)
            plain["policy"].check(num_exits)
        return cls(**plain)


def _multiply_adds(model, exit_names):
    if None in model.input_shape[1:]:
        return None
    costs = dict(zip(model.exit_names, model.exit_costs(), strict=True))
    return tuple(
        int(costs[name].cumulative.multiply_adds) for name in exit_names
    )


def weights_digest(model: keras.Model) -> str:
    """Return the SHA-256 of a model's weights, in the order of the model."""
    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(ops.convert_to_numpy(weight))
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _files(folder):
    """Describe all files of a folder but the card."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / NAME:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(folder).as_posix()
            found[name] = {"bytes": path.stat().st_size, "sha256": digest}
    return found
