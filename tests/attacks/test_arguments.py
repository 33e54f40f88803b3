"""Arguments that no attack or objective takes, and what the errors say."""

import numpy as np
import pytest

from keras_neokd import attacks
from tests.refusals import bad

pytestmark = pytest.mark.any_backend

PGD = attacks.PGD(0.1, 0.1, 1)
L2 = attacks.PGD(0.1, 0.1, 1, "l2")
# Arguments without a default.
GOOD = {
    attacks.PGD: {"epsilon": 0.1, "step_size": 0.1, "num_steps": 1},
    attacks.MaxAverage: {"attack": PGD},
    attacks.TargetedAPGD: {"epsilon": 0.1},
    attacks.TargetedFAB: {"epsilon": 0.1},
    attacks.Square: {"epsilon": 0.1},
    attacks.CW: {},
    attacks.AutoAttack: {"epsilon": 0.1},
    attacks.WorstCase: {"attacks": [PGD]},
    attacks.SingleExit: {"exit": 0},
    attacks.AverageExits: {},
}
BAD = {
    attacks.PGD: [
        bad("`epsilon` needs .* >= 0, received -0.1", epsilon=-0.1),
        bad(
            "0 <= epsilon <= 1, received 8. Did you mean epsilon=8/255",
            epsilon=8,
        ),
        bad("`epsilon` needs a num", TypeError, epsilon="8/255"),
        bad("`epsilon` .* nan", epsilon=np.nan),
        bad("`epsilon` needs .* >= 0, received -1", epsilon=-1, norm="l2"),
        bad(
            r"Unknown `norm` 'l1': expected one of \['linf', 'l2'\]", norm="l1"
        ),
        bad("Unknown `norm` 2", norm=2),
        bad("`step_size` needs .* > 0, received 0", step_size=0),
        bad("`step_size` needs a num", TypeError, step_size=None),
        bad("`num_steps` needs an integer >= 1, received 0", num_steps=0),
        bad("`num_steps` needs an int", TypeError, num_steps=7.0),
        bad("`num_restarts` needs an integer >= 1, received 0", num_restarts=0),
        bad(
            "repeat the same attempt: received num_restarts=3 with "
            "random_start=False",
            num_restarts=3,
            random_start=False,
        ),
        bad(
            r"`objective` needs an Objective such as AverageExits\(\) or "
            r"SingleExit\(0\), received 'average'",
            TypeError,
            objective="average",
        ),
        bad(
            "`objective` needs an Objective",
            TypeError,
            objective=attacks.AverageExits,
        ),
    ],
    attacks.MaxAverage: [
        bad(
            "`attack` of MaxAverage needs an Attack .* received 'pgd'",
            TypeError,
            attack="pgd",
        ),
        bad("`attack` of MaxAverage needs", TypeError, attack=attacks.PGD),
        bad(
            r"An attack that can be aimed.*; received MaxAverage\(",
            TypeError,
            attack=attacks.MaxAverage(PGD),
        ),
        bad("`exits` needs a sequence", TypeError, exits=0),
        bad("none of them twice", exits=(1, 1)),
    ],
    attacks.TargetedAPGD: [
        bad("`num_steps` needs an integer >= 1", num_steps=0),
        bad("`num_steps` needs an integer", TypeError, num_steps=5.0),
        bad("`num_restarts` needs", num_restarts=0),
        bad("`rho` needs .* <= 1, received 1.5", rho=1.5),
        bad("`rho` needs a number", TypeError, rho=None),
        bad("`epsilon` needs a number", TypeError, epsilon=None),
        bad("`objective` needs an Objective", TypeError, objective="all"),
        bad("`num_targets` needs an integer >=", num_targets=0),
        bad("`num_targets` needs an integer", TypeError, num_targets=0.5),
        bad(r"\['dlr', 'margin'\]", loss="cross_entropy"),
    ],
    attacks.TargetedFAB: [
        bad("`num_steps` needs an integer >= 1", num_steps=0),
        bad("`max_weight` .* <= 1, received 1.5", max_weight=1.5),
        bad("`max_weight` needs .* >= 0", max_weight=-1),
        bad("`overshoot` needs .* > 0", overshoot=0),
        bad("`backward` needs .* <= 1, received 2", backward=2),
        bad("`num_targets` needs an integer >=", num_targets=0),
        bad("`epsilon` needs a number", TypeError, epsilon=None),
        bad("`objective` needs an Objective", TypeError, objective=0),
    ],
    attacks.Square: [
        bad("`num_queries` needs an integer >= 1", num_queries=0),
        bad("`num_queries` needs an integer", TypeError, num_queries=1e3),
        bad("`num_restarts` needs an integer", num_restarts=0),
        bad("`area` needs .* > 0", area=0),
        bad("`area` needs .* <= 1, received 1.1", area=1.1),
        bad("0 <= epsilon <= 1", epsilon=2),
        bad("`epsilon` needs a number", TypeError, epsilon=None),
    ],
    attacks.CW: [
        bad("`c` needs .* > 0", c=0),
        bad("`kappa` needs .* >= 0", kappa=-1),
        bad("`num_steps` needs an integer >= 1", num_steps=0),
        bad("`learning_rate` needs .* > 0", learning_rate=0),
        bad("`learning_rate` needs a number", TypeError, learning_rate=None),
        bad("`epsilon` needs .* >= 0", epsilon=-1),
        bad("`objective` needs an Objective", TypeError, objective="all"),
    ],
    attacks.AutoAttack: [
        bad(
            r"Unknown `version` 'fast': .*"
            r"\['standard', 'plus', 'rand', 'margins'\]",
            version="fast",
        ),
        bad("`epsilon` needs a number", TypeError, epsilon=None),
        bad("Did you mean epsilon=8/255", epsilon=8),
        bad("`num_steps` needs", num_steps=0),
        bad("`num_queries` needs", num_queries=0),
        bad("`num_targets` needs", num_targets=0),
        bad("Unknown `loss`", loss="cross_entropy"),
        bad("`objective` needs an Objective", TypeError, objective="all"),
    ],
    attacks.WorstCase: [
        bad(
            r"one norm, .*received 2 attacks of norms \['l2', 'linf'\]",
            attacks=[PGD, L2],
        ),
        bad(r"received 0 attacks of norms \[\]", attacks=[]),
        bad(
            "`attacks` needs a sequence with Attacks, received PGD",
            TypeError,
            attacks=PGD,
        ),
        bad(
            "`attacks` needs a list of Attacks, received",
            TypeError,
            attacks=[PGD, "pgd"],
        ),
        bad(
            "`objective` needs an Objective .*received 'any'",
            TypeError,
            objective="any",
        ),
    ],
    attacks.SingleExit: [
        bad(
            r"Unknown `loss` 'hinge': .*\['cross_entropy', 'margin', 'dlr'\]",
            loss="hinge",
        ),
        bad(
            "0-based integer index in depth order, received 'exit_1'",
            TypeError,
            exit="exit_1",
        ),
        bad("received 1.0", TypeError, exit=1.0),
        bad("received True", TypeError, exit=True),
        bad("received None", TypeError, exit=None),
    ],
    attacks.AverageExits: [
        bad(
            r"Unknown `loss` None: .*\['cross_entropy', 'margin', 'dlr'\]",
            loss=None,
        ),
        bad(r"Unknown `loss` \['margin'\]", loss=["margin"]),
        bad(
            r"Unknown `success` 'most': expected one of \['all', 'any'\]",
            success="most",
        ),
        bad(
            r"`exits` needs a sequence with 0-based exit indices \(None is "
            r"all exits\), received 1 of type int",
            TypeError,
            exits=1,
        ),
        bad("received '12'", TypeError, exits="12"),
        bad("received {0, 2}", TypeError, exits={0, 2}),
        bad("received 'exit_1'", TypeError, exits=("exit_1",)),
        bad(
            r"at least one exit index and none of them twice, received \(\)",
            exits=(),
        ),
        bad(r"none of them twice, received \(0, 1, 0\)", exits=(0, 1, 0)),
    ],
}


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [(kind, *row) for kind, rows in BAD.items() for row in rows],
)
def test_bad_arguments_are_refused(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        kind(**{**GOOD[kind], **arguments})
