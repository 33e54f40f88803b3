"""The training step of `torch_baseline`, and what PyTorch can add to it."""

import functools
import itertools

import torch

from benchmarks import torch_baseline
from benchmarks.work import workloads


class EagerStep:
    """Training step of a network.

    Args:
        model, batch_size, attack_steps: as for `KerasStep`.
        memory_format: `"channels_last"` (default) or `"contiguous_format"`.
        truncated: whether the attack on an exit runs no further than to it.
        autocast: whether the network computes in bfloat16 where PyTorch finds
            that safe; weights, logits and losses stay in float32.
        compiled: whether `torch.compile` compiles the network.
    """

    def __init__(
        self,
        model,
        batch_size,
        attack_steps,
        memory_format="channels_last",
        truncated=False,
        autocast=False,
        compiled=False,
    ):
        torch.manual_seed(0)
        workload = workloads.WORKLOADS[model]
        self._format = getattr(torch, memory_format)
        self._budget = (workload.epsilon, workload.step_size, attack_steps)
        self._truncated = truncated
        self._model = workload.build(torch_baseline)
        self._model.to(memory_format=self._format)
        if autocast:
            self._model.forward = functools.partial(
                _in_bfloat16, self._model.forward
            )
        if compiled:
            # Nothing may fall back to eager PyTorch.
            self._model.compile(fullgraph=True, dynamic=False)
        self._optimizer = torch.optim.SGD(
            self._model.parameters(),
            workloads.LEARNING_RATE,
            momentum=workloads.MOMENTUM,
            weight_decay=workloads.WEIGHT_DECAY,
        )
        num_classes = workload.num_classes
        # Drawn once per epoch and looked up by label, as in keras_neokd.
        self._supports = torch_baseline.orthogonal_supports(
            torch.arange(num_classes), self._model.num_exits, num_classes
        )
        self._batches = itertools.cycle(
            [
                (
                    self._formatted(torch.from_numpy(x).permute(0, 3, 1, 2)),
                    torch.from_numpy(y).long(),
                )
                for x, y in workload.batches(batch_size)
            ]
        )

    def _formatted(self, images):
        return images.contiguous(memory_format=self._format)

    def step(self):
        """Take one step and return the loss."""
        x, y = next(self._batches)
        x_adv, _ = torch_baseline.attacked(
            self._model, x, y, *self._budget, truncated=self._truncated
        )
        logs = torch_baseline.train_step(
            self._model,
            self._optimizer,
            x,
            self._formatted(x_adv),
            y,
            self._supports[y],
        )
        return [logs["loss"]]


def _in_bfloat16(forward, *arguments):
    with torch.autocast("cpu", torch.bfloat16):
        logits = forward(*arguments)
    return [each.float() for each in logits]
