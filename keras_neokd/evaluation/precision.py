"""Compare an attack on a 16-bit model with the same attack in float32.

    result = precision_agreement(model, images, labels, attack=pgd)
    result.mean_sign_agreement()        # share of pixels, one number per exit
    result.accuracy(), result.accuracy_in_float32()

Attacks that follow signs need no more of a gradient than its signs. Where
they differ from those of the same weights in float32, the attack may be
weaker, and the model look more robust than it is.
"""

import dataclasses

import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.attacks.attack import Attack
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.anytime import AnytimeResult
from keras_neokd.evaluation.anytime import anytime
from keras_neokd.evaluation.protocol import diagnostic
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import table
from keras_neokd.network.multi_exit import MultiExitModel


@dataclasses.dataclass(frozen=True)
class PrecisionAgreementResult(Result):
    """A model beside one of the same weights that computes in float32.

    Attributes:
        exit_names: names of the exits in depth order.
        sign_agreement: float32 `(examples, exits)`: share of the pixels whose
            gradient of the exit's cross-entropy, as attacks see it, has the
            same sign, 0 being a sign of its own; at the clean image.
        attacked: an `AnytimeResult`, each exit on images that the attack
            made with the model.
        attacked_in_float32: the same for the model in float32: attacked and
            scored in float32.
    """

    columns = {
        "exit": "text",
        "sign_agreement_with_float32": "share?",
        "accuracy_under_attack": "share?",
        "accuracy_under_attack_in_float32": "share?",
    }
    spread = tuple(columns)[1:]

    exit_names: tuple[str, ...]
    sign_agreement: np.ndarray
    attacked: AnytimeResult
    attacked_in_float32: AnytimeResult

    def mean_sign_agreement(self) -> Array:
        """Return the mean share over the images, `(exits,)`."""
        return self.sign_agreement.mean(axis=0, dtype="float64")

    def accuracy(self) -> Array:
        """Return the accuracy under attack of every exit, `(exits,)`."""
        return self.attacked.accuracy()

    def accuracy_in_float32(self) -> Array:
        """Return the accuracy under attack in float32, `(exits,)`."""
        return self.attacked_in_float32.accuracy()

    def rows(self) -> list[Row]:
        """Return a row per exit."""
        return table(
            exit=self.exit_names,
            sign_agreement_with_float32=self.mean_sign_agreement(),
            accuracy_under_attack=self.accuracy(),
            accuracy_under_attack_in_float32=self.accuracy_in_float32(),
        )


def _check(model, attack):
    del attack
    check_not_float32(model)


@diagnostic("precision", PrecisionAgreementResult, _check)
def precision_agreement(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    attack: Attack,
    batch_size: int = 256,
    seed: int = 0,
    verbose: int = 0,
) -> PrecisionAgreementResult:
    """Return a `PrecisionAgreementResult` of gradients and an attack.

    Args:
        model: a `MultiExitModel` of which some layers compute in 16 bits.
        images, labels, batch_size, seed, verbose: as for `anytime`.
        attack: a `keras_neokd.attacks.Attack`.

    Raises:
        TypeError: if `model` is no `MultiExitModel`.
        ValueError: if the data is not as described, all layers compute in
            float32, or gradients or logits are NaN or infinite.
    """
    images, labels = batches.check(model, images, labels, batch_size)
    attack = attacks.get(attack)
    twin = in_float32(model)
    found = batches.over_examples(
        _compiled_step(model, twin), images, labels, batch_size, verbose
    )
    batches.check_finite(model, found["own"], "gradients")
    batches.check_finite(twin, found["wanted"], "gradients")
    return PrecisionAgreementResult(
        model.exit_names,
        found["agreement"],
        *(
            anytime(each, images, labels, attack, batch_size, seed, verbose)
            for each in (model, twin)
        ),
    )


def in_float32(model):
    """Return a model with the same weights that computes in float32."""
    check_not_float32(model)
    config = _with_float32(model.get_config())
    # Models of the library name it once, others for each layer.
    config.pop("precision", None)
    twin = type(model).from_config(config)
    twin.set_weights(model.get_weights())
    return twin


def check_not_float32(model):
    """Raise `ValueError` if there is nothing to compare with float32."""
    batches.check_model(model)
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        raise ValueError(
            f"All layers of model {model.name!r} compute in float32, so there "
            "is nothing to compare. Train or build it in another precision, "
            "for example with --config.train.precision=mixed_bfloat16."
        )


def _with_float32(config):
    """Return a configuration with all dtype policies replaced."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {name: _with_float32(each) for name, each in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32(each) for each in config)
    return config


def _compiled_step(model, twin):
    def step(images, labels, index):
        del index  # Nothing is drawn at random.
        images = ops.convert_to_tensor(images)
        labels = ops.convert_to_tensor(labels)
        # Merged, as attacks see them.
        seen = [each.exit_logits().frozen() for each in (model, twin)]
        pairs = [
            [
                batches.exit_gradient(predict, exit, images, labels)
                for predict in seen
            ]
            for exit in range(model.num_exits)
        ]
        axes = tuple(range(1, len(images.shape)))
        agreement = [
            ops.mean(
                ops.cast(ops.equal(ops.sign(own), ops.sign(wanted)), "float32"),
                axis=axes,
            )
            for own, wanted in pairs
        ]
        return {
            "agreement": ops.stack(agreement, axis=1),
            "own": _largest([own for own, _ in pairs]),
            "wanted": _largest([wanted for _, wanted in pairs]),
        }

    return backend.compile_function(step, [*model.variables, *twin.variables])


def _largest(gradients):
    """Return the largest size of each image's gradients, `(batch,)`."""
    axes = (0, *range(2, len(gradients[0].shape) + 1))
    return ops.max(ops.abs(ops.stack(gradients)), axis=axes)
