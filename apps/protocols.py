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
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.protocol import Unavailable
from keras_neokd.evaluation.protocol import known

from . import attacking
from . import building
from . import model_files
from . import teachers
from . import workdir
from .flag_names import keys_of
from .flag_names import named_by_keys


@dataclasses.dataclass(frozen=True)
class Planned:
    """One measurement to make, with all that it needs.

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
            images: `(examples, height, width, channels)`.
            labels: integers `(examples,)`.
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
    """Return the protocols and diagnostics of a config, checked.

    Args:
        config: a whole config.
        model: the model to measure.
        num_images: number of test images.
        validation: `data.Split` of validation images, or `None`.

    Returns:
        Dict from a name to a `Planned`.

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
            checks.choice(f"evaluate.{key}", name, there)
            count = min(most, num_images) if is_diagnostic else num_images
            planned[name] = _plan(there[name], config, model, count, validation)
    return planned


def possible(config, model, validation):
    """Return the protocols that there is everything for, and the others.

    Args:
        config, model, validation: as for `plan`.

    Returns:
        Tuple of names, and dict from the other names to what is missing.
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
    arguments, supplies = {}, _supplies(validation)
    for name, parameter in protocol.parameters.items():
        supply = supplies.get(name)
        is_set = name in section and name != "attack"
        if is_set and (section[name] is not None or supply is None):
            arguments[name] = section[name]
        elif supply:
            arguments[name], said = supply(config, protocol, section)
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


def _attack(config, protocol, section):
    """Supply the attack that a section names; clean where none is needed."""
    name = section.get("attack")
    if name is None:
        name = "average"
    else:
        default = protocol.parameters["attack"].default
        names = ("clean",) if default is None else ()
        key = f"evaluate.{protocol.section}.attack"
        checks.choice(key, name, (*names, *building.ATTACKS))
    found = attacking.attack(config, name)
    return found, {"attack_settings": attacking.described(found)}


def _epsilon(config, protocol, section):
    """Supply the radius of the attacks, of an L-infinity ball."""
    del section
    if config.attack.norm != "linf":
        raise ValueError(
            f"{protocol.name} needs the radius of an L-infinity ball, and the "
            f"epsilon of this config is for {config.attack.norm!r}: set "
            f"--config.evaluate.{protocol.section}.epsilon."
        )
    epsilon = attacking.pgd_settings(config)["epsilon"]
    return epsilon, {"epsilon": epsilon}


def _teacher(config, protocol, section):
    del protocol, section
    file = config.evaluate.teacher_file
    teacher = teachers.load("evaluate.teacher_file", file)
    return teacher, {
        "teacher": teacher.name,
        "teacher_exit": config.evaluate.teacher_exit,
        "teacher_sha256": workdir.digest(pathlib.Path(file).expanduser()),
    }


def _teacher_exit(config, protocol, section):
    del protocol, section
    return teachers.exit_of(config.evaluate.teacher_exit), {}


def _models(config, protocol, section):
    del config
    key = f"evaluate.{protocol.section}.model_files"
    if not section.get("model_files"):
        raise Unavailable(
            f"{protocol.name!r} attacks several models: name the .keras files "
            f"of the others in {key}."
        )
    models, digests = {}, {}
    for file in section.model_files:
        path = pathlib.Path(file).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"{key}: there is no file {path}.")
        models[file] = model_files.load(path)
        digests[file] = workdir.digest(path)
    return models, {"files_sha256": digests}


def _supplies(validation):
    """Return functions that supply arguments, by the name of the argument.

    Each takes the config, the protocol and its section, and returns the value
    and what to record of it.
    """

    def supply_validation(config, protocol, section):
        del config, section
        if validation is None or not len(validation):
            raise Unavailable(
                f"{protocol.name!r} sets thresholds on validation images, and "
                "this run has none: train on data that bring some, or with "
                "--config.data.validation_size, which holds images out of "
                "training."
            )
        said = {"num_validation_examples": len(validation)}
        return validation.arrays(), said

    return {
        "attack": _attack,
        "validation": supply_validation,
        "epsilon": _epsilon,
        "teacher": _teacher,
        "teacher_exit": _teacher_exit,
        "models": _models,
    }
