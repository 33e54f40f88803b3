"""The training step of `torch_baseline`, plain eager PyTorch."""

import itertools

import torch

from benchmarks import torch_baseline
from benchmarks.work import workloads


class EagerStep:
    """Training step of a network.

    Args:
        model, batch_size, attack_steps: as for `KerasStep`.
        memory_format: `"contiguous_format"` or `"channels_last"`.
    """

    def __init__(self, model, batch_size, attack_steps, memory_format):
        torch.manual_seed(0)
        workload = workloads.WORKLOADS[model]
        self._format = getattr(torch, memory_format)
        self._budget = (workload.epsilon, workload.step_size, attack_steps)
        self._model = workload.build(torch_baseline)
        self._model.to(memory_format=self._format)
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
        x_adv, _ = torch_baseline.attacked(self._model, x, y, *self._budget)
        logs = torch_baseline.train_step(
            self._model,
            self._optimizer,
            x,
            self._formatted(x_adv),
            y,
            self._supports[y],
        )
        return [logs["loss"]]
