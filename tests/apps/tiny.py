"""A config that trains within seconds."""

from configs import digits


def tiny_config(variant="neo_kd"):
    config = digits.get_config(variant)
    config.data.update({"num_train": 48, "num_test": 24, "batch_size": 16})
    config.attack.update({"name": "average", "num_steps": 1})
    config.train.epochs = 3
    config.evaluate.update({"num_steps": 1, "batch_size": 16})
    return config
