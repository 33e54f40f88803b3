"""Diagnostics that `apps.evaluate` records beside the attacks.

    planned = plan(config, model, images)         # checked, nothing measured
    check_record(planned, record)                 # may it go on here?
    entry = measure(name, planned[name], model, images, labels)

Each entry holds the settings that its numbers depend on, and `measures`: a
dict from what was measured to one number per exit.
"""

import dataclasses
import math
import pathlib
import sys
import time
from collections.abc import Callable

from apps import building
from apps import teachers
from apps import workdir
from keras_neokd import attacks
from keras_neokd import checks
from keras_neokd import evaluation
from keras_neokd.evaluation import precision
from keras_neokd.evaluation import smoothing
from keras_neokd.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class Diagnostic:
    """One measurement to make.

    Attributes:
        settings: plain values, all that the numbers depend on.
        measure: function of `(model, images, labels)`; returns a dict from
            what was measured to `(exits,)`, and a dict of other numbers.
    """

    settings: dict
    measure: Callable


def plan(config, model, images):
    """Return the diagnostics of a config, with all their settings checked.

    Args:
        config: a whole config.
        model: the model to measure.
        images: the images, `(examples, height, width, channels)`.

    Returns:
        Dict from a name to a `Diagnostic`.

    Raises:
        ValueError, TypeError: if a setting is not possible, or the teacher
            does not fit the model.
        FileNotFoundError: if the file of the teacher is missing.
        ImportError: if a package is missing.
    """
    section = config.evaluate
    most = checks.integer(
        "evaluate.diagnostics_examples", section.diagnostics_examples, 1
    )
    planned = {}
    for name in section.diagnostics:
        checks.choice("evaluate.diagnostics", name, _PLANS)
        each = _PLANS[name](config, model, images)
        count = {"num_examples": min(most, len(images))}
        planned[name] = Diagnostic({**count, **each.settings}, each.measure)
    return planned


def check_record(planned, record):
    """Raise `ValueError` if a record has a diagnostic of other settings.

    Args:
        planned: what `plan` returned.
        record: the record to go on with.
    """
    for entry in record["diagnostics"]:
        if entry["name"] in planned:
            workdir.refuse_differences(
                workdir.flatten(entry["settings"]),
                workdir.flatten(planned[entry["name"]].settings),
                f"The results hold {entry['name']} of other settings",
                "Write to another file with --results.",
            )


def measure(name, diagnostic, model, images, labels):
    """Measure a diagnostic.

    Args:
        name: its name.
        diagnostic: the `Diagnostic`.
        model: the model to measure.
        images: as for `plan`.
        labels: integers `(examples,)`.

    Returns:
        The entry of the record, a dict of plain values.
    """
    count = diagnostic.settings["num_examples"]
    print(f"Measuring {name} on {count} images ...", flush=True)
    start = time.monotonic()
    measures, numbers = diagnostic.measure(
        model, images[:count], labels[:count]
    )
    return {
        "name": name,
        "settings": diagnostic.settings,
        "seconds": round(time.monotonic() - start, 2),
        "measures": {
            what: by_exit(model.exit_names, values)
            for what, values in measures.items()
        },
        **numbers,
    }


def by_exit(names, values):
    """Return a dict of plain numbers, and None where one is not finite.

    JSON has neither NaN nor infinity, and a record that holds one is damaged.

    Args:
        names: names of the exits.
        values: one number per exit.
    """
    return {
        name: float(value) if math.isfinite(value) else None
        for name, value in zip(names, values, strict=True)
    }


def _plan_local_linearity(config, model, images):
    del model, images
    settings = config.evaluate.local_linearity.to_dict()
    if settings["epsilon"] is None:
        settings["epsilon"] = _epsilon_of_attacks(config)
    attacks.PGD(**settings)  # Has the same three arguments, and checks them.

    def measure(model, images, labels):
        result = evaluation.local_linearity(
            model, images, labels, **settings, **_options(config, seed=True)
        )
        return {"deviation_from_linear": result.mean()}, {}

    return Diagnostic(settings, measure)


def _epsilon_of_attacks(config):
    if config.attack.norm != "linf":
        raise ValueError(
            "local_linearity needs the radius of an L-infinity ball, and the "
            f"epsilon of this config is for {config.attack.norm!r}: set "
            "--config.evaluate.local_linearity.epsilon."
        )
    if config.evaluate.epsilon is not None:
        return config.evaluate.epsilon
    return config.attack.epsilon


def _plan_gradient_alignment(config, model, images):
    file = config.evaluate.teacher_file
    teacher = teachers.load("evaluate.teacher_file", file)
    output = teachers.exit_of(config.evaluate.teacher_exit)
    Teacher(teacher, output).check(model)

    def measure(model, images, labels):
        result = evaluation.gradient_alignment(
            model, teacher, images, labels, output, **_options(config)
        )
        measures = {
            "distance_to_teacher_gradient": result.mean_distance(),
            "cosine_with_teacher_gradient": result.mean_cosine(),
            "gradient_norm": result.student_norms.mean(axis=0),
        }
        norm = float(result.teacher_norms.mean())
        return measures, {"teacher_gradient_norm": norm}

    settings = {
        "teacher": teacher.name,
        "teacher_exit": config.evaluate.teacher_exit,
        "teacher_sha256": workdir.digest(pathlib.Path(file).expanduser()),
    }
    return Diagnostic(settings, measure)


def _plan_smoothing(config, model, images):
    del model, images
    settings = config.evaluate.smoothing.to_dict()
    arguments = {
        name: value for name, value in settings.items() if name != "radii"
    }
    smoothing.check_settings(**arguments)
    for radius in settings["radii"]:
        checks.number("evaluate.smoothing.radii", radius, minimum=0)

    def measure(model, images, labels):
        result = evaluation.certify(
            model, images, labels, **arguments, **_options(config, seed=True)
        )
        accuracy = result.certified_accuracy
        measures = {
            f"certified_accuracy_at_radius_{radius:g}": accuracy(radius)
            for radius in settings["radii"]
        }
        measures["abstention_rate"] = result.abstention_rate()
        return measures, {
            "confidence": result.confidence,
            "largest_radius": result.largest_radius(),
        }

    return Diagnostic(settings, measure)


def _plan_precision(config, model, images):
    del images
    precision.check_not_float32(model)
    attack = building.build_attack(
        config, "average", num_steps=config.evaluate.num_steps
    )

    def measure(model, images, labels):
        result = evaluation.precision_agreement(
            model, images, labels, attack, **_options(config, seed=True)
        )
        return {
            "sign_agreement_with_float32": result.mean_sign_agreement(),
            "accuracy_under_attack": result.accuracy(),
            "accuracy_under_attack_in_float32": result.accuracy_in_float32(),
        }, {}

    return Diagnostic({"attack": repr(attack)}, measure)


def _options(config, seed=False):
    options = {
        "batch_size": config.evaluate.batch_size,
        "verbose": int(sys.stdout.isatty()),
    }
    return {**options, "seed": config.evaluate.seed} if seed else options


_PLANS = {
    "local_linearity": _plan_local_linearity,
    "gradient_alignment": _plan_gradient_alignment,
    "smoothing": _plan_smoothing,
    "precision": _plan_precision,
}
