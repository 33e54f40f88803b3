"""Figures: which there are, and that names cannot break them."""

import io

import pytest
from matplotlib import image

from apps.reporting import figures
from tests.apps.reporting import made

pytestmark = pytest.mark.any_backend

DATA = "mnist, 1,000 test images"


def height_and_width(png):
    return image.imread(io.BytesIO(png)).shape[:2]


def test_figures_are_those_that_the_records_have_data_for():
    plain = figures.figures({"a": made.record()})
    assert list(plain) == [f"Accuracy against cost; {DATA}"]
    whole = figures.figures({"a": made.record(diagnostics=made.protocols())})
    assert list(whole) == [
        f"Accuracy against cost; {DATA}",
        f"Accuracy within a budget; {DATA}",
        f"Attacks carried over between exits; {DATA}",
        f"Accuracy against strength; {DATA}",
    ]
    for png in whole.values():
        assert min(height_and_width(png)) > 300


def test_there_is_a_panel_per_attack_and_a_map_per_model():
    one = figures.figures({"a": made.record(diagnostics=made.protocols())})
    two = figures.figures(
        {
            "a": made.record(diagnostics=made.protocols()),
            "b": made.record(diagnostics=made.protocols()),
        }
    )
    maps = f"Attacks carried over between exits; {DATA}"
    assert height_and_width(two[maps])[1] == 2 * height_and_width(one[maps])[1]
    costs = f"Accuracy against cost; {DATA}"
    # Clean and average, whatever the number of models.
    assert height_and_width(two[costs]) == height_and_width(one[costs])


@pytest.mark.parametrize("name", [made.NASTY, r"$\frac{1}$", "_", "100 %"])
def test_names_are_no_formulas(name):
    record = made.record(name, diagnostics=made.protocols())
    record["attacks"][1]["name"] = name
    record["data"]["name"] = name
    assert len(figures.figures({name: record})) == 4


def test_panels_of_a_search_under_the_rule_all_say_so():
    attacks = [
        made.attack("average", 0.25, 0.25),
        made.searched("auto_attack_all", 0.5, 0.5, kind="AutoAttack"),
    ]
    drawn = figures._against_cost({"a": made.record(attacks=attacks)})
    average, search = (panel.get_title() for panel in drawn.axes[:2])
    assert average.startswith("average\n")
    assert search.startswith("auto attack all (fooled: all exits wrong at on")


# Runs along a setting of their method.


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
