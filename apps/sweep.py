"""Train and evaluate a list of runs, and put them in one table.

    python -m apps.sweep --sweep=configs/sweeps/mnist_methods.py \
        --workdir=runs/mnist_methods
    python -m apps.sweep --sweep=configs/sweeps/appendix_d.py \
        --workdir=runs/appendix_d --only=alpha_3,gamma

A sweep file has a function `get_runs()` that returns a dict from names of runs
to the flags of `apps.train`; `{workdir}` in a flag stands for the folder of
the sweep, so that a run can use another's model. An optional function
`get_evaluations()` returns a dict from names to flags of `apps.evaluate`, for
several evaluations of each run. Runs are done one after the other, each in a
folder of its own; the same command goes on after an interruption. Modules
that `--import` names are imported in every run, too. Writes
summary.json and summary.md, again after every run.
"""

from absl import flags

from . import command

_SWEEP = flags.DEFINE_string("sweep", None, "File with the list of runs.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all the runs.")
_ONLY = flags.DEFINE_list(
    "only", [], "Only runs whose name begins with one of these."
)
flags.mark_flags_as_required(["sweep", "workdir"])


def main():
    """Do the runs as the flags say."""
    command.prepare_keras()
    from . import sweeping

    sweeping.sweep(
        _SWEEP.value, _WORKDIR.value, _ONLY.value, flags.FLAGS["import"].value
    )


if __name__ == "__main__":
    command.run(main)
