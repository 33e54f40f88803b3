"""Early-exit models as files of other runtimes, checked, with a card."""

from keras_neokd.deployment.artefact import Artefact
from keras_neokd.deployment.artefact import load_artefact
from keras_neokd.deployment.deploy import deploy

__all__ = ["Artefact", "deploy", "load_artefact"]
