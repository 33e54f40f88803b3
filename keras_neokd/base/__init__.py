"""Hold what every other folder may import; nothing here imports one of them.

- `checks`: arguments and arrays are what they should be;
- `configurable`: objects that are their constructor's arguments;
- `randomness`: random numbers as a function of integer words;
- `writing`: files and folders, whole or not at all;
- `exit_policy`: when an image leaves.
"""
