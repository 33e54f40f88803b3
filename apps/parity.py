"""Compare our attacks with torchattacks and auto-attack, image by image.

    KERAS_BACKEND=torch python -m apps.parity --workdir=runs/x \
        --output=runs/parity
    KERAS_BACKEND=torch python -m apps.parity --workdir=runs/x \
        --attacks=apgd_ce,square --num_examples=200 --num_seeds=1 \
        --output=runs/quick
    KERAS_BACKEND=tensorflow python -m apps.parity --workdir=runs/x \
        --theirs=runs/parity/parity.json --output=runs/parity_tensorflow

Both attack one exit of the model of a run, on the same test images, with the
same settings (`--epsilon` and so on; L-infinity, except CW and the attacks
whose name ends in l2). Prints and writes (parity.md, parity.json) for each
attack the robust accuracy of both, the mean over seeds, and the share of images
on which they agree. Where the other libraries cannot run, `--theirs` takes
their answers from an earlier run on PyTorch. docs/adapters.md says how to
install them.
"""

import pathlib

from absl import flags

from apps import command

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.")
_ATTACKS = flags.DEFINE_list("attacks", [], "Which of the attacks; all.")
_EXIT = flags.DEFINE_string("exit", "exit_1", "Name of the attacked exit.")
_EPSILON = flags.DEFINE_float("epsilon", 0.3, "L-infinity radius.")
_EPSILON_L2 = flags.DEFINE_float("epsilon_l2", 2.0, "L2 radius.")
_STEPS = flags.DEFINE_integer("num_steps", 20, "Iterations of APGD and FAB.")
_QUERIES = flags.DEFINE_integer("num_queries", 300, "Queries of Square.")
_C = flags.DEFINE_float("c", 10.0, "Weight of the margin in CW.")
_CW_STEPS = flags.DEFINE_integer("cw_num_steps", 200, "Iterations of CW.")
_EXAMPLES = flags.DEFINE_integer("num_examples", 1000, "First test images.")
_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Seeds 0, 1, ...")
_THEIRS = flags.DEFINE_string("theirs", None, "parity.json of a run before.")
flags.mark_flags_as_required(["workdir", "output"])


def main():
    """Compare as the flags say."""
    command.prepare_keras()
    from apps import comparing

    comparing.compare(
        pathlib.Path(_WORKDIR.value),
        pathlib.Path(_OUTPUT.value),
        comparing.Settings(
            exit=_EXIT.value,
            epsilon=_EPSILON.value,
            epsilon_l2=_EPSILON_L2.value,
            num_steps=_STEPS.value,
            num_queries=_QUERIES.value,
            c=_C.value,
            cw_num_steps=_CW_STEPS.value,
            num_examples=_EXAMPLES.value,
            num_seeds=_SEEDS.value,
        ),
        _ATTACKS.value,
        None if _THEIRS.value is None else pathlib.Path(_THEIRS.value),
    )


if __name__ == "__main__":
    command.run(main)
