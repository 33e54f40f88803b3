"""Measure accuracy under attack, and protocols, for `apps.evaluate`."""

import copy
import dataclasses
import functools
import json
import sys
import time

import numpy as np

from keras_neokd import evaluation
from keras_neokd.attacks import PGD
from keras_neokd.attacks import MaxAverage
from keras_neokd.backend import precision
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.evaluation import soundness
from keras_neokd.evaluation.anytime import accuracy_rows
from keras_neokd.evaluation.protocol import WrongResult
from keras_neokd.evaluation.searching import CompiledSearch
from keras_neokd.evaluation.searching import resisting_rows
from keras_neokd.serving import model_files

from . import attacking
from . import building
from . import config_files
from . import data_facts
from . import plots
from . import protocols
from . import recording
from . import run_config
from . import tables
from . import workdir
from .reporting import grouping
from .reporting import layout
from .reporting.records import SCHEMA_VERSION


def with_everything(config, model, validation):
    """Return a config with every possible attack and protocol.

    Return the config and a list of sentences on what is left out. Arguments
    are those of `protocols.plan`.
    """
    searches, too_strong = attacking.possible(config, model)
    names, left_out = protocols.possible(config, model, validation)
    config = copy.deepcopy(config)
    usual = config_files.load("default").evaluate.attacks
    config.evaluate.attacks = (*usual, *searches)
    config.evaluate.protocols = names
    return config, [
        f"Left out: {name}. {why}"
        for name, why in {**too_strong, **left_out}.items()
    ]


def evaluate(
    config, model_path, results_path, plot_path, is_full=False, check_data=None
):
    """Return the record of every exit, clean and under every attack.

    Checks for a weak evaluation come first, protocols and diagnostics last.
    The record is written after each; the same call goes on with what is still
    missing, and with a search where it was stopped. See `apps.recording`.

    Args:
        config: a whole config, see `configs/default.py`.
        model_path: the `.keras` file.
        results_path: the JSON file to write, or to go on with.
        plot_path: the PNG file to write.
        is_full: measure everything that is possible instead of what the
            config names. Defaults to False.
        check_data: function that is given what `data_facts.data_facts` says
            of the data, and raises if that is wrong; `None` (default) for
            no such check.

    Raises:
        ValueError, TypeError: if the config is not possible, or the file at
            `results_path` holds results of other settings.
        OSError: if a file is missing or cannot be written.

    A protocol that returns something else than it declares is an error, too,
    but all others are measured and recorded before.
    """
    model, data = _load(config, model_path, results_path)
    if check_data is not None:
        check_data(data_facts.data_facts(data))
    if is_full:
        config, left_out = with_everything(config, model, data.validation)
        print("\n".join(left_out), flush=True)
    attacks = attacking.plan(config, model)
    images, labels = data.test.arrays(config.evaluate.num_examples)
    measured = protocols.plan(config, model, len(images), data.validation)
    header = _header(config, model, model_path, data.name, images, labels)
    together = attacking.together(attacks, model.exit_names)
    settings = {name: each.settings for name, each in measured.items()}
    for names in together.values():
        chosen = {name: attacks[name] for name in names}
        settings |= _settings_together(chosen, header)
    file = recording.RecordFile(results_path, header, settings)
    results_path.parent.mkdir(parents=True, exist_ok=True)
    _look_for_findings(model, images, labels, file.record)
    for name in file.missing("attacks", together, together):
        state_file = functools.partial(_state_file, results_path, name)
        chosen = {each: attacks[each] for each in together[name]}
        found = _attacked(
            config, name, chosen, model, images, labels, state_file
        )
        for each, entry in found.items():
            entry = {"name": each, "settings": settings[each], **entry}
            file.add("attacks", entry)
        for number in range(config.evaluate.num_seeds):
            state_file(number).unlink(missing_ok=True)
    wrong = _measure(measured, model, images, labels, file, results_path)
    titled = {file.record["method"]: file.record}
    plots.robustness(titled, plot_path)
    for table in layout.of_record(titled):
        tables.show(table)
    if wrong:
        raise ValueError(" ".join(wrong))
    return file.record


def _load(config, model_path, results_path):
    """Check the settings that cost nothing to check; return model and data."""
    if not model_path.exists():
        raise FileNotFoundError(
            f"There is no model at {model_path}: train it first, or finish "
            "training."
        )
    workdir.check_writable(results_path.parent)
    section = config.evaluate
    checks.integer("evaluate.batch_size", section.batch_size, 1)
    checks.integer("evaluate.num_seeds", section.num_seeds, 1)
    checks.integer("evaluate.seed", section.seed, 0)
    randomness.check_seed(section.seed + section.num_seeds - 1)
    if section.num_examples is not None:
        checks.integer("evaluate.num_examples", section.num_examples, 1)
    model = model_files.load(model_path)
    return model, building.load_data(config, model)


def _state_file(results_path, name, number):
    """Return the file of a search's state, by the number of its seed."""
    name = recording.file_name(name)
    return results_path.with_name(f"{results_path.stem}.{name}.{number}.npz")


