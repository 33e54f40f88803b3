"""Train a model in a folder, or go on with it."""

import importlib.util
import time

import keras

from keras_neokd import data
from keras_neokd.backend import precision
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base import writing
from keras_neokd.training import Checkpoints
from keras_neokd.training import checkpoints
from keras_neokd.training import processes

from . import building
from . import callbacks
from . import data_facts
from . import distributing
from . import locking
from . import plots
from . import workdir
from .flag_names import keys_of
from .flag_names import named_by_keys
from .workdir import Workdir

# Keys of what `compile` and the batches are given.
_KEYS = {
    **keys_of(
        "train",
        (
            "seed",
            "crafting_batch_size",
            "crafting_dtype",
            "steps_per_execution",
        ),
    ),
    **keys_of("data", ("batch_size", "augment")),
    "attack_training_mode": "attack.training_mode",
}


def train(config, path):
    """Train as the config says; all files go to one folder.

    A run that was interrupted goes on at its newest checkpoint and ends with
    the weights of an uninterrupted one (bit by bit on a CPU). A finished run
    is left alone.

    Args:
        config: a whole config, see `configs/default.py`.
        path: folder of the run.

    Returns:
        The `Workdir` of the finished run.

    Raises:
        ValueError, TypeError: if the config is not possible, the folder
            belongs to another run, or training diverges.
        OSError: if data is missing or the folder cannot be written.
    """
    _check(config.train)
    # The seed decides the initial weights.
    with distributing.scope(config):
        keras.utils.set_random_seed(config.train.seed)
        return _train(config, Workdir(path))


def _check(settings):
    """Check settings that would fail late in training or inside Keras."""
    with named_by_keys(_KEYS):
        randomness.check_seed(settings.seed)
    checks.number("train.checkpoint_seconds", settings.checkpoint_seconds, 0)
    checks.integer("train.checkpoints_kept", settings.checkpoints_kept, 1)


def _train(config, run):
    run.check(config)
    _agree_on_settings(config, run)
    if run.is_finished:
        print(f"The run in {run.path} is finished; nothing to do.")
        return run
    model = building.build_model(config)
    dataset = building.load_data(config, model)
    arguments = building.compile_arguments(
        config, model.num_exits, len(dataset.train)
    )
    if run.crafting_dtype is not None:  # What "auto" came to at first.
        arguments["crafting_dtype"] = run.crafting_dtype
    with named_by_keys(_KEYS):
        model.compile(**arguments)
    distributing.check_batches(
        config,
        training=len(dataset.train),
        # Others only set thresholds, later and on one device.
        validation=0
        if config.train.validation == "none"
        else len(dataset.validation),
    )
    with named_by_keys(_KEYS):
        batches = data.TrainingBatches(
            dataset.train,
            batch_size=config.data.batch_size,
            seed=config.train.seed,
            augment=config.data.augment,
            with_index=arguments["method"].num_examples is not None,
        )
    facts = data_facts.data_facts(dataset)
    run.check_data(facts)
    if not run.config.exists():
        building.check_held_out(config, dataset)
    _agree_on_start(model, facts)
    with locking.alone_in(run.path):
        if processes.is_first():
            run.begin(config, facts, model.settings.crafting_dtype)
            _describe(config, model, dataset)
        start = time.monotonic()
        saved = _checkpoints(run, config, facts)
        with distributing.synchronized(model, config):
            model.fit(
                batches,
                epochs=config.train.epochs,
                validation_data=_validation(config, dataset),
                callbacks=_callbacks(run, config, batches, saved),
                verbose=0,
            )
        _finish(run, model, config, saved)
    if processes.is_first():
        _conclude(run, time.monotonic() - start)
    return run


def _conclude(run, seconds):
    # Without rows where none could be written.
    for last in run.read_history()[-1:]:
        print(
            "In the last epoch, preparing data took "
            f"{last['data_share']:.1%} of the training time."
        )
    print(
        f"Trained for {seconds:.0f} s. Model, history and plots are in "
        f"{run.path}."
    )


def _agree_on_settings(config, run):
    """See that processes were started alike."""
    settings = workdir.flatten(config)
    for key in distributing.PROCESS_KEYS:
        settings.pop(f"distribution.{key}")
    if not data_facts.place_matters(config.data.name):
        settings.pop("data.dir")  # The data are compared.
    here = workdir.environment()
    versions = {
        name: here[name]
        for name in ("keras_neokd", "keras", "numpy", here["backend"])
    }
    processes.agree(
        {
            **settings,
            **versions,
            "whether the run is finished": run.is_finished,
        },
        "Start all processes with the same command and versions, and a "
        "--workdir that they share; only distribution.process_id differs.",
    )


def _agree_on_start(model, facts):
    """See that processes train the same model on the same data."""
    weights = data_facts.digest(model.get_weights())
    processes.agree(
        {"initial weights": weights, **facts},
        "All processes need the same files of data and weights.",
    )


def _checkpoints(run, config, facts):
    saved = Checkpoints(
        run.checkpoints,
        config.train.checkpoints_kept,
        config.train.checkpoint_seconds,
        identity=run.identity(config, facts),
        stop_on_signals=True,
    )
    epoch, batch = saved.position
    if epoch or batch:
        within = f" and {batch} batches of the next" if batch else ""
        print(f"Going on in {run.path} after epoch {epoch}{within}.")
    return saved


def _describe(config, model, dataset):
    print(
        f"Training {config.model.name} ({model.num_exits} exits) with "
        f"{config.method.name} on {dataset.name}: "
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
    dtypes = precision.layer_dtypes(model)
    if dtypes == ["float32"]:
        dtypes = [model.settings.crafting_dtype]
    return (
        f"{config.attack.name} attack, epsilon {epsilon:.4g}, made in "
        f"{' and '.join(dtypes)}"
    )


def _validation(config, dataset):
    if config.train.validation == "none":
        return None
    return data.EvaluationBatches(
        dataset.validation, batch_size=config.data.batch_size
    )


def _callbacks(run, config, batches, saved):
    records, progress = [], []
    if processes.is_first():
        records = [*_tensorboard(run), callbacks.History(run, batches)]
        progress = [callbacks.Progress(config.train.epochs, len(batches))]
    return [
        keras.callbacks.LearningRateScheduler(
            lambda epoch: building.learning_rate(config, epoch)
        ),
        *records,
        # After the history: an epoch counts when its checkpoint is written.
        saved,
        *progress,
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


def _finish(run, model, config, saved):
    best = saved.best()
    if best is not None:
        # All processes take part where variables change.
        last = checkpoints.training_state(model)
        checkpoints.restore(model, best.state)
        _save(model, run.best_model)
        checkpoints.restore(model, last)
    history = run.read_history()
    if processes.is_first() and history:
        plots.learning_curves(
            {config.method.name: (history, model.exit_names)},
            run.learning_curves,
        )
    _save(model, run.model)
    if processes.is_first():
        run.remove_checkpoints()


def _save(model, path):
    if not processes.is_first():
        return
    with writing.replacing(path) as unfinished, processes.alone():
        model.save(unfinished)
