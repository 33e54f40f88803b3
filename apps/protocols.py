"""Protocols and diagnostics of `config.evaluate`: planned, checked, measured.

    planned = plan(config, model, images, validation)   # nothing measured yet
    entry, result = planned["budgeted"].measure(model, images, labels)

`keras_neokd.evaluation.protocol` knows which there are, and their arguments.
Those that no section of the config sets are supplied here.
"""

import dataclasses
import pathlib
import sys
import time

from keras_neokd import evaluation as evaluation  # Which registers all.
from keras_neokd.base import checks
from keras_neokd.base.registry import OF_YOURS
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.protocol import Unavailable
from keras_neokd.evaluation.protocol import known
from keras_neokd.serving import model_files

from . import attacking
from . import building
from . import teachers
from . import workdir
from .flag_names import keys_of
from .flag_names import named_by_keys


@dataclasses.dataclass(frozen=True)
class Planned:
    """Hold one measurement that is still to be made, with its arguments.

    Attributes:
        protocol: the `Protocol`.
        arguments: dict of its arguments.
        options: `batch_size`, `seed` and `verbose`.
        settings: plain values, all that the numbers depend on.
    """

    protocol: Protocol
    arguments: dict
    options: dict
    settings: dict

    def measure(self, model, images, labels):
        """Return an entry of the record, and the `Result` behind it.

        Args:
            model: the model to measure.
            images, labels: all test images; it takes as many as it needs.
        """
        name, count = self.protocol.name, self.settings["num_examples"]
        print(f"Measuring {name} on {count} images ...", flush=True)
        start = time.monotonic()
        result = self.protocol.run(
            model,
            images[:count],
            labels[:count],
            self.arguments,
            **self.options,
        )
        entry = {
            "name": name,
            "settings": self.settings,
            "seconds": round(time.monotonic() - start, 2),
            "rows": result.rows(),
            "summary": result.summary(),
            "findings": [each._asdict() for each in result.findings],
        }
        return entry, result


def plan(config, model, num_images, validation):
    """Return `Planned` protocols and diagnostics of a config, by name.

    Args:
        config: a whole config.
        model: the model to measure.
        num_images: number of test images.
        validation: `data.Split` of validation images, or `None`.

    Raises:
        ValueError, TypeError: if a setting is not possible, or something that
            is needed is missing.
        FileNotFoundError: if a file is missing.
        ImportError: if a package is missing.
    """
    section = config.evaluate
    most = checks.integer(
        "evaluate.diagnostics_examples", section.diagnostics_examples, 1
    )
    planned = {}
    for key, is_diagnostic in (("protocols", False), ("diagnostics", True)):
        there = known(is_diagnostic)
        for name in section[key]:
            checks.choice(f"evaluate.{key}", name, there, OF_YOURS)
            count = min(most, num_images) if is_diagnostic else num_images
            planned[name] = _plan(there[name], config, model, count, validation)
    return planned


def possible(config, model, validation):
    """Return the names of the protocols that can run, and why others cannot.

    The others are a dict from names to what is missing. Arguments as `plan`.
    """
    names, left_out = [], {}
    for name, each in known(is_diagnostic=False).items():
        try:
            _plan(each, config, model, 1, validation)
            names.append(name)
        except Unavailable as error:
            left_out[name] = str(error)
    return tuple(names), left_out


def _plan(protocol, config, model, count, validation):
    section = config.evaluate.get(protocol.section, {})
    key = f"evaluate.{protocol.section}"
    settings = {"num_examples": count, **dict(section)}
    arguments = {}
    supplies = _Supplies(config, protocol, section, validation)
    for name, parameter in protocol.parameters.items():
        supply = getattr(supplies, name, None)
        is_set = name in section and name != "attack"
        if is_set and (section[name] is not None or supply is None):
            arguments[name] = section[name]
        elif supply:
            arguments[name], said = supply()
            settings |= said
        elif parameter.default is not parameter.empty:
            arguments[name] = settings[name] = parameter.default
        else:
            raise Unavailable(
                f"{protocol.name!r} needs a value for --config.{key}.{name}."
            )
    options = {
        "batch_size": config.evaluate.batch_size,
        "seed": config.evaluate.seed,
        "verbose": int(sys.stdout.isatty()),
    }
    if protocol.section == protocol.name:
        options |= {each: section[each] for each in options if each in section}
    checks.integer(f"{key}.batch_size", options["batch_size"], 1)
    with named_by_keys(keys_of(key, section)):
        worked_out = protocol.check_ready(model, arguments)
    arguments |= worked_out
    settings |= worked_out
    return Planned(protocol, arguments, options, settings)


class _Supplies:
    """Supply the arguments of a protocol that no section of the config sets.

    Each function returns the value and what to record of it.
    """

    def __init__(self, config, protocol, section, validation):
        self._config, self._section = config, section
        self._validation = validation
        self._name, self._key = protocol.name, f"evaluate.{protocol.section}"
        self._parameters = protocol.parameters

    def attack(self):
        """Supply the attack of the section; clean where none is needed."""
        name = self._section.get("attack")
        if name is None:
            name = "average"
        else:
            default = self._parameters["attack"].default
            names = ("clean",) if default is None else ()
            known_names = (*names, *building.plain_attacks())
            checks.choice(f"{self._key}.attack", name, known_names, OF_YOURS)
        found = attacking.attack(self._config, name)
        return found, {"attack_settings": attacking.described(found)}

    def validation(self):
        """Supply images and labels that set thresholds."""
        images = self._validation
        if images is None or not len(images):
            raise Unavailable(
                f"{self._name!r} sets thresholds on validation images, and "
                "this run has none. Train with --config.data.validation_size, "
                "or on a data set that has validation images."
            )
        return images.arrays(), {"num_validation_examples": len(images)}

    def epsilon(self):
        """Supply the radius of the attacks, of an L-infinity ball."""
        norm = self._config.attack.norm
        if norm != "linf":
            raise ValueError(
                f"{self._name} needs the radius of an L-infinity ball, and the "
                f"epsilon of this config is for {norm!r}: set "
                f"--config.{self._key}.epsilon."
            )
        epsilon = attacking.pgd_settings(self._config)["epsilon"]
        return epsilon, {"epsilon": epsilon}

    def teacher(self):
        """Supply the model in `evaluate.teacher_file`."""
        section = self._config.evaluate
        teacher = teachers.load("evaluate.teacher_file", section.teacher_file)
        path = pathlib.Path(section.teacher_file).expanduser()
        return teacher, {
            "teacher": teacher.name,
            "teacher_exit": section.teacher_exit,
            "teacher_sha256": workdir.digest(path),
        }

    def teacher_exit(self):
        """Supply the name or index of the teacher's exit."""
        return teachers.exit_of(self._config.evaluate.teacher_exit), {}

    def models(self):
        """Supply models by their files."""
        key = f"{self._key}.model_files"
        if not self._section.get("model_files"):
            raise Unavailable(
                f"{self._name!r} attacks several models: name the .keras files "
                f"of the others in {key}."
            )
        models, digests = {}, {}
        for file in self._section.model_files:
            path = pathlib.Path(file).expanduser()
            if not path.exists():
                raise FileNotFoundError(f"{key}: there is no file {path}.")
            models[file] = model_files.load(path)
            digests[file] = workdir.digest(path)
        return models, {"files_sha256": digests}
