"""Records to tables: which there are, what they hold, how they compare."""

import numpy as np
import pytest

from apps.reporting import layout
from apps.reporting.measurements import readable
from tests.apps.reporting import made

pytestmark = pytest.mark.any_backend

IMAGES = "mnist, 1,000 test images"
CLEAN = f"Top-1 accuracy (%): clean; {IMAGES}"


def tables(**titled):
    return {each.title: each for each in layout.tables(titled)}


def only(part, **titled):
    """Return the one table with a text in its title."""
    (table,) = (each for each in layout.tables(titled) if part in each.title)
    return table


def test_titles_are_unique():
    names = ("exit_1", "exit_2", "exit_3")
    deeper = made.record(
        exits=[
            {"name": name, "multiply_adds": 1, "parameters": 1}
            for name in names
        ],
        attacks=[
            {
                **made.attack("clean", 0, 0),
                "rows": made.accuracy_rows(0.5, 0.5, 0.5, exits=names),
            }
        ],
    )
    titled = {
        "a": made.record(diagnostics=made.protocols()),
        "b": made.record(epsilon=0.2, diagnostics=made.protocols()),
        "deeper": deeper,
    }
    titles = [each.title for each in layout.tables(titled)]
    assert len(set(titles)) == len(titles)
    assert f"{CLEAN}, exits exit_1, exit_2" in titles
    assert f"{CLEAN}, exits exit_1, exit_2, exit_3" in titles


def test_every_row_has_a_cell_per_column():
    findings = [{"code": "no_gradient", "message": "None."}]
    titled = {
        "a": made.record(diagnostics=made.protocols(), findings=findings),
        "b": made.record(epsilon=0.2),
    }
    for table in layout.tables(titled):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}
        for cell in (cell for row in table.rows for cell in row):
            assert isinstance(cell, (str, int, float))


# Accuracy.


def test_a_table_per_attack_has_a_row_per_model():
    found = tables(plain=made.record("plain"), neo_kd=made.record())
    attack = "average, epsilon 0.1 (linf), 50 steps"
    table = found[f"Top-1 accuracy (%): {attack}; {IMAGES}"]
    assert table.columns == ["model", "exit_1", "exit_2", "average"]
    assert table.rows == [["plain", 50, 25, 37.5], ["neo_kd", 50, 25, 37.5]]
    assert found[CLEAN].rows[0] == pytest.approx(["plain", 90, 95, 92.5])
    assert not any(title.startswith("Top-5") for title in found)


def test_top_5_has_a_table_where_it_was_measured():
    top5 = made.accuracy_rows(0.75, 1.0, top=5)
    attack = made.attack("clean", 0.5, 0.5, rows=top5)
    found = tables(neo_kd=made.record(attacks=[attack]))
    table = found[f"Top-5 accuracy (%): clean; {IMAGES}"]
    assert table.rows == [["neo_kd", 75, 100, 87.5]]


def test_other_data_is_another_table():
    other = made.record()
    other["data"]["num_examples"] = 10
    found = tables(a=made.record(), b=other)
    assert len(found[CLEAN].rows) == 1
    assert len(found[CLEAN.replace("1,000", "10")].rows) == 1


def test_other_images_of_the_same_number_are_another_table():
    titled = {"a": made.record(), "b": made.record(), "old": made.record()}
    titled["a"]["data"]["checksum"] = 1
    titled["b"]["data"]["checksum"] = 2
    found = tables(**titled)
    for title, checksum in {"a": "1", "b": "2", "old": "unknown"}.items():
        ((name, *_),) = found[f"{CLEAN} with checksum {checksum}"].rows
        assert name == title


def test_attacks_of_different_strengths_say_so_in_their_rows():
    found = tables(weak=made.record(epsilon=0.1), strong=made.record(epsilon=1))
    table = found[f"Top-1 accuracy (%): average; {IMAGES}"]
    assert table.columns == ["model", "attack", "exit_1", "exit_2", "average"]
    assert [row[:2] for row in table.rows] == [
        ["weak", "epsilon 0.1 (linf), 50 steps"],
        ["strong", "epsilon 1 (linf), 50 steps"],
    ]


