"""How `fit` trains a multi-exit model.

- `trainer`: `compile`, and what a compiled model saves;
- `loops`: `fit`, `evaluate`, `predict` with checked data;
- `step`: what happens to a batch: read, attack, loss, log;
- `batch`, `slices`: the examples of a step, attacked slice by slice;
- `logs`: names and metrics of everything that is logged;
- `checks`: arguments of `compile`, terms of methods;
- `checkpoints`: files of a run's state.
"""
