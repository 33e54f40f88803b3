"""Attacks that search, on many images: only those that still resist go on.

    result = search(model, images, labels, AutoAttack(epsilon=0.03),
                    state_file="state.npz")
    result.adversarial, result.fooled_by

The examples still worth attacking are packed into full batches, and the rest
into a batch of one of a few sizes, so that nothing is compiled again. What an
example comes to does not depend on the others: its random numbers are those of
(seed, index).

With a state file the search can be stopped anywhere: the same call goes on
where it was and ends with the same result, because what was saved tells which
examples share a batch.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import checks
from keras_neokd import randomness
from keras_neokd.attacks.search import Problem
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.search_state import SearchState

# Batches of a group; the examples of a group go through a run together.
_GROUP = 4
# The smaller of the two batch sizes is this share of the other.
_SMALLER = 8
# In `fooled_by`.
RESISTED, WRONG_WHEN_CLEAN = -1, -2


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        adversarial: float32 images; the clean one where nothing was found.
        fooled_by: integers `(examples,)`: number of the attack in
            `attack_names` that fooled the image, -1 where none did, -2 where
            the clean image counts as fooled already.
        attack_names: names of the attacks in their order.
    """

    adversarial: np.ndarray
    fooled_by: np.ndarray
    attack_names: tuple

    def robust_accuracy(self):
        """Return the share of images that no attack fooled."""
        return float((self.fooled_by == RESISTED).mean())

    def robust_after_each(self):
        """Return the shares left after no attack, the first, the second..."""
        return [
            float(((self.fooled_by == RESISTED) | (self.fooled_by >= n)).mean())
            for n in range(len(self.attack_names) + 1)
        ]


def is_search(attack):
    """Whether `search` can run an attack.

    Args:
        attack: an `Attack`, or `None`.
    """
    return isinstance(attack, (attacks.SearchAttack, attacks.WorstCase))


def search(
    model,
    images,
    labels,
    attack,
    batch_size=256,
    seed=0,
    verbose=0,
    state_file=None,
):
    """Attack images until they are fooled.

    Args:
        model: a `MultiExitModel`.
        images: array `(examples, height, width, channels)` in [0, 1].
        labels: integers `(examples,)` or one-hot.
        attack: a `SearchAttack` or a `WorstCase`.
        batch_size: images per compiled call. Defaults to 256.
        seed: integer from 0 to 2**31 - 1. Defaults to 0.
        verbose: 1 prints a line per attack. Defaults to 0.
        state_file: `.npz` file to go on from and to save the state in, about
            every half minute; `None` (default) for none.

    Returns:
        A `SearchResult`.

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
        TypeError: if the attack is something else.
        ValueError: if the attack does not fit the model.
    """

    def __init__(self, model, attack, batch_size=256):
        if not is_search(attack):
            raise TypeError(
                "`search` needs a SearchAttack such as APGD, or a WorstCase, "
                f"received {attack!r}. Use evaluation.craft."
            )
        batches.check_model(model)
        attack.validate(model.num_exits, model.num_classes)
        self.model = model
        self.attack = attack
        self.batch_size = checks.integer("batch_size", batch_size, minimum=1)
        self.members = getattr(attack, "members", (attack,))
        self.judge = self._compile(_judged, attack.objective)
        self._steps = {}

    def __call__(self, images, labels, seed=0, verbose=0, state_file=None):
        """Search; arguments, result and errors as those of `search`."""
        images, labels = batches.check(
            self.model, images, labels, self.batch_size
        )
        seed = randomness.check_seed(seed)
        state = SearchState.open(
            state_file,
            self.model,
            self.attack,
            images,
            labels,
            self.batch_size,
            seed,
        )
        run = _Run(self, images, labels, state)
        run.drop_the_wrong()
        keys = randomness.host_bits(seed, np.arange(len(images))).view("int32")
        for number, member in enumerate(self.members):
            before = run.num_left()
            run.attack(number, _keys_of(keys, number, self.members))
            if verbose:
                print(
                    f"  {type(member).__name__}: {before} images attacked, "
                    f"{run.num_left()} resist",
                    flush=True,
                )
        state.write()
        return SearchResult(
            state.arrays["adversarial"],
            state.arrays["fooled_by"],
            tuple(type(member).__name__ for member in self.members),
        )

    def steps(self, number):
        """Return number of runs and of stages of a member, and both compiled.

        Args:
            number: of the member.
        """
        if number not in self._steps:
            self._steps[number] = self._compile_steps(self.members[number])
        return self._steps[number]

    def _compile_steps(self, member):
        if not isinstance(member, attacks.SearchAttack):
            start = self._compile(_once(member), self.attack.objective)
            return 1, 0, start, None

        def start(problem, run):
            return member.start(problem, run)

        def advance(problem, given, stage):
            return member.advance(problem, stage, given)

        return (
            member.num_runs(self.model.num_classes),
            member.num_stages(),
            self._compile(start, member.objective),
            self._compile(advance, member.objective),
        )

    def _compile(self, function, objective):
        predict = self.model.exit_logits()

        def compiled(images, labels, keys, *more):
            arrays = keras.tree.map_structure(
                ops.convert_to_tensor, (images, labels, keys)
            )
            more = keras.tree.map_structure(ops.convert_to_tensor, more)
            problem = Problem(predict.frozen(), objective, *arrays)
            return function(problem, *more)

        return backend.compile_per_example(compiled, self.model.variables)


