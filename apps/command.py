"""Run an app: parse its flags, prepare the backend, report errors.

    _CONFIG = command.define_config()

    def main():
        config = _CONFIG.value
        from . import training
        ...

    if __name__ == "__main__":
        command.run(main)

Keras is imported when `--config` is read, since configs hold the arguments of
classes, and not before: `prepare_keras` sets what its backend reads, and
`--help` is quick. So apps import whatever needs Keras inside `main`, those
without a config after a call of `prepare_keras`.
"""

import functools
import importlib.util
import logging as standard_logging
import os
import sys
import traceback

from absl import app
from absl import flags
from absl import logging

from . import compiled
from . import config_files
from . import ending
from . import memory
from .config_flag import ConfigFlag
from .config_flag import taken

flags.DEFINE_multi_string(
    "import",
    [],
    "Module, by name or path, that registers methods, attacks, models or "
    "protocols of yours",
)
# The `ConfigFlag` of the app, if it has one.
_defined = []
_NO_MEMORY = (
    "There is not enough memory. Take fewer images or smaller batches, or a "
    "computer with more memory."
)
# What took the place of keys that 0.1.0 had.
_REMOVED = {
    "model.options": "the settings of a model are in the section of its name, "
    "such as --config.model.msdnet_cifar10.KEY=VALUE",
    "model.constructor": "it is a part of --config.model.name, such as "
    "msdnet_cifar10",
    "method.sum_weights": "the weights of a sum are in --config.method.name, "
    "such as neo_kd+0.5*kdiga",
    "method.nkd_weight": "the settings of a method are in the section of its "
    "name, such as --config.method.neo_kd.nkd_weight=VALUE",
}
# Errors that are answered with their message, not with a traceback.
ANSWERED = (ImportError, OSError, RuntimeError, TypeError, ValueError)


def run(main):
    """Run an app; report mistakes of the user in a sentence.

    The exit status is 0, 1 after an error, 75 where training was told to stop
    and can go on, or 130 after Ctrl-C. `--v=1` shows the traceback of an error.

    Args:
        main: function without arguments.
    """

    def guarded(argv):
        if len(argv) > 1:
            return _fail(f"Unexpected argument {argv[1]!r}.")
        if not logging.vlog_is_on(1):
            # TensorFlow comments on its work through the same channel.
            logging.set_verbosity(logging.ERROR)
            standard_logging.getLogger("tensorflow").setLevel("ERROR")
        try:
            main()
        except KeyboardInterrupt:
            print("\nInterrupted. The same command goes on.", file=sys.stderr)
            return 130
        except MemoryError as error:
            return _fail(str(error) or _NO_MEMORY)
        except ANSWERED as error:
            if logging.vlog_is_on(1):
                traceback.print_exc()
            return _fail(str(error))
        return 0

    ending.end_with_parent()
    app.run(guarded, flags_parser=_parse_flags)


def define_config(default=None):
    """Give the app that is run the flag `--config`.

    Args:
        default: as of `ConfigFlag`.

    Returns:
        The `ConfigFlag`; read its `value` in `main`.
    """
    _defined.append(ConfigFlag(default))
    return _defined[-1]


@functools.cache
def prepare_keras():
    """Import Keras with the settings that its backend needs."""
    # About twice as fast on CPUs where TensorFlow leaves it off.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    memory.keep_freed_memory()
    import keras

    if keras.config.backend() == "jax":
        compiled.keep()
    if (
        keras.config.backend() != "tensorflow"
        and importlib.util.find_spec("tensorflow") is not None
    ):
        import tensorflow as tf

        # It only writes logs here, and would take the memory of the GPU.
        tf.config.set_visible_devices([], "GPU")


def _parse_flags(argv):
    try:
        argv = flags.FLAGS.read_flags_from_files(argv, False)
        rest, (_, modules) = argv, taken(argv, "import")
        if modules:
            prepare_keras()
        for each in modules:
            config_files.import_module(each)
        for each in _defined:
            rest = each.define(rest, prepare=prepare_keras)
        _show_in_help(argv[0])
        return flags.FLAGS(rest)
    except SystemExit as end:
        # absl has shown the help that was asked for, and calls that an error.
        sys.exit(0 if end.code == 1 else end.code)
    except (flags.Error, *ANSWERED) as error:
        message = str(error)
    except (AttributeError, KeyError) as error:
        message = f"Unknown config key: {_wrong_key(argv, error)}"
    sys.exit(_fail(message))


def _show_in_help(program):
    """Let `--help` list the flags that this file defines for every app."""
    for name in ("config", "import"):
        if name in flags.FLAGS:
            found = flags.FLAGS[name]
            flags.FLAGS.register_key_flag_for_module(program, found)


def _wrong_key(argv, error):
    """Return which argument names an unknown key, and ml_collections' hint."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    hint = str(error.args[0]).replace("\n", ". ")
    for argument in argv[1:]:
        name = argument.split("=")[0].lstrip("-")
        if any(f"'{part}'" in hint for part in name.split(".")[1:]):
            return f"--{name}, there is no {hint}{_successor(name)}"
    return hint


def _successor(name):
    """Return what took the place of a key, as the end of a message."""
    key = name.removeprefix("config.")
    for removed, instead in _REMOVED.items():
        if key == removed or key.startswith(f"{removed}."):
            return f". That key is gone: {instead}."
    return ""


def _fail(message):
    print(f"Error: {message}", file=sys.stderr)
    return 1
