"""What `apps.train` does: train a model in a folder, or go on with it."""

import importlib.util
import time

import keras

from apps import building
from apps import callbacks
from apps import plots
from apps.workdir import Workdir
from keras_neokd import data


def train(config, path):
    """Train as the config says; all files go to one folder.

    A run that was interrupted goes on after its last finished epoch and ends
    with the weights of an uninterrupted one (bit by bit on a CPU). A finished
    run is left alone.

    Args:
        config: a whole config, see `configs/default.py`.
        path: folder of the run.

    Returns:
        The `workdir.Workdir` of the finished run.

    Raises:
        ValueError, TypeError: if the config is not possible, the folder
            belongs to another run, or training diverges.
        OSError: if data is missing or the folder cannot be written.
    """
    run = Workdir(path)
    run.check(config)
    if run.is_finished:
        print(f"The run in {run.path} is finished; nothing to do.")
        return run
    # The seed decides the initial weights.
    keras.utils.set_random_seed(config.train.seed)
    with building.distribution_scope(config):
        model = building.build_model(config)
        dataset = building.load_data(config, model)
        arguments = building.compile_arguments(
            config, model.num_exits, len(dataset.train)
        )
        model.compile(**arguments)
    batches = data.TrainingBatches(
        dataset.train,
        batch_size=config.data.batch_size,
        seed=config.train.seed,
        augment=config.data.augment,
        with_index=arguments["method"].num_examples is not None,
    )
    run.begin(config)
    _describe(config, model, dataset)
    start = time.monotonic()
    model.fit(
        batches,
        epochs=config.train.epochs,
        validation_data=_validation(config, dataset),
        callbacks=_callbacks(run, config, batches),
        verbose=0,
    )
    _finish(run, model, config)
    print(
        f"Trained for {time.monotonic() - start:.0f} s. Model, history and "
        f"plots are in {run.path}."
    )
    return run


def _describe(config, model, dataset):
    print(
        f"Training {config.model.name} ({model.num_exits} exits) with "
        f"{config.method.name} on {config.data.name}: "
        f"{len(dataset.train)} images, {config.train.epochs} epochs, "
        f"{_attack_of(config, model)}, backend {keras.config.backend()}."
    )


def _attack_of(config, model):
    method = model.method
    if not method.uses_attack(model.num_exits):
        return "no attack"
    if method.own_attack is not None:
        return repr(method.own_attack)
    epsilon = config.attack.epsilon
    return f"{config.attack.name} attack, epsilon {epsilon:.4g}"


def _validation(config, dataset):
    if config.train.validation == "none":
        return None
    return data.EvaluationBatches(
        dataset.validation, batch_size=config.data.batch_size
    )


def _callbacks(run, config, batches):
    backup = callbacks.EpochBackup(run.backup)
    if backup.num_epochs:
        print(f"Going on in {run.path} after epoch {backup.num_epochs}.")
    return [
        data.SetEpoch(batches),
        callbacks.SeedEpochs(config.train.seed),
        keras.callbacks.LearningRateScheduler(
            lambda epoch: building.learning_rate(config, epoch)
        ),
        *_tensorboard(run),
        callbacks.History(run, len(batches.split)),
        # After the history: an epoch counts when its backup is written.
        backup,
        callbacks.Progress(),
    ]


def _tensorboard(run):
    packages = ("tensorflow", "tensorboard")
    missing = [each for each in packages if not importlib.util.find_spec(each)]
    if missing:
        print(
            f"No TensorBoard logs: {' and '.join(missing)} not installed. "
            "history.csv and history.jsonl hold the same numbers."
        )
        return []
    return [
        keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False)
    ]


def _finish(run, model, config):
    plots.learning_curves(
        {config.method.name: (run.read_history(), model.exit_names)},
        run.learning_curves,
    )
    unfinished = run.path / ".unfinished.keras"
    model.save(unfinished)
    unfinished.replace(run.model)
    run.remove_backup()
