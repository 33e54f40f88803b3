r"""Turn a weights file of MSDNet-PyTorch into a `.keras` file to train from.

    python -m apps.import_weights --config=configs/imagenet.py \
        --file=msdnet.pth.tar --output=imagenet.keras
    python -m apps.train --config=configs/imagenet.py:neo_kd \
        --config.model.weights=imagenet.keras --workdir=runs/imagenet

The config says which MSDNet the file is of, and how its pixels are
normalised; other keys than config.model do not matter. Needs PyTorch under
every backend. docs/models.md has the settings of published networks.
"""

import importlib.util
import pathlib

from absl import flags

from . import command


def import_weights(config, file, output):
    """Build the model of a config, load a weights file into it, and save it.

    Args:
        config: a whole config; `config.model` describes an MSDNet.
        file: weights file of MSDNet-PyTorch.
        output: `.keras` file to write.

    Raises:
        ValueError: if the config is not of an MSDNet or of another one than
            the file, the file is not safe to load, or `output` is there.
        ImportError: if PyTorch is not installed.
        OSError: if a file is missing or cannot be written.
    """
    from keras_neokd import models
    from keras_neokd.base import writing

    from . import building
    from . import workdir

    output = pathlib.Path(output).expanduser()
    if output.suffix != ".keras" or output.exists():
        raise ValueError(
            f"--output needs a new file that ends in .keras, received "
            f"{str(output)!r}{', which is there' if output.exists() else ''}."
        )
    workdir.check_writable(output.parent)
    name, weights = config.model.name, config.model.weights
    if models.BY_NAME.made_by(name) is not models.MSDNet or weights:
        raise ValueError(
            "State files are of an MSDNet that they give all its weights: "
            "config.model.name needs to name one, such as msdnet_cifar10, and "
            f"config.model.weights None, received {name!r} and {weights!r}."
        )
    model = building.build_model(config)
    unused = models.load_msdnet_pytorch(model, file)
    output.parent.mkdir(parents=True, exist_ok=True)
    with writing.replacing(output) as unfinished:
        model.save(unfinished)
    print(
        f"{output} holds {model.name} with {model.num_exits} exits and the "
        f"weights of {file}. Left out are {len(unused)} tensors that no exit "
        f"needs.\n{_about_pixels(model)}"
    )


def _about_pixels(model):
    normalization = model.get_config()["normalization"]
    if normalization is not None:
        mean, deviation = normalization
        return f"Pixels in [0, 1] are normalised: mean {mean}, std {deviation}."
    return (
        "Pixels in [0, 1] are taken as they are. If the network was trained "
        "on normalised ones, as MSDNet-PyTorch does, import it again with "
        '--config.model.NAME.normalization="(MEAN, STD)".'
    )


def main():
    """Import as the flags say."""
    config = _CONFIG.value
    import_weights(config, flags.FLAGS.file, flags.FLAGS.output)


if __name__ == "__main__":
    # PyTorch has crashed interpreters when imported after TensorFlow, which
    # comes with Keras where --config is read.
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")
    _CONFIG = command.define_config()
    flags.DEFINE_string(
        "file", None, "State file, as torch.save wrote it; nothing in it runs."
    )
    flags.DEFINE_string("output", None, "The .keras file to write.")
    flags.mark_flags_as_required(["file", "output"])
    command.run(main)
