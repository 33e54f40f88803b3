"""KDIGA on real MNIST: alignment against plain distillation and labels alone.

    python -m apps.sweep --sweep=configs/sweeps/kdiga_mnist.py \
        --workdir=runs/kdiga_mnist

The teacher is a SmallCNN trained with PGD adversarial examples, the student
the same network trained on clean images only, in three ways: labels (`labels`),
labels and the teacher's predictions (`kd`), and its input gradients in
addition (`kdiga`, with several weights; `kdiga_each` aligns every exit). Then
NEO-KD without and with KDIGA. 10,000 training images, 5 epochs; evaluated on
500 test images under PGD-20 against the average of the exits and against
each exit alone, with three epsilons and step epsilon / 10. Results are in
docs/results.md.
"""

EPSILONS = (0.05, 0.1, 0.2)
ALIGNMENT_WEIGHTS = (1, 3, 10)
SHARED = (
    "--config.data.num_train=10000",
    "--config.attack.name=average",
    "--config.train.epochs=5",
    "--config.optimizer.milestones=()",
    "--config.optimizer.learning_rate=0.01",
    "--config.evaluate.num_examples=500",
    "--config.evaluate.attacks=('average','single')",
    "--config.evaluate.num_steps=20",
)
_FILE = "{workdir}/teacher/model.keras"
_TEACHER = f"--config.method.kdiga.teacher_file={_FILE}"


def get_runs():
    """Return the flags of `apps.train` for every run, by name."""
    runs = {
        "teacher": _flags("adversarial_training"),
        "labels": _flags("clean_training"),
        "kd": _flags("kd", f"--config.method.kd.teacher_file={_FILE}"),
    }
    for weight in ALIGNMENT_WEIGHTS:
        runs[f"kdiga_{weight}"] = _flags(
            "kdiga",
            _TEACHER,
            f"--config.method.kdiga.alignment_weight={float(weight)}",
        )
    runs["kdiga_each_3"] = _flags(
        "kdiga",
        _TEACHER,
        "--config.method.kdiga.alignment_weight=3.0",
        "--config.method.kdiga.exits=each",
    )
    runs["neo_kd"] = _flags("neo_kd")
    for weight in ALIGNMENT_WEIGHTS[:2]:
        runs[f"neo_kd_and_kdiga_{weight}"] = _flags(
            "neo_kd+kdiga",
            _TEACHER,
            f"--config.method.kdiga.alignment_weight={float(weight)}",
        )
    return runs


def get_evaluations():
    """Return the flags of `apps.evaluate` for each epsilon."""
    return {
        f"epsilon_{epsilon}": [
            f"--config.evaluate.epsilon={epsilon}",
            f"--config.attack.step_size={epsilon / 10}",
        ]
        for epsilon in EPSILONS
    }


def _flags(variant, *changes):
    return [f"--config=mnist:{variant}", *SHARED, *changes]
