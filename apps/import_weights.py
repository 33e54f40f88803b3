r"""Turn a state file of MSDNet-PyTorch into a `.keras` file to train from.

    python -m apps.import_weights --config=configs/imagenet.py \
        --file=msdnet.pth.tar --output=imagenet.keras
    python -m apps.train --config=configs/imagenet.py:neo_kd \
        --config.model.weights=imagenet.keras --workdir=runs/imagenet

The config says which MSDNet the file is of, and how its pixels are
normalised; other keys than config.model do not matter. Needs PyTorch under
every backend. docs/models.md has the settings of published networks.
"""

import importlib.util

from absl import flags

from . import command

_CONFIG = command.define_config()
_FILE = flags.DEFINE_string(
    "file", None, "State file, as torch.save wrote it; nothing in it is run."
)
_OUTPUT = flags.DEFINE_string("output", None, "The .keras file to write.")
flags.mark_flags_as_required(["file", "output"])


def main():
    """Import as the flags say."""
    config = _CONFIG.value
    # Imported after TensorFlow, PyTorch has crashed interpreters.
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch")
    command.prepare_keras()
    from . import importing

    importing.import_weights(config, _FILE.value, _OUTPUT.value)


if __name__ == "__main__":
    command.run(main)
