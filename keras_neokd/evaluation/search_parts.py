"""The parts of a search that are compiled: begin, go on, judge."""

import keras
from keras import ops

from keras_neokd import backend
from keras_neokd.attacks.geometry import project
from keras_neokd.attacks.search import Problem


def compiled(model, part, objective, *given):
    """Return a part as a compiled function of images, labels, keys and more.

    Args:
        model: a `MultiExitModel`.
        part: one of the functions below.
        objective: that of the part's `Problem`.
        *given: what the part takes behind the problem.
    """
    predict = model.exit_logits()

    def compute(images, labels, keys, *more):
        arrays, more = keras.tree.map_structure(
            ops.convert_to_tensor, ((images, labels, keys), more)
        )
        problem = Problem(predict.frozen().exact, objective, *arrays)
        return part(problem, *given, *more)

    return backend.compile_per_example(compute, model.variables)


def judged(problem, objectives, ball, candidates):
    """Return candidates, and which objectives they fool.

    All exits share one pass. `fooled` is `(batch, objectives)`; `finite` says
    whether all logits are.

    Args:
        problem: a `Problem` without an objective.
        objectives: tuple of `Objective`s.
        ball: epsilon and norm that the candidates are brought into, as other
            attacks count on; `None` for candidates as they are.
        candidates: `(batch, height, width, channels)`.
    """
    if ball is not None:
        candidates = project(candidates, problem.images, *ball)
    predict = problem.predict
    needed = [each.exit_indices(predict.num_exits) for each in objectives]
    exits = tuple(sorted(set().union(*needed)))
    logits = dict(zip(exits, predict(candidates, exits), strict=True))
    fooled = [
        each.fooled(tuple(logits[exit] for exit in own), problem.labels)
        for each, own in zip(objectives, needed, strict=True)
    ]
    finite = [ops.all(ops.isfinite(each), axis=1) for each in logits.values()]
    return {
        "images": candidates,
        "fooled": ops.stack(fooled, axis=1),
        "finite": ops.all(ops.stack(finite), axis=0),
    }


def once(problem, member, _):
    """Run an attack without rounds, as the start of an attempt."""
    adversarial, _ = member.generate(*problem.batch())
    fooled = problem.fooled(problem.logits(adversarial))
    return {
        "adversarial": adversarial,
        "fooled": fooled,
        "active": ops.zeros_like(fooled),
    }


def started(problem, member, attempt):
    """Start an attempt of a `SearchAttack`."""
    return member.start(problem, attempt)


def advanced(problem, member, given, round_):
    """Do a round of an attempt of a `SearchAttack`."""
    return member.advance(problem, round_, given)
