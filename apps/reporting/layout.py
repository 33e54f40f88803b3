"""Records to tables: plain rows and columns, whatever they are written as.

The layout is that of Tables 1 to 8 of NEO-KD: a table per data set and
attack, a row per model, a column per exit and their average.
"""

import dataclasses
import json

import numpy as np

from apps import strong_attacks
from apps import workdir
from apps.reporting.schema import COST_INTERVAL
from keras_neokd.evaluation import intervals

# Settings that the strength of an attack names in any case.
_SAID_ANYWAY = ("epsilon", "norm", "num_steps", "num_queries")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table to write.

    Attributes:
        title: one line.
        columns: names of the columns.
        rows: lists of cells: text, or numbers to be written with `digits`.
        digits: decimals of numbers.
        note: a line below, or "".
    """

    title: str
    columns: list
    rows: list
    digits: int = 2
    note: str = ""


def tables(titled):
    """Return all tables of some records.

    Args:
        titled: what `records.read` returned.

    Returns:
        List of `Table`s: accuracy under each attack, what is left after each
        attack of a search, worst cases, costs, protocols, doubts.
    """
    return [
        *_accuracies(titled),
        *_uncertainties(titled),
        *_worst_cases(titled),
        *_searches(titled),
        *_protocols(titled),
        *_savings(titled),
        *_costs(titled),
        *_runs(titled),
        *_signs(titled),
    ]


def by_data(titled):
    """Yield groups that can share a table: same images and exits.

    Args:
        titled: dict from titles to records.

    Yields:
        Tuples of what they share, as text, and a dict like `titled`.
    """
    groups = {}
    for title, record in titled.items():
        exits = tuple(each["name"] for each in record["exits"])
        data = record["data"]
        # Records of earlier versions have no checksum.
        images = (data["name"], data["num_examples"], data.get("checksum"))
        groups.setdefault((images, exits), {})[title] = record
    for (images, exits), group in groups.items():
        name, count, checksum = images
        alike = [key for key in groups if key[0][:2] == (name, count)]
        what = f"{name}, {count:,} test images"
        if len({each for each, _ in alike}) > 1:
            what += f" with checksum {checksum or 'unknown'}"
        if len({each for _, each in alike}) > 1:
            what += f", exits {', '.join(exits)}"
        yield what, group


def by_attack(group):
    """Yield what each attack found, names in the order they first appear.

    Args:
        group: dict from titles to records.

    Yields:
        Tuples of the readable name, and a list of tuples of a title, the
        strength of the attack, and its entry.
    """
    found = {}
    for title, record in group.items():
        for attack in record["attacks"]:
            entry = (title, record, attack)
            found.setdefault(attack["name"], []).append(entry)
    for name, entries in found.items():
        settings = [_settings(*each[1:]) for each in entries]
        unlike = differences(settings, _SAID_ANYWAY)
        yield (
            readable(name),
            [
                (title, _strength(record, attack) + more, attack)
                for (title, record, attack), more in zip(
                    entries, unlike, strict=True
                )
            ],
        )


def differences(settings, told=()):
    """Say of each of several dicts how it differs from the others.

    Args:
        settings: list of nested dicts.
        told: ends of keys to leave out.

    Returns:
        List of texts such as ", step size 0.1", all "" where they are equal.
    """
    flat = [workdir.flatten(each) for each in settings]
    keys = [
        key
        for key in dict.fromkeys(key for each in flat for key in each)
        if len({json.dumps(each.get(key)) for each in flat}) > 1
        and not key.endswith(tuple(told))
    ]
    return [
        "".join(
            f", {readable(key.split('.')[-1])} {_text(each.get(key))}"
            for key in keys
        )
        for each in flat
    ]


def common(strengths):
    """Return the strength that all attacks have, or "" if they differ.

    Args:
        strengths: list of texts.
    """
    return strengths[0] if len(set(strengths)) == 1 else ""


def note(group, attacks=None):
    """Return what has to be said beside accuracies under attacks, or "".

    Args:
        group: dict from titles to records of the same exits.
        attacks: entries of attacks; `None` (default) for all of the group.
    """
    if attacks is None:
        attacks = [
            each for record in group.values() for each in record["attacks"]
        ]
    names = [each["name"] for each in attacks]
    return strong_attacks.note(names, len(_exits(group)))


def _sentences(*sentences):
    return " ".join(filter(None, sentences))


def _accuracies(titled):
    for data, group in by_data(titled):
        for name, entries in by_attack(group):
            for k in (1, 5):
                found = [
                    (title, strength, _percent(attack, k))
                    for title, strength, attack in entries
                    if f"top{k}" in attack
                ]
                if found:
                    what = f"Top-{k} accuracy (%): {name}"
                    said = note(group, [entries[0][2]])
                    yield _comparison(what, data, group, found, said)


def _uncertainties(titled):
    """How sure top-1 accuracies are: of the images, and of the seeds."""
    for data, group in by_data(titled):
        rows = [
            [title, readable(attack["name"]), *_ranges(attack)]
            for title, record in group.items()
            for attack in record["attacks"]
            if "top1_interval" in attack
        ]
        if rows:
            yield Table(
                f"Uncertainty of top-1 accuracy (%); {data}",
                ["model", "attack", *_exits(group)],
                rows,
                note=_sentences(
                    "95 % interval (Wilson); after ± the standard deviation "
                    "over the seeds of the attack, where there are several.",
                    note(group),
                ),
            )


def _ranges(attack):
    spread = attack.get("top1_seed_deviation") or {}
    return [
        f"{100 * low:.1f} to {100 * high:.1f}"
        + (f" ± {100 * spread[name]:.2f}" if name in spread else "")
        for name, (low, high) in attack["top1_interval"].items()
    ]


def _worst_cases(titled):
    """The images that withstand all attacks within one ball, by exit."""
    for data, group in by_data(titled):
        found = []
        for title, record in group.items():
            by_ball = {}
            for attack in record["attacks"]:
                ball = _ball(record, attack)
                # What may go as far as it likes says nothing about a ball.
                if attack["name"] != "clean" and ball[0] is not None:
                    by_ball.setdefault(_describe(ball), []).append(attack)
            found += [
                (title, ball, _worst_case(record, attacked))
                for ball, attacked in by_ball.items()
            ]
        if found:
            yield _comparison(
                "Top-1 accuracy (%) on images that withstand all attacks",
                data,
                group,
                found,
                note=_sentences(
                    "Image by image. Records that do not say which images "
                    "are right give the lowest accuracy of each exit.",
                    note(group),
                ),
            )


def _comparison(what, data, group, found, note=""):
    """Return a table of accuracies; it says where attacks were not equal.

    Args:
        what: how the title begins.
        data: how it ends.
        group: dict from titles to records.
        found: list of tuples of a title, the strength, and numbers.
        note: see `Table`.
    """
    same = common([strength for _, strength, _ in found])
    differ = len({strength for _, strength, _ in found}) > 1
    return Table(
        f"{what}{', ' if same else ''}{same}; {data}",
        ["model", *["attack"] * differ, *_exits(group), "average"],
        [
            [title, *[strength] * differ, *numbers]
            for title, strength, numbers in found
        ],
        note=note,
    )


def _worst_case(record, attacked):
    names = list(attacked[0]["top1"])
    if all("correct" in attack for attack in attacked):
        count = record["data"]["num_examples"]
        lowest = [
            100 * _bits([each["correct"][name] for each in attacked], count)
            for name in names
        ]
    else:
        lowest = [
            100 * min(attack["top1"][name] for attack in attacked)
            for name in names
        ]
    return [*lowest, sum(lowest) / len(lowest)]


def _bits(texts, count):
    """Return the share of images that are right in all of some texts."""
    right = np.all(
        [
            np.unpackbits(np.frombuffer(bytes.fromhex(each), "uint8"))[:count]
            for each in texts
        ],
        axis=0,
    )
    return float(right.mean())


def _searches(titled):
    for title, record in titled.items():
        for attack in record["attacks"]:
            if "robust_after_each" in attack:
                steps = attack["robust_after_each"]
                yield Table(
                    f"Images that resist (%): {readable(attack['name'])}; "
                    f"{title}, {record['data']['name']}",
                    [f"after {each['attack']}" for each in steps],
                    [[100 * each["robust"] for each in steps]],
                    note=note({title: record}, [attack]),
                )


def _protocols(titled):
    for title, record in titled.items():
        for entry in record.get("diagnostics") or ():
            if entry.get("rows"):
                rows = entry["rows"]
                yield Table(
                    f"{readable(entry['name'])}; {title}, "
                    f"{record['data']['name']}",
                    list(rows[0]),
                    [[_cell(value) for value in row.values()] for row in rows],
                    digits=4,
                    note=_numbers(entry),
                )


def _savings(titled):
    """What one model saves against another at equal accuracy (Figure 2)."""
    for data, group in by_data(titled):
        curves = {}
        for title, record in group.items():
            for entry in record.get("diagnostics") or ():
                if entry["name"] == "budgeted":
                    settings = entry["settings"]
                    key = settings["attack"], _same_policies(settings)
                    curves.setdefault(key, {})[title] = entry["rows"]
        for (attack, _), by_title in curves.items():
            rows = [
                [first, second, *_saving(by_title[first], by_title[second])]
                for first in by_title
                for second in by_title
                if first != second
            ]
            rows = [row for row in rows if row[3] > 0]
            if rows:
                yield Table(
                    "Multiply-adds saved (%) at the highest accuracy that "
                    f"both reach; {readable(attack)}, {data}",
                    [
                        *("model", "against", "accuracy (%)", "saved (%)"),
                        "saved, 95 % interval",
                    ],
                    rows,
                    note="The interval covers the choice of the test images "
                    "for the costs of both models, at the budgets found here. "
                    "The accuracy is uncertain, too: see the table of "
                    "uncertainty. A dash: the record has no intervals of "
                    "costs.",
                )


def _same_policies(settings):
    """Return what curves must share, besides the model, to be compared."""
    keys = ("attack_settings", "ensemble", "threshold_data", "num_examples")
    return json.dumps([settings.get(key) for key in keys], sort_keys=True)


def _saving(rows, others):
    """Return accuracy, saving and its interval in %, of two curves."""
    accuracy = min(
        max(row["accuracy"] for row in curve) for curve in (rows, others)
    )
    row, other = (
        min(
            (row for row in curve if row["accuracy"] >= accuracy),
            key=lambda row: row["multiply-adds"],
        )
        for curve in (rows, others)
    )
    cost, other_cost = row["multiply-adds"], other["multiply-adds"]
    saved = 100 * (1 - cost / other_cost)
    interval, other_interval = row.get(COST_INTERVAL), other.get(COST_INTERVAL)
    if not interval or not other_interval:
        return [100 * accuracy, saved, "-"]
    low, high = intervals.saving_interval(
        cost, interval, other_cost, other_interval
    )
    return [100 * accuracy, saved, f"{100 * low:.1f} to {100 * high:.1f}"]


def _costs(titled):
    for data, group in by_data(titled):
        yield Table(
            f"Cost up to each exit; {data}",
            ["model", "of", *_exits(group)],
            [
                [title, f"million {key.replace('_', '-')}"]
                + [each[key] / 1e6 for each in record["exits"]]
                for title, record in group.items()
                for key in ("multiply_adds", "parameters")
            ],
            digits=3,
        )


def _runs(titled):
    keys = ("keras_neokd", "backend", "keras")
    yield Table(
        "Runs",
        ["model", "data", *keys, "seed", "evaluation, s", "model's SHA-256"],
        [
            [
                title,
                record["data"]["name"],
                *(str(record["environment"].get(key, "-")) for key in keys),
                str(record["settings"]["seed"]),
                f"{_seconds(record):.0f}",
                record["model_sha256"][:12],
            ]
            for title, record in titled.items()
        ],
    )


def _seconds(record):
    entries = (*record["attacks"], *(record.get("diagnostics") or ()))
    return sum(each.get("seconds", 0) for each in entries)


def _signs(titled):
    rows = [
        [title, where, sign["code"], sign["message"]]
        for title, record in titled.items()
        for where, signs in _places_of_signs(record)
        for sign in signs
    ]
    if rows:
        yield Table(
            "Doubts", ["model", "where", "sign", "what was found"], rows
        )


def _places_of_signs(record):
    yield "model", record.get("signs") or []
    for entry in (*record["attacks"], *(record.get("diagnostics") or ())):
        yield entry["name"], entry.get("signs") or []


def readable(name):
    """Return the name of an attack or a protocol, to be read."""
    return name.replace("_", " ")


def _exits(group):
    return [each["name"] for each in next(iter(group.values()))["exits"]]


def _percent(attack, k):
    values = [*attack[f"top{k}"].values(), attack[f"top{k}_average"]]
    return [100 * value for value in values]


def _strength(record, attack):
    """Say how strong an attack was; "" for clean images."""
    if attack["name"] == "clean":
        return ""
    own = attack.get("attack", {}).get("config")
    settings = record["settings"]["attack"] if own is None else own
    if settings.get("num_steps") is None and settings.get("attacks"):
        settings = settings["attacks"][0]["config"]
    numbers = [
        f"{settings[key]:,} {unit}"
        for key, unit in (("num_steps", "steps"), ("num_queries", "queries"))
        if settings.get(key) is not None
    ]
    return ", ".join([_describe(_ball(record, attack)), *numbers])


def _settings(record, attack):
    """Return all settings of an attack; none for clean images."""
    if attack["name"] == "clean":
        return {}
    return attack.get("attack") or record["settings"]["attack"]


def _ball(record, attack):
    """Return epsilon, or None for no bound, and the norm."""
    if "attack" not in attack:
        settings = record["settings"]["attack"]
        return settings["epsilon"], settings["norm"]
    return attack["epsilon"], attack["norm"]


def _describe(ball):
    epsilon, norm = ball
    bound = "any size" if epsilon is None else f"epsilon {epsilon:.4g}"
    return f"{bound} ({norm})"


def _numbers(entry):
    skipped = ("name", "settings", "rows", "measures", "signs")
    return ", ".join(
        f"{readable(key)} {_text(value)}"
        for key, value in entry.items()
        if key not in skipped
    )


def _cell(value):
    return _text(value) if isinstance(value, (list, type(None))) else value


def _text(value):
    if isinstance(value, list):
        return " ".join(_text(each) for each in value)
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
