"""Anytime accuracy: every exit, all scored on the same attacked images.

    result = anytime(model, images, labels)                    # clean
    result = anytime(model, images, labels, attack=pgd_50)
    result.accuracy()          # top-1 of every exit, in depth order

    evaluator = Evaluator(model, attack=pgd_50)                # compiled once
    results = [evaluator.anytime(images, labels, seed) for seed in range(5)]

The protocol of Tables 1 to 5 of NEO-KD (arXiv 2311.00428).
"""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import PathLike
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation import searching
from keras_neokd.evaluation.intervals import wilson_interval
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import table
from keras_neokd.network.multi_exit import MultiExitModel

_TOPS = (1, 5)


@dataclasses.dataclass(frozen=True)
class AnytimeResult(Result):
    """Answers of each exit on each image.

    Attributes:
        exit_names: names of the exits in depth order.
        num_classes: number of classes.
        ranks: integers `(examples, exits)`: how many classes the exit
            prefers to the true one; 0 means correct.
        info: dict of arrays `(examples, k)` that the attack returned, such
            as `selected_share` of the max-average attack.
        search: the `SearchResult` of an attack that searches, else `None`.
    """

    columns = {
        "top": "count",
        "exit": "text",
        "accuracy": "share",
        "low": "share?",
        "high": "share?",
        "deviation": "number?",
        "selected_share": "share?",
    }

    exit_names: tuple[str, ...]
    num_classes: int
    ranks: np.ndarray
    info: dict[str, Array]
    search: searching.SearchResult | None = None

    def accuracy(self, k: int = 1) -> Array:
        """Return the top-`k` accuracy of every exit, as `(exits,)`.

        Args:
            k: integer >= 1. Defaults to 1.

        Raises:
            ValueError: if `k` is not smaller than the number of classes.
        """
        k = checks.integer("k", k, minimum=1)
        if k >= self.num_classes:
            raise ValueError(
                f"Top-{k} accuracy of {self.num_classes} classes says "
                f"nothing: expected k < {self.num_classes}."
            )
        return (self.ranks < k).mean(axis=0)

    def rows(self) -> list[Row]:
        """Return the rows of `accuracy_rows` for a single seed."""
        return accuracy_rows([self])


def accuracy_rows(results):
    """Return the accuracy of every exit as rows, for one seed or several.

    Args:
        results: list of `AnytimeResult`s of the same images.

    Returns:
        Rows with `top` (1; 5 with more than 5 classes), `exit`, `accuracy`
        (the mean over the seeds), `low` and `high` (ends of its 95 %
        interval for the choice of the images), and where there is one
        `deviation` (standard deviation over the seeds) and `selected_share`
        (of the images whose strongest candidate came from the exit).
    """
    first, rows = results[0], []
    for k in _TOPS:
        if k >= first.num_classes:
            continue
        by_seed = np.array([each.accuracy(k) for each in results])
        mean, count = by_seed.mean(axis=0), len(first.ranks)
        low, high = zip(
            *(wilson_interval(float(each), count) for each in mean), strict=True
        )
        more = {}
        if len(results) > 1:
            more["deviation"] = by_seed.std(axis=0, ddof=1)
        if k == 1 and "selected_share" in first.info:
            more["selected_share"] = first.info["selected_share"].mean(axis=0)
        rows += table(
            top=[k] * len(mean),
            exit=first.exit_names,
            accuracy=mean,
            low=low,
            high=high,
            **more,
        )
    return rows


def anytime(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    attack: Attack | None = None,
    batch_size: int = 256,
    seed: int = 0,
    verbose: int = 0,
    state_file: PathLike | None = None,
) -> AnytimeResult:
    """Return an `AnytimeResult` of every exit on clean or attacked images.

    The result does not depend on `batch_size`: image `i` is attacked with
    the random numbers of (seed, i).

    Args:
        model: a `MultiExitModel`.
        images: array `(examples, height, width, channels)` in [0, 1].
        labels: integers `(examples,)` or one-hot.
        attack: a `keras_neokd.attacks.Attack`, or `None` for clean images.
        batch_size: images per compiled call; the last batch is padded.
            Defaults to 256.
        seed: integer from 0 to 2**31 - 1. Defaults to 0.
        verbose: 1 shows a progress bar. Defaults to 0.
        state_file: for an attack that searches, see `searching.search`.

    Raises:
        ValueError: if the data is not as described, or the model returns
            NaN or infinite logits.
    """
    evaluator = Evaluator(model, attack, batch_size)
    return evaluator.anytime(images, labels, seed, verbose, state_file)


def adversarial_images(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    attack: Attack,
    batch_size: int = 256,
    seed: int = 0,
    verbose: int = 0,
) -> Array:
    """Return adversarial images: float32, of the shape of `images`.

    Arguments and errors as in `anytime`.
    """
    attack = attacks.get(attack)  # Here None is no attack.
    evaluator = Evaluator(model, attack, batch_size)
    return evaluator.adversarial_images(images, labels, seed, verbose)


craft = adversarial_images  # Its name until 0.1.


