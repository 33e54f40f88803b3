"""Arguments that no method takes, and what the errors say."""

import pytest

from keras_neokd import methods
from tests.methods import tiny_network
from tests.refusals import bad

pytestmark = pytest.mark.any_backend

# Arguments without a default.
GOOD = {
    methods.KDIGA: {"teacher": tiny_network.teacher()},
    methods.TEAT: {"num_examples": 5, "num_epochs": 5},
}
NEO_KD = [
    bad("`exit_weights` .* received -1", exit_weights=(1, -1)),
    bad("`exit_weights` needs a sequence", TypeError, exit_weights=3),
    bad(
        r"Unknown `divergence` 'js': .*\['cross_entropy', 'kl'\]",
        divergence="js",
    ),
    bad("`temperature` .* > 0, received 0", temperature=0),
    bad("`temperature` needs a number", TypeError, temperature="hot"),
]
TEACHER = bad(
    r"Unknown `teacher` 'last': .*\['none', 'neighbors', 'all'\]",
    teacher="last",
)
ALLOCATION = bad(
    r"Unknown `allocation` 'image': .*'batch', 'sample', 'fixed'\]",
    allocation="image",
)
BAD = {
    methods.NKD: [
        *NEO_KD,
        TEACHER,
        bad("`radius` .* >= 1.*0", radius=0),
        bad("`weight` .* received -1", weight=-1),
    ],
    methods.EOKD: [
        *NEO_KD,
        ALLOCATION,
        bad("`left_over` 'x'.*drop", left_over="x"),
        bad("`weight` needs a number", TypeError, weight="1"),
    ],
    methods.NEOKD: [
        *NEO_KD,
        TEACHER,
        ALLOCATION,
        bad("`nkd_weight` needs .* received -1", nkd_weight=-1),
        bad("`eokd_weight` needs .* received inf", eokd_weight=float("inf")),
    ],
    methods.SKD: [
        bad("`weight` needs .* >= 0", weight=-1),
        bad("temperature.*> 0", temperature=0),
        bad("scale.*> 0", scale=0),
    ],
    methods.ARD: [
        bad(
            "`teacher` needs 'ensemble', 'last' or the index of an exit, "
            "received 'first'",
            teacher="first",
        ),
        bad("received 1.0", TypeError, teacher=1.0),
        bad(
            "`student` needs 'all', 'last' or the index of an exit, received "
            "'ensemble'",
            student="ensemble",
        ),
        bad("reduction.*mean", reduction="max"),
        bad("divergence.*kl", divergence="js"),
    ],
    methods.KDIGA: [
        bad("temperature.*> 0", temperature=0),
        bad("clean_weight.*>= 0", clean_weight=-1),
        bad("alignment_weight.*>= 0", alignment_weight=-1),
        bad("distillation_weight.*numb", TypeError, distillation_weight="1"),
        bad("alignment.*adversarial", alignment="noisy"),
        bad("distillation.*clean_to_adv", distillation="none"),
        bad("norm.*batch", norm="l2"),
        bad("reduction.*mean", reduction="max"),
        bad("mask.*teacher_correct", mask="correct"),
        # Configs count exits from 1, so no message says where counting begins.
        *(
            bad(
                '`exits` needs "average", "each" or a sequence of exits, '
                f"received {exits!r}",
                TypeError,
                exits=exits,
            )
            for exits in ("all", None, 1)
        ),
        bad("noise.*>= 0", noise=-0.1),
        bad("none of them twice", exits=(0, 0)),
    ],
    methods.LW: [
        bad("weight.*>= 0", weight=-1),
        bad("form.*hinge", form="l1"),
        bad("exit_weights.*sequence", TypeError, exit_weights=2.0),
    ],
    methods.TEAT: [
        bad("num_examples.*>= 1", num_examples=0),
        bad("num_examples.*integer", TypeError, num_examples=None),
        bad("num_epochs.*>= 1", num_epochs=0),
        bad("variant.*trades", variant="ard"),
        bad("weight.*>= 0", weight=-1),
        bad("momentum.*>= 0 and < 1", momentum=1.0),
        bad("beta.*>= 0", beta=-1),
    ],
    methods.TRADES: [bad("needs .*>= 0", weight=-1)],
}


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [(kind, *row) for kind, rows in BAD.items() for row in rows],
)
def test_bad_arguments_are_refused(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        kind(**{**GOOD.get(kind, {}), **arguments})
