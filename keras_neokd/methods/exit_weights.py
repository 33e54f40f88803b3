"""Weights of the exits: the gamma of Eq. 7 (NEO-KD, arXiv 2311.00428)."""

from keras_neokd.base import checks

# Table of the paper's gamma by number of exits (section 4.1, appendix D).
PAPER_EXIT_WEIGHTS = {
    3: (1.0, 1.0, 1.0),
    5: (1.0, 1.0, 1.0, 1.5, 1.5),
    7: (1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5),
}


def check_exit_weights(exit_weights):
    """Return `exit_weights` as a tuple of floats >= 0, or `None`, or raise."""
    if exit_weights is None:
        return None
    name = "exit_weights"
    weights = checks.sequence(name, exit_weights, "one number per exit")
    return tuple(checks.number(name, each, minimum=0) for each in weights)


def resolve_exit_weights(exit_weights, num_exits):
    """Return one weight (the paper's gamma) per exit.

    `None` stands for the paper's values, which exist for 3, 5 and 7 exits.

    Raises:
        ValueError: if the length is wrong, or the paper has no values.
    """
    if exit_weights is None:
        if num_exits not in PAPER_EXIT_WEIGHTS:
            raise ValueError(
                "The paper gives `exit_weights` (gamma) for "
                f"{sorted(PAPER_EXIT_WEIGHTS)} exits only and the model has "
                f"{num_exits}: say which to use, for example "
                f"exit_weights={(1.0,) * num_exits}."
            )
        return PAPER_EXIT_WEIGHTS[num_exits]
    if len(exit_weights) != num_exits:
        raise ValueError(
            "`exit_weights` needs one value per exit: expected "
            f"{num_exits}, received {len(exit_weights)}: {exit_weights}."
        )
    return exit_weights
