"""Bad arguments of the public API: each is refused in a sentence.

Every public class and function stands in `CALLS` with arguments that work;
one of them at a time is replaced by something that is no such argument. What
is refused names the argument and what was received; nothing is accepted.
"""

import inspect
import math
import warnings

import keras
import numpy as np
import pytest

import keras_neokd
from keras_neokd import attacks
from keras_neokd import data
from keras_neokd import evaluation
from keras_neokd import methods
from keras_neokd import models
from keras_neokd import optimizers
from keras_neokd.base import exit_policy
from keras_neokd.serving import adapters
from keras_neokd.serving import predictor
from tests.training import tiny

pytestmark = pytest.mark.slow

IMAGES, LABELS = tiny.data(4)
MODEL = tiny.dense_model()
# Its labels are right, as transfer needs them.
EASY = tiny.dense_model(num_exits=1)
ANSWERS = EASY.predict(IMAGES, verbose=0)["exit_1"].argmax(axis=1)
PGD = tiny.pgd()
DATA = {"model": MODEL, "images": IMAGES, "labels": LABELS}
ATTACKED = {**DATA, "attack": PGD}
PAIR = (IMAGES, LABELS)
OTHERS = tiny.data(4, seed=5)
BALL = {"epsilon": 0.1}
SPLIT = data.Split(IMAGES, LABELS, np.arange(4))

