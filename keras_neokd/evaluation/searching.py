"""Attacks that search, on many images: only those that still resist go on.

    result = search(model, images, labels, AutoAttack(epsilon=0.03),
                    state_file="state.npz")
    result.adversarial, result.fooled_by

The examples still worth attacking are packed into batches; where every size is
compiled, these have one of four. The result of an example does not depend on
the others: its random numbers are those of (seed, index).

Several attacks, such as one on each exit alone, search together: what fools
one is tried on the others, which share one pass through the network for that.

    each = [AutoAttack(0.03, objective=SingleExit(i)) for i in range(3)]
    search_together(model, images, labels, each)   # a result per attack

With a state file the search can be stopped anywhere: the same call goes on
and ends with the same result, because the state tells which examples share a
batch.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.search import SearchAttack
from keras_neokd.attacks.worst_case import WorstCase
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import PathLike
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation import search_parts
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
    return isinstance(attack, (SearchAttack, WorstCase))


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
    compiled = CompiledSearch(model, [attack], batch_size)
    return compiled(images, labels, seed, verbose, state_file)[0]


def search_together(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    attacks: Sequence[Attack],
    batch_size: int = 256,
    seed: int = 0,
    verbose: int = 0,
    state_file: PathLike | None = None,
) -> list[SearchResult]:
    """Search with several attacks; what fools one is tried on the others.

    For example with AutoAttack on each exit alone. The first member of every
    attack comes first, then every second one, and within these the attacks in
    their order: put cheap exits in front. An image leaves an attack as soon as
    anything has fooled its objective; those that stay are attacked as `search`
    attacks them, with the same random numbers. So up to rounding no image
    resists that would not resist the attack alone.

    Args:
        model, images, labels, batch_size, seed, state_file: as for `search`.
        attacks: list of at least one `SearchAttack` or `WorstCase`, all with
            the same `epsilon`, `norm` and kinds of members.
        verbose: 1 prints a line per attack and member. Defaults to 0.

    Returns:
        List of a `SearchResult` per attack. `fooled_by` is the number of the
        member that made the image, whichever attack it belongs to.

    Raises:
        TypeError, ValueError: as `search`; also if balls or members differ.
    """
    attacks = checks.sequence("attacks", attacks, "Attacks")
    compiled = CompiledSearch(model, attacks, batch_size)
    return compiled(images, labels, seed, verbose, state_file)


class CompiledSearch:
    """Attacks that search, compiled for a model once for several calls.

    Args:
        model: a `MultiExitModel`.
        attacks: list of `SearchAttack`s and `WorstCase`s of one ball.
        batch_size: images per compiled call. Defaults to 256.

    Raises:
        TypeError: if the model or an attack is something else.
        ValueError: if there is no attack, one does not fit the model, or the
            balls differ.
    """

    def __init__(self, model, attacks, batch_size=256):
        _check_attacks(attacks)
        batches.check_model(model)
        for each in attacks:
            each.validate(model.num_exits, model.num_classes)
        self.model = model
        self.attacks = attacks
        self.batch_size = checks.integer("batch_size", batch_size, minimum=1)
        self._compiled = {}

    def __call__(self, images, labels, seed=0, verbose=0, state_file=None):
        """Search; arguments, result and errors as those of the functions."""
        images, labels = batches.check(
            self.model, images, labels, self.batch_size
        )
        seed = randomness.check_seed(seed)
        searched = (self.attacks, images, labels, self.batch_size, seed)
        state = SearchState.open(state_file, self.model, *searched)
        ongoing = EvaluationSearch(self, images, labels, state)
        ongoing.drop_the_wrong()
        keys = randomness.host_bits(seed, np.arange(len(images))).view("int32")
        for number, aim, member in self._in_turn():
            before = ongoing.num_left(aim)
            members = self.attacks[aim].members
            ongoing.attack(aim, number, _keys_of(keys, number, members))
            if verbose:
                print(
                    f"  {self._title(aim, member)}: {before} images attacked, "
                    f"{ongoing.num_left(aim)} resist",
                    flush=True,
                )
        state.write()
        return [
            SearchResult(adversarial, fooled_by, _names(attack))
            for adversarial, fooled_by, attack in zip(
                ongoing.adversarial,
                ongoing.fooled_by,
                self.attacks,
                strict=True,
            )
        ]

    def _in_turn(self):
        """Yield numbers of members and attacks, and members, in order."""
        for number in range(len(self.attacks[0].members)):
            for aim, attack in enumerate(self.attacks):
                yield number, aim, attack.members[number]

    def _title(self, aim, member):
        count = len(self.attacks)
        place = f" ({aim + 1} of {count})" if count > 1 else ""
        return f"{type(member).__name__}{place}"

    def judge(self, shape):
        """Return the compiled function that says which candidates fool.

        Args:
            shape: that of a batch of images.
        """
        objectives = tuple(each.objective for each in self.attacks)
        ball = None
        if len(self.attacks) > 1:
            ball = self.attacks[0].epsilon, self.attacks[0].norm
        given = search_parts.judged, None, objectives, ball
        return self._compile((), shape, *given)

    def compiled(self, aim, number, shape):
        """Return a member's numbers of attempts and rounds, and the functions.

        The functions are compiled. The first starts an attempt, the second
        does a round of it; without rounds it is `None`.

        Args:
            aim: number of the attack.
            number: that of its member.
            shape: that of a batch of images.
        """
        attack = self.attacks[aim]
        member, which = attack.members[number], (aim, number)
        if not isinstance(member, SearchAttack):
            given = search_parts.once, attack.objective, member
            return 1, 0, self._compile(which, shape, *given), None
        given = member.objective, member
        return (
            member.num_attempts(self.model.num_classes),
            member.num_rounds(),
            self._compile(which, shape, search_parts.started, *given),
            self._compile(which, shape, search_parts.advanced, *given),
        )

    def _compile(self, which, shape, part, objective, *given):
        key = which, shape, part
        if key not in self._compiled:
            self._compiled[key] = self.model.programs.kept(
                search_parts.compiled, part, objective, *given, shape=shape
            )
        return self._compiled[key]


def _check_attacks(attacks):
    for each in attacks:
        if not is_search(each):
            raise TypeError(
                "`search` needs a SearchAttack such as APGD, or a WorstCase, "
                f"received {each!r}. Use evaluation.adversarial_images."
            )
    balls = [(each.epsilon, each.norm) for each in attacks]
    if len(set(balls)) != 1:
        raise ValueError(
            "Attacks that search together need one ball, because what fools "
            "one is tried on the others: expected at least one attack and the "
            f"same epsilon and norm of all, received {balls}. Search with "
            "each alone."
        )
    kinds = [_names(each) for each in attacks]
    if len(set(kinds)) != 1:
        raise ValueError(
            "Attacks that search together need members of the same kinds, "
            "because a result says which one made an image. Received "
            f"{kinds}. Search with each alone."
        )


def _names(attack):
    return tuple(type(member).__name__ for member in attack.members)


def _keys_of(keys, number, members):
    """Return the keys of an attack, as `WorstCase.perturb` makes them."""
    if len(members) == 1:
        return keys
    return randomness.host_bits(keys, number).view("int32")
