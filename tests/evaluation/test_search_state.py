"""Searches that are stopped, at any point, and go on with the same result."""

import io
import zipfile

import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd.evaluation import search_parts
from keras_neokd.evaluation import search_state
from keras_neokd.evaluation import searching
from keras_neokd.evaluation.search_state import SearchState
from tests import arrays
from tests.evaluation import searches
from tests.evaluation.searches import IMAGES
from tests.evaluation.searches import Walk
from tests.training import tiny


@pytest.fixture(scope="module")
def model():
    return searches.small_model()


@pytest.fixture(scope="module")
def labels(model):
    return searches.labels_of(model)


@pytest.fixture(autouse=True)
def _always_saved(monkeypatch):
    monkeypatch.setattr(search_state, "_SECONDS_BETWEEN_SAVES", 0)


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch):
    """These tests search often, and each search would compile anew."""
    monkeypatch.setattr(
        search_parts.backend,
        "compile_per_example",
        lambda function, _: function,
    )


def attack_to_stop():
    # The exits in a tuple, which JSON gives back as a list.
    objective = attacks.AverageExits(exits=(0, 1))
    return attacks.WorstCase([Walk(0.1), tiny.NoiseImages(0.25)], objective)


def run(model, labels, attack, path=None, **arguments):
    """Search in batches of 3, so that there are two groups of them."""
    given = {"batch_size": 3, "seed": 5, **arguments}
    return evaluation.search(
        model, IMAGES, labels, attack, state_file=path, **given
    )


def assert_equal_results(first, second):
    arrays.equal(first.adversarial, second.adversarial)
    arrays.equal(first.fooled_by, second.fooled_by)
    assert first.attack_names == second.attack_names


class Interruption:
    """Counts the calls of a method; `stop_at` is the call that is stopped."""

    def __init__(self, monkeypatch, owner, name):
        self.calls, self.stop_at = 0, None
        original = getattr(owner, name)

        def stopping(*arguments):
            self.calls += 1
            if self.calls == self.stop_at:
                raise KeyboardInterrupt
            return original(*arguments)

        monkeypatch.setattr(owner, name, stopping)

    def at(self, number):
        """Stop the call of this number, counted from now; `None` for none."""
        self.calls, self.stop_at = 0, number


@pytest.fixture
def saves(monkeypatch):
    return Interruption(monkeypatch, SearchState, "save")


@pytest.fixture
def advances(monkeypatch):
    return Interruption(monkeypatch, searching.EvaluationSearch, "_advance")


# Stopped and continued.


def test_a_search_can_be_stopped_after_every_save(
    model, labels, saves, tmp_path
):
    """Each call gets no further than one save, so that all are gone on from."""
    attack = attack_to_stop()
    expected = run(model, labels, attack)
    num_saves = saves.calls
    assert {-2, -1, 0, 1} == set(expected.fooled_by)
    result, stops = None, 0
    while result is None:
        saves.at(2)
        try:
            result = run(model, labels, attack, tmp_path / "state.npz")
        except KeyboardInterrupt:
            stops += 1
    assert_equal_results(result, expected)
    assert stops == num_saves - 1
    assert stops > 10


def stop_and_go_on(calls, number, expected, model, labels, attack, folder):
    calls.at(number)
    with pytest.raises(KeyboardInterrupt):
        run(model, labels, attack, folder / "state.npz")
    found = run(model, labels, attack, folder / "state.npz")
    assert_equal_results(found, expected)


@pytest.mark.parametrize("number", [1, 4])
def test_a_search_can_be_stopped_within_a_round(
    model, labels, advances, tmp_path, number
):
    attack = attack_to_stop()
    expected = run(model, labels, attack)
    assert advances.calls > 5
    stop_and_go_on(advances, number, expected, model, labels, attack, tmp_path)


@pytest.mark.slow
def test_attacks_with_more_state_go_on_as_well(model, labels, saves, tmp_path):
    attack = attacks.APGD(0.1, 15, num_restarts=2)
    expected = run(model, labels, attack)
    assert saves.calls >= 8
    stop_and_go_on(saves, 5, expected, model, labels, attack, tmp_path)


def test_what_was_done_is_not_done_again(model, labels, advances, tmp_path):
    attack = Walk(0.1)
    expected = run(model, labels, attack, tmp_path / "state.npz")
    assert advances.calls > 0
    advances.at(1)
    again = run(model, labels, attack, tmp_path / "state.npz")
    assert_equal_results(again, expected)
    assert advances.calls == 0


def test_a_file_is_written_now_and_then_and_at_the_end(
    model, labels, tmp_path, monkeypatch
):
    written = []
    write = search_state.SearchState.write
    monkeypatch.setattr(
        search_state.SearchState,
        "write",
        lambda state: (written.append(1), write(state)),
    )
    monkeypatch.setattr(search_state, "_SECONDS_BETWEEN_SAVES", 1e6)
    run(model, labels, Walk(0.1), tmp_path / "state.npz")
    assert len(written) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["state.npz"]


