"""Well-known classifiers with one exit, or one per level of features."""

from keras_neokd.models.backbones.resnet import ResNet
from keras_neokd.models.backbones.vision_transformer import VisionTransformer

__all__ = ["ResNet", "VisionTransformer"]
