"""Multi-exit networks and what their exits cost."""

from keras_neokd.models.backbones import ResNet
from keras_neokd.models.backbones import VisionTransformer
from keras_neokd.models.costs import Costs
from keras_neokd.models.costs import ExitCosts
from keras_neokd.models.costs import exit_costs
from keras_neokd.models.costs import layer_costs
from keras_neokd.models.msdnet import MSDNet
from keras_neokd.models.msdnet import load_msdnet_pytorch
from keras_neokd.models.small_cnn import SmallCNN

__all__ = [
    "Costs",
    "ExitCosts",
    "MSDNet",
    "ResNet",
    "SmallCNN",
    "VisionTransformer",
    "exit_costs",
    "layer_costs",
    "load_msdnet_pytorch",
]