@pytest.mark.parametrize(
    ("attack", "strength"),
    [
        (
            made.searched("apgd_ce_all", 0.5, 0.5, norm="l2"),
            "epsilon 0.1 (l2), 20 steps",
        ),
        (
            made.searched(
                "auto_attack_all", 0.5, 0.5, kind="AutoAttack", num_queries=5000
            ),
            "epsilon 0.1 (linf), 20 steps, 5,000 queries",
        ),
        (
            made.searched("cw_all", 0.5, 0.5, kind="CW", epsilon=None),
            "any size (l2), 20 steps",
        ),
    ],
)
def test_attacks_that_search_have_a_strength_of_their_own(attack, strength):
    found = tables(a=made.record(epsilon=0.3, attacks=[attack]))
    name = readable(attack["name"])
    assert f"Top-1 accuracy (%): {name}, {strength}; {IMAGES}" in found


# Worst cases.

LOWEST = "Top-1 accuracy (%) on images that withstand all attacks"


def right(*by_exit):
    """Which images are right at each exit, as records hold it."""
    texts = [np.packbits(each).tobytes().hex() for each in by_exit]
    return made.by_exit(*texts)


def test_an_image_has_to_withstand_all_attacks():
    # 10 images do not end with a byte.
    first = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0], bool)
    every_other = np.array([1, 0] * 5, bool)
    attacks = [
        made.attack("average", 0.5, 0.5, correct=right(first, first)),
        made.attack(
            "max_average", 0.5, 0.5, correct=right(every_other, ~first)
        ),
    ]
    record = made.record(attacks=attacks)
    record["data"]["num_examples"] = 10
    assert only(LOWEST, a=record).rows == [["a", 30, 0, 15]]


def test_the_lowest_accuracy_of_each_exit():
    attacks = [
        made.attack("clean", 0.0, 0.0),
        made.attack("average", 0.5, 0.25),
        made.searched("apgd_ce_all", 0.25, 0.75),
        # No bound: of no epsilon.
        made.searched("cw_all", 0.0, 0.0, kind="CW", epsilon=None),
    ]
    found = tables(a=made.record(attacks=attacks))
    table = found[f"{LOWEST}, epsilon 0.1 (linf); {IMAGES}"]
    assert table.rows == [["a", 25, 25, 25]]


def test_the_lowest_accuracy_is_told_for_each_ball():
    attacks = [
        made.attack("average", 0.5, 0.5),
        made.searched("apgd_ce_all", 0.75, 0.25, norm="l2"),
    ]
    found = tables(a=made.record(attacks=attacks))
    table = found[f"{LOWEST}; {IMAGES}"]
    assert table.rows == [
        ["a", "epsilon 0.1 (linf)", 50, 50, 50],
        ["a", "epsilon 0.1 (l2)", 75, 25, 50],
    ]


def test_without_an_attack_there_is_no_worst_case():
    clean = made.record(attacks=[made.attack("clean", 0.5, 0.5)])
    assert not any(title.startswith(LOWEST) for title in tables(a=clean))


# What searches under the rule `all` may not be compared with.

RULE = "auto_attack_all: an image is fooled only where all exits are wrong"


def with_auto_attack():
    attacks = [
        made.attack("clean", 0.9, 0.9),
        made.attack("average", 0.25, 0.25),
        made.searched("auto_attack_all", 0.5, 0.5, kind="AutoAttack"),
    ]
    for row in attacks[0]["rows"]:
        row.update(low=0.0, high=1.0)
    attacks[-1]["search"] = [{"attack": "clean", "robust": 0.9}]
    return made.record(attacks=attacks)


def test_tables_with_a_search_under_the_rule_all_say_so():
    found = tables(a=with_auto_attack())
    noted = {
        title.split(";")[0] for title in found if RULE in found[title].note
    }
    assert noted == {
        "Top-1 accuracy (%): auto attack all, epsilon 0.1 (linf), 20 steps",
        "Uncertainty of top-1 accuracy (%)",
        "Top-1 accuracy (%) on images that withstand all attacks, epsilon 0.1 "
        "(linf)",
        "Images that resist (%): auto attack all",
    }


