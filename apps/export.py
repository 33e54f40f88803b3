"""Export a model for other runtimes, and check it there.

    python -m apps.export --workdir=runs/x
    python -m apps.export --model=model.keras --output=saved_model
    python -m apps.export --workdir=runs/x --format=litert \\
        --form=early_exit --policy=runs/x/policy_of_results.json

Without --format it writes a TensorFlow SavedModel with the signatures
`serving_default` and `serve` for all exits by name, and one per exit that
computes only that exit. With --format it writes an artefact: a folder with the
files of one runtime and a card, see docs/runtimes.md. What is written is opened
again and compared with the model first: a SavedModel on random images, an
artefact with --workdir on images of the run's test set. Works from every
backend where TensorFlow is installed.
"""

import pathlib

from absl import flags

from . import command

# Training images that show a converter the ranges of tensors.
_NUM_REPRESENTATIVE = 300
# Flags of an artefact alone.
_OF_ARTEFACTS = (
    *("form", "policy", "exit", "precision", "attack", "num_examples"),
    *("max_accuracy_drop", "max_robust_drop"),
)


def export(model_path, output):
    """Write, reload and compare a SavedModel.

    Args:
        model_path: `pathlib.Path` of the `.keras` file.
        output: `pathlib.Path` of the folder to write.

    Raises:
        ImportError: if TensorFlow is not installed.
        OSError: if a file is missing or cannot be written.
        RuntimeError: if the SavedModel gives other numbers.
        ValueError: if `output` holds something else, or the model's file is
            none or not safe to load.
    """
    import keras_neokd

    model = _load(model_path, output)
    differences = keras_neokd.export_saved_model(model, output)
    print(
        f"SavedModel in {output}, reloaded and compared with {model_path} on "
        "random images. Signatures, and the largest difference of a logit:"
    )
    for name, difference in differences.items():
        print(f"  {name}: {difference:.1e}")


def deploy(
    model_path,
    output,
    run=None,
    attack=None,
    num_examples=None,
    limits=None,
    **arguments,
):
    """Write and check an artefact, and print what its card says.

    Args:
        model_path, output: as for `export`.
        run: the `Workdir` on whose test images it is compared; None (default)
            for random images.
        attack: name of the attack of an evaluation for robust accuracy; needs
            `run`. Defaults to None.
        num_examples: test images of `run` to compare on. Defaults to None.
        limits: dict of limits of the `Gate`. Defaults to None.
        **arguments: of `keras_neokd.deploy`.

    Raises:
        ImportError, OSError, RuntimeError, TypeError, ValueError: as
            `keras_neokd.deploy`.
    """
    import keras_neokd
    from keras_neokd import deployment

    model = _load(model_path, output)
    given, kind = {}, "random"
    if run is not None:
        needs_training = arguments["precision"] == "int8"
        given, representative = _from_run(
            run, model, attack, num_examples, needs_training
        )
        arguments["representative"], kind = representative, "test"
    gate = deployment.Gate(**given, **(limits or {}))
    card = keras_neokd.deploy(model, output, gate=gate, **arguments)
    print(
        f"{card.form!r} for {card.format!r} in {card.precision}, written to "
        f"{output}, opened there and compared with {model_path} on "
        f"{card.figures['num_images']} {kind} images:"
    )
    for name, value in card.figures.items():
        if name != "accuracy":
            shown = value if isinstance(value, (list, dict)) else f"{value:.4g}"
            print(f"  {name.replace('_', ' ')}: {shown}")
    for row in card.figures.get("accuracy", ()):
        print(
            f"  accuracy of {row['exit']}, images {row['images']}: model "
            f"{row['model']:.2%}, files {row['artefact']:.2%}"
        )
    for name, facts in card.files.items():
        print(f"  {name}: {facts['bytes']:,} bytes")


def _load(model_path, output):
    import keras_neokd

    from . import workdir

    if not model_path.exists():
        raise FileNotFoundError(
            f"There is no model at {model_path}: train it first, or finish "
            "training."
        )
    workdir.check_writable(output.parent)
    return keras_neokd.load(model_path)


def _from_run(run, model, attack, num_examples, needs_training):
    """Return arguments of a `Gate`, and training images if they are needed."""
    from . import attacking
    from . import building
    from . import run_config

    config = run_config.read(run)
    dataset = building.load_data(config, model)
    images, labels = dataset.test.arrays(num_examples)
    if attack is not None:
        attack = attacking.attack(config, attack)
    representative = None
    if needs_training:
        representative = dataset.train.arrays(_NUM_REPRESENTATIVE)[0]
    given = {"images": images, "labels": labels, "attack": attack}
    return given, representative


def main():
    """Export as the flags say."""
    command.prepare_keras()
    from .workdir import Workdir

    chosen = flags.FLAGS
    run = Workdir(chosen.workdir) if chosen.workdir else None
    if run is None and not (chosen.model and chosen.output):
        raise ValueError("Give --workdir of a run, or --model and --output.")
    model = pathlib.Path(chosen.model or run.model)
    if chosen.format is None:
        for name in _OF_ARTEFACTS:
            if chosen[name].present:
                raise ValueError(f"--{name} is of an artefact: give --format.")
        export(model, pathlib.Path(chosen.output or run.saved_model))
        return
    if run is None and (
        chosen.attack
        or chosen.precision == "int8"
        or chosen["num_examples"].present
    ):
        raise ValueError(
            "--attack, --num_examples and --precision=int8 need the images of "
            "a run: give --workdir."
        )
    output = chosen.output or run.path / f"{chosen.format}_{chosen.form}"
    deploy(
        model,
        pathlib.Path(output),
        run,
        chosen.attack,
        chosen.num_examples,
        {
            "max_accuracy_drop": chosen.max_accuracy_drop,
            "max_robust_drop": chosen.max_robust_drop,
        },
        format=chosen.format,
        form=chosen.form,
        policy=chosen.policy,
        exit=chosen.exit,
        precision=chosen.precision,
    )


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of a finished run.")
    flags.DEFINE_string("model", None, "A .keras file instead.")
    flags.DEFINE_string(
        "output",
        None,
        "Folder to write; default: saved_model in --workdir, or one named "
        "after format and form.",
    )
    flags.DEFINE_string(
        "format", None, "saved_model, litert, onnx or openvino."
    )
    flags.DEFINE_string(
        "form", "exits", "Of an artefact: exits, early_exit or stages."
    )
    flags.DEFINE_string(
        "policy", None, "File of the thresholds of early_exit and stages."
    )
    flags.DEFINE_string("exit", None, "The only exit of the form exits.")
    flags.DEFINE_string(
        "precision", "float32", "float32, float16, int8_weights or int8."
    )
    flags.DEFINE_string(
        "attack",
        None,
        "Attack of an evaluation, such as average, with the settings of the "
        "run: measures robust accuracy of model and files.",
    )
    flags.DEFINE_integer(
        "num_examples",
        500,
        "Test images of the run to compare on.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "max_accuracy_drop",
        None,
        "Share of the images that the files may classify worse.",
    )
    flags.DEFINE_float("max_robust_drop", None, "The same under attack.")
    command.run(main)
