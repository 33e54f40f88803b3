"""Training methods: what the loss of a step is made of.

from keras_neokd import methods

methods.AdversarialTraining()      # Eq. 4, no distillation
methods.NEOKD()                    # Eq. 7 with the paper's weights
methods.SKD(), methods.ARD()       # distillation baselines
methods.LW(), methods.TRADES(), methods.TEAT(50_000, num_epochs=150)
methods.KDIGA(teacher)             # another network's input gradients
methods.NEOKD() + 0.5 * methods.KDIGA(teacher)
methods.get("neo_kd")              # the same by name

@methods.register("my_method")     # one of your own, see `Method`
class MyMethod(methods.Method): ...
"""

from keras_neokd.base.registry import METHODS as BY_NAME
from keras_neokd.methods.adversarial_training import AdversarialTraining
from keras_neokd.methods.context import Context
from keras_neokd.methods.context import Position
from keras_neokd.methods.context import Term
from keras_neokd.methods.exit_distillation import ARD
from keras_neokd.methods.exit_distillation import SKD
from keras_neokd.methods.kdiga import KDIGA
from keras_neokd.methods.lw import LW
from keras_neokd.methods.method import Method
from keras_neokd.methods.method import Sum
from keras_neokd.methods.neo_kd import EOKD
from keras_neokd.methods.neo_kd import NEOKD
from keras_neokd.methods.neo_kd import NKD
from keras_neokd.methods.teat import TEAT
from keras_neokd.methods.trades import TRADES

# Gives a method of your own a name.
register = BY_NAME.register


def get(identifier: Method | str) -> Method:
    """Return a method from an object or a name.

    Args:
        identifier: a `Method`, or a name of `BY_NAME` for the default
            settings, which are the paper's where it has them.

    Raises:
        ValueError: if the name is unknown, or of a method that needs more,
            such as a teacher.
        TypeError: if it is neither.
    """
    if isinstance(identifier, Method):
        return identifier
    if not isinstance(identifier, str):
        raise TypeError(
            "`method` needs a keras_neokd.methods.Method or a name, received "
            f"{identifier!r} of type {type(identifier).__name__}."
        )
    try:
        return BY_NAME.build(identifier)
    except TypeError as error:
        raise ValueError(f"{error} Write it as an object.") from None


__all__ = [
    "ARD",
    "BY_NAME",
    "EOKD",
    "KDIGA",
    "LW",
    "NEOKD",
    "NKD",
    "SKD",
    "TEAT",
    "TRADES",
    "AdversarialTraining",
    "Context",
    "Method",
    "Position",
    "Sum",
    "Term",
    "get",
    "register",
]
