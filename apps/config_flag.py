"""Define the flag `--config` and a flag for each of its values."""

from absl import flags
from ml_collections import config_flags

from . import config_files
from . import flag_values

_HELP = (
    "Config by name or path, for example mnist:neo_kd or "
    "configs/mnist.py:neo_kd; --config.KEY=VALUE changes a value of it. "
    "Numbers may be fractions such as 8/255."
)


class ConfigFlag:
    """The config of a command line.

    Args:
        default: name of the config whose keys may be set without `--config`.
            Without one, `--config` has to be given.
    """

    def __init__(self, default=None):
        self._default = default
        self._values = None
        self.is_given = False

    def define(self, argv, values=flags.FLAGS, prepare=lambda: None):
        """Load the config that a command line names, and define the flags.

        Args:
            argv: list of texts, the program first.
            values: where to define them. Defaults to absl's own.
            prepare: function that is called before a config is loaded.

        Returns:
            `argv` without `--config`, to be parsed.

        Raises:
            FileNotFoundError, ValueError: see `config_files.load`.
        """
        argv, given = taken(argv, "config")
        self._values, self.is_given = values, bool(given)
        name = given[-1] if given else self._default
        if name is None or (not given and _asks_for_help(argv)):
            flags.DEFINE_string("config", None, _HELP, values)
            flags.mark_flag_as_required("config", values)
            return argv
        prepare()
        flag_values.register()
        config = config_files.load(name)
        config_flags.DEFINE_config_dict(
            "config", config, _HELP, values, sys_argv=argv
        )
        values["config"].default_as_str = repr(name)
        return argv

    @property
    def value(self):
        """Return the config with the changes of the command line."""
        return self._values["config"].value

    @property
    def changes(self):
        """The values of all `--config.KEY=VALUE`, by dotted key."""
        return config_flags.get_override_values(self._values["config"])


def taken(argv, flag):
    """Return a command line without a flag, and the values it has there.

    Args:
        argv: list of texts, the program first.
        flag: name of the flag.
    """
    rest, given, arguments = [], [], iter(argv)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name not in (f"--{flag}", f"-{flag}"):
            rest.append(argument)
            if argument == "--":
                break
        else:
            given.append(value if equals else next(arguments, ""))
    return [*rest, *arguments], given


def _asks_for_help(argv):
    return any(each.lstrip("-").startswith("help") for each in argv[1:])