def _header(config, model, model_path, data_name, images, labels):
    """Return a record without results: all that they depend on."""
    flat = workdir.flatten(config)
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": workdir.environment(),
        "config_sha256": workdir.text_digest(repr(sorted(flat.items()))),
        "model": model.name,
        "model_sha256": workdir.digest(model_path),
        "layer_dtypes": precision.layer_dtypes(model),
        "method": config.method.name,
        "method_settings": _method_settings(config),
        "data": {
            "name": data_name,
            "split": "test",
            "num_examples": len(images),
            "num_classes": model.num_classes,
            "checksum": data_facts.digest([images, labels]),
        },
        "settings": {
            "attack": attacking.pgd_settings(config),
            "seed": config.evaluate.seed,
            "num_seeds": config.evaluate.num_seeds,
        },
        "exits": [
            {
                "name": cost.name,
                **cost.cumulative._asdict(),
                **{f"own_{k}": v for k, v in cost.own._asdict().items()},
            }
            for cost in model.exit_costs()
        ],
        "findings": None,
        "attacks": [],
        "diagnostics": [],
    }


def _method_settings(config):
    """Return method settings and learning rate, as JSON reads them."""
    section = run_config.chosen(config)["method"]
    settings = {
        "name": section["name"],
        # A method alone needs no second name.
        **section.get(section["name"], section),
        "learning_rate": config.optimizer.learning_rate,
    }
    return json.loads(json.dumps(settings))


def _settings(name, attack, header):
    """Return what the entry of an attack depends on."""
    if attack is None:
        return {}
    single = (f"single_{each['name']}" for each in header["exits"])
    if name in ("average", "max_average", *single) and _is_plain(attack):
        return header["settings"]["attack"]
    return attacking.settings_of(attack)


def _settings_together(attacks, header):
    """Return the settings of entries that are measured at once, by name."""
    found = {
        name: _settings(name, attack, header)
        for name, attack in attacks.items()
    }
    if len(attacks) == 1:
        return found
    exits = [header["exits"][a.objective.exit] for a in attacks.values()]
    tried = {"tried_across": [each["name"] for each in exits]}
    return {name: {**each, **tried} for name, each in found.items()}


def _is_plain(attack):
    """Return whether the settings of PGD say all of an attack."""
    return isinstance(attack, (PGD, MaxAverage)) and (
        getattr(attack, "exits", None) is None
    )


def _look_for_findings(model, images, labels, record):
    """Record what makes the attacks doubtful, once."""
    if record["findings"] is None:
        found = soundness.check_model(model, images, labels)
        record["findings"] = [each._asdict() for each in found]
    _warn(record["findings"])


def _warn(findings):
    for each in findings:
        print(f"WARNING ({each['code']}): {each['message']}", flush=True)


def _measure(planned, model, images, labels, file, results_path):
    """Record protocols and diagnostics; return what is wrong with others."""
    wrong = []
    for name in file.missing("diagnostics", planned):
        try:
            entry, result = planned[name].measure(model, images, labels)
        except WrongResult as error:
            wrong.append(str(error))
            continue
        file.add("diagnostics", entry)
        result.write_beside(results_path)
    return wrong


def _attacked(config, name, attacks, model, images, labels, state_file):
    """Evaluate attacks at once; return a dict from names to their entries.

    Entries lack `name` and `settings`; each has an equal share of the time.
    """
    print(f"Evaluating {config.method.name}, {name} ...", flush=True)
    start = time.monotonic()
    section = config.evaluate
    measure = _together(model, list(attacks.values()), section.batch_size)
    by_seed = [
        measure(
            images,
            labels,
            seed=section.seed + number,
            verbose=int(sys.stdout.isatty()),
            state_file=state_file(number),
        )
        # Clean images have no seed.
        for number in range(1 if name == "clean" else section.num_seeds)
    ]
    seconds = round((time.monotonic() - start) / len(attacks), 2)
    return {
        entry: _entry(attack, model, list(results), seconds)
        for (entry, attack), results in zip(
            attacks.items(), zip(*by_seed, strict=True), strict=True
        )
    }


def _together(model, attacks, batch_size):
    """Return a function that returns an `AnytimeResult` for each attack."""
    evaluator = evaluation.Evaluator(
        model, attacks[0] if len(attacks) == 1 else None, batch_size
    )
    if len(attacks) == 1:
        return lambda *data, **given: [evaluator.anytime(*data, **given)]
    search = CompiledSearch(model, attacks, batch_size)

    def measure(images, labels, **given):
        return [
            dataclasses.replace(
                evaluator.anytime(each.adversarial, labels), search=each
            )
            for each in search(images, labels, **given)
        ]

    return measure


def _entry(attack, model, results, seconds):
    """Return the entry of an attack from the results of all seeds."""
    entry = {
        "seconds": seconds,
        "rows": accuracy_rows(results),
        "correct": _correct(results),
        "findings": [],
    }
    if results[0].search is not None:
        entry |= _searched(attack, model, [each.search for each in results])
    mean = np.mean(grouping.accuracies(entry, 1))
    print(f"  {100 * mean:.2f} % on average over exits ({seconds:.0f} s)")
    return entry


def _correct(results):
    """Return which images every seed leaves correct, bits in hexadecimal."""
    correct = np.all([result.ranks == 0 for result in results], axis=0)
    return {
        name: np.packbits(correct[:, exit]).tobytes().hex()
        for exit, name in enumerate(results[0].exit_names)
    }


def _searched(attack, model, searches):
    """Return the keys `search` and `findings` of the entry of a search."""
    findings = soundness.check_attack(attack, model.num_classes)
    for each in searches:
        findings += soundness.check_search(each)
    findings = [each._asdict() for each in findings]
    _warn(findings)
    return {"search": resisting_rows(searches), "findings": findings}
