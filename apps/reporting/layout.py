"""Records to tables: plain rows and columns, whatever they are written as.

The layout is that of Tables 1 to 8 of NEO-KD: a table per data set and
attack, a row per model, a column per exit and their average.
"""

import dataclasses


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
        *_worst_cases(titled),
        *_searches(titled),
        *_protocols(titled),
        *_costs(titled),
        *_runs(titled),
        *_signs(titled),
    ]


def attack_names(records):
    """Return the names of all attacks, in the order they first appear."""
    return list(
        dict.fromkeys(
            attack["name"] for record in records for attack in record["attacks"]
        )
    )


def by_data(titled):
    """Yield groups that can share a table: same data and exits.

    Args:
        titled: dict from titles to records.

    Yields:
        Tuples of what they share, as text, and a dict like `titled`.
    """
    groups = {}
    for title, record in titled.items():
        exits = tuple(each["name"] for each in record["exits"])
        data = record["data"]
        key = (data["name"], data["num_examples"], exits)
        groups.setdefault(key, {})[title] = record
    for (name, count, _), group in groups.items():
        yield f"{name}, {count:,} test images", group


def _accuracies(titled):
    for data, group in by_data(titled):
        for name in attack_names(group.values()):
            for k in (1, 5):
                rows = [
                    [title, *_percent(attack, k)]
                    for title, record in group.items()
                    for attack in record["attacks"]
                    if attack["name"] == name and f"top{k}" in attack
                ]
                if rows:
                    yield Table(
                        f"Top-{k} accuracy (%): {readable(name)}; {data}",
                        ["model", *_exits(group), "average"],
                        rows,
                        note=_strengths(group, name),
                    )


def _worst_cases(titled):
    """The lowest accuracy of each exit over all attacks of a record."""
    for data, group in by_data(titled):
        rows = []
        for title, record in group.items():
            attacked = [e for e in record["attacks"] if e["name"] != "clean"]
            if attacked:
                lowest = [
                    min(each["top1"][name] for each in attacked)
                    for name in attacked[0]["top1"]
                ]
                lowest.append(sum(lowest) / len(lowest))
                rows.append([title, *(100 * each for each in lowest)])
        if rows:
            yield Table(
                f"Lowest top-1 accuracy (%) over all attacks; {data}",
                ["model", *_exits(group), "average"],
                rows,
                note="Per exit over attacks, not per image: the worst case "
                "of each image is what auto_attack reports.",
            )


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
                )


def _protocols(titled):
    for title, record in titled.items():
        for entry in record.get("diagnostics", ()):
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


def _costs(titled):
    for data, group in by_data(titled):
        yield Table(
            f"Cost up to each exit; {data.partition(',')[0]}",
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
                f"{sum(e['seconds'] for e in record['attacks']):.0f}",
                record["model_sha256"][:12],
            ]
            for title, record in titled.items()
        ],
    )


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
    for entry in (*record["attacks"], *record.get("diagnostics", ())):
        yield entry["name"], entry.get("signs", [])


def readable(name):
    """Return the name of an attack or a protocol, to be read."""
    return name.replace("_", " ")


def _exits(group):
    return [each["name"] for each in next(iter(group.values()))["exits"]]


def _percent(attack, k):
    values = [*attack[f"top{k}"].values(), attack[f"top{k}_average"]]
    return [100 * value for value in values]


def _strengths(group, name):
    """Say how strong an attack was, where all records agree or not."""
    if name == "clean":
        return ""
    said = sorted(
        {
            f"epsilon {record['settings']['attack']['epsilon']:.4g} "
            f"({record['settings']['attack']['norm']})"
            + (
                ""
                if any("attack" in e for e in _named(record, name))
                else f", {record['settings']['attack']['num_steps']} steps"
            )
            for record in group.values()
            if _named(record, name)
        }
    )
    return "; ".join(said)


def _named(record, name):
    return [each for each in record["attacks"] if each["name"] == name]


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
