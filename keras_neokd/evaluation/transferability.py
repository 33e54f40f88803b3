"""Measure how attacks on one exit, or one model, carry over to others.

    result = transferability(model, images, labels, pgd_50)     # exit to exit
    result.matrix, result.off_diagonal_mean(), result.ensemble

    result = transfer_between({"neo_kd": a, "plain": b}, images, labels, pgd)

The map of NEO-KD (arXiv 2311.00428, Figure 4): of the images that all exits
classify correctly, the share that an attack on the exit of the row fools at the
exit of the column. Several random starts, of which any may fool, and what the
ensemble says are the variant of DVERGE (Yang et al. 2020).
"""

import dataclasses
from typing import Any

import numpy as np

from keras_neokd import attacks
from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.anytime import Evaluator
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import flat
from keras_neokd.evaluation.result import table
from keras_neokd.network.multi_exit import MultiExitModel


@dataclasses.dataclass(frozen=True)
class TransferabilityResult(Result):
    """Shares of fooled images, source of the attack by row.

    Attributes:
        sources: names of the rows.
        targets: names of the columns.
        matrix: shares from 0 to 1, `(sources, targets)`.
        num_examples: number of images that were attacked: those that all
            exits of all models classify correctly.
        ensemble: shares at which the mean prediction of all exits is fooled,
            `(sources,)`; `None` between models.
    """

    columns = {"attack on": "text", "fooled at": "share"}
    summary_columns = {"num_attacked": "number", "off_diagonal_mean": "share?"}

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    matrix: np.ndarray
    num_examples: int
    ensemble: np.ndarray | None = None

    def rows(self) -> list[Row]:
        """Return a row per source, with the share fooled at each target."""
        matrix, targets = self.matrix, self.targets
        if self.ensemble is not None:
            matrix = np.column_stack([matrix, self.ensemble])
            targets = (*targets, "ensemble")
        return table(
            **{"attack on": self.sources, "fooled at": (targets, matrix)}
        )

    def summary(self) -> Row:
        """Return the number of attacked images, and the mean share."""
        mean = self.off_diagonal_mean() if len(self.sources) > 1 else None
        return flat(num_attacked=self.num_examples, off_diagonal_mean=mean)

    def off_diagonal_mean(self) -> float:
        """Return the mean share over different source and target.

        Raises:
            ValueError: if there is a single one.
        """
        different = ~np.eye(len(self.matrix), dtype=bool)
        if not different.any():
            raise ValueError(
                "Nothing transfers between one exit and itself: expected two "
                "exits or models, received one."
            )
        return float(self.matrix[different].mean())


def _check(model, attack, num_starts, subset):
    del model
    _aimed(attack, attacks.SingleExit(0))
    checks.integer("num_starts", num_starts, minimum=1)
    checks.integer("subset", subset, minimum=0)


