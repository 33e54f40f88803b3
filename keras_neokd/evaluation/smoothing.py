"""Certified accuracy by randomised smoothing (Cohen et al. 2019).

    result = certify(model, images, labels, sigma=0.25)
    result.certified_accuracy(0.5)     # one number per exit
    result.abstention_rate()
    result.confidence                  # 0.999, of each single certificate

The smoothed exit answers with the class that the exit chooses most often
when Gaussian noise is added to the image. Where that class wins clearly, no
change of the image with an L2 norm below the certified radius alters the
answer, whatever attack finds it; the statement fails with the probability
`failure_probability`, over the draws of the noise.

CERTIFY of Cohen et al. 2019 (arXiv 1902.02918): of `num_selection` noisy images
the most frequent class is selected; `num_estimation` fresh ones give the lower
bound `p` of its share (Clopper and Pearson, one-sided). Where `p >= 1/2` the
radius is `sigma * Phi^-1(p)`, else the exit abstains. All exits answer the same
noisy images, which are not clipped to [0, 1]: the theorem is about Gaussian
noise. (It is drawn from 23 bits, so its tails end at 5.8 sigma, beyond which
Gaussian noise has a probability of 1e-8 per pixel.)
"""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.protocol import diagnostic
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import flat
from keras_neokd.evaluation.result import table
from keras_neokd.network.multi_exit import MultiExitModel

ABSTAIN = -1


@dataclasses.dataclass(frozen=True)
class SmoothingResult(Result):
    """Classes of the smoothed exits, and the radii that are certified.

    Each certificate, one image and one exit, holds with the probability
    `confidence`. The exits answer the same noisy images, so their
    certificates are not independent; that all of L exits hold for an image
    has at least the probability `1 - L * failure_probability`.

    Attributes:
        exit_names: names of the exits in depth order.
        sigma: standard deviation of the noise, in pixel units.
        failure_probability: alpha, of each certificate.
        num_estimation: number of noisy images behind each certificate.
        labels: integers `(examples,)`, the true classes.
        predictions: integers `(examples, exits)`, class or -1 for "abstain".
        lower_bounds: float64 `(examples, exits)`: lower confidence bound of
            the share of noisy images that get the selected class; below 0.5
            where the exit abstains.
        radii: float64 `(examples, exits)`: certified L2 radius in pixel
            units; 0 where the exit abstains.
        reported_radii: radii at which `rows` gives the certified accuracy.
    """

    columns = {
        "exit": "text",
        "radius": "number",
        "certified_accuracy": "share",
        "abstention_rate": "share",
    }
    spread = ("certified_accuracy", "abstention_rate")
    summary_columns = {"confidence": "number", "largest_radius": "number"}

    exit_names: tuple[str, ...]
    sigma: float
    failure_probability: float
    num_estimation: int
    labels: np.ndarray
    predictions: np.ndarray
    lower_bounds: np.ndarray
    radii: np.ndarray
    reported_radii: tuple[float, ...] = (0.0,)

    @property
    def confidence(self) -> float:
        """Probability that one certificate holds: 1 - alpha."""
        return 1.0 - self.failure_probability

    def certified_accuracy(self, radius: float = 0.0) -> Array:
        """Return the share of images that are right out to a radius.

        Args:
            radius: L2 radius in pixel units, >= 0. Defaults to 0: the
                accuracy of the smoothed exits.

        Returns:
            `(exits,)`: the share of images whose prediction is the true
            class with a certified radius of at least `radius`.

        Raises:
            TypeError, ValueError: if `radius` is not possible.
        """
        radius = checks.number("radius", radius, minimum=0)
        correct = self.predictions == self.labels[:, None]
        return (correct & (self.radii >= radius)).mean(axis=0)

    def abstention_rate(self) -> Array:
        """Return the share of images without a certificate, `(exits,)`."""
        return (self.predictions == ABSTAIN).mean(axis=0)

    def rows(self) -> list[Row]:
        """Return a row per reported radius and exit."""
        radii, exits = self.reported_radii, len(self.exit_names)
        return table(
            exit=self.exit_names * len(radii),
            radius=np.repeat(radii, exits),
            certified_accuracy=np.ravel(
                [self.certified_accuracy(each) for each in radii]
            ),
            abstention_rate=np.tile(self.abstention_rate(), len(radii)),
        )

    def summary(self) -> Row:
        """Return the confidence and the largest radius."""
        return flat(
            confidence=self.confidence, largest_radius=self.largest_radius()
        )

    def largest_radius(self) -> float:
        """Return the radius where all noisy images agree, the largest possible.

        More draws move it outwards slowly.
        """
        total = self.num_estimation
        bound = lower_bound(total, total, self.failure_probability)
        return float(self.sigma * _special().ndtri(bound))


