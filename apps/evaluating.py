"""What `apps.evaluate` does: attack a model and record what it withstands."""

import copy
import functools
import json
import math
import sys
import time

import keras
import numpy as np

from apps import building
from apps import data_facts
from apps import diagnosing
from apps import model_files
from apps import plots
from apps import protocols
from apps import recording
from apps import strong_attacks
from apps import tables
from apps import workdir
from apps.protocols import shared
from apps.reporting.schema import SCHEMA_VERSION
from keras_neokd import checks
from keras_neokd import evaluation
from keras_neokd import randomness
from keras_neokd.evaluation import soundness
from keras_neokd.exit_policy import ExitPolicy


def with_everything(config, model, num_validation):
    """Return a config with every attack and protocol that is possible.

    Args:
        config: a whole config.
        model: the model to evaluate.
        num_validation: number of validation images.

    Returns:
        Tuple of the config and a list of sentences about what is left out.
    """
    searches, too_strong = strong_attacks.possible(config, model)
    names, left_out = protocols.possible(config, model, num_validation)
    config = copy.deepcopy(config)
    config.evaluate.attacks = ("average", "max_average", "single", *searches)
    config.evaluate.protocols = names
    return config, [
        f"Left out: {name}. {why}"
        for name, why in {**too_strong, **left_out}.items()
    ]


def evaluate(
    config,
    model_path,
    results_path,
    plot_path,
    is_full=False,
    check_data=None,
):
    """Measure every exit, clean and under every attack of the config.

    Signs of a weak evaluation come first, diagnostics last. The record is
    written after each of them; the same call goes on with those that are
    still missing, and with an attack that searches where it was stopped.
    Several evaluations may write one record, see `apps.recording`.

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

    Returns:
        The record, a dict of plain values.

    Raises:
        ValueError, TypeError: if the config is not possible, or the file at
            `results_path` holds results of other settings.
        OSError: if a file is missing or cannot be written.
    """
    if not model_path.exists():
        raise FileNotFoundError(
            f"There is no model at {model_path}: train it first, or finish "
            "training."
        )
    workdir.check_writable(results_path.parent)
    planned = _attacks(config)
    model = model_files.load(model_path)
    data = building.load_data(config, model)
    if check_data is not None:
        check_data(data_facts.data_facts(data))
    if is_full:
        config, left_out = with_everything(config, model, len(data.validation))
        print("\n".join(left_out), flush=True)
        planned = _attacks(config)
    planned = _for_exits(planned, config, model)
    images, labels = data.test.arrays(config.evaluate.num_examples)
    header = _header(config, model, model_path, data.name, images, labels)
    diagnostics = {
        **protocols.plan(config, model, images, data.validation),
        **diagnosing.plan(config, model, images),
    }

    def check_entries(record):
        diagnosing.check_record(diagnostics, record)
        _check_attacks(planned, record)

    file = recording.RecordFile(results_path, header, check_entries)
    results_path.parent.mkdir(parents=True, exist_ok=True)
    _look_for_signs(model, images, labels, file.record)
    _measure_missing_attacks(
        planned, file, model, images, labels, config, results_path
    )
    for name in file.missing("diagnostics", diagnostics):
        entry = diagnosing.measure(
            name, diagnostics[name], model, images, labels
        )
        file.add("diagnostics", entry)
        if name == "early_exit":
            _write_policy(entry, results_path)
    plots.robustness({file.record["method"]: file.record}, plot_path)
    tables.print_record(file.record)
    return file.record


def _measure_missing_attacks(
    planned, file, model, images, labels, config, results_path
):
    """Add an entry for every attack that has none, and write each down."""
    for name in file.missing("attacks", planned):
        print(f"Evaluating {config.method.name}, {name} ...", flush=True)
        state_file = functools.partial(_state_file, results_path, name)
        entry = _measure(
            model, images, labels, planned[name], config.evaluate, state_file
        )
        print(
            f"  {100 * entry['top1_average']:.2f} % on average over exits "
            f"({entry['seconds']:.0f} s)"
        )
        file.add("attacks", {"name": name, **entry})
        for number in range(config.evaluate.num_seeds):
            state_file(number).unlink(missing_ok=True)


def _write_policy(entry, results_path):
    """Write the thresholds as `EarlyExitPredictor` reads them."""
    bounds = [
        math.inf if each is None else each for each in entry["thresholds"]
    ]
    policy = ExitPolicy(bounds, entry["ensemble"])
    policy.save(results_path.with_name(f"policy_of_{results_path.stem}.json"))


def _state_file(results_path, name, number):
    """Return the file of a search's state, by the number of its seed."""
    name = recording.file_name(name)
    return results_path.with_name(f"{results_path.stem}.{name}.{number}.npz")


def _attacks(config):
    """Return the names of the attacks, their settings checked."""
    section = config.evaluate
    known = (*building.ATTACKS, *strong_attacks.NAMES)
    for name in section.attacks:
        checks.choice("evaluate.attacks", name, known)
        if name in strong_attacks.NAMES:
            for each in strong_attacks.objectives(config, ["exit"]).values():
                strong_attacks.build(config, name, each)
        else:
            shared.attack(config, name)
    checks.integer("evaluate.batch_size", section.batch_size, 1)
    checks.integer("evaluate.num_seeds", section.num_seeds, 1)
    checks.integer("evaluate.seed", section.seed, 0)
    randomness.check_seed(section.seed + section.num_seeds - 1)
    if section.num_examples is not None:
        checks.integer("evaluate.num_examples", section.num_examples, 1)
    return list(section.attacks)


