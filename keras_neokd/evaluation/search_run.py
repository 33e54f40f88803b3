"""Search over many images: groups, attempts, rounds, packed batches."""

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.evaluation import batches

# Batches of a group; the examples of a group go through an attempt together.
_GROUP = 4
# Batches that are compiled have the whole size, a half, quarter or eighth.
_NUM_SIZES = 4
# In `fooled_by`.
RESISTED, WRONG_WHEN_CLEAN = -1, -2


class EvaluationSearch:
    """Run a `CompiledSearch` on checked data, with a `SearchState`.

    Attributes:
        adversarial, fooled_by: those of the state, with an axis in front: one
            row per attack of the search.
    """

    def __init__(self, search, images, labels, state):
        self.search = search
        self.images = images
        self.labels = labels
        self._shape = batches.shape(images, search.batch_size)
        self.batch_size = self._shape[0]
        self.state = state
        shape = (len(search.attacks), *images.shape)
        self.adversarial = state.arrays["adversarial"].reshape(shape)
        self.fooled_by = state.arrays["fooled_by"].reshape(shape[:2])

    def num_left(self, aim):
        """Return the number of images that resist the attack of a number."""
        return int((self.fooled_by[aim] == RESISTED).sum())

    def drop_the_wrong(self):
        """Mark the images that are fooled before any attack."""
        if self.state.begun:
            return
        rows = np.arange(len(self.images))
        found = self._judged(rows, self.images)
        # No attack fools NaN.
        logits = np.where(found["finite"], 0.0, np.nan)
        batches.check_finite(self.search.model, logits, "logits")
        self.fooled_by[found["fooled"].T] = WRONG_WHEN_CLEAN
        self.state.begun = True

    def attack(self, aim, number, keys):
        """Run a member of an attack on all images that resist the attack.

        Args:
            aim: number of the attack.
            number: number of its member.
            keys: one key per example of the whole data.
        """
        stage = number * len(self.fooled_by) + aim
        if self.state.is_behind(stage):
            return
        resist = self.fooled_by[aim] == RESISTED
        rows = self.state.enter(stage, np.flatnonzero(resist))
        size = _GROUP * self.batch_size
        for first in range(0, len(rows), size):
            if not self.state.is_done(first):
                group = rows[first : first + size]
                self._attack_group(aim, number, first, group, keys)

    def _attack_group(self, aim, number, first, group, keys):
        compiled = self.search.compiled(aim, number, self._shape)
        num_attempts, num_rounds, start, advance = compiled
        for attempt in range(self.state.first_attempt(first), num_attempts):
            state, first_round = self.state.unfinished(first, attempt)
            if state is None:
                rows = group[self.fooled_by[aim, group] == RESISTED]
                if not len(rows):
                    break
                state = self._batched(start, rows, keys, attempt=attempt)
                state = {"rows": rows, **state}
            for round_ in range(first_round, num_rounds):
                self._advance(advance, keys, round_, state)
                self.state.save(first, attempt, round_ + 1, state)
                if not state["active"].any():
                    break
            self._keep(number, state)
            self.state.save(first, attempt + 1)
        self.state.save(first + len(group))

    def _advance(self, advance, keys, round_, state):
        """Do a round for the examples of a state that are active."""
        active = np.flatnonzero(state["active"])
        if not len(active):
            return
        given = {
            name: values[active]
            for name, values in state.items()
            if name != "rows"
        }
        rows = state["rows"][active]
        new = self._batched(advance, rows, keys, given, round=round_)
        for name, values in new.items():
            state[name][active] = values

    def _keep(self, number, state):
        """Record candidates for every attack whose objective they fool."""
        hit = np.flatnonzero(state["fooled"])
        if not len(hit):
            return
        rows = state["rows"][hit]
        judged = self._judged(rows, state["adversarial"][hit])
        images, fooled = judged["images"], judged["fooled"]
        for aim, fooled_by in enumerate(self.fooled_by):
            # What is fooled already keeps what fooled it first.
            new = fooled[:, aim] & (fooled_by[rows] == RESISTED)
            self.adversarial[aim, rows[new]] = images[new]
            fooled_by[rows[new]] = number

    def _judged(self, rows, candidates):
        unused_keys = np.zeros(len(self.images), "int32")
        judge = self.search.judge(self._shape)
        return self._batched(judge, rows, unused_keys, candidates)

    def _batched(self, function, rows, keys, *given, **number):
        """Call a compiled function on the examples of some indices.

        `given` are arrays with a row per index, and so are those returned;
        `number` is the number of the attempt or round, if any.
        """
        number = [np.array(each, "int32") for each in number.values()]
        collected = []
        for places in self._batches(len(rows)):
            chosen = rows[places]
            more = keras.tree.map_structure(
                lambda values, places=places: values[places], given
            )
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
        """Yield places 0 to `count - 1` in batches.

        Where every size is compiled the last one is padded.
        """
        if backend.compiles_shapes():
            sizes = [-(-self.batch_size // 2**n) for n in range(_NUM_SIZES)]
        else:
            sizes = [self.batch_size, count % self.batch_size]
        first = 0
        while first < count:
            # The smallest that holds all that are left.
            size = next(
                (each for each in sizes[::-1] if each >= count - first),
                sizes[0],
            )
            yield np.minimum(np.arange(first, first + size), count - 1)
            first += size