def _judged(problem, candidates):
    logits = problem.logits(candidates)
    finite = [ops.all(ops.isfinite(each), axis=1) for each in logits]
    return {
        "fooled": problem.fooled(logits),
        "finite": ops.all(ops.stack(finite), axis=0),
    }


def _once(member):
    """Return an attack without stages as the start of a run."""

    def start(problem, run):
        del run
        adversarial, _ = member.generate(*problem.batch())
        fooled = problem.fooled(problem.logits(adversarial))
        return {
            "adversarial": adversarial,
            "fooled": fooled,
            "active": ops.zeros_like(fooled),
        }

    return start


def _keys_of(keys, number, members):
    """Return the keys of an attack, as `WorstCase.perturb` makes them."""
    if len(members) == 1:
        return keys
    return randomness.host_bits(keys, number).view("int32")


class _Run:
    """One search: the arrays, the state, the compiled functions."""

    def __init__(self, compiled, images, labels, state):
        self.compiled = compiled
        self.images = images
        self.labels = labels
        self.batch_size = min(compiled.batch_size, len(images))
        self.state = state

    def num_left(self):
        return int((self.state.arrays["fooled_by"] == RESISTED).sum())

    def drop_the_wrong(self):
        """Find the images that count as fooled when clean."""
        if self.state.begun:
            return
        rows = np.arange(len(self.images))
        found = self._batched(
            self.compiled.judge, rows, np.zeros(len(rows), "int32"), self.images
        )
        # No attack fools NaN.
        logits = np.where(found["finite"], 0.0, np.nan)
        batches.check_finite(self.compiled.model, logits, "logits")
        self.state.arrays["fooled_by"][found["fooled"]] = WRONG_WHEN_CLEAN
        self.state.begun = True

    def attack(self, number, keys):
        """Run one attack of several on all images that resist."""
        if self.state.is_behind(number):
            return
        resist = self.state.arrays["fooled_by"] == RESISTED
        rows = self.state.enter(number, np.flatnonzero(resist))
        steps = self.compiled.steps(number)
        size = _GROUP * self.batch_size
        for first in range(0, len(rows), size):
            if not self.state.is_done(first):
                group = rows[first : first + size]
                self._attack_group(number, first, group, steps, keys)

    def _attack_group(self, number, first, group, steps, keys):
        num_runs, num_stages, start, advance = steps
        for run in range(self.state.first_run(first), num_runs):
            state, first_stage = self.state.unfinished(first, run)
            if state is None:
                resist = self.state.arrays["fooled_by"][group] == RESISTED
                rows = group[resist]
                if not len(rows):
                    break
                state = self._batched(start, rows, keys, run=run)
                state = {"rows": rows, **state}
            for stage in range(first_stage, num_stages):
                self._advance(advance, keys, stage, state)
                self.state.save(first, run, stage + 1, state)
                if not state["active"].any():
                    break
            self._keep(number, state)
            self.state.save(first, run + 1)
        self.state.save(first + len(group))

    def _advance(self, advance, keys, stage, state):
        """Do a stage for the examples of a state that are active."""
        active = np.flatnonzero(state["active"])
        if not len(active):
            return
        given = {
            name: values[active]
            for name, values in state.items()
            if name != "rows"
        }
        rows = state["rows"][active]
        new = self._batched(advance, rows, keys, given, stage=stage)
        for name, values in new.items():
            state[name][active] = values

    def _keep(self, number, state):
        """Put down what fools by the measure of the whole search."""
        hit = np.flatnonzero(state["fooled"])
        if not len(hit):
            return
        rows, candidates = state["rows"][hit], state["adversarial"][hit]
        fooled = self._batched(
            self.compiled.judge,
            rows,
            np.zeros(len(self.images), "int32"),
            candidates,
        )["fooled"]
        self.state.arrays["adversarial"][rows[fooled]] = candidates[fooled]
        self.state.arrays["fooled_by"][rows[fooled]] = number

    def _batched(self, function, rows, keys, given=None, **number):
        """Call a compiled function on some examples.

        Args:
            function: what `_compile` returned.
            rows: indices of the examples.
            keys: one key per example of the whole data.
            given: arrays with one row per index in `rows`, or `None`.
            number: at most one integer, the number of the run or stage.

        Returns:
            Dict of arrays with one row per index in `rows`.
        """
        number = [np.array(each, "int32") for each in number.values()]
        collected = []
        for places in self._batches(len(rows)):
            chosen = rows[places]
            more = [] if given is None else [_take(given, places)]
            outputs = function(
                self.images[chosen],
                self.labels[chosen],
                keys[chosen],
                *more,
                *number,
            )
            count = len(np.unique(places))
            collected.append(
                {
                    name: np.array(ops.convert_to_numpy(value)[:count])
                    for name, value in outputs.items()
                }
            )
        return {
            name: np.concatenate([each[name] for each in collected])
            for name in collected[0]
        }

    def _batches(self, count):
        """Yield places 0 to `count - 1` in batches, the last one padded."""
        smaller = -(-self.batch_size // _SMALLER)
        first = 0
        while first < count:
            left = count - first
            size = smaller if left <= smaller else self.batch_size
            yield np.minimum(np.arange(first, first + size), count - 1)
            first += size


def _take(arrays, places):
    if isinstance(arrays, dict):
        return {name: values[places] for name, values in arrays.items()}
    return arrays[places]
