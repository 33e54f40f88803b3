"""Runs that differ in a setting of their method, such as alpha or beta."""

import json

from .. import workdir
from .measurements import readable


def lines(group):
    """Yield the numeric settings that were varied, and the runs along each.

    Args:
        group: dict from titles to records; those without `method_settings`
            are left out.

    Yields:
        Tuples of a setting and a dict from what else differs, as text, to
        lists of at least two pairs of a value and a title, sorted.
    """
    flat = {
        title: workdir.flatten(record["method_settings"])
        for title, record in group.items()
        if record.get("method_settings")
    }
    varied = [
        key
        for key in dict.fromkeys(key for each in flat.values() for key in each)
        if len({json.dumps(each.get(key)) for each in flat.values()}) > 1
    ]
    for key in varied:
        found = {}
        for title, settings in flat.items():
            value = settings.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                others = {
                    other: settings.get(other)
                    for other in varied
                    if other != key
                }
                text = ", ".join(
                    f"{readable(name)} {json.dumps(each)}"
                    for name, each in others.items()
                )
                found.setdefault(text, []).append((value, title))
        found = {
            text: sorted(points)
            for text, points in found.items()
            if len({value for value, _ in points}) > 1
        }
        if found:
            yield key, found
