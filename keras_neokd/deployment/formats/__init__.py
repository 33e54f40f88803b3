"""Formats of files, each in a module: how it is written and how it is run."""

from keras_neokd.deployment.formats.format import PRECISIONS as PRECISIONS
from keras_neokd.deployment.formats.format import Format as Format
from keras_neokd.deployment.formats.format import Session as Session
from keras_neokd.deployment.formats.litert import LiteRT
from keras_neokd.deployment.formats.onnx import ONNX
from keras_neokd.deployment.formats.openvino import OpenVINO
from keras_neokd.deployment.formats.saved_model import SavedModel

BY_NAME: dict[str, Format] = {
    each.name: each for each in (SavedModel(), LiteRT(), ONNX(), OpenVINO())
}
