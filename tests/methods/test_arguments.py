"""Arguments that no method takes, and what the errors say."""

import pytest

from keras_neokd import methods
from tests.methods import tiny_network

# Arguments without a default.
GOOD = {
    methods.KDIGA: {"teacher": tiny_network.teacher()},
    methods.TEAT: {"num_examples": 5, "num_epochs": 5},
}
NEO_KD = [
    ({"exit_weights": (1, -1)}, ValueError, "`exit_weights` .* received -1"),
    ({"exit_weights": 3}, TypeError, "`exit_weights` needs a sequence"),
    (
        {"divergence": "js"},
        ValueError,
        r"Unknown `divergence` 'js': .*\['cross_entropy', 'kl'\]",
    ),
    ({"temperature": 0}, ValueError, "`temperature` .* > 0, received 0"),
    ({"temperature": "hot"}, TypeError, "`temperature` needs a number"),
]
TEACHER = (
    {"teacher": "last"},
    ValueError,
    r"Unknown `teacher` 'last': .*\['none', 'neighbors', 'all'\]",
)
ALLOCATION = (
    {"allocation": "image"},
    ValueError,
    r"Unknown `allocation` 'image': .*'batch', 'sample', 'fixed'\]",
)
BAD = {
    methods.NKD: [
        *NEO_KD,
        TEACHER,
        ({"radius": 0}, ValueError, "`radius` .* >= 1.*0"),
        ({"weight": -1}, ValueError, "`weight` .* received -1"),
    ],
    methods.EOKD: [
        *NEO_KD,
        ALLOCATION,
        ({"left_over": "x"}, ValueError, "`left_over` 'x'.*drop"),
        ({"weight": "1"}, TypeError, "`weight` needs a number"),
    ],
    methods.NEOKD: [
        *NEO_KD,
        TEACHER,
        ALLOCATION,
        ({"nkd_weight": -1}, ValueError, "`nkd_weight` needs .* received -1"),
        (
            {"eokd_weight": float("inf")},
            ValueError,
            "`eokd_weight` needs .* received inf",
        ),
    ],
    methods.SKD: [
        ({"weight": -1}, ValueError, "`weight` needs .* >= 0"),
        ({"temperature": 0}, ValueError, "temperature.*> 0"),
        ({"scale": 0}, ValueError, "scale.*> 0"),
    ],
    methods.ARD: [
        (
            {"teacher": "first"},
            ValueError,
            "`teacher` needs 'ensemble', 'last' or the index of an exit, "
            "received 'first'",
        ),
        ({"teacher": 1.0}, TypeError, "received 1.0"),
        (
            {"student": "ensemble"},
            ValueError,
            "`student` needs 'all', 'last' or the index of an exit, received "
            "'ensemble'",
        ),
        ({"reduction": "max"}, ValueError, "reduction.*mean"),
        ({"divergence": "js"}, ValueError, "divergence.*kl"),
    ],
    methods.KDIGA: [
        ({"temperature": 0}, ValueError, "temperature.*> 0"),
        ({"clean_weight": -1}, ValueError, "clean_weight.*>= 0"),
        ({"alignment_weight": -1}, ValueError, "alignment_weight.*>= 0"),
        ({"distillation_weight": "1"}, TypeError, "distillation_weight.*numb"),
        ({"alignment": "noisy"}, ValueError, "alignment.*adversarial"),
        ({"distillation": "none"}, ValueError, "distillation.*clean_to_adv"),
        ({"norm": "l2"}, ValueError, "norm.*batch"),
        ({"reduction": "max"}, ValueError, "reduction.*mean"),
        ({"mask": "correct"}, ValueError, "mask.*teacher_correct"),
        # Configs count exits from 1, so no message says where counting begins.
        *(
            (
                {"exits": exits},
                TypeError,
                '`exits` needs "average", "each" or a sequence of exits, '
                f"received {exits!r}",
            )
            for exits in ("all", None, 1)
        ),
        ({"noise": -0.1}, ValueError, "noise.*>= 0"),
        ({"exits": (0, 0)}, ValueError, "none of them twice"),
    ],
    methods.LW: [
        ({"weight": -1}, ValueError, "weight.*>= 0"),
        ({"form": "l1"}, ValueError, "form.*hinge"),
        ({"exit_weights": 2.0}, TypeError, "exit_weights.*sequence"),
    ],
    methods.TEAT: [
        ({"num_examples": 0}, ValueError, "num_examples.*>= 1"),
        ({"num_examples": None}, TypeError, "num_examples.*integer"),
        ({"num_epochs": 0}, ValueError, "num_epochs.*>= 1"),
        ({"variant": "ard"}, ValueError, "variant.*trades"),
        ({"weight": -1}, ValueError, "weight.*>= 0"),
        ({"momentum": 1.0}, ValueError, "momentum.*>= 0 and < 1"),
        ({"beta": -1}, ValueError, "beta.*>= 0"),
    ],
    methods.TRADES: [({"weight": -1}, ValueError, "needs .*>= 0")],
}


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [(kind, *row) for kind, rows in BAD.items() for row in rows],
)
def test_bad_arguments_are_refused(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        kind(**{**GOOD.get(kind, {}), **arguments})