def _for_exits(names, config, model):
    """Return a dict from the names of all measurements to their attacks."""
    attacks = {"clean": None}
    for name in names:
        if name == "single":
            for index, exit_name in enumerate(model.exit_names):
                attacks[f"single_{exit_name}"] = shared.attack(
                    config, name, index
                )
        elif name in strong_attacks.NAMES:
            objectives = strong_attacks.objectives(config, model.exit_names)
            for end, objective in objectives.items():
                attacks[f"{name}_{end}"] = strong_attacks.build(
                    config, name, objective
                )
        else:
            attacks[name] = shared.attack(config, name)
    for attack in attacks.values():
        if attack is not None:
            attack.validate(model.num_exits, model.num_classes)
    return attacks


def _header(config, model, model_path, data_name, images, labels):
    """Return a record without results: all that they depend on."""
    attack = {
        key: config.attack[key]
        for key in ("epsilon", "step_size", "norm", "random_start")
    }
    if config.evaluate.epsilon is not None:
        attack["epsilon"] = config.evaluate.epsilon
    for key in ("num_steps", "num_restarts"):
        attack[key] = config.evaluate[key]
    flat = workdir.flatten(config)
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": workdir.environment(),
        "config_sha256": workdir.text_digest(repr(sorted(flat.items()))),
        "model": model.name,
        "model_sha256": workdir.digest(model_path),
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
            "attack": attack,
            "seed": config.evaluate.seed,
            "num_seeds": config.evaluate.num_seeds,
        },
        "exits": [
            {
                "name": cost.name,
                **cost.cumulative._asdict(),
                "own_head_only": cost.own._asdict(),
            }
            for cost in model.exit_costs()
        ],
        "signs": None,
        "attacks": [],
        "diagnostics": [],
    }


def _method_settings(config):
    """Return what a sweep over a method varies, as JSON gives it back."""
    settings = {
        **config.method.to_dict(),
        "learning_rate": config.optimizer.learning_rate,
    }
    return json.loads(json.dumps(settings))


def _check_attacks(planned, record):
    """Raise `ValueError` if an attack was recorded with other settings."""
    for entry in record["attacks"]:
        attack = planned.get(entry["name"])
        if attack is not None and "attack" in entry:
            workdir.refuse_differences(
                workdir.flatten(entry["attack"]),
                workdir.flatten(_described(attack)),
                f"The results hold {entry['name']} of other settings",
                "Write to another file with --results.",
            )


def _described(attack):
    """Return an attack as plain values."""
    return keras.saving.serialize_keras_object(attack)


def _look_for_signs(model, images, labels, record):
    """Record what makes the attacks doubtful, once."""
    if record["signs"] is None:
        signs = soundness.check_model(model, images, labels)
        record["signs"] = _listed(signs)
    for sign in record["signs"]:
        print(f"WARNING ({sign['code']}): {sign['message']}", flush=True)


def _listed(signs):
    return [sign._asdict() for sign in signs]


def _measure(model, images, labels, attack, section, state_file):
    start = time.monotonic()
    # Clean images have no seed.
    num_seeds = 1 if attack is None else section.num_seeds
    evaluator = evaluation.Evaluator(model, attack, section.batch_size)
    results = [
        evaluator.anytime(
            images,
            labels,
            seed=section.seed + number,
            verbose=int(sys.stdout.isatty()),
            state_file=state_file(number),
        )
        for number in range(num_seeds)
    ]
    entry = {"seconds": round(time.monotonic() - start, 2)}
    first = results[0]
    for k in (1, 5):
        if k < first.num_classes:
            entry.update(_accuracy(results, k))
    entry["correct"] = _correct(results)
    if "selected_share" in first.info:
        shares = first.info["selected_share"].mean(axis=0)
        entry["selected_share"] = diagnosing.by_exit(first.exit_names, shares)
    if first.search is not None:
        entry.update(_search_entry(attack, results))
    return entry


def _correct(results):
    """Return which images every seed leaves correct, bits in hexadecimal."""
    correct = np.all([result.ranks == 0 for result in results], axis=0)
    return {
        name: np.packbits(correct[:, exit_]).tobytes().hex()
        for exit_, name in enumerate(results[0].exit_names)
    }


def _accuracy(results, k):
    """Return the mean over seeds, its spread, and the sample's interval."""
    by_seed = np.array([result.accuracy(k) for result in results])
    mean, names = by_seed.mean(axis=0), results[0].exit_names
    count = len(results[0].ranks)
    entry = {
        f"top{k}": diagnosing.by_exit(names, mean),
        f"top{k}_average": float(mean.mean()),
        f"top{k}_interval": {
            name: list(evaluation.wilson_interval(float(each), count))
            for name, each in zip(names, mean, strict=True)
        },
    }
    if len(results) > 1:
        spread = by_seed.std(axis=0, ddof=1)
        entry[f"top{k}_seed_deviation"] = diagnosing.by_exit(names, spread)
    return entry


def _search_entry(attack, results):
    """Return what an attack that searches adds to its entry."""
    searches = [result.search for result in results]
    signs = soundness.check_attack(attack, results[0].num_classes)
    for each in searches:
        signs += soundness.check_search(each)
    shares = np.mean([each.robust_after_each() for each in searches], axis=0)
    for sign in signs:
        print(f"WARNING ({sign.code}): {sign.message}", flush=True)
    return {
        "attack": _described(attack),
        "epsilon": attack.epsilon,
        "norm": attack.norm,
        "robust_after_each": [
            {"attack": name, "robust": float(share)}
            for name, share in zip(
                ("clean", *searches[0].attack_names), shares, strict=True
            )
        ],
        "signs": _listed(signs),
    }
