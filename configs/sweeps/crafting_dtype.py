"""Training attacks crafted in float32 and in bfloat16, on real MNIST.

    python -m apps.sweep --sweep=configs/sweeps/crafting_dtype.py \
        --workdir=runs/crafting_dtype

SmallCNN, 10,000 training images, 5 epochs, max-average PGD-7 with epsilon 0.3,
three seeds; 2,000 test images under PGD-50 in float32, average and each exit
alone.
"""

METHODS = ("adversarial_training", "neo_kd")
PRECISIONS = ("float32", "bfloat16")
SEEDS = (0, 1, 2)
SHARED = (
    "--config.data.num_train=10000",
    "--config.attack.name=max_average",
    "--config.train.epochs=5",
    "--config.optimizer.milestones=()",
    "--config.evaluate.num_examples=2000",
    "--config.evaluate.attacks=('average','single')",
)


def get_runs():
    """Return the flags of `apps.train` for every run, by name."""
    return {
        f"{method}_{precision}_seed_{seed}": [
            f"--config=mnist:{method}",
            *SHARED,
            f"--config.train.crafting_dtype={precision}",
            f"--config.train.seed={seed}",
        ]
        for seed in SEEDS
        for method in METHODS
        for precision in PRECISIONS
    }