def exit_probabilities(
    model: MultiExitModel, images: Array, labels: Array, batch_size: int = 256
) -> Array:
    """Return the softmax of every exit, float32 `(examples, exits, classes)`.

    Arguments and errors as in `anytime`; labels are only checked.
    """
    return Evaluator(model, None, batch_size).probabilities(images, labels)


class Evaluator:
    """A model and an attack, compiled once for several data sets or seeds.

    Args:
        model: a `MultiExitModel`.
        attack: a `keras_neokd.attacks.Attack`, or `None` for clean images.
        batch_size: images per compiled call. Defaults to 256.

    Raises:
        TypeError: if the model is something else.
        ValueError: if the attack does not fit the model.
    """

    def __init__(
        self,
        model: MultiExitModel,
        attack: Attack | None = None,
        batch_size: int = 256,
    ) -> None:
        batches.check_model(model)
        self.model = model
        self.batch_size = checks.integer("batch_size", batch_size, minimum=1)
        self._search = None
        self._compiled: dict[Any, Any] = {}
        if searching.is_search(attack):
            self._search = searching.CompiledSearch(model, [attack], batch_size)
            attack = None
        self.attack = None if attack is None else attacks.get(attack)
        if self.attack is not None:
            self.attack.validate(model.num_exits, model.num_classes)

    def anytime(
        self,
        images: Array,
        labels: Array,
        seed: int = 0,
        verbose: int = 0,
        state_file: PathLike | None = None,
    ) -> AnytimeResult:
        """Score every exit; arguments and result as those of `anytime`."""
        found = None
        if self._search is not None:
            (found,) = self._search(images, labels, seed, verbose, state_file)
            images = found.adversarial
        outputs = self._run(_ranks, self.attack, images, labels, seed, verbose)
        ranks = outputs.pop("result")
        if (ranks < 0).any():
            raise ValueError(
                f"Model {self.model.name!r} returned NaN or infinite logits "
                f"for {int((ranks < 0).any(axis=1).sum())} of {len(ranks)} "
                "images, so their accuracy is undefined."
            )
        return AnytimeResult(
            self.model.exit_names, self.model.num_classes, ranks, outputs, found
        )

    def attacked(
        self, images: Array, labels: Array, seed: int = 0
    ) -> tuple[Array, Array]:
        """Return the images under the attack, and the labels."""
        if self.attack is None and self._search is None:
            return images, labels
        return self.adversarial_images(images, labels, seed), labels

    def adversarial_images(
        self, images: Array, labels: Array, seed: int = 0, verbose: int = 0
    ) -> Array:
        """Return adversarial images; arguments as those of `anytime`."""
        if self._search is not None:
            return self._search(images, labels, seed, verbose)[0].adversarial
        outputs = self._run(
            _adversarial, self.attack, images, labels, seed, verbose
        )
        return outputs["result"]

    craft = adversarial_images  # Its name until 0.1.

    def probabilities(self, images: Array, labels: Array) -> Array:
        """Return `exit_probabilities` of images that are not attacked."""
        found = self._run(_softmax, None, images, labels)["result"]
        batches.check_finite(self.model, found, "probabilities")
        return found

    def _run(self, summarise, attack, images, labels, seed=0, verbose=0):
        images, labels = batches.check(
            self.model, images, labels, self.batch_size
        )
        seed = np.array(randomness.check_seed(seed), "int32")
        shape = batches.shape(images, self.batch_size)
        if (summarise, shape) not in self._compiled:
            self._compiled[summarise, shape] = self.model.programs.kept(
                _compiled_step, summarise, attack, shape=shape
            )
        step = self._compiled[summarise, shape]
        return batches.over_examples(
            lambda *batch: step(*batch, seed),
            images,
            labels,
            self.batch_size,
            verbose,
        )


def _compiled_step(model, summarise, attack):
    predict = model.exit_logits()

    def step(images, labels, index, seed):
        images = ops.convert_to_tensor(images)
        labels = ops.convert_to_tensor(labels)
        info = {}
        if attack is not None:
            keys = randomness.bits(ops.convert_to_tensor(seed), index)
            images, info = attack.generate(predict, images, labels, keys)
        logits = ops.stack(predict(images), axis=1)
        return {"result": summarise(images, logits, labels), **info}

    return backend.compile_per_example(step, model.variables)


def _adversarial(images, logits, labels):
    del logits, labels
    return images


def _softmax(images, logits, labels):
    del images, labels
    return ops.softmax(logits, axis=-1)


def _ranks(_, logits, labels):
    """Count the classes before the true one; -1 where logits are broken."""
    labels = ops.reshape(labels, (-1, 1, 1))
    true = ops.take_along_axis(logits, labels, axis=2)
    classes = ops.reshape(
        ops.arange(logits.shape[2], dtype="int32"), (1, 1, -1)
    )
    # Equal logits count by class index, as argmax and top-k do.
    before = ops.logical_or(
        logits > true, ops.logical_and(logits == true, classes < labels)
    )
    ranks = ops.sum(ops.cast(before, "int32"), axis=2)
    finite = ops.all(ops.isfinite(logits), axis=2)
    return ops.where(finite, ranks, -1)
