"""Attacks that search, on many images: only those that still resist go on.

    result = search(model, images, labels, AutoAttack(epsilon=0.03),
                    state_file="state.npz")
    result.adversarial, result.fooled_by

The examples still worth attacking are packed into full batches, and the rest
into a batch of one of a few sizes, so that nothing is compiled again. The
result of an example does not depend on the others: its random numbers are those
of (seed, index).

With a state file the search can be stopped anywhere: the same call goes on
and ends with the same result, because the state tells which examples share a
batch.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.search import Problem
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import PathLike
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import table
from keras_neokd.evaluation.search_run import RESISTED
from keras_neokd.evaluation.search_run import EvaluationSearch
from keras_neokd.evaluation.search_state import SearchState
from keras_neokd.network.multi_exit import MultiExitModel


@dataclasses.dataclass(frozen=True)
class SearchResult(Result):
    """Adversarial images, and the attack that fooled each.

    Attributes:
        adversarial: float32 images; the clean one where nothing was found.
        fooled_by: integers `(examples,)`: number of the attack in
            `attack_names` that fooled the image, -1 where none did, -2 where
            the clean image counts as fooled already.
        attack_names: names of the attacks in their order.
    """

    columns = {"attack": "text", "robust": "share"}

    adversarial: np.ndarray
    fooled_by: np.ndarray
    attack_names: tuple[str, ...]

    def robust_accuracy(self) -> float:
        """Return the share of images that no attack fooled."""
        return float((self.fooled_by == RESISTED).mean())

    def robust_after_each(self) -> list[float]:
        """Return the shares left after no attack, the first, the second..."""
        return [
            float(((self.fooled_by == RESISTED) | (self.fooled_by >= n)).mean())
            for n in range(len(self.attack_names) + 1)
        ]

    def rows(self) -> list[Row]:
        """Return the rows of `resisting_rows` for a single seed."""
        return resisting_rows([self])


def resisting_rows(results):
    """Return the shares of images that resist, for one seed or several.

    Args:
        results: list of `SearchResult`s of the same attack.

    Returns:
        Rows with `attack` (the first is "clean") and `robust`: the share left
        after it, the mean over the seeds.
    """
    shares = np.mean([each.robust_after_each() for each in results], axis=0)
    names = ("clean", *results[0].attack_names)
    return table(attack=names, robust=shares)


def is_search(attack):
    """Return whether `search` can run an attack, or `None`."""
    return isinstance(attack, (attacks.SearchAttack, attacks.WorstCase))


def search(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    attack: Attack,
    batch_size: int = 256,
    seed: int = 0,
    verbose: int = 0,
    state_file: PathLike | None = None,
) -> SearchResult:
    """Return the `SearchResult` of attacks on images until they are fooled.

    Args:
        model, images, labels, batch_size, seed: as for `anytime`.
        attack: a `SearchAttack` or a `WorstCase`.
        verbose: 1 prints a line per attack. Defaults to 0.
        state_file: `.npz` file to go on from and to save the state in, about
            every half minute; `None` (default) for none.

    Raises:
        TypeError: if the attack is something else.
        ValueError: if the data is not as described, the attack does not fit
            the model, the model returns NaN or infinite logits, or the file
            holds the state of another search.
    """
    compiled = CompiledSearch(model, attack, batch_size)
    return compiled(images, labels, seed, verbose, state_file)


class CompiledSearch:
    """An attack that searches, compiled for a model once for several calls.

    Args:
        model: a `MultiExitModel`.
        attack: a `SearchAttack` or a `WorstCase`.
        batch_size: images per compiled call. Defaults to 256.

    Raises:
        TypeError: if the model or the attack is something else.
        ValueError: if the attack does not fit the model.
    """

    def __init__(self, model, attack, batch_size=256):
        if not is_search(attack):
            raise TypeError(
                "`search` needs a SearchAttack such as APGD, or a WorstCase, "
                f"received {attack!r}. Use evaluation.adversarial_images."
            )
        batches.check_model(model)
        attack.validate(model.num_exits, model.num_classes)
        self.model = model
        self.attack = attack
        self.batch_size = checks.integer("batch_size", batch_size, minimum=1)
        self.members = attack.members
        self._compiled = {}

    def __call__(self, images, labels, seed=0, verbose=0, state_file=None):
        """Search; arguments, result and errors as those of `search`."""
        images, labels = batches.check(
            self.model, images, labels, self.batch_size
        )
        seed = randomness.check_seed(seed)
        searched = (self.attack, images, labels, self.batch_size, seed)
        state = SearchState.open(state_file, self.model, *searched)
        ongoing = EvaluationSearch(self, images, labels, state)
        ongoing.drop_the_wrong()
        keys = randomness.host_bits(seed, np.arange(len(images))).view("int32")
        for number, member in enumerate(self.members):
            before = ongoing.num_left()
            ongoing.attack(number, _keys_of(keys, number, self.members))
            if verbose:
                print(
                    f"  {type(member).__name__}: {before} images attacked, "
                    f"{ongoing.num_left()} resist",
                    flush=True,
                )
        state.write()
        return SearchResult(
            state.arrays["adversarial"],
            state.arrays["fooled_by"],
            tuple(type(member).__name__ for member in self.members),
        )

    def judge(self, shape):
        """Return the compiled function that says which candidates fool.

        Args:
            shape: that of a batch of images.
        """
        return self._compile(shape, _judged, self.attack.objective)

    def compiled(self, number, shape):
        """Return a member's numbers of attempts and rounds, and the functions.

        The functions are compiled. The first starts an attempt, the second
        does a round of it; without rounds it is `None`.

        Args:
            number: that of the member.
            shape: that of a batch of images.
        """
        member = self.members[number]
        if not isinstance(member, attacks.SearchAttack):
            objective = self.attack.objective
            return 1, 0, self._compile(shape, _once, objective, number), None
        return (
            member.num_attempts(self.model.num_classes),
            member.num_rounds(),
            self._compile(shape, _started, member.objective, number),
            self._compile(shape, _advanced, member.objective, number),
        )

    def _compile(self, shape, part, objective, number=None):
        key = shape, part, number
        if key not in self._compiled:
            member = None if number is None else self.members[number]
            self._compiled[key] = self.model.programs.kept(
                _compiled_part, part, objective, member, shape=shape
            )
        return self._compiled[key]


def _compiled_part(model, part, objective, member):
    predict = model.exit_logits()

    def compute(images, labels, keys, *more):
        arrays, more = keras.tree.map_structure(
            ops.convert_to_tensor, ((images, labels, keys), more)
        )
        problem = Problem(predict.frozen().exact, objective, *arrays)
        return part(member, problem, *more)

    return backend.compile_per_example(compute, model.variables)


# The parts of a search.


def _judged(_, problem, candidates):
    logits = problem.logits(candidates)
    finite = [ops.all(ops.isfinite(each), axis=1) for each in logits]
    return {
        "fooled": problem.fooled(logits),
        "finite": ops.all(ops.stack(finite), axis=0),
    }


def _once(member, problem, _):
    """Run an attack without rounds, as the start of an attempt."""
    adversarial, _ = member.generate(*problem.batch())
    fooled = problem.fooled(problem.logits(adversarial))
    return {
        "adversarial": adversarial,
        "fooled": fooled,
        "active": ops.zeros_like(fooled),
    }


def _started(member, problem, attempt):
    return member.start(problem, attempt)


def _advanced(member, problem, given, round_):
    return member.advance(problem, round_, given)


def _keys_of(keys, number, members):
    """Return the keys of an attack, as `WorstCase.perturb` makes them."""
    if len(members) == 1:
        return keys
    return randomness.host_bits(keys, number).view("int32")