def test_attacks_on_each_exit_and_on_one_exit_need_no_note():
    attacks = [made.searched("auto_attack_exit_1", 0.5, 0.5)]
    found = tables(a=made.record(attacks=attacks))
    assert not any("all exits" in table.note for table in found.values())
    record = with_auto_attack()
    record["exits"] = record["exits"][:1]
    for attack in record["attacks"]:
        attack["rows"] = attack["rows"][:1]
    found = tables(a=record)
    assert not any("all exits" in table.note for table in found.values())


# What an evaluation prints.


@pytest.mark.parametrize(
    ("attacks", "said"),
    [
        (("average",), "PGD-50, epsilon 0.1 (linf); "),
        (("shift", "average"), "PGD-50, epsilon 0.1 (linf); "),
        # Of other steps, or none.
        (("shift",), "epsilon 0.1 (linf); "),
        (("shift", "square"), "epsilon 0.1 (linf); "),
        (("shift", "cw"), ""),
        ((), ""),
    ],
)
def test_a_title_says_no_strength_that_no_attack_has(attacks, said):
    found = {
        "average": made.attack("average", 0.5, 0.5),
        "shift": made.attack(
            "shift", 0.5, 0.5, settings={"epsilon": 0.1, "norm": "linf"}
        ),
        "square": made.searched("square_all", 0.5, 0.5, kind="Square"),
        "cw": made.searched("cw_all", 0.5, 0.5, kind="CW"),
    }
    attacked = [made.attack("clean", 0.9, 0.9), *map(found.get, attacks)]
    table = layout.overview({"a": made.record(attacks=attacked)})
    assert table.title == (
        f"Accuracy in % on 1000 test images of mnist; {said}chance 10"
    )


# Budgets of two models.


def curve(*points, spread=None):
    rows = [
        {"multiply-adds": cost, "accuracy": accuracy}
        for cost, accuracy in points
    ]
    for row in rows if spread else ():
        cost = row["multiply-adds"]
        row["multiply-adds low"] = cost / spread
        row["multiply-adds high"] = cost * spread
    return made.entry("budgeted", rows, {"attack": "average"})


def saved(ours, theirs):
    return only(
        "saved",
        ours=made.record("a", diagnostics=[ours]),
        theirs=made.record("b", diagnostics=[theirs]),
    )


def test_a_model_saves_what_another_costs_more_at_equal_accuracy():
    # The paper's figure: 41.21 % at 10.59 against 20.46.
    ours = curve((10.59e6, 0.4121), (21e6, 0.45))
    theirs = curve((12e6, 0.40), (20.46e6, 0.4121))
    (row,) = saved(ours, theirs).rows
    assert row[:2] == ["ours", "theirs"]
    assert row[2:4] == [pytest.approx(41.21), pytest.approx(48.24, abs=0.01)]
    assert row[4] == "-"


def test_a_saving_has_an_interval_where_costs_have_one():
    ours, theirs = curve((2e6, 0.5), spread=1.2), curve((4e6, 0.5), spread=1.1)
    table = saved(ours, theirs)
    # hypot(ln 1.2, ln 1.1) = 0.20573; 0.5 * exp(0.20573) = 0.6142, and
    # 0.5 * exp(-0.20573) = 0.4070.
    assert table.columns[-1] == "saved, 95 % interval"
    assert table.rows == [["ours", "theirs", 50, 50, "38.6 to 59.3"]]
    assert "the choice of the test images for the costs" in table.note


def test_a_single_model_saves_nothing():
    alone = made.record(diagnostics=[curve((1e6, 0.5))])
    assert not any("saved" in title for title in tables(a=alone))


# Everything else.


def test_what_resists_after_each_attack_of_a_search():
    attack = made.searched("auto_attack_all", 0.5, 0.5, kind="AutoAttack")
    attack["search"] = [
        {"attack": "clean", "robust": 0.75},
        {"attack": "APGD", "robust": 0.5},
    ]
    found = tables(a=made.record(attacks=[attack]))
    table = found["Images that resist (%): auto attack all; a, mnist"]
    assert table.columns == ["after clean", "after APGD"]
    assert table.rows == [[75, 50]]


