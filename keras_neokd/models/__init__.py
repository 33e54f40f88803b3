"""Multi-exit networks and what their exits cost."""

from keras_neokd.base.registry import MODELS as BY_NAME
from keras_neokd.models.added_exits import add_exits
from keras_neokd.models.backbones import ResNet
from keras_neokd.models.backbones import VisionTransformer
from keras_neokd.models.msdnet import MSDNet
from keras_neokd.models.msdnet import load_msdnet_pytorch
from keras_neokd.models.small_cnn import SmallCNN
from keras_neokd.network.costs import Costs
from keras_neokd.network.costs import ExitCosts
from keras_neokd.network.costs import exit_costs
from keras_neokd.network.costs import layer_costs

# Gives a model of your own a name.
register = BY_NAME.register

__all__ = [
    "BY_NAME",
    "Costs",
    "ExitCosts",
    "MSDNet",
    "ResNet",
    "SmallCNN",
    "VisionTransformer",
    "add_exits",
    "exit_costs",
    "layer_costs",
    "load_msdnet_pytorch",
    "register",
]
