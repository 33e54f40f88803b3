"""Early-exit models as files of other runtimes, checked, with a card."""

from keras_neokd.deployment.artefact import Artefact
from keras_neokd.deployment.artefact import load_artefact
from keras_neokd.deployment.card import Card
from keras_neokd.deployment.deploy import deploy
from keras_neokd.deployment.gate import Gate

__all__ = ["Artefact", "Card", "Gate", "deploy", "load_artefact"]
