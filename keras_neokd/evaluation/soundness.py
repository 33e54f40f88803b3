"""Checks for weak evaluations, which overstate robustness.

    findings = soundness.check_model(model, images, labels)
    findings += soundness.check_search(result)
    findings += soundness.check_curve("epsilon", epsilons, accuracies)

Most broken defences were broken because the attack was: it followed no
gradient, or random noise hid it (Athalye et al. 2018; Carlini et al. 2019;
Croce et al. 2022). These checks look for the usual causes. None of them proves
that an evaluation is right.
"""

import itertools
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.anytime import anytime

# Of the images looked at, the share without gradient that is tolerated.
_LARGEST_SHARE = 0.1
# No pixel of such an image pulls the loss: next to nothing in float32.
_SMALLEST_GRADIENT = 1e-12
# Relative difference of two calls that is more than rounding.
_SAME = 1e-4
# With the whole range of pixels to choose from, nothing should resist this.
_ANYTHING = {"epsilon": 1.0, "step_size": 0.1, "num_steps": 40}
_LARGEST_REST = 0.05
# Attacks that follow no gradient.
_BLIND = ("Square", "UniformNoise")
# Images by which accuracies may go the wrong way, in shares of all.
_TOLERANCE = 0.005


class Finding(NamedTuple):
    """One reason to doubt an evaluation.

    Attributes:
        code: short name, such as `zero_gradient`.
        message: what was found, and what to do.
    """

    code: str
    message: str


def check_model(model, images, labels, num_examples=128):
    """Return `Finding`s about a model, before it is attacked.

    Their codes are `softmax_outputs`, `randomised_model`, `no_gradient`,
    `zero_gradient` and `resists_any_change`.

    Args:
        model, images, labels: as for `anytime`.
        num_examples: how many of the images to look at. Defaults to 128.
    """
    images, labels = batches.check(
        model, images[:num_examples], labels[:num_examples], num_examples
    )
    findings = []
    for look in (
        _softmax_outputs,
        _randomised_model,
        _gradients,
        _resists_any_change,
    ):
        findings += itertools.islice(look(model, images, labels), 1)
        # PGD needs a gradient, and says so itself where there is none.
        if findings and findings[-1].code == "no_gradient":
            break
    return findings


def check_attack(attack, num_classes):
    """Return a list with a `Finding` if too many targets are asked for.

    It is `fewer_targets`; the list is empty if that many classes exist.

    Args:
        attack: an `Attack`, which may want more target classes than exist.
        num_classes: number of classes of the model.
    """
    wanted = [
        getattr(each, "num_targets", None) or 0 for each in attack.members
    ]
    if max(wanted) < num_classes:
        return []
    return [
        Finding(
            "fewer_targets",
            f"{max(wanted)} target classes were asked for, and there are only "
            f"{num_classes - 1} wrong ones: all of them are tried.",
        )
    ]


def check_search(result):
    """Return a list with a `Finding` if Square fools what gradients did not.

    It is `square_beats_gradients`; the list is empty if Square fools hardly
    any image that attacks with gradients failed on.

    Args:
        result: the `SearchResult` of several attacks, `Square` after one that
            follows gradients.
    """
    names = result.attack_names
    follows = [name not in _BLIND for name in names]
    squares = [
        number
        for number, name in enumerate(names)
        if name == "Square" and any(follows[:number])
    ]
    share = float(np.isin(result.fooled_by, squares).mean())
    if share <= _TOLERANCE:
        return []
    return [
        Finding(
            "square_beats_gradients",
            f"Square, which sees no gradient, fooled {100 * share:.1f} % of "
            "the images after attacks that follow gradients had failed: "
            "gradients are masked, or these attacks too short.",
        )
    ]


def check_curve(name, values, accuracies):
    """Return `Finding`s where accuracy rises as the attack gets stronger.

    Their code is `rises_with_epsilon` or `rises_with_num_steps`.

    Args:
        name: what gets larger: `"epsilon"` or `"num_steps"`.
        values: increasing numbers.
        accuracies: from 0 to 1, one per value.
    """
    points = list(zip(values, accuracies, strict=True))
    return [
        Finding(
            f"rises_with_{name}",
            f"Robust accuracy rises from {100 * before:.1f} % at {name} "
            f"{weaker:g} to {100 * after:.1f} % at {stronger:g}: the attack "
            "does not find what is there.",
        )
        for (weaker, before), (stronger, after) in itertools.pairwise(points)
        if after > before + _TOLERANCE
    ]


def _softmax_outputs(model, images, labels):
    del labels
    for name, logits in _logits(model, images).items():
        is_distribution = (logits >= 0).all() and np.allclose(
            logits.sum(axis=1), 1.0, atol=1e-4
        )
        if is_distribution:
            yield Finding(
                "softmax_outputs",
                f"Exit {name!r} returns probabilities, and losses apply a "
                "softmax to them again: gradients are small and attacks "
                "weak. Build the exit without the softmax.",
            )


def _randomised_model(model, images, labels):
    del labels
    first, second = (_logits(model, images) for _ in range(2))
    for name in first:
        scale = max(float(np.abs(first[name]).max()), 1e-30)
        if np.abs(first[name] - second[name]).max() > _SAME * scale:
            yield Finding(
                "randomised_model",
                f"Exit {name!r} answers differently when asked twice: an "
                "attack follows the gradient of one answer and is judged by "
                "another. Evaluate without the noise, or average over it.",
            )


def _gradients(model, images, labels):
    """Look for exits whose cross-entropy does not depend on the image."""
    for exit, name in enumerate(model.exit_names):
        try:
            largest = _largest_gradients(model, images, labels, exit)
        except ValueError as error:
            yield Finding("no_gradient", f"Exit {name!r}: {error}")
            return
        share = float((largest < _SMALLEST_GRADIENT).mean())
        if share > _LARGEST_SHARE:
            yield Finding(
                "zero_gradient",
                f"At exit {name!r} the cross-entropy has no gradient for "
                f"{100 * share:.0f} % of the images, so attacks that follow "
                "it stand still: rounding in the model, or logits so large "
                "that the softmax is saturated. Use the losses margin or dlr, "
                "and attacks without gradients.",
            )


def _largest_gradients(model, images, labels, exit):
    compiled = model.programs.kept(_compiled_step, exit, shape=images.shape)
    return ops.convert_to_numpy(compiled(images, labels))


def _compiled_step(model, exit):
    predict = model.exit_logits()

    def largest(images, labels):
        images = ops.convert_to_tensor(images)
        gradient = batches.exit_gradient(predict, exit, images, labels)
        return ops.max(ops.abs(gradient), axis=(1, 2, 3))

    return backend.compile_per_example(largest, model.variables)


def _resists_any_change(model, images, labels):
    for exit, name in enumerate(model.exit_names):
        objective = attacks.SingleExit(exit, loss="margin")
        attack = attacks.PGD(**_ANYTHING, objective=objective)
        result = anytime(model, images, labels, attack, len(images))
        rest = float(result.accuracy()[exit])
        if rest > _LARGEST_REST:
            yield Finding(
                "resists_any_change",
                f"Exit {name!r} is right on {100 * rest:.0f} % of the images "
                "after an attack that may turn them into anything (epsilon "
                "1): the attack fails for another reason than robustness.",
            )


def _logits(model, images):
    outputs = model(ops.convert_to_tensor(images), training=False)
    return {
        name: np.asarray(ops.convert_to_numpy(outputs[name]), "float32")
        for name in model.exit_names
    }
