"""Every training method on real MNIST, SmallCNN, each at two learning rates.

    python -m apps.sweep --sweep=configs/sweeps/mnist_methods.py \
        --workdir=runs/mnist_methods

10,000 training images, 5 epochs, average-attack PGD-7 with epsilon 0.3;
evaluated on 1,000 test images under PGD-50, average and max-average. NEO-KD and
plain adversarial training also with a second seed. The learning rate is once
and three times that of the paper (0.01). Results are in docs/results.md.
"""

METHODS = (
    "adversarial_training",
    "neo_kd",
    "nkd",
    "eokd",
    "skd",
    "skd_phuong",
    "ard",
    "ard_goldblum",
    "lw",
    "trades",
    "teat",
    "teat_trades",
)
WITH_TWO_SEEDS = ("adversarial_training", "neo_kd")
RATES = {"1x": 0.01, "3x": 0.03}
SHARED = (
    "--config.data.num_train=10000",
    "--config.attack.name=average",
    "--config.train.epochs=5",
    "--config.optimizer.milestones=()",
    "--config.evaluate.num_examples=1000",
    "--config.evaluate.attacks=('average','max_average')",
)


def get_runs():
    """Return the flags of `apps.train` for every run, by name."""
    return {
        f"{method}_{rate_name}_seed_{seed}": [
            f"--config=mnist:{method}",
            *SHARED,
            f"--config.optimizer.learning_rate={rate}",
            f"--config.train.seed={seed}",
        ]
        for method in METHODS
        for rate_name, rate in RATES.items()
        for seed in ((0, 1) if method in WITH_TWO_SEEDS else (0,))
    }
