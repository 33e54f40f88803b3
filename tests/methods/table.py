"""One row per training method: how to make it, and its terms in NumPy.

A reference gets a `Given` and returns, for each extra term, its values
`(batch, exits)` (or `(exits,)`) and weights. Students are taken from `live`,
teachers from `held`, so that a finite difference which moves the weights of
`live` leaves teachers where they are. A new method adds a row.
"""

import dataclasses
import typing

import numpy as np

from keras_neokd import methods
from tests.methods.tiny_network import NUM_CLASSES
from tests.methods.tiny_network import NUM_EXITS
from tests.methods.tiny_network import NumpyStudent
from tests.methods.tiny_network import NumpyTeacher
from tests.reference import equations as reference

ONES = np.ones(NUM_EXITS)
GAMMA = (1.0, 1.0, 1.5)
EPOCH = 3


@dataclasses.dataclass
class Given:
    """What a reference may look at.

    Attributes:
        live: a `NumpyStudent` with the weights that are trained.
        held: a `NumpyStudent` whose predictions are constants.
        images, adversarial: `(batch, height, width, channels)`.
        labels: `(batch,)`.
        sample_weights: `(batch,)`.
    """

    live: NumpyStudent
    held: NumpyStudent
    images: np.ndarray
    adversarial: np.ndarray
    labels: np.ndarray
    teacher: NumpyTeacher = dataclasses.field(default_factory=NumpyTeacher)


class Row(typing.NamedTuple):
    """A method.

    Attributes:
        made: the method, or a function that makes it from a teacher network.
        terms: reference of the extra terms.
        base: weights of clean and adversarial cross-entropy.
    """

    made: typing.Any
    terms: typing.Callable = lambda given: {}
    base: tuple = (1.0, 1.0)

    def make(self, teacher):
        """Return the method."""
        if isinstance(self.made, methods.Method):
            return self.made
        return self.made(teacher)


# NEO-KD and its parts.


def nkd(radius, weight=3.0):
    def terms(given):
        targets = reference.neighbor_teacher(
            given.held.logits(given.images), radius
        )
        taught = given.live.logits(given.adversarial)
        values = reference.soft_cross_entropy(taught, targets)
        return {"nkd": (values, weight * np.array(GAMMA))}

    return terms


def eokd(words):
    def terms(given):
        keys = [
            reference.eokd_key(0, *words(row, int(label)))
            for row, label in enumerate(given.labels)
        ]
        targets = reference.orthogonal_targets(
            given.held.logits(given.images),
            reference.allowed_classes(
                given.labels, keys, NUM_EXITS, NUM_CLASSES
            ),
        )
        taught = given.live.logits(given.adversarial)
        values = reference.soft_cross_entropy(taught, targets)
        return {"eokd": (values, np.array(GAMMA))}

    return terms


def by_epoch(row, label):
    return EPOCH, label


def by_batch(row, label):
    return EPOCH, 0, label


def by_sample(row, label):
    return EPOCH, 0, row


def fixed(row, label):
    return (label,)


# Distillation between exits.


def skd(teacher, weight, temperature, scale=1.0):
    def terms(given):
        found = {}
        for name, images in (
            ("clean", given.images),
            ("adversarial", given.adversarial),
        ):
            held = reference.softmax(given.held.logits(images) / temperature)
            weights = weight * ONES
            if teacher == "ensemble":
                targets = held.mean(axis=1, keepdims=True)
            else:
                targets = held[:, [teacher]]
                weights[teacher] = 0
            values = reference.kl(
                given.live.logits(images), targets, temperature
            )
            found[f"{name}_skd"] = (scale * values, weights)
        return found

    return terms


def cross_entropies(terms, names, temperature):
    """The terms with the entropy of teachers added back."""

    def with_entropy(given):
        found = terms(given)
        for name, images in zip(
            names, (given.images, given.adversarial), strict=True
        ):
            held = reference.softmax(given.held.logits(images) / temperature)
            values, weights = found[name]
            entropy = temperature**2 * reference.entropy(held[:, [-1]])
            found[name] = (values + entropy, weights)
        return found

    return with_entropy


def ard(weights, temperature=1.0, teacher=-1):
    def terms(given):
        held = given.held.logits(given.images) / temperature
        values = reference.kl(
            given.live.logits(given.adversarial),
            reference.softmax(held)[:, [teacher]],
            temperature,
        )
        return {"ard": (values, np.array(weights))}

    return terms


