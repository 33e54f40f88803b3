"""MSDNet: `model.py` is the public class, `plan.py` its arithmetic, and
`graph.py` connects the layers.
"""

from keras_neokd.models.msdnet.model import MSDNet

__all__ = ["MSDNet"]
