"""The weights that appendix D of NEO-KD tries on CIFAR-100.

    python -m apps.sweep --sweep=configs/sweeps/appendix_d.py \
        --workdir=runs/appendix_d

13 pairs (alpha, beta) with gamma 1, 1, 1, 1.5, 1.5, 1.5, 1.5, and two more
gammas with alpha 3 and beta 1. The paper reports its choice, alpha 3 and beta
1: 28.96 % under the max-average and 22.88 % under the average attack, mean
over exits; with gamma 1 throughout 28.13 and 21.66 %, with 1.7 for the later
exits 28.68 and 22.58 % (the paper's numbers, not reproduced by us so far).
Each run is the full training of configs/cifar100.py.
"""

PAIRS = (
    (0.35, 1),
    (1, 0.35),
    (0.35, 0.35),
    (0.5, 1),
    (1, 0.5),
    (0.5, 0.5),
    (1, 1),
    (2, 1),
    (1, 2),
    (2, 2),
    (3, 1),
    (1, 3),
    (3, 3),
)
# For exits 4 to 7; the paper's own choice is among the pairs above.
LATER_GAMMAS = (1.0, 1.7)


def get_runs():
    """Return the flags of `apps.train` for every run, by name."""
    runs = {
        f"alpha_{alpha}_beta_{beta}": _flags(
            f"--config.method.neo_kd.nkd_weight={float(alpha)}",
            f"--config.method.neo_kd.eokd_weight={float(beta)}",
        )
        for alpha, beta in PAIRS
    }
    for gamma in LATER_GAMMAS:
        weights = (1.0,) * 3 + (gamma,) * 4
        runs[f"gamma_{gamma}"] = _flags(
            f"--config.method.neo_kd.exit_weights={weights}"
        )
    return runs


def _flags(*changes):
    return ["--config=cifar100:neo_kd", *changes]
