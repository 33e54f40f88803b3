"""Names of types that signatures share.

Keras and the frameworks give type checkers nothing to check, so `Tensor` says
what a value is and not more; shapes and ranges are in the docstrings.
"""

import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import numpy as np

# A tensor of the backend; where a function takes one, an array serves, too.
Tensor = Any

# Tensors by their names: the state of an attack, or its `info`.
Tensors = dict[str, Tensor]

# An array of NumPy, of whatever shape and type the docstring says.
Array = np.ndarray

# A loss by name, or of logits, labels and the index of an exit.
Loss = str | Callable[[Tensor, Tensor, int], Tensor]

# Class indices, or a dict of these and of positions in the data set.
Labels = Array | dict[str, Array]

# A row of results: names and plain values.
Row = dict[str, Any]

# Mean and standard deviation of pixels, a number per channel.
Normalization = tuple[Sequence[float], Sequence[float]]

# Name of a file or a folder.
PathLike = str | os.PathLike[str]

# What a decorator is given and gives back.
Entry = TypeVar("Entry", bound=Callable[..., Any])

# Base of a mixin: type checkers take it for what the mixin is used with.
Mixin: Any = object
