"""Training methods: what the loss of a step is made of.

from keras_neokd import methods

methods.AdversarialTraining()      # Eq. 4, no distillation
methods.NEOKD()                    # Eq. 7 with the paper's weights
methods.get("neo_kd")              # the same by name
"""

from keras_neokd.methods.method import AdversarialTraining
from keras_neokd.methods.method import Method
from keras_neokd.methods.method import Step
from keras_neokd.methods.method import Term
from keras_neokd.methods.neo_kd import EOKD
from keras_neokd.methods.neo_kd import NEOKD
from keras_neokd.methods.neo_kd import NKD

BY_NAME = {
    "adversarial_training": AdversarialTraining,
    "eokd": EOKD,
    "neo_kd": NEOKD,
    "nkd": NKD,
}


def get(identifier):
    """Return a method from an object or a name.

    Args:
        identifier: a `Method`, or one of `"adversarial_training"`, `"nkd"`,
            `"eokd"`, `"neo_kd"` for the paper's settings.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if it is neither.
    """
    if isinstance(identifier, Method):
        return identifier
    if isinstance(identifier, str):
        if identifier not in BY_NAME:
            raise ValueError(
                f"Unknown method {identifier!r}: the known ones are "
                f"{sorted(BY_NAME)}."
            )
        return BY_NAME[identifier]()
    raise TypeError(
        "`method` needs a keras_neokd.methods.Method or a name, received "
        f"{identifier!r} of type {type(identifier).__name__}."
    )


__all__ = [
    "BY_NAME",
    "EOKD",
    "NEOKD",
    "NKD",
    "AdversarialTraining",
    "Method",
    "Step",
    "Term",
    "get",
]