def test_a_folder_is_made_and_nothing_left_but_the_file(
    model, labels, tmp_path
):
    path = tmp_path / "new" / "state.npz"
    run(model, labels, Walk(0.1), str(path))
    assert list(path.parent.iterdir()) == [path]


def test_no_file_is_written_unless_asked_for(model, labels, monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError

    monkeypatch.setattr(np, "savez", refuse)
    run(model, labels, Walk(0.1))


# Files of something else.


@pytest.fixture(scope="module")
def saved(model, labels, tmp_path_factory):
    """The state of a finished search."""
    path = tmp_path_factory.mktemp("saved") / "state.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_state, "_SECONDS_BETWEEN_SAVES", 0)
        run(model, labels, Walk(0.1), path)
    return path


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"attack": Walk(0.11)}, "attack"),
        ({"attack": attacks.WorstCase([Walk(0.1)])}, "attack"),
        ({"seed": 6}, "seed"),
        ({"batch_size": 4}, "batch_size"),
        ({"seed": 6, "attack": Walk(0.1, 3)}, "attack, seed"),
    ],
)
def test_the_state_of_another_search_is_refused(
    model, labels, saved, changed, named
):
    arguments = {"attack": Walk(0.1), "path": saved, **changed}
    message = rf"the state of another search: it differs in {named}\. Remove"
    with pytest.raises(ValueError, match=message):
        run(model, labels, **arguments)


def test_a_state_is_read_wherever_the_class_of_its_attack_has_moved(
    model, labels, saved, monkeypatch
):
    expected = run(model, labels, Walk(0.1), saved)
    monkeypatch.setattr(Walk, "__module__", "tests.elsewhere")
    found = run(model, labels, Walk(0.1), saved)
    arrays.equal(found.fooled_by, expected.fooled_by)


def test_the_state_of_another_model_or_other_data_is_refused(
    model, labels, saved
):
    other = searches.small_model(seed=3)
    with pytest.raises(ValueError, match=r"it differs in model\."):
        run(other, labels, Walk(0.1), saved)
    with pytest.raises(ValueError, match=r"it differs in data\."):
        run(model, (labels + 1) % 8, Walk(0.1), saved)
    with pytest.raises(ValueError, match=r"it differs in data\."):
        evaluation.search(
            model, IMAGES[::-1], labels, Walk(0.1), 3, 5, state_file=saved
        )


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("adversarial", np.zeros((2, 4, 4, 1)), r"\(24, 4, 4, 1\), received"),
        ("fooled_by", np.zeros((24, 24), int), r"shape \(24,\), received"),
        ("rows", np.zeros((2, 2), int), r"received \(2, 2\)"),
        ("at", np.zeros(3, int), r"'at' of shape \(4,\)"),
        ("at", None, "'at'"),
    ],
)
def test_a_state_of_other_arrays_is_refused(
    model, labels, saved, tmp_path, name, values, message
):
    with np.load(saved) as file:
        changed = {**file, name: values}
    if values is None:
        del changed[name]
    np.savez(tmp_path / "state.npz", **changed)
    with pytest.raises(ValueError, match=f"not the state of.*{message}"):
        run(model, labels, Walk(0.1), tmp_path / "state.npz")


def test_of_another_search_only_the_settings_are_read(
    model, labels, saved, tmp_path
):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
    )
    with np.load(saved) as file:
        fingerprint = file["fingerprint"]
    path = tmp_path / "state.npz"
    np.savez(path, fingerprint=fingerprint)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("adversarial.npy", head.getvalue())
    with pytest.raises(ValueError, match="differs in seed"):
        run(model, labels, Walk(0.1), path, seed=6)
    with pytest.raises(ValueError, match="claims an array of 4,398,046,511"):
        run(model, labels, Walk(0.1), path)


def archive(**arrays):
    """Return the bytes of a file of some arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def single_array():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: b"not a state", id="text"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="cut short"),
        pytest.param(lambda whole: whole[:-30], id="cut at the end"),
        pytest.param(lambda whole: single_array(), id="a single array"),
        *(
            pytest.param(lambda whole, given=given: archive(**given), id=name)
            for name, given in {
                "other arrays": {"images": np.zeros(3)},
                "no JSON": {"fingerprint": np.array("no JSON")},
                "no text": {"fingerprint": np.array({"a": 1}, dtype=object)},
                "a list": {"fingerprint": np.array("[]")},
                "a number": {"fingerprint": np.array("3")},
                "quoted": {"fingerprint": np.array('"text"')},
            }.items()
        ),
    ],
)
def test_a_file_that_is_no_state_is_refused(
    model, labels, saved, tmp_path, content
):
    path = tmp_path / "state.npz"
    path.write_bytes(content(saved.read_bytes()))
    with pytest.raises(ValueError, match="is not the state of a search"):
        run(model, labels, Walk(0.1), path)


def test_a_state_without_settings_is_another_one(model, labels, tmp_path):
    path = tmp_path / "state.npz"
    path.write_bytes(archive(fingerprint=np.array("{}")))
    with pytest.raises(ValueError, match="state of another search"):
        run(model, labels, Walk(0.1), path)
