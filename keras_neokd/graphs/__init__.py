"""Functional models taken apart and put together again.

- `recording`, `graph`: the calls of a model, in an order in which they can be
  made;
- `stages`: a model cut into parts, one from each exit to the next;
- `frozen`, `steps`: a model with fixed weights, for attacks.
"""
