"""Runs along a setting of their method."""

from apps.reporting import figures
from tests.apps.reporting import made


def run(**settings):
    return made.record(method_settings={"name": "neo_kd", **settings})


def test_runs_are_joined_where_nothing_else_differs():
    group = {
        "c": run(nkd_weight=3.0, eokd_weight=1.0),
        "a": run(nkd_weight=1.0, eokd_weight=1.0),
        "b": run(nkd_weight=1.0, eokd_weight=2.0),
    }
    assert dict(figures.method_sweeps(group)) == {
        "nkd_weight": {"eokd weight 1.0": [(1.0, "a"), (3.0, "c")]},
        "eokd_weight": {"nkd weight 1.0": [(1.0, "a"), (2.0, "b")]},
    }


def test_methods_are_lines_of_their_own():
    group = {
        f"{name}_{rate}": run(name=name, learning_rate=rate)
        for name in ("skd", "ard")
        for rate in (0.01, 0.03)
    }
    (found,) = figures.method_sweeps(group)
    assert found == (
        "learning_rate",
        {
            'name "skd"': [(0.01, "skd_0.01"), (0.03, "skd_0.03")],
            'name "ard"': [(0.01, "ard_0.01"), (0.03, "ard_0.03")],
        },
    )


def test_nothing_is_drawn_where_nothing_numeric_differs():
    group = {"a": run(), "b": run(name="skd"), "c": made.record()}
    assert list(figures.method_sweeps(group)) == []
    assert not any("settings" in name for name in figures.figures(group))


def test_a_figure_is_drawn_where_a_weight_was_varied():
    group = {str(weight): run(nkd_weight=weight) for weight in (1.0, 2.0)}
    (caption,) = [name for name in figures.figures(group) if "settings" in name]
    assert caption.startswith("Accuracy against settings of the method; ")
