"""Budget curves and transferability maps of three methods on real MNIST.

    python -m apps.sweep --sweep=configs/sweeps/mnist_protocols.py \
        --workdir=runs/mnist_protocols
    python -m apps.report --results=runs/mnist_protocols \
        --output=runs/mnist_protocols/report

SmallCNN, 10,000 training images and 1,000 for validation, which set the
thresholds; 15 epochs, average-attack PGD-7 with epsilon 0.3; 1,000 test images
under PGD-50. NEO-KD's and NKD's loss weights add up to about three times those
of plain training, which has three times their learning rate instead. Results
are in docs/results.md.
"""

RATES = {"neo_kd": 0.01, "nkd": 0.01, "adversarial_training": 0.03}
SHARED = (
    "--config.data.num_train=10000",
    "--config.data.validation_size=1000",
    "--config.attack.name=average",
    "--config.train.epochs=15",
    "--config.evaluate.num_examples=1000",
    "--config.evaluate.attacks=('average','max_average','single')",
    "--config.evaluate.protocols=('budgeted','transferability','early_exit')",
)


def get_runs():
    """Return the flags of `apps.train` for every run, by name."""
    return {
        method: [
            f"--config=mnist:{method}",
            *SHARED,
            f"--config.optimizer.learning_rate={rate}",
        ]
        for method, rate in RATES.items()
    }