@Protocol("transferability", TransferabilityResult, _check, num_exits=2)
def transferability(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    attack: Attack,
    num_starts: int = 1,
    subset: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> TransferabilityResult:
    """Return a `TransferabilityResult` of attacks on every exit alone.

    Args:
        model, images, labels, batch_size: as for `anytime`.
        attack: an attack that can be aimed at one exit, such as `PGD`; the
            loss of its objective stays.
        num_starts: number of attacks from different random starts; an image
            counts where any of them fools the exit. Defaults to 1; DVERGE
            has 5.
        subset: number of the images that all exits classify correctly to
            attack, drawn at random from `seed`; `None` (default) for all.
            DVERGE has 1,000.
        seed: integer; start `k` has `seed + k`. Defaults to 0.

    Raises:
        TypeError: if the attack cannot be aimed.
        ValueError: if the data is not as described, or no image is correct
            at all exits.
    """
    checks.integer("num_starts", num_starts, minimum=1)
    images, labels = _correct([model], images, labels, subset, batch_size, seed)
    clean = Evaluator(model, None, batch_size)
    shares = []
    for exit in range(model.num_exits):
        aimed = _aimed(attack, attacks.SingleExit(exit))
        attacker = Evaluator(model, aimed, batch_size)
        fooled: Any = False
        for start in range(num_starts):
            adversarial = attacker.adversarial_images(
                images, labels, seed + start
            )
            mean = clean.probabilities(adversarial, labels).mean(axis=1)
            ensemble = mean.argmax(axis=1) != labels
            wrong = _wrong(clean, adversarial, labels)
            fooled = fooled | np.column_stack([wrong, ensemble])
        shares.append(fooled.mean(axis=0))
    shares = np.stack(shares)
    names = model.exit_names
    return TransferabilityResult(
        names, names, shares[:, :-1], len(images), shares[:, -1]
    )


def transfer_between(
    models: dict[str, MultiExitModel],
    images: Array,
    labels: Array,
    attack: Attack,
    num_starts: int = 1,
    subset: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> TransferabilityResult:
    """Attack each model and score its images on all models.

    Return a `TransferabilityResult`. A share is the mean over the exits of
    the target.

    Args:
        models: dict from names to `MultiExitModel`s of the same images and
            classes, of any number of exits.
        attack: an attack on all exits of the source.
        images, labels, num_starts, subset, batch_size, seed: as in
            `transferability`.

    Raises:
        ValueError: if the data is not as described, or no image is correct
            at all exits of all models.
    """
    if not isinstance(models, dict) or not models:
        raise TypeError(
            "`models` needs a dict from names to MultiExitModels, received "
            f"{checks.typed(models)}."
        )
    targets = list(models.values())
    checks.integer("num_starts", num_starts, minimum=1)
    images, labels = _correct(targets, images, labels, subset, batch_size, seed)
    judges = [Evaluator(each, None, batch_size) for each in targets]
    rows = []
    for source in targets:
        attacker = Evaluator(source, attack, batch_size)
        fooled: list[Any] = [False] * len(targets)
        for start in range(num_starts):
            adversarial = attacker.adversarial_images(
                images, labels, seed + start
            )
            fooled = [
                before | _wrong(judge, adversarial, labels)
                for before, judge in zip(fooled, judges, strict=True)
            ]
        rows.append([each.mean() for each in fooled])
    names = tuple(models)
    return TransferabilityResult(names, names, np.array(rows), len(images))


def _check_between(model, models, attack, num_starts):
    del attack
    checks.integer("num_starts", num_starts, minimum=1)
    for name, other in models.items():
        if (other.input_shape, other.num_classes) != (
            model.input_shape,
            model.num_classes,
        ):
            raise ValueError(
                f"{name} takes images {other.input_shape[1:]} of "
                f"{other.num_classes} classes, expected "
                f"{model.input_shape[1:]} of {model.num_classes}."
            )


@Protocol("transfer", TransferabilityResult, _check_between)
def _from_this_model(
    model, images, labels, models, attack, num_starts=1, batch_size=256, seed=0
):
    """Measure `transfer_between` a model and others."""
    models = {"this model": model, **models}
    return transfer_between(
        models, images, labels, attack, num_starts, None, batch_size, seed
    )


def _correct(models, images, labels, subset, batch_size, seed):
    """Return the images that all exits of all models classify correctly."""
    images, labels = batches.check(models[0], images, labels, batch_size)
    seed = randomness.check_seed(seed)
    wrong = [
        _wrong(Evaluator(model, None, batch_size), images, labels)
        for model in models
    ]
    kept = np.flatnonzero(~np.concatenate(wrong, axis=1).any(axis=1))
    if not len(kept):
        raise ValueError(
            "No image is classified correctly by all exits, so nothing can "
            "be said about transfer. Train the model first."
        )
    if subset is not None:
        subset = checks.integer("subset", subset, minimum=1)
        generator = np.random.default_rng(seed)
        count = min(subset, len(kept))
        kept = np.sort(generator.choice(kept, count, replace=False))
    return images[kept], labels[kept]


def _aimed(attack, objective):
    attack = attacks.get(attack)
    attack.with_objective(objective)  # Or the attack says why not.
    return attack.with_objective(objective.with_loss(attack.objective.loss))


def _wrong(evaluator, images, labels):
    """Return which exits are wrong on images, `(examples, exits)`."""
    return evaluator.anytime(images, labels).ranks > 0
