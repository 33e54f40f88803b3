"""Objects that are described by their constructor arguments.

Attacks, objectives and methods are small values: they keep each constructor
argument in an attribute of the same name, and get saving, loading and a
readable `repr` from here.
"""

import inspect

import keras


class Configurable:
    """Base class: configuration from the attributes named like arguments."""

    def arguments(self):
        """Return the constructor arguments as a dict of live values."""
        names = inspect.signature(type(self)).parameters
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