# What works, by the public name.
CALLS = {
    "Attack": (attacks.Attack, BALL),
    "APGD": (attacks.APGD, BALL),
    "ARD": (methods.ARD, {}),
    "AdversarialTraining": (methods.AdversarialTraining, {}),
    "AutoAttack": (attacks.AutoAttack, BALL),
    "AverageExits": (attacks.AverageExits, {"exits": (0, 1)}),
    "CW": (attacks.CW, BALL),
    "EOKD": (methods.EOKD, {"exit_weights": (1, 1, 1)}),
    "EarlyExit": (attacks.EarlyExit, {"policy": (0.5, 0.5)}),
    "EarlyExitPredictor": (
        predictor.EarlyExitPredictor,
        {"model": MODEL, "policy": (0.5, 0.5)},
    ),
    "EvaluationBatches": (data.EvaluationBatches, {"split": SPLIT}),
    "Evaluator": (evaluation.Evaluator, {"model": MODEL, "attack": PGD}),
    "ExitPolicy": (exit_policy.ExitPolicy, {"thresholds": (0.5, 0.5)}),
    "FAB": (attacks.FAB, BALL),
    "KDIGA": (methods.KDIGA, {"teacher": MODEL}),
    "LW": (methods.LW, {"exit_weights": (1, 1, 1)}),
    "MSDNet": (models.MSDNet, {"normalization": ((0,) * 3, (1,) * 3)}),
    "MaxAverage": (attacks.MaxAverage, {"attack": PGD, "exits": (0, 1)}),
    "MultiExitModel.compile": (
        MODEL.compile,
        {
            "optimizer": "sgd",
            "method": tiny.neo_kd(),
            "attack": PGD,
            "validation_attack": PGD,
            "metrics": [keras.metrics.SparseTopKCategoricalAccuracy(2)],
            "crafting_batch_size": 2,
        },
    ),
    "MultiExitModel.exit_index": (MODEL.exit_index, {"exit": 0}),
    "MultiExitModel.exit_logits": (MODEL.exit_logits, {}),
    "MultiExitModel.exit_model": (MODEL.exit_model, {"exit": 0}),
    "MultiExitModel.from_functional": (
        keras_neokd.MultiExitModel.from_functional,
        {"model": keras.Model(MODEL.input, MODEL.output)},
    ),
    "NEOKD": (methods.NEOKD, {"exit_weights": (1, 1, 1)}),
    "NKD": (methods.NKD, {"exit_weights": (1, 1, 1)}),
    "Objective": (attacks.Objective, {}),
    "PGD": (attacks.PGD, {**BALL, "step_size": 0.05, "num_steps": 1}),
    "ResNet": (models.ResNet, {}),
    "SKD": (methods.SKD, {"scale": 1.0}),
    "SingleExit": (attacks.SingleExit, {"exit": 0}),
    "SlowDown": (attacks.SlowDown, {"policy": (0.5, 0.5)}),
    "SmallCNN": (models.SmallCNN, {}),
    "SmoothingResult.certified_accuracy": (
        evaluation.SmoothingResult(
            ("exit_1",),
            0.25,
            0.001,
            10,
            np.zeros(1, int),
            np.zeros((1, 1), int),
            np.ones((1, 1)),
            np.ones((1, 1)),
        ).certified_accuracy,
        {},
    ),
    "Square": (attacks.Square, BALL),
    "Sum": (methods.Sum, {"summands": [(1.0, methods.NKD())]}),
    "TEAT": (methods.TEAT, {"num_examples": 10, "num_epochs": 2}),
    "TRADES": (methods.TRADES, {}),
    "TargetedAPGD": (attacks.TargetedAPGD, BALL),
    "TargetedFAB": (attacks.TargetedFAB, BALL),
    "TorchSGD": (optimizers.TorchSGD, {"momentum": 0.9}),
    "TrainingBatches": (data.TrainingBatches, {"split": SPLIT}),
    "UniformNoise": (attacks.UniformNoise, BALL),
    "VisionTransformer": (models.VisionTransformer, {}),
    "WorstCase": (attacks.WorstCase, {"attacks": [PGD]}),
    "adversarial_images": (evaluation.adversarial_images, ATTACKED),
    "anytime": (evaluation.anytime, ATTACKED),
    "as_single_output": (adapters.as_single_output, {"model": MODEL}),
    "attacks.get": (attacks.get, {"identifier": PGD}),
    "budgeted": (
        evaluation.budgeted,
        {"model": MODEL, "validation": PAIR, "test": OTHERS, "attack": PGD},
    ),
    "certify": (evaluation.certify, {**DATA, "sigma": 0.25}),
    "data.load": (data.load, {"name": "digits", "num_train": 9, "num_test": 9}),
    "early_exit": (
        evaluation.early_exit,
        {**DATA, "validation": PAIR, "share_of_cost": 0.9, "num_calls": 1},
    ),
    "early_exit_attacked": (
        evaluation.early_exit_attacked,
        {**ATTACKED, "validation": PAIR, "share_of_cost": 0.9},
    ),
    "exit_latency": (
        evaluation.exit_latency,
        {"model": MODEL, "images": IMAGES, "num_calls": 1},
    ),
    "exit_probabilities": (evaluation.exit_probabilities, DATA),
    "gradient_alignment": (
        evaluation.gradient_alignment,
        {
            "student": MODEL,
            "teacher": tiny.dense_model(),
            "images": IMAGES,
            "labels": LABELS,
        },
    ),
    "local_linearity": (evaluation.local_linearity, {**DATA, **BALL}),
    "mean_cost_interval": (
        evaluation.mean_cost_interval,
        {
            "exit_shares": (0.5, 0.5),
            "exit_costs": (1.0, 3.0),
            "num_examples": 10,
        },
    ),
    "methods.get": (methods.get, {"identifier": "neo_kd"}),
    "precision_agreement": (
        evaluation.precision_agreement,
        {**ATTACKED, "model": tiny.dense_model(dtype="mixed_bfloat16")},
    ),
    "saving_interval": (
        evaluation.saving_interval,
        {
            "cost": 2.0,
            "interval": (1.0, 3.0),
            "other": 4.0,
            "other_interval": (3.0, 5.0),
        },
    ),
    "search": (evaluation.search, {**DATA, "attack": attacks.APGD(0.1, 1)}),
    "search_together": (
        evaluation.search_together,
        {**DATA, "attacks": [attacks.APGD(0.1, 1), attacks.FAB(0.1, 1)]},
    ),
    "sensitivity": (
        evaluation.sensitivity,
        {**ATTACKED, "name": "epsilon", "values": (0.1,)},
    ),
    "throughput": (
        evaluation.throughput,
        {
            "model": MODEL,
            "policy": exit_policy.ExitPolicy((0.5, 0.5)),
            "images": IMAGES,
            "batch_size": 4,
            "num_rounds": 1,
        },
    ),
    "transfer_between": (
        evaluation.transfer_between,
        {
            "models": {"first": EASY, "second": EASY},
            "images": IMAGES,
            "labels": ANSWERS,
            "attack": PGD,
        },
    ),
    "transferability": (
        evaluation.transferability,
        {**ATTACKED, "model": EASY, "labels": ANSWERS},
    ),
    "wilson_interval": (
        evaluation.wilson_interval,
        {"accuracy": 0.5, "num_examples": 10},
    ),
}

# Public names without arguments of their own to check: what is no function,
# results and records, abstract bases, and what takes models, tensors or files
# and has tests of its own for these.
OTHERWISE = {
    *("AnytimeResult", "AttackedPolicyResult", "BudgetedResult"),
    *("EarlyExitResult", "GradientAlignmentResult", "Protocol", "Result"),
    *("LocalLinearityResult", "PrecisionAgreementResult", "SearchResult"),
    *("SensitivityResult", "SmoothingResult", "TransferabilityResult"),
    *("Context", "Costs", "Dataset", "ExitCosts", "Position", "Split", "Term"),
    *("BY_NAME", "DATASET_NAMES", "DIGITS_EPSILON", "OWN_DATASET_NAMES"),
    *("EncodedImages", "ExitLogits", "Method", "MultiExitModel"),
    *("RemainingBatches", "SearchAttack", "SetEpoch", "exit_costs", "get"),
    *("craft", "diagnostic", "layer_costs", "load", "load_msdnet_pytorch"),
    "register",
}
# Arguments that Keras checks, or nobody: every object is true or false.
NOT_OURS = {"name", "trainable", "verbose", "kwargs", "overrides", "unknown"}

# What is bad of most arguments and fine of these.
FINE = {("jit_compile", True), ("teacher_exit", "3")}

