"""Training of multi-exit models: `compile`, `fit` and checkpoints.

- `trainer`: `compile`, and what a compiled model saves;
- `loops`: `fit`, `evaluate`, `predict` with checked data;
- `step`: what happens to a batch: read, attack, loss, log;
- `batch`, `slices`: the examples of a step, attacked slice by slice;
- `logs`: names and metrics of everything that is logged;
- `checks`: arguments of `compile`, terms of methods;
- `callbacks`: save within epochs, stop in time, go on bit by bit;
- `divergence`: losses and weights that are no finite numbers;
- `checkpoints`: files of a run's state;
- `run_identity`: which run a checkpoint is of;
- `processes`: which of several this is, and what all agree on.
"""

from keras_neokd.training.callbacks import Checkpoints

__all__ = ["Checkpoints"]
