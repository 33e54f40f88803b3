"""What a training step has to compute, counted in multiply-adds."""


def multiply_adds(model, attack, attack_steps):
    """Return the multiply-adds of one NEO-KD training step, per image.

    With `m_i` those of exit `i` with no head but its own, `M` those of all
    exits, and `T` attack steps:

    - crafting: `2 T (m_1 + ... + m_L)` for the max-average attack, which runs
      each exit alone, forward and backward for the image; `2 T M` for the
      average attack;
    - choosing one of `L` candidates: `L M` (max-average only);
    - training: `6 M`, forward and backward on clean and attacked images;
      backward for the weights and for the maps counts twice.

    Args:
        model: a `MultiExitModel`.
        attack: `"max_average"` or `"average"`.
        attack_steps: PGD steps.
    """
    # Here, because a worker sets its threads before it imports Keras.
    from keras_neokd.models.costs import exit_costs

    costs = exit_costs(model)
    whole = costs[-1].cumulative.multiply_adds
    alone = sum(each.own.multiply_adds for each in costs)
    if attack == "average":
        return (2 * attack_steps + 6) * whole
    return 2 * attack_steps * alone + (len(costs) + 6) * whole