# What stands for an argument that is None by default.
GIVEN = {
    "budgets": [1e4],
    "exits": (0, 1),
    "num_targets": 9,
    "objective": attacks.AverageExits(),
    "subset": 2,
    "temperature": 1.0,
}

HUGE = 10**400
# Python refuses to write integers of so many digits.
UNWRITABLE = -(10**5000)
BAD = {
    bool: ["no", "True", 0, 1.0, math.nan, None, [], np.ones(2, bool)],
    int: [
        *(True, 1.5, math.nan, math.inf, "3", 1j, [1], np.ones(2, int)),
        *(HUGE, UNWRITABLE, object()),
    ],
    float: [
        *(True, math.nan, math.inf, -math.inf, "0.1", 1j, [0.1], np.ones(2)),
        *(HUGE, 1e-320, -1e9, object()),
    ],
    str: ["nonsense", 3, True, 1j, ["x"], np.array(["a", "b"]), object()],
    tuple: [
        *(3, math.nan, "nonsense", {1, 2}, ("x",), (math.nan,), (1j,)),
        *((HUGE,), (np.ones(2),), object()),
    ],
    object: ["nonsense", 3, math.nan, object(), [3], {"a": 3}, int],
}
BAD_ARRAYS = {
    "images": [
        *(None, 3, "text", 255 * IMAGES, IMAGES - 1, np.nan * IMAGES),
        *(IMAGES[..., 0], IMAGES[:, :4], np.full(4, "x"), object()),
    ],
    "labels": [
        *(None, 3, "text", LABELS + 0.5, LABELS + 99, LABELS - 99),
        *(np.nan * LABELS, LABELS[:2], np.full(4, "x"), object()),
    ],
}


def cases():
    """Yield name, function, good arguments, and one bad one and its name."""
    for name, (function, good) in sorted(CALLS.items()):
        signature = inspect.signature(function)
        for argument, parameter in signature.parameters.items():
            if argument in NOT_OURS and argument not in good:
                continue
            if parameter.kind in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                continue
            value = good.get(argument, parameter.default)
            if value is None:
                value = GIVEN.get(argument)
            for bad in bad_values(argument, value):
                is_fine = type(bad) in (bool, str) and (argument, bad) in FINE
                if not is_fine:
                    yield name, function, good, argument, bad


def bad_values(argument, value):
    """Return what is no such argument, by its name or a good value."""
    if value is None:
        return []
    if argument in BAD_ARRAYS:
        return BAD_ARRAYS[argument]
    kind = tuple if isinstance(value, list) else type(value)
    return BAD.get(kind, BAD[object])


def what_is_wrong(function, good, argument, bad):
    """Return what is wrong with how a bad argument is met, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**{**good, argument: bad})
    except (TypeError, ValueError) as error:
        message = str(error)
        names = {argument, *NAMES.get(argument, ())}
        if not any(name in message for name in names):
            return f"does not name it: {message}"
        said = ("eceived", "nknown", "not interpret", *texts(bad))
        if not any(each in message for each in said):
            return f"does not say what was received: {message}"
        return None
    except FileNotFoundError:
        return None  # A text may be the path of a policy.
    except Exception as error:  # What a user would see as a traceback.
        return f"{type(error).__name__}: {error}"
    return "is accepted"


# What messages call arguments that have a longer name in the sentence.
NAMES = {
    "attack": {"SearchAttack"},
    "budgets": {"budget"},
    "exits": {"`exit`"},
    "identifier": {"`attack`", "attack=", "`method`", "method"},
    "images": {"Images"},
    "labels": {"Labels"},
    "metrics": {"metric"},
    "model": {"MultiExitModel", "keras.Model"},
    "models": {"MultiExitModel"},
    "policy": {"`thresholds`"},
    "student": {"MultiExitModel"},
    "summands": {"sum"},
    "teacher_exit": {"exit"},
    "values": {"`epsilon`"},
}


def texts(bad):
    """Return what a message may write of a value."""
    try:
        return repr(bad)[:60], str(bad)[:60]
    except ValueError:  # An integer of too many digits.
        return ("more than 4,300 digits",)


def test_every_public_name_is_tried():
    modules = (attacks, data, evaluation, methods, models)
    public = {name for module in modules for name in module.__all__}
    assert public <= set(CALLS) | OTHERWISE


@pytest.mark.parametrize("name", sorted(CALLS))
def test_good_arguments_of_the_fuzz_are_good(name):
    function, good = CALLS[name]
    function(**good)


def test_bad_arguments_are_refused_in_a_sentence():
    tried, problems = 0, []
    for name, function, good, argument, bad in cases():
        tried += 1
        wrong = what_is_wrong(function, good, argument, bad)
        if wrong:
            shown = texts(bad)[0][:40]
            problems.append(f"{name}({argument}={shown}) {wrong[:300]}")
    print(f"{tried} bad arguments, {len(problems)} not refused as they should")
    assert tried >= 200
    assert not problems, "\n".join(problems)
