"""A multi-exit network: exits, the calls of its graph, what each exit costs.

- `multi_exit`, `heads`: the model class, and what an exit is;
- `model_logits`: a model as an attack sees it;
- `recording`, `graph`: the calls of a functional model, in order;
- `stages`: a model cut at its exits;
- `frozen`, `merging`: a model with fixed weights, for attacks;
- `costs`, `arithmetic`: multiply-adds and parameters of each exit.
"""