# Weights.


def lw(form, weights):
    def terms(given):
        squares = np.array([np.sum(each**2) for each in given.live.kernels()])
        norms = np.sqrt(squares)
        rises = np.diff(norms, prepend=norms[0])
        values = {
            "norm": norms,
            "squared_norm": squares,
            "hinge": np.maximum(rises, 0),
        }[form]
        return {"lw": (values, np.array(weights))}

    return terms


# TRADES and TEAT.


def trades(weight):
    def terms(given):
        values = reference.kl_of_logits(
            given.live.logits(given.images),
            given.live.logits(given.adversarial),
        )
        return {"trades": (values, weight * ONES)}

    return terms


def teat(on, ramp, weight=300.0):
    """One update of averages that were zero: targets are predictions."""

    def terms(given):
        targets = reference.softmax(given.held.logits(given.images))
        taught = reference.softmax(given.live.logits(getattr(given, on)))
        values = ramp * np.mean((taught - targets) ** 2, axis=-1)
        return {"teat": (values, weight * ONES)}

    return terms


# KDIGA.


def distillation(teaching, taught, weight, temperature=1.0, masked=False):
    def terms(given):
        images = getattr(given, teaching)
        logits = given.teacher.logits(images)
        targets = reference.softmax(logits / temperature)[:, None]
        student = given.live.logits(getattr(given, taught))
        values = reference.kl(student, targets, temperature)
        if masked:
            values = values * correct(given, images)[:, None]
        return {"distillation": (values, weight * temperature**2 * ONES)}

    return terms


def correct(given, images):
    return given.teacher.logits(images).argmax(axis=1) == given.labels


def alignment(on, norm, exits, weight, masked=False):
    """`exits`: None for the gradient of the mean, or a tuple."""

    def terms(given):
        images = getattr(given, on)
        teaching = given.teacher.input_gradient(images, given.labels)
        mask = correct(given, images) if masked else np.ones(len(images))
        squares = np.zeros((len(images), NUM_EXITS))
        for exit_ in exits or range(NUM_EXITS):
            asked = (exit_,) if exits else range(NUM_EXITS)
            taught = given.live.input_gradient(images, given.labels, asked)
            squares[:, exit_] = np.sum((taught - teaching) ** 2, axis=1)
        weights = np.zeros(NUM_EXITS)
        weights[list(exits or range(NUM_EXITS))] = weight
        if norm == "example":
            return {"alignment": (mask[:, None] * np.sqrt(squares), weights)}
        total = np.sqrt(np.sum(mask[:, None] * squares, axis=0))
        return {"alignment": (total / len(images) ** 2, weights)}

    return terms


def both(*references):
    def terms(given):
        found = {}
        for each in references:
            found.update(each(given))
        return found

    return terms


def scaled(factor, terms):
    def weighed(given):
        return {
            name: (values, factor * weights)
            for name, (values, weights) in terms(given).items()
        }

    return weighed


_KDIGA = both(
    distillation("images", "images", 0.5),
    alignment("images", "example", None, 1 / 3),
)
_AUTHOR = both(
    distillation("images", "images", 0.5 / NUM_CLASSES),
    alignment("images", "batch", None, 0.5 / 3),
)

