"""Records of version 1, read as those of version 2."""

from keras_neokd.base import checks

from .. import attacking

_RADIUS = "certified_accuracy_at_radius_"
# What is not part of the summary of an entry.
_PARTS = ("name", "settings", "seconds", "rows", "measures", "signs")


def upgraded(record):
    """Return a record in the form of version 2; the values are not checked.

    Args:
        record: dict, of version 1.

    Raises:
        ValueError: if a place has not the form of version 1.
    """
    settings = _of("settings", record, dict)
    settings = {"num_seeds": 1, **settings}
    exits = _entries(record, "exits", lambda each: _exit(**each))
    names = [each.get("name") for each in exits]
    return {
        **{name: record[name] for name in record if name != "signs"},
        "schema_version": 2,
        "settings": settings,
        "exits": exits,
        "findings": record.get("signs"),
        "attacks": _entries(record, "attacks", _attack, settings),
        "diagnostics": _entries(record, "diagnostics", _diagnostic, names)
        if record.get("diagnostics") is not None
        else [],
    }


def _entries(record, key, convert, *arguments):
    """Return converted entries; an error names the place of one."""
    found = []
    for number, each in enumerate(_of(key, record, list)):
        place = f"{key}[{number}]"
        if not isinstance(each, dict):
            raise ValueError(
                f"{place} needs dict, received {checks.shown(each)}."
            )
        try:
            found.append(convert(each, *arguments))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{place} is not as version 1 has it: {type(error).__name__}: "
                f"{error}."
            ) from error
    return found


def _of(key, record, kind):
    if not isinstance(record.get(key), kind):
        raise ValueError(
            f"{key} needs {kind.__name__}, received "
            f"{checks.shown(record.get(key))}."
        )
    return record[key]


def _exit(own_head_only=None, **values):
    own = (own_head_only or {}).items()
    return {**values, **{f"own_{name}": value for name, value in own}}


def _attack(entry, settings):
    rows = []
    for k in (1, 5):
        for name, accuracy in (entry.get(f"top{k}") or {}).items():
            ends = _by_exit(entry, f"top{k}_interval", name)
            low, high = (None, None) if ends is None else ends
            row = {
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "deviation": _by_exit(entry, f"top{k}_seed_deviation", name),
            }
            if k == 1:
                row["selected_share"] = _by_exit(entry, "selected_share", name)
            rows.append({"top": k, "exit": name, **_known(row)})
    own = {} if entry["name"] == "clean" else settings.get("attack")
    if entry.get("attack") is not None:
        own = attacking.own_settings(
            attacking.without_modules(entry["attack"]),
            entry["epsilon"],
            entry["norm"],
        )
    return {
        **_common(entry, own, rows),
        **_known({"correct": entry.get("correct")}),
        **_known({"search": entry.get("robust_after_each")}),
    }


def _common(entry, settings, rows):
    return {
        "name": entry["name"],
        "settings": settings,
        "seconds": entry.get("seconds"),
        "rows": rows,
        "findings": entry.get("signs") or [],
    }


def _by_exit(entry, key, name):
    return None if entry.get(key) is None else entry[key].get(name)


def _known(values):
    return {name: each for name, each in values.items() if each is not None}


def _diagnostic(entry, names):
    rows, name = entry.get("rows"), entry["name"]
    if entry.get("measures"):
        rows = _of_measures(entry["measures"])
    parts = {key: entry[key] for key in entry if key not in _PARTS}
    summary = _flat(parts, names)
    if name == "early_exit":
        bounds = [summary.pop(f"threshold at {exit}") for exit in names[:-1]]
        bounds.append(None)
        pairs = zip(rows, bounds, strict=True)
        rows = [{**row, "threshold": bound} for row, bound in pairs]
    elif name == "sensitivity":
        rows = [
            {
                "changed": row["changed"],
                "value": row["value"],
                "exit": exit,
                "accuracy": row[exit],
            }
            for row in rows
            for exit in names
        ]
    elif name in ("transferability", "transfer"):
        rows = [_fooled(row) for row in rows]
    settings = attacking.without_modules(entry["settings"])
    rows = [_flat(row, names) for row in rows]
    return {
        **_common({"seconds": 0, **entry}, settings, rows),
        "summary": summary,
    }


def _of_measures(measures):
    """Return rows by exit from dicts by exit."""
    exits = list(next(iter(measures.values())))
    radii = [each for each in measures if each.startswith(_RADIUS)]
    if not radii:
        return [
            {
                "exit": name,
                **{what: each[name] for what, each in measures.items()},
            }
            for name in exits
        ]
    return [
        {
            "exit": name,
            "radius": float(key.removeprefix(_RADIUS)),
            "certified_accuracy": measures[key][name],
            "abstention_rate": measures["abstention_rate"][name],
        }
        for key in radii
        for name in exits
    ]


def _flat(values, names):
    """Return values without lists: thresholds and intervals."""
    flat = {}
    for key, value in values.items():
        what = key.removesuffix(", 95 % interval").removesuffix("_interval")
        if what.startswith("share_of_full_cost"):
            what = what.replace("_", " ")
        if key == "thresholds":
            for name, bound in zip(names[:-1], value, strict=True):
                flat[f"threshold at {name}"] = bound
        elif key.endswith("interval"):
            low, high = (None, None) if value is None else value
            flat |= {f"{what} low": low, f"{what} high": high}
        else:
            flat[what] = value
    return flat


def _fooled(row):
    (_, source), *shares = row.items()
    shares = {f"fooled at {name}": share for name, share in shares}
    return {"attack on": source, **shares}
