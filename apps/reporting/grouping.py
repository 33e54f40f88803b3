"""Entries of records, grouped as tables and figures compare them.

`titled` and `group` are dicts from titles to records; those of a group are of
the same images and exits. `attack` is the entry of an attack, `k` is 1 or 5.
"""

import json

from .. import attacking
from .. import workdir
from .measurements import readable
from .measurements import text


def rows_of(attack, k):
    """Return the rows of top-`k` accuracies, one per exit."""
    return [row for row in attack["rows"] if row["top"] == k]


def accuracies(attack, k):
    """Return the accuracy of every exit; an empty list where there is none."""
    return [row["accuracy"] for row in rows_of(attack, k)]


def percent(attack, k):
    """Return accuracies of all exits and their mean in %, [] for none."""
    values = accuracies(attack, k)
    if not values:
        return []
    return [100 * each for each in (*values, sum(values) / len(values))]


def by_data(titled):
    """Yield a title and a dict of the records for equal images and exits."""
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
    """Yield results of each attack, names in the order they first appear.

    Yields:
        Tuples of the readable name, and a list of tuples of a title, the
        strength of the attack, and its entry.
    """
    found = {}
    for title, record in group.items():
        for attack in record["attacks"]:
            found.setdefault(attack["name"], []).append((title, attack))
    for name, entries in found.items():
        unlike = differences(
            [attack["settings"] for _, attack in entries], attacking.STRENGTH
        )
        yield (
            readable(name),
            [
                (title, _strength(attack["settings"]) + more, attack)
                for (title, attack), more in zip(entries, unlike, strict=True)
            ],
        )


def varied(settings):
    """Return flat forms of nested dicts, and the keys in which they differ."""
    flat = [workdir.flatten(each) for each in settings]
    return flat, [
        key
        for key in dict.fromkeys(key for each in flat for key in each)
        if len({json.dumps(each.get(key)) for each in flat}) > 1
    ]


def differences(settings, told=()):
    """Return texts that say how each of several dicts differs from the others.

    Such as ", step size 0.1"; all "" where they are equal. Keys that end in
    one of `told` are left out.
    """
    flat, keys = varied(settings)
    return [
        "".join(
            f", {readable(key.split('.')[-1])} {text(each.get(key))}"
            for key in keys
            if not key.endswith(tuple(told))
        )
        for each in flat
    ]


def common(strengths):
    """Return the strength that all attacks have, or "" if they differ."""
    return strengths[0] if len(set(strengths)) == 1 else ""


def note(group, attacks=None):
    """Return the warning of `attacking.note` for the attacks of a group.

    `attacks` are entries; by default all of the group.
    """
    if attacks is None:
        attacks = [
            each for record in group.values() for each in record["attacks"]
        ]
    return attacking.note(attacks, len(exits_of(group)))


def exits_of(group):
    """Return the names of the exits that the records share."""
    return [each["name"] for each in next(iter(group.values()))["exits"]]


def _strength(settings):
    """Return the strength of an attack; "" for clean images."""
    if not settings:
        return ""
    numbers = [
        f"{settings[key]:,} {unit}"
        for key, unit in (("num_steps", "steps"), ("num_queries", "queries"))
        if settings.get(key) is not None
    ]
    return ", ".join([ball(settings), *numbers])


def ball(settings):
    """Return radius and norm of an attack as text."""
    epsilon = settings.get("epsilon")
    bound = "any size" if epsilon is None else f"epsilon {epsilon:.4g}"
    return f"{bound} ({settings['norm']})"


def shared_strength(record):
    """Return the beginning of a title: how strong the attacks are.

    It is that of PGD where there is one, else what all attacks share.
    """
    settings = [each["settings"] for each in record["attacks"]]
    of_pgd = record["settings"]["attack"]
    if of_pgd in settings:
        return f"PGD-{of_pgd['num_steps']}, {ball(of_pgd)}; "
    same = common([ball(each) for each in settings if each])
    return f"{same}; " if same else ""