def test_protocols_are_tables_of_their_rows():
    found = tables(a=made.record(diagnostics=made.protocols()))
    budgeted = found["budgeted; a, mnist"]
    assert budgeted.columns == [
        "budget (million)",
        "multiply-adds (million)",
        "accuracy (%)",
        "threshold at exit_1",
    ]
    assert budgeted.rows[0] == pytest.approx([1.5, 1.25, 50, 0.75])
    # No image leaves there.
    assert budgeted.rows[1][-1] == "-"
    assert found["transferability; a, mnist"].note == (
        "seconds 2, num attacked 500, off diagonal mean 20.00 %"
    )
    sensitivity = found["sensitivity; a, mnist"]
    assert sensitivity.columns == [
        *("", "changed", "value", "exit_1", "exit_2", "average")
    ]
    assert sensitivity.rows[1] == pytest.approx(
        ["accuracy (%)", "epsilon", 0.1, 99, 99, 99]
    )


def test_a_protocol_that_is_not_known_here_is_a_table_too():
    rows = [{"exit": "exit_1", "of mine": 0.5, "why": None, "is": True}]
    record = made.record(diagnostics=[made.entry("mine", rows, score=2)])
    table = tables(a=record)["mine; a, mnist"]
    assert table.columns == ["exit", "of mine", "why", "is"]
    assert table.rows == [["exit_1", 0.5, "-", "True"]]
    assert table.note == "seconds 2, score 2"


def described(kind="PGD", **config):
    config = {"epsilon": 0.1, "norm": "linf", "num_steps": 50, **config}
    return {"class_name": kind, "config": config}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_examples": 24, "k": 1}, "num examples 24, k 1"),
        (
            {"attack": "average", "attack_settings": described()},
            "attack average (epsilon 0.1, norm linf, num steps 50)",
        ),
        # Of a protocol without a choice of attacks.
        (
            {"attack_settings": described("Shift", num_steps=None)},
            "attack Shift (epsilon 0.1, norm linf)",
        ),
        (
            {
                "attack": "max_average",
                "attack_settings": {
                    "class_name": "MaxAverage",
                    "config": {"attack": described(), "exits": None},
                },
            },
            "attack max_average (epsilon 0.1, norm linf, num steps 50)",
        ),
        ({"attack": "clean", "attack_settings": "none"}, "attack clean"),
        ({"budgets": [], "few": (1, 2)}, "budgets -, few 1 2"),
        ({"budgets": list(range(100))}, "budgets 0 ... 99"),
        ({"teacher_sha256": "a", "teacher": "small"}, "teacher small"),
        # Of another hand.
        ({"attack_settings": {"config": 3}}, "attack None ()"),
    ],
)
def test_protocols_are_tables_with_their_settings(settings, said):
    rows = [{"exit": "exit_1", "right": 0.5}]
    record = made.record(diagnostics=[made.entry("mine", rows, settings)])
    table = tables(a=record)["mine; a, mnist"]
    assert table.note == f"{said}, seconds 2"
    *_, printed = layout.of_record({"a": record})
    assert printed.title == f"mine; {said}"


def test_shares_and_costs_of_a_summary_have_the_units_of_tables():
    summary = {
        **{"ensemble": True, "accuracy": 0.37777, "share of full cost": 0.045},
        **{"images_per_second": 12345.6, "threshold at exit_1": None},
    }
    (entry, *_) = made.protocols()
    entry = {**entry, "name": "early_exit", "summary": summary, "rows": ROWS}
    table = tables(a=made.record(diagnostics=[entry]))["early exit; a, mnist"]
    assert table.note == (
        "attack average, seconds 2, ensemble True, accuracy 37.78 %, share of "
        "full cost 4.50 %, images per second 1.235e+04, threshold at exit_1 -"
    )
    assert table.columns == ["exit", "share (%)", "multiply-adds (million)"]


ROWS = [{"exit": "exit_1", "share": 1.0, "multiply-adds": 1e6}]


