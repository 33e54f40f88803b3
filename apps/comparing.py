"""What `apps.parity` does: the same attacks by two implementations."""

import dataclasses
import time

import keras
import numpy as np

from apps import building
from apps import model_files
from apps import run_config
from apps import tables
from apps import workdir
from keras_neokd import attacks
from keras_neokd import checks
from keras_neokd import evaluation
from keras_neokd import writing
from keras_neokd.adapters import as_single_output


@dataclasses.dataclass(frozen=True)
class Settings:
    """What both sides are given; see the flags of `apps.parity`."""

    exit: str
    epsilon: float
    epsilon_l2: float
    num_steps: int
    num_queries: int
    c: float
    cw_num_steps: int
    num_examples: int
    num_seeds: int


@dataclasses.dataclass(frozen=True)
class Pair:
    """One attack, ours and theirs.

    Attributes:
        ours: function of settings and objective, returns an `Attack`.
        theirs: function of settings, classifier and seed, returns a function
            of images and labels in PyTorch's layout.
        radius: function of settings: only changes within it count, for
            attacks that look for the smallest; returns radius and norm, or
            `None`.
    """

    ours: object
    theirs: object
    radius: object = lambda settings: None


def compare(run_path, output, settings, names, theirs_path=None):
    """Run both sides, print the table, write parity.json and parity.md.

    Args:
        run_path: folder of a run.
        output: folder to write to.
        settings: a `Settings`.
        names: keys of `PAIRS`; empty for all.
        theirs_path: parity.json with the answers of the others, or `None`.

    Raises:
        ValueError: if a name is unknown, or the file does not fit.
        ImportError: if a library is missing.
    """
    for name in names:
        checks.choice("attacks", name, PAIRS)
    run = workdir.Workdir(run_path)
    model = model_files.load(run.model)
    model.exit_index(settings.exit)
    known = None if theirs_path is None else _known(theirs_path, settings, run)
    if known is None:
        _check_backend()
    missing = sorted(set(names or PAIRS) - set(known or PAIRS))
    if missing:
        raise ValueError(
            f"{theirs_path} has no answers for {', '.join(missing)}: name "
            f"others with --attacks ({', '.join(known)})."
        )
    test = building.load_data(run_config.read(run), model).test
    images, labels = test.arrays(settings.num_examples)
    rows, answers = [], {}
    for name in names or PAIRS:
        row, answers[name] = _compare_one(
            name, model, images, labels, settings, known
        )
        rows.append({"attack": name, **row})
        print(
            "  ".join(f"{key}: {value}" for key, value in rows[-1].items()),
            flush=True,
        )
        output.mkdir(parents=True, exist_ok=True)
        record = {
            "settings": dataclasses.asdict(settings),
            "model_sha256": workdir.digest(run.model),
            "environment": workdir.environment(),
            "rows": rows,
            "answers": answers,
        }
        workdir.write_json(output / "parity.json", record)
        writing.write_text(output / "parity.md", tables.markdown(rows))


def _compare_one(name, model, images, labels, settings, known):
    pair = PAIRS[name]
    exit_ = model.exit_index(settings.exit)
    ours, theirs, seconds = [], [], [0.0, 0.0]
    for seed in range(settings.num_seeds):
        start = time.monotonic()
        attack = pair.ours(settings, attacks.SingleExit(exit_))
        result = evaluation.anytime(model, images, labels, attack, seed=seed)
        ours.append(result.ranks[:, exit_] == 0)
        seconds[0] += time.monotonic() - start
        start = time.monotonic()
        if known is None:
            theirs.append(_theirs(pair, model, images, labels, settings, seed))
        else:
            theirs.append(np.array(known[name]["theirs"][seed], bool))
        seconds[1] += time.monotonic() - start
    ours, theirs = np.array(ours), np.array(theirs)
    row = {
        "ours (%)": round(100 * float(ours.mean()), 2),
        "theirs (%)": round(100 * float(theirs.mean()), 2),
        "difference": round(100 * float(ours.mean() - theirs.mean()), 2),
        "agreement (%)": round(100 * float((ours == theirs).mean()), 2),
        "ours, s": round(seconds[0], 1),
        "theirs, s": "-" if known else round(seconds[1], 1),
    }
    answers = {"ours": ours.astype(int).tolist()}
    return row, {**answers, "theirs": theirs.astype(int).tolist()}


def _theirs(pair, model, images, labels, settings, seed):
    """Return which images the other library's attack leaves correct."""
    import torch

    network = as_single_output(model, settings.exit, channels_first=True)
    clean = torch.tensor(images).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(labels).long()
    torch.manual_seed(seed)
    adversarial = pair.theirs(settings, network, seed)(clean, labels)
    limit = pair.radius(settings)
    if limit is not None:
        change = (adversarial - clean).flatten(1)
        order = float("inf") if limit[1] == "linf" else 2
        # The distance itself is rounded.
        inside = torch.linalg.vector_norm(change, order, dim=1) <= (
            limit[0] + 1e-6
        )
        adversarial = torch.where(
            inside[:, None, None, None], adversarial, clean
        )
    with torch.no_grad():
        return (network(adversarial).argmax(1) == labels).cpu().numpy()