ROWS = {
    "adversarial_training": Row(methods.AdversarialTraining()),
    "triple_wins": Row(methods.AdversarialTraining(0.5, 0.5), base=(0.5, 0.5)),
    "clean_training": Row(
        methods.AdversarialTraining(1.0, 0.0), base=(1.0, 0.0)
    ),
    "nkd": Row(methods.NKD(exit_weights=GAMMA), nkd(1)),
    "nkd_none": Row(methods.NKD(exit_weights=GAMMA, teacher="none"), nkd(0)),
    "nkd_radius_2": Row(methods.NKD(2.0, GAMMA, radius=2), nkd(2, 2.0)),
    "nkd_all": Row(methods.NKD(exit_weights=GAMMA, teacher="all"), nkd(9)),
    "eokd": Row(methods.EOKD(1.0, GAMMA), eokd(by_epoch)),
    "eokd_batch": Row(methods.EOKD(1.0, GAMMA, "batch"), eokd(by_batch)),
    "eokd_sample": Row(methods.EOKD(1.0, GAMMA, "sample"), eokd(by_sample)),
    "eokd_fixed": Row(methods.EOKD(1.0, GAMMA, "fixed"), eokd(fixed)),
    "neo_kd": Row(
        methods.NEOKD(exit_weights=GAMMA), both(nkd(1), eokd(by_epoch))
    ),
    "skd": Row(methods.SKD(), skd(-1, 0.35, 1.5)),
    "skd_ensemble": Row(
        methods.SKD(0.5, 4.0, "ensemble"), skd("ensemble", 0.5, 4.0)
    ),
    "skd_phuong": Row(
        methods.SKD.phuong(),
        cross_entropies(
            skd(-1, 5 / 3, 4.0, 16.0), ("clean_skd", "adversarial_skd"), 4.0
        ),
        (5 / 3, 5 / 3),
    ),
    "skd_annealing": Row(
        methods.SKD(temperature=2.0, annealing=True), skd(-1, 0.35, 2.0)
    ),
    "ard": Row(methods.ARD(), ard((0, 0, 1.0))),
    "ard_goldblum": Row(
        methods.ARD.goldblum(teacher=0, student="all"),
        ard(900.0 / NUM_CLASSES * ONES, 30.0, 0),
    ),
    "lw": Row(methods.LW(0.2), lw("norm", 0.2 * ONES)),
    "lw_squared": Row(
        methods.LW(0.1, "squared_norm", (1, 2, 3)),
        lw("squared_norm", (0.1, 0.2, 0.3)),
    ),
    "lw_hinge": Row(methods.LW(0.5, "hinge"), lw("hinge", 0.5 * ONES)),
    "trades": Row(methods.TRADES(), trades(6.0), (1.0, 0.0)),
    "teat": Row(
        # Epoch 3 of 5 is half way up the ramp: from 2 to 4.
        methods.TEAT(13, num_epochs=5),
        teat("adversarial", np.exp(-5 * 0.25)),
        (0.0, 1.0),
    ),
    "teat_trades": Row(
        methods.TEAT(13, 4, "trades", weight=100.0),
        both(trades(6.0), teat("images", 1.0, 100.0)),
        (1.0, 0.0),
    ),
    "kdiga": Row(methods.KDIGA, _KDIGA, (0.5, 0.0)),
    "kdiga_each": Row(
        lambda teacher: methods.KDIGA(
            teacher,
            0.25,
            0.25,
            temperature=2.0,
            alignment="adversarial",
            distillation="clean_to_adversarial",
            mask="teacher_correct",
            exits="each",
        ),
        both(
            distillation("images", "adversarial", 0.5, 2.0, masked=True),
            alignment("adversarial", "example", (0, 1, 2), 1.0, masked=True),
        ),
        (0.25, 0.25),
    ),
    "kdiga_chosen": Row(
        lambda teacher: methods.KDIGA(
            teacher, norm="batch", exits=(0, -1), mask="teacher_correct"
        ),
        both(
            distillation("images", "images", 0.5, masked=True),
            alignment("images", "batch", (0, 2), 1.0, masked=True),
        ),
        (0.5, 0.0),
    ),
    "kdiga_author_2021": Row(methods.KDIGA.author_2021, _AUTHOR, (0.5, 0.0)),
    "kdiga_rs": Row(
        # On the images given instead of noisy ones of its own.
        lambda teacher: methods.KDIGA.kdiga_rs(teacher, noise=0.0),
        both(
            distillation("adversarial", "adversarial", 0.5 / NUM_CLASSES),
            alignment("adversarial", "batch", None, 0.5 / 3),
        ),
        (0.0, 0.5),
    ),
    "kdiga_without_alignment": Row(
        methods.KDIGA.ard,
        distillation("adversarial", "adversarial", 0.5 / NUM_CLASSES),
        (0.5, 0.0),
    ),
    "kdiga_ard": Row(
        methods.KDIGA.kdiga_ard,
        both(
            distillation("adversarial", "adversarial", 0.5 / NUM_CLASSES),
            alignment("images", "batch", None, 0.5 / 3),
        ),
        (0.5, 0.0),
    ),
    "neo_kd_and_kdiga": Row(
        lambda teacher: (
            methods.NEOKD(exit_weights=GAMMA) + 0.5 * methods.KDIGA(teacher)
        ),
        both(nkd(1), eokd(by_epoch), scaled(0.5, _KDIGA)),
    ),
    "nkd_and_trades": Row(
        methods.NKD(exit_weights=GAMMA) + 0.1 * methods.TRADES(),
        both(nkd(1), scaled(0.1, trades(6.0))),
    ),
}
