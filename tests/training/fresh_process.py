"""Loads a saved model in a process of its own and goes on training.

python -m tests.training.fresh_process model.keras data.npz results.npz
"""

import sys

import keras
import numpy as np

import keras_neokd  # noqa: F401  Registers what the file refers to.


def main(model_path, data_path, results_path):
    data = np.load(data_path)
    images, labels = data["images"], data["labels"]
    model = keras.models.load_model(model_path)
    results = {
        f"prediction:{name}": value
        for name, value in model.predict(images, verbose=0).items()
    }
    results["evaluation"] = evaluation(model, images, labels)
    results["optimizer"] = optimizer_state(model)
    results["setup"] = np.array(setup(model))
    train(model, images, labels)
    for each in model.weights:
        results[f"weight:{each.path}"] = keras.ops.convert_to_numpy(each)
    plain = keras.models.load_model(model_path, compile=False)
    results["plain_is_compiled"] = np.array(plain.compiled)
    results["plain_type"] = np.array(type(plain).__name__)
    results["plain_prediction"] = plain.predict(images, verbose=0)["exit_2"]
    np.savez(results_path, **results)


def evaluation(model, images, labels):
    """Return the results of `evaluate`, in the order of their names."""
    logs = model.evaluate(images, labels, verbose=0, return_dict=True)
    return np.array([logs[name] for name in sorted(logs)])


def optimizer_state(model):
    """Return all variables of the optimizer in one vector."""
    return np.concatenate(
        [
            np.ravel(keras.ops.convert_to_numpy(each)).astype("float64")
            for each in model.optimizer.variables
        ]
    )


def setup(model):
    """Return the arguments of `compile` as text."""
    config = model.get_compile_config()
    return str(sorted((name, str(value)) for name, value in config.items()))


def train(model, images, labels):
    """Train the second epoch."""
    model.fit(
        images,
        labels,
        batch_size=4,
        initial_epoch=1,
        epochs=2,
        shuffle=False,
        verbose=0,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