def _known(path, settings, run):
    """Return the answers in a file of the same comparison."""
    record = workdir.read_json(path)
    ours = dataclasses.asdict(settings)
    theirs = {**record["settings"]}
    # Fewer images or seeds are the first of more.
    for key in ("num_examples", "num_seeds"):
        if theirs[key] < ours[key]:
            raise ValueError(
                f"{path} has {key}={theirs[key]}, fewer than the {ours[key]} "
                "asked for."
            )
        theirs[key] = ours[key]
    workdir.refuse_differences(
        {**theirs, "model": record["model_sha256"]},
        {**ours, "model": workdir.digest(run.model)},
        f"{path} is of another comparison",
        "Give the same flags.",
    )
    return {
        name: {
            "theirs": [row[: settings.num_examples] for row in each["theirs"]]
        }
        for name, each in record["answers"].items()
    }


def _check_backend():
    if keras.backend.backend() != "torch":
        raise ValueError(
            "torchattacks and auto-attack need PyTorch: set "
            "KERAS_BACKEND=torch, or give the answers of such a run with "
            "--theirs."
        )


def _torchattacks(name, **fixed):
    def make(settings, network, seed):
        import torchattacks

        arguments = {
            key: value(settings, seed) if callable(value) else value
            for key, value in fixed.items()
        }
        return getattr(torchattacks, name)(network, **arguments)

    return make


def _auto_attack(settings, network, seed):
    import pyautoattack

    attack = pyautoattack.AutoAttack(
        network, eps=settings.epsilon, seed=seed, version="standard"
    )
    for apgd in (attack.apgd, attack.apgd_targeted):
        _set_iterations(apgd, settings.num_steps)
    attack.fab.n_iter = settings.num_steps
    attack.square.n_queries = settings.num_queries
    # Images come with their predicted labels.
    return lambda *batch: attack.run_standard_evaluation(*batch)[0]


def _set_iterations(apgd, count):
    """Set the iterations of their APGD, and when it looks back.

    Their constructor works the checkpoints out, for 100 iterations here.
    """
    apgd.n_iter = count
    apgd.n_iter_2 = max(int(0.22 * count), 1)
    apgd.n_iter_min = max(int(0.06 * count), 1)
    apgd.size_decr = max(int(0.03 * count), 1)


def _epsilon(settings, _):
    return settings.epsilon


def _epsilon_l2(settings, _):
    return settings.epsilon_l2


def _steps(settings, _):
    return settings.num_steps


def _seed(_, seed):
    return seed


def _apgd(loss, norm="Linf", radius=_epsilon):
    return _torchattacks(
        "APGD", norm=norm, eps=radius, steps=_steps, seed=_seed, loss=loss
    )


PAIRS = {
    "apgd_ce": Pair(
        lambda s, o: attacks.APGD(s.epsilon, s.num_steps, objective=o),
        _apgd("ce"),
    ),
    "apgd_dlr": Pair(
        lambda s, o: attacks.APGD(
            s.epsilon, s.num_steps, objective=o.with_loss("dlr")
        ),
        _apgd("dlr"),
    ),
    "apgd_ce_l2": Pair(
        lambda s, o: attacks.APGD(
            s.epsilon_l2, s.num_steps, norm="l2", objective=o
        ),
        _apgd("ce", "L2", _epsilon_l2),
    ),
    "apgd_t": Pair(
        lambda s, o: attacks.TargetedAPGD(
            s.epsilon, s.num_steps, num_targets=None, objective=o
        ),
        _torchattacks("APGDT", eps=_epsilon, steps=_steps, seed=_seed),
    ),
    "fab": Pair(
        lambda s, o: attacks.FAB(s.epsilon, s.num_steps, objective=o),
        _torchattacks("FAB", eps=_epsilon, steps=_steps, seed=_seed),
        lambda settings: (settings.epsilon, "linf"),
    ),
    "fab_l2": Pair(
        lambda s, o: attacks.FAB(
            s.epsilon_l2, s.num_steps, norm="l2", objective=o
        ),
        _torchattacks(
            "FAB", norm="L2", eps=_epsilon_l2, steps=_steps, seed=_seed
        ),
        lambda settings: (settings.epsilon_l2, "l2"),
    ),
    "fab_t": Pair(
        lambda s, o: attacks.TargetedFAB(
            s.epsilon, s.num_steps, num_targets=None, objective=o
        ),
        _torchattacks(
            "FAB",
            eps=_epsilon,
            steps=_steps,
            seed=_seed,
            multi_targeted=True,
        ),
        lambda settings: (settings.epsilon, "linf"),
    ),
    "square": Pair(
        lambda s, o: attacks.Square(
            s.epsilon, s.num_queries, objective=o.with_loss("margin")
        ),
        _torchattacks(
            "Square",
            eps=_epsilon,
            n_queries=lambda settings, _: settings.num_queries,
            seed=_seed,
            resc_schedule=False,
        ),
    ),
    "square_l2": Pair(
        lambda s, o: attacks.Square(
            s.epsilon_l2,
            s.num_queries,
            norm="l2",
            objective=o.with_loss("margin"),
        ),
        _torchattacks(
            "Square",
            norm="L2",
            eps=_epsilon_l2,
            n_queries=lambda settings, _: settings.num_queries,
            seed=_seed,
            resc_schedule=False,
        ),
    ),
    "cw": Pair(
        lambda s, o: attacks.CW(s.c, num_steps=s.cw_num_steps, objective=o),
        _torchattacks(
            "CW",
            c=lambda settings, _: settings.c,
            steps=lambda settings, _: settings.cw_num_steps,
        ),
    ),
    "auto_attack": Pair(
        lambda s, o: attacks.AutoAttack(
            s.epsilon,
            num_steps=s.num_steps,
            num_queries=s.num_queries,
            objective=o,
        ),
        _auto_attack,
    ),
}