def _check(
    model, sigma, num_selection, num_estimation, failure_probability, radii
):
    del model
    _special()
    checks.pixel_change("sigma", sigma, above=0)
    checks.integer("num_selection", num_selection, minimum=1)
    checks.integer("num_estimation", num_estimation, minimum=1)
    checks.number("failure_probability", failure_probability, above=0, below=1)
    if not checks.sequence("radii", radii, "numbers"):
        raise ValueError("`radii` needs one radius or more, received none.")
    for radius in radii:
        checks.number("radii", radius, minimum=0)


@diagnostic("smoothing", SmoothingResult, _check)
def certify(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    sigma: float,
    num_selection: int = 100,
    num_estimation: int = 10_000,
    failure_probability: float = 0.001,
    batch_size: int = 256,
    seed: int = 0,
    verbose: int = 0,
    radii: Sequence[float] = (0.0,),
) -> SmoothingResult:
    """Return a `SmoothingResult`, a certificate of every exit and image.

    Args:
        model, images, labels, verbose: as for `anytime`.
        sigma: standard deviation of the noise, in pixel units, at least
            2**-24 (less changes nothing in float32).
        num_selection: noisy images that select the class, >= 1. Defaults to
            100, as in the paper.
        num_estimation: noisy images that certify it, >= 1. 10,000 (default)
            reach a radius of 3.2 sigma, 100,000 as in the paper 3.8 sigma.
        failure_probability: alpha, above 0 and below 1. Defaults to 0.001.
        batch_size: noisy images per call, of one example. Defaults to 256.
        seed: integer from 0 to 2**31 - 1. Draw `j` of image `i` has the
            noise of (seed, i, j), whatever the batch size. Defaults to 0.
        radii: those at which `rows` gives the accuracy. Defaults to 0 alone.

    Raises:
        ImportError: if SciPy is not installed.
        TypeError, ValueError: as `anytime`, or if another argument is wrong.
    """
    _check(
        model, sigma, num_selection, num_estimation, failure_probability, radii
    )
    images, labels = batches.check(model, images, labels, batch_size)
    seed = np.array(randomness.check_seed(seed), "int32")
    draws = num_selection + num_estimation
    step = model.programs.kept(
        _compiled_step,
        float(sigma),
        shape=(min(batch_size, draws), *images.shape[1:]),
    )
    progress = keras.utils.Progbar(len(images), verbose=verbose)
    selected, hits = [], []
    for index in range(len(images)):
        answers = _answers(model, step, images, index, seed, draws, batch_size)
        classes = _most_frequent(answers[:num_selection], model.num_classes)
        selected.append(classes)
        hits.append((answers[num_selection:] == classes).sum(axis=0))
        progress.add(1)
    bounds = lower_bound(np.stack(hits), num_estimation, failure_probability)
    abstains = bounds < 0.5
    return SmoothingResult(
        exit_names=model.exit_names,
        sigma=float(sigma),
        failure_probability=float(failure_probability),
        num_estimation=num_estimation,
        labels=labels,
        predictions=np.where(abstains, ABSTAIN, np.stack(selected)),
        lower_bounds=bounds,
        radii=sigma * _special().ndtri(np.where(abstains, 0.5, bounds)),
        reported_radii=tuple(radii),
    )


def lower_bound(hits, total, failure_probability):
    """Return one-sided Clopper-Pearson lower bounds of probabilities.

    Args:
        hits: integers, how often each event happened; without any, the bound
            is 0.
        total: how often they could have happened.
        failure_probability: probability that a bound is too high.
    """
    hits = np.asarray(hits)
    bounds = _special().betaincinv(
        np.maximum(hits, 1), total - hits + 1, failure_probability
    )
    return np.where(hits > 0, bounds, 0.0)


def _special():
    try:
        from scipy import special
    except ImportError as error:
        raise ImportError(
            "Certified radii need SciPy, which is not installed. Run: "
            "pip install scipy"
        ) from error
    return special


def _compiled_step(model, sigma):
    predict = model.exit_logits()

    def step(image, index, draws, seed):
        keys = randomness.bits(ops.convert_to_tensor(seed), index, draws)
        image = ops.convert_to_tensor(image)
        noise = randomness.example_normal(keys, tuple(image.shape[1:]))
        logits = ops.stack(predict(image + sigma * noise), axis=1)
        classes = ops.cast(ops.argmax(logits, axis=2), "int32")
        finite = ops.all(ops.isfinite(logits), axis=2)
        return {"classes": ops.where(finite, classes, -1)}

    return backend.compile_function(step, model.variables)


def _answers(model, step, images, index, seed, draws, batch_size):
    """Return the class of every draw and exit, `(draws, exits)`."""
    image = images[index : index + 1]
    place = np.array([index], "int32")
    answers = batches.collect(
        lambda numbers: step(image, place, numbers, seed), draws, batch_size
    )["classes"]
    if (answers < 0).any():
        raise ValueError(
            f"Model {model.name!r} returned NaN or infinite logits for "
            f"image {index} with noise, so it has no answer to certify."
        )
    return answers


def _most_frequent(answers, num_classes):
    """Return the most frequent class of each column, the first of equals."""
    return np.array(
        [
            np.bincount(column, minlength=num_classes).argmax()
            for column in answers.T
        ]
    )
