"""Search over many images: groups, attempts, rounds, packed batches."""

import keras
import numpy as np
from keras import ops

from keras_neokd.evaluation import batches

# Batches of a group; the examples of a group go through an attempt together.
_GROUP = 4
# The smaller of the two batch sizes is this share of the other.
_SMALLER = 8
# In `fooled_by`.
RESISTED, WRONG_WHEN_CLEAN = -1, -2


class EvaluationSearch:
    """Run a `CompiledSearch` on checked data, with a `SearchState`."""

    def __init__(self, search, images, labels, state):
        self.search = search
        self.images = images
        self.labels = labels
        self._shape = batches.shape(images, search.batch_size)
        self.batch_size = self._shape[0]
        self.state = state

    def num_left(self):
        """Return the number of images that resist."""
        return int((self.state.arrays["fooled_by"] == RESISTED).sum())

    def drop_the_wrong(self):
        """Mark the images that are fooled before any attack."""
        if self.state.begun:
            return
        rows = np.arange(len(self.images))
        found = self._judged(rows, self.images)
        # No attack fools NaN.
        logits = np.where(found["finite"], 0.0, np.nan)
        batches.check_finite(self.search.model, logits, "logits")
        self.state.arrays["fooled_by"][found["fooled"]] = WRONG_WHEN_CLEAN
        self.state.begun = True

    def attack(self, number, keys):
        """Run the attack of a number on all images that resist.

        `keys` has one key per example of the whole data.
        """
        if self.state.is_behind(number):
            return
        resist = self.state.arrays["fooled_by"] == RESISTED
        rows = self.state.enter(number, np.flatnonzero(resist))
        compiled = self.search.compiled(number, self._shape)
        size = _GROUP * self.batch_size
        for first in range(0, len(rows), size):
            if not self.state.is_done(first):
                group = rows[first : first + size]
                self._attack_group(number, first, group, compiled, keys)

    def _attack_group(self, number, first, group, compiled, keys):
        num_attempts, num_rounds, start, advance = compiled
        for attempt in range(self.state.first_attempt(first), num_attempts):
            state, first_round = self.state.unfinished(first, attempt)
            if state is None:
                resist = self.state.arrays["fooled_by"][group] == RESISTED
                rows = group[resist]
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
        """Record candidates that fool the search's own objective."""
        hit = np.flatnonzero(state["fooled"])
        if not len(hit):
            return
        rows, candidates = state["rows"][hit], state["adversarial"][hit]
        fooled = self._judged(rows, candidates)["fooled"]
        self.state.arrays["adversarial"][rows[fooled]] = candidates[fooled]
        self.state.arrays["fooled_by"][rows[fooled]] = number

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
        """Yield places 0 to `count - 1` in batches, the last one padded."""
        smaller = -(-self.batch_size // _SMALLER)
        first = 0
        while first < count:
            left = count - first
            size = smaller if left <= smaller else self.batch_size
            yield np.minimum(np.arange(first, first + size), count - 1)
            first += size
