"""Objects that are described by their constructor arguments.

Attacks, objectives and methods are small values: they keep each constructor
argument in an attribute of the same name, and get saving, loading and a
readable `repr` from here. An argument that does not exist is refused with the
name of the right one.
"""

import difflib
import inspect

import keras

# What other libraries and papers call an argument, and what it is called
# here; of several the first that a function has.
SYNONYMS = {
    "alpha": ("step_size", "nkd_weight", "weight"),
    "beta": ("eokd_weight", "weight"),
    "confidence": ("kappa",),
    "eot_iter": ("num_draws",),
    "eps": ("epsilon",),
    "eps_iter": ("step_size",),
    "eps_step": ("step_size",),
    "eta": ("overshoot",),
    "gamma": ("exit_weights", "alignment_weight"),
    "iterations": ("num_steps",),
    "iters": ("num_steps",),
    "loss": ("method", "objective"),
    "lr": ("learning_rate",),
    "max_iter": ("num_steps",),
    "n_iter": ("num_steps",),
    "n_queries": ("num_queries",),
    "n_restarts": ("num_restarts",),
    "n_target_classes": ("num_targets",),
    "nb_iter": ("num_steps",),
    "order": ("norm",),
    "p_init": ("area",),
    "queries": ("num_queries",),
    "radius": ("epsilon",),
    "rand_init": ("random_start",),
    "random_init": ("random_start",),
    "restarts": ("num_restarts",),
    "stepsize": ("step_size",),
    "steps": ("num_steps",),
    "T": ("temperature",),
}


def check_names(name, given, function):
    """Raise if a function has no such argument.

    Args:
        name: what the message calls the function.
        given: names of arguments.
        function: the function; what its `**` takes does not count.

    Raises:
        TypeError: if one does not exist; the message names the one that was
            probably meant.
    """
    known = [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.kind is not each.VAR_KEYWORD and each.name != "self"
    ]
    advice = [
        f"has no argument `{each}`: {_meant(each, known)}"
        for each in given
        if each not in known
    ]
    if advice:
        raise TypeError(f"{name} {'; it '.join(advice)}.")


def _meant(wrong, known):
    meant = [each for each in SYNONYMS.get(wrong, ()) if each in known]
    meant = meant or difflib.get_close_matches(wrong, known, n=1)
    if meant:
        return f"it is called `{meant[0]}`"
    return f"the arguments are {', '.join(f'`{each}`' for each in known)}"


class Configurable:
    """Base class: configuration from the attributes named like arguments."""

    def __new__(cls, *positional, **named):
        """Refuse an argument that does not exist by the name of the right one.

        Raises:
            TypeError: as described.
        """
        if not _has_constructor(cls):
            if positional or named:
                raise TypeError(f"{cls.__name__} takes no arguments.")
        elif inspect.getfullargspec(cls.__init__).varkw is None:
            check_names(cls.__name__, named, cls.__init__)
        return super().__new__(cls)

    def arguments(self):
        """Return the constructor arguments as a dict of live values."""
        cls = type(self)
        if not _has_constructor(cls):
            return {}
        _, *names = inspect.signature(cls.__init__).parameters
        return {name: getattr(self, name) for name in names}

    def get_config(self):
        """Return the constructor arguments as plain values."""
        return {
            name: keras.saving.serialize_keras_object(value)
            for name, value in self.arguments().items()
        }

    @classmethod
    def from_config(cls, config):
        """Build the object from `get_config`'s result."""
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                for name, value in config.items()
            }
        )

    def __repr__(self):
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in self.arguments().items()
        )
        return f"{type(self).__name__}({arguments})"


def _has_constructor(cls):
    return cls.__init__ is not object.__init__
