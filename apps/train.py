r"""Train a multi-exit model, or go on with a run that was interrupted.

    python -m apps.train --config=configs/mnist.py:neo_kd --workdir=runs/x
    python -m apps.train --config=configs/cifar10.py:adversarial_training \
        --config.attack.name=average --config.train.epochs=3 --workdir=runs/y

Writes to the folder: config.json, environment.json, history.csv and
history.jsonl (every loss term and accuracy of every exit), TensorBoard logs
where TensorFlow is installed, checkpoints/ while it trains, and at the end
learning_curves.png, model.keras and, with validation on attacked images,
best.keras. KERAS_BACKEND chooses tensorflow, jax or torch.
"""

from absl import flags

from . import command

_CONFIG = command.define_config()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run. The same command goes on in it."
)
flags.mark_flags_as_required(["workdir"])


def main():
    """Train as the flags say."""
    config = _CONFIG.value
    from . import training

    training.train(config, _WORKDIR.value)


if __name__ == "__main__":
    command.run(main)
