"""Freeze the weights of a network, for many passes over images.

    network = FrozenNetwork(model)                # once per model
    forward = network.freeze()                    # once per attack
    logits = forward(images, (0, 2))              # exits 1 and 3, many times
    logits = forward.staggered(images, (0, 1))    # half of them to each exit

An attack runs the same weights forward and backward dozens of times, in
inference mode, and needs no gradient of the weights. So padding, batch norm
and ReLU become part of the convolution between them, and what depends on
weights alone is computed once, outside the attack's loop. The logits are those
of the model up to rounding.
"""

import functools
from typing import Any
from typing import NamedTuple

from keras import ops

from keras_neokd.backend import precision
from keras_neokd.network.merging import merged_calls


class FrozenNetwork:
    """The calls of a `MultiExitModel`, merged where inference allows it.

    Attributes:
        is_of_16_bits: whether a layer of the model computes in 16 bits.

    Raises:
        NotImplementedError: as `Graph.check_rows`.
    """

    def __init__(self, model):
        self._graph = model.call_graph
        self._graph.check_rows()
        self.is_of_16_bits = precision.uses_16_bits(model)
        self._exit_names = model.exit_names
        self._merged = merged_calls(self._graph, model.exit_names)
        self.stages = functools.cache(self._stages)
        (self.input,) = self._graph.inputs
        self.outputs = [self._graph.outputs[name] for name in model.exit_names]

    def calls(self, exits):
        """Return the merged calls of a tuple of exits, in their order."""
        stages = self.stages(exits)
        return [call for each in stages for call in (*each.trunk, *each.head)]

    def computes_in_16_bits(self):
        """Return whether `freeze("bfloat16")` makes a difference."""
        return any(each.computes_in_16_bits for each in self._merged.values())

    def freeze(self, dtype="float32"):
        """Return a `FrozenForward` for the weights as they are now.

        Args:
            dtype: `"float32"` (default), or `"bfloat16"` for convolutions
                (logits and dilated ones excepted), poolings, ReLU and what
                moves or adds their results, where these layers compute in
                float32. Weights are merged before.
        """
        prepared = {
            name: call.prepare(dtype) for name, call in self._merged.items()
        }
        return FrozenForward(self, prepared)

    def _stages(self, exits):
        names = [self._exit_names[index] for index in exits]
        plan = [
            [self._merged[name] for name in part if name in self._merged]
            for part in self._graph.plan(names)
        ]
        stages = []
        for position, calls in enumerate(plan):
            later = names[position + 1 :]
            shared = {name for part in self._graph.plan(later) for name in part}
            needed = {self._graph.outputs[name] for name in later}
            for following in plan[position + 1 :]:
                needed.update(*(call.sources for call in following))
            head = [call for call in calls if call.call not in shared]
            stages.append(
                _Stage(
                    trunk=[call for call in calls if call.call in shared],
                    head=head,
                    needed_by_head=set().union(
                        *(call.sources for call in head)
                    ),
                    needed_later=needed,
                )
            )
        return stages


class _Stage(NamedTuple):
    """Merged calls of an exit beyond the exits before it."""

    trunk: list[Any]  # Calls that later exits need, too.
    head: list[Any]
    needed_by_head: set[str]  # Names of tensors.
    needed_later: set[str]


class FrozenForward:
    """Logits of images, for weights that do not change.

    Args:
        network: a `FrozenNetwork`.
        prepared: dict from calls to what the merged ones prepared.
    """

    def __init__(self, network, prepared):
        self._network = network
        self._prepared = prepared

    def __call__(self, images, exits):
        """Return a tuple of logits `(batch, classes)`, one per exit.

        Args:
            images: `(batch, height, width, channels)`.
            exits: tuple of 0-based indices.
        """
        values = {self._network.input: images}
        self._run(self._network.calls(exits), values)
        return tuple(values[self._network.outputs[index]] for index in exits)

    def staggered(self, images, exits):
        """Run several batches at once; each leaves the network at its exit.

        Args:
            images: `(len(exits) * batch, height, width, channels)`: the first
                batch is for the first of the exits, and so on.
            exits: tuple of 0-based indices, shallow first.

        Returns:
            Logits `(len(exits) * batch, classes)`, each from its own exit.
        """
        batch = ops.shape(images)[0] // len(exits)
        values, logits = {self._network.input: images}, []
        stages = self._network.stages(exits)
        for index, stage in zip(exits, stages, strict=True):
            self._run(stage.trunk, values)
            leaving = {
                name: value[:batch]
                for name, value in values.items()
                if name in stage.needed_by_head
            }
            self._run(stage.head, leaving)
            logits.append(
                {**values, **leaving}[self._network.outputs[index]][:batch]
            )
            values = {
                name: value[batch:]
                for name, value in values.items()
                if name in stage.needed_later
            }
        return ops.concatenate(logits, axis=0)

    def _run(self, calls, values):
        for call in calls:
            values.update(call(self._prepared[call.call], values))
