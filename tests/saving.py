"""What comes back from a file and from a configuration."""

import json

import keras


def reloaded(model, folder):
    """Return a model from the file of another, in a folder."""
    path = folder / "model.keras"
    model.save(path)
    return keras.saving.load_model(path)


def rebuilt(thing):
    """Return what the configuration of something says, read as JSON."""
    text = json.dumps(keras.saving.serialize_keras_object(thing))
    return keras.saving.deserialize_keras_object(json.loads(text))