def budgets(**settings):
    (entry, *_) = made.protocols()
    settings = {"attack": "average", "ensemble": True, **settings}
    return [{**entry, "settings": settings}]


def cheaper(entries):
    """The same accuracies at half the cost."""
    (entry,) = entries
    rows = [
        {**row, "multiply-adds": row["multiply-adds"] / 2}
        for row in entry["rows"]
    ]
    return [{**entry, "rows": rows}]


SAVED = (
    "Multiply-adds saved (%) at the highest accuracy that both reach; "
    f"average, {IMAGES}"
)


def test_a_curve_saves_against_one_that_was_measured_alike():
    found = tables(
        a=made.record(diagnostics=cheaper(budgets())),
        b=made.record(diagnostics=budgets()),
    )
    assert found[SAVED].rows == [["a", "b", 75, 50, "-"]]


@pytest.mark.parametrize(
    "settings",
    [
        {"ensemble": False},
        {"threshold_data": "clean"},
        {"attack_settings": {"config": {"epsilon": 0.01}}},
    ],
)
def test_curves_that_were_measured_otherwise_are_not_compared(settings):
    found = tables(
        a=made.record(diagnostics=cheaper(budgets(**settings))),
        b=made.record(diagnostics=budgets()),
    )
    assert SAVED not in found


def test_settings_that_differ_are_said():
    def record(num_restarts):
        settings = {**made.PGD, "step_size": 0.02, "num_restarts": num_restarts}
        attack = made.attack("average", 0.5, 0.5, settings=settings)
        return made.record(attacks=[attack])

    found = tables(many=record(5), few=record(1))
    table = found[f"Top-1 accuracy (%): average; {IMAGES}"]
    strengths = [row[1] for row in table.rows]
    assert strengths == [
        "epsilon 0.1 (linf), 50 steps, num restarts 5",
        "epsilon 0.1 (linf), 50 steps, num restarts 1",
    ]


def test_intervals_and_deviations_are_a_table():
    record = made.record()
    clean, average, *_ = record["attacks"]
    for attack in (clean, average):
        attack["rows"][0].update(low=0.25, high=0.5)
        attack["rows"][1].update(low=0.5, high=0.75)
    for row, deviation in zip(average["rows"], (0.0125, 0.0), strict=True):
        row["deviation"] = deviation
    table = tables(a=record)[f"Uncertainty of top-1 accuracy (%); {IMAGES}"]
    assert table.columns == ["model", "attack", "exit_1", "exit_2"]
    assert table.rows == [
        ["a", "clean", "25.0 to 50.0", "50.0 to 75.0"],
        ["a", "average", "25.0 to 50.0 ± 1.25", "50.0 to 75.0 ± 0.00"],
    ]


def test_costs_in_millions():
    found = tables(a=made.record())
    table = found[f"Cost up to each exit; {IMAGES}"]
    assert table.rows == [
        ["a", "million multiply-adds", 1, 4],
        ["a", "million parameters", 0.002, 0.002],
    ]


def test_evaluations_say_where_they_come_from():
    (row,) = tables(a=made.record())["Evaluations"].rows
    assert row == ["a", "mnist", "0.1.0", "jax", "-", "7", "3", "0123456789ab"]
    # Protocols take time, too.
    record = made.record(diagnostics=made.protocols())
    assert tables(a=record)["Evaluations"].rows[0][-2] == "9"


def test_findings_of_the_model_of_attacks_and_of_protocols():
    attack = made.searched("auto_attack_all", 0.5, 0.5)
    attack["findings"] = [{"code": "fewer_targets", "message": "Few."}]
    record = made.record(
        findings=[{"code": "no_gradient", "message": "None."}],
        attacks=[attack],
        diagnostics=made.protocols(),
    )
    assert tables(a=record)["Findings"].rows == [
        ["a", "model", "no_gradient", "None."],
        ["a", "auto_attack_all", "fewer_targets", "Few."],
        ["a", "sensitivity", "rises_with_epsilon", "It rises."],
    ]
    assert "Findings" not in tables(a=made.record(findings=None))
