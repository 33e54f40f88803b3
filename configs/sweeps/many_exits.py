"""NEO-KD with 10 and 20 exits and teachers of one to three neighbours.

    python -m apps.sweep --sweep=configs/sweeps/many_exits.py \
        --workdir=runs/many_exits

MSDNet with a layer per block (base 1, step 1) on 480 images of CIFAR-100, batch
16, average-attack PGD-2, gamma 1 for every exit: three epochs of 30 steps each,
to see that the loss falls, not to reach an accuracy.
"""

NUM_EXITS = (10, 20)
RADII = (1, 2, 3)


def get_runs():
    """Return the flags of `apps.train` for every run, by name."""
    return {
        f"exits_{num_exits}_radius_{radius}": [
            "--config=cifar100:neo_kd",
            f"--config.model.msdnet_cifar100.num_blocks={num_exits}",
            "--config.model.msdnet_cifar100.base=1",
            "--config.model.msdnet_cifar100.step=1",
            f"--config.method.neo_kd.exit_weights={(1.0,) * num_exits}",
            f"--config.method.neo_kd.radius={radius}",
            "--config.data.num_train=480",
            "--config.data.batch_size=16",
            "--config.attack.name=average",
            "--config.attack.num_steps=2",
            "--config.train.epochs=3",
            "--config.optimizer.learning_rate=0.05",
            "--config.optimizer.milestones=()",
            "--config.evaluate.attacks=()",
            "--config.evaluate.num_examples=100",
        ]
        for num_exits in NUM_EXITS
        for radius in RADII
    }
