"""MSDNet: `model.py` is the public class, `plan.py` its arithmetic, and
`graph.py` connects the layers; `pytorch.py` and `torch_names.py` read weights
of the published code.
"""

from keras_neokd.models.msdnet.model import MSDNet
from keras_neokd.models.msdnet.pytorch import load_msdnet_pytorch

__all__ = ["MSDNet", "load_msdnet_pytorch"]
