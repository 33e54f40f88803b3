"""Arguments that no attack or objective takes, and what the errors say."""

import numpy as np
import pytest

from keras_neokd import attacks

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
        (
            {"epsilon": -0.1},
            ValueError,
            "`epsilon` needs .* >= 0, received -0.1",
        ),
        (
            {"epsilon": 8},
            ValueError,
            "0 <= epsilon <= 1, received 8. Did you mean epsilon=8/255",
        ),
        ({"epsilon": "8/255"}, TypeError, "`epsilon` needs a num"),
        ({"epsilon": np.nan}, ValueError, "`epsilon` .* nan"),
        (
            {"epsilon": -1, "norm": "l2"},
            ValueError,
            "`epsilon` needs .* >= 0, received -1",
        ),
        (
            {"norm": "l1"},
            ValueError,
            r"Unknown `norm` 'l1': expected one of \['linf', 'l2'\]",
        ),
        ({"norm": 2}, ValueError, "Unknown `norm` 2"),
        ({"step_size": 0}, ValueError, "`step_size` needs .* > 0, received 0"),
        ({"step_size": None}, TypeError, "`step_size` needs a num"),
        (
            {"num_steps": 0},
            ValueError,
            "`num_steps` needs an integer >= 1, received 0",
        ),
        ({"num_steps": 7.0}, TypeError, "`num_steps` needs an int"),
        (
            {"num_restarts": 0},
            ValueError,
            "`num_restarts` needs an integer >= 1, received 0",
        ),
        (
            {"num_restarts": 3, "random_start": False},
            ValueError,
            "repeat the same attempt: received num_restarts=3 with "
            "random_start=False",
        ),
        (
            {"objective": "average"},
            TypeError,
            r"`objective` needs an Objective such as AverageExits\(\) or "
            r"SingleExit\(0\), received 'average'",
        ),
        (
            {"objective": attacks.AverageExits},
            TypeError,
            "`objective` needs an Objective",
        ),
    ],
    attacks.MaxAverage: [
        (
            {"attack": "pgd"},
            TypeError,
            "`attack` of MaxAverage needs an Attack .* received 'pgd'",
        ),
        ({"attack": attacks.PGD}, TypeError, "`attack` of MaxAverage needs"),
        (
            {"attack": attacks.MaxAverage(PGD)},
            TypeError,
            r"An attack that can be aimed.*; received MaxAverage\(",
        ),
        ({"exits": 0}, TypeError, "`exits` needs a sequence"),
        ({"exits": (1, 1)}, ValueError, "none of them twice"),
    ],
    attacks.TargetedAPGD: [
        ({"num_steps": 0}, ValueError, "`num_steps` needs an integer >= 1"),
        ({"num_steps": 5.0}, TypeError, "`num_steps` needs an integer"),
        ({"num_restarts": 0}, ValueError, "`num_restarts` needs"),
        ({"rho": 1.5}, ValueError, "`rho` needs .* <= 1, received 1.5"),
        ({"rho": None}, TypeError, "`rho` needs a number"),
        ({"epsilon": None}, TypeError, "`epsilon` needs a number"),
        ({"objective": "all"}, TypeError, "`objective` needs an Objective"),
        ({"num_targets": 0}, ValueError, "`num_targets` needs an integer >="),
        ({"num_targets": 0.5}, TypeError, "`num_targets` needs an integer"),
        ({"loss": "cross_entropy"}, ValueError, r"\['dlr', 'margin'\]"),
    ],
    attacks.TargetedFAB: [
        ({"num_steps": 0}, ValueError, "`num_steps` needs an integer >= 1"),
        ({"max_weight": 1.5}, ValueError, "`max_weight` .* <= 1, received 1.5"),
        ({"max_weight": -1}, ValueError, "`max_weight` needs .* >= 0"),
        ({"overshoot": 0}, ValueError, "`overshoot` needs .* > 0"),
        ({"backward": 2}, ValueError, "`backward` needs .* <= 1, received 2"),
        ({"num_targets": 0}, ValueError, "`num_targets` needs an integer >="),
        ({"epsilon": None}, TypeError, "`epsilon` needs a number"),
        ({"objective": 0}, TypeError, "`objective` needs an Objective"),
    ],
    attacks.Square: [
        ({"num_queries": 0}, ValueError, "`num_queries` needs an integer >= 1"),
        ({"num_queries": 1e3}, TypeError, "`num_queries` needs an integer"),
        ({"num_restarts": 0}, ValueError, "`num_restarts` needs an integer"),
        ({"area": 0}, ValueError, "`area` needs .* > 0"),
        ({"area": 1.1}, ValueError, "`area` needs .* <= 1, received 1.1"),
        ({"epsilon": 2}, ValueError, "0 <= epsilon <= 1"),
        ({"epsilon": None}, TypeError, "`epsilon` needs a number"),
    ],
    attacks.CW: [
        ({"c": 0}, ValueError, "`c` needs .* > 0"),
        ({"kappa": -1}, ValueError, "`kappa` needs .* >= 0"),
        ({"num_steps": 0}, ValueError, "`num_steps` needs an integer >= 1"),
        ({"learning_rate": 0}, ValueError, "`learning_rate` needs .* > 0"),
        ({"learning_rate": None}, TypeError, "`learning_rate` needs a number"),
        ({"epsilon": -1}, ValueError, "`epsilon` needs .* >= 0"),
        ({"objective": "all"}, TypeError, "`objective` needs an Objective"),
    ],
    attacks.AutoAttack: [
        (
            {"version": "fast"},
            ValueError,
            r"Unknown `version` 'fast': .*\['standard', 'plus', 'rand'\]",
        ),
        ({"epsilon": None}, TypeError, "`epsilon` needs a number"),
        ({"epsilon": 8}, ValueError, "Did you mean epsilon=8/255"),
        ({"num_steps": 0}, ValueError, "`num_steps` needs"),
        ({"num_queries": 0}, ValueError, "`num_queries` needs"),
        ({"num_targets": 0}, ValueError, "`num_targets` needs"),
        ({"loss": "cross_entropy"}, ValueError, "Unknown `loss`"),
        ({"objective": "all"}, TypeError, "`objective` needs an Objective"),
    ],
    attacks.WorstCase: [
        (
            {"attacks": [PGD, L2]},
            ValueError,
            r"one norm, .*received 2 attacks of norms \['l2', 'linf'\]",
        ),
        ({"attacks": []}, ValueError, r"received 0 attacks of norms \[\]"),
        (
            {"attacks": PGD},
            TypeError,
            "`attacks` needs a sequence with Attacks, received PGD",
        ),
        (
            {"attacks": [PGD, "pgd"]},
            TypeError,
            "`attacks` needs a list of Attacks, received",
        ),
        (
            {"objective": "any"},
            TypeError,
            "`objective` needs an Objective .*received 'any'",
        ),
    ],
    attacks.SingleExit: [
        (
            {"loss": "hinge"},
            ValueError,
            r"Unknown `loss` 'hinge': .*\['cross_entropy', 'margin', 'dlr'\]",
        ),
        (
            {"exit": "exit_1"},
            TypeError,
            "0-based integer index in depth order, received 'exit_1'",
        ),
        ({"exit": 1.0}, TypeError, "received 1.0"),
        ({"exit": True}, TypeError, "received True"),
        ({"exit": None}, TypeError, "received None"),
    ],
    attacks.AverageExits: [
        (
            {"loss": None},
            ValueError,
            r"Unknown `loss` None: .*\['cross_entropy', 'margin', 'dlr'\]",
        ),
        ({"loss": ["margin"]}, ValueError, r"Unknown `loss` \['margin'\]"),
        (
            {"success": "most"},
            ValueError,
            r"Unknown `success` 'most': expected one of \['all', 'any'\]",
        ),
        (
            {"exits": 1},
            TypeError,
            r"`exits` needs a sequence with 0-based exit indices \(None is "
            r"all exits\), received 1 of type int",
        ),
        ({"exits": "12"}, TypeError, "received '12'"),
        ({"exits": {0, 2}}, TypeError, "received {0, 2}"),
        ({"exits": ("exit_1",)}, TypeError, "received 'exit_1'"),
        (
            {"exits": ()},
            ValueError,
            r"at least one exit index and none of them twice, received \(\)",
        ),
        (
            {"exits": (0, 1, 0)},
            ValueError,
            r"none of them twice, received \(0, 1, 0\)",
        ),
    ],
}


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [(kind, *row) for kind, rows in BAD.items() for row in rows],
)
def test_bad_arguments_are_refused(kind, arguments, error, message):
    with pytest.raises(error, match=message):
        kind(**{**GOOD[kind], **arguments})
