"""A folder for what is not finished yet."""

import errno

import pytest

from keras_neokd.data import unfinished

NAME = "incomplete.keras_neokd"


def test_the_folder_is_there_within_and_gone_after(tmp_path):
    with unfinished.folder_in(tmp_path / "new") as folder:
        assert folder == tmp_path / "new" / NAME
        (folder / "file").write_text("half")
    assert list((tmp_path / "new").iterdir()) == []


def test_nothing_is_left_after_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match="damaged"),
        unfinished.folder_in(tmp_path) as folder,
    ):
        (folder / "file").write_text("half")
        raise ValueError("damaged")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_links_are_not_followed(
    tmp_path,
):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    left = tmp_path / "data" / NAME
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    (left / "link").symlink_to(mine)
    other = tmp_path / "data" / "incomplete.ABC123_1.0.0"
    other.mkdir()
    with unfinished.folder_in(tmp_path / "data") as folder:
        assert list(folder.iterdir()) == []
    assert (mine / "file").read_text() == "mine"
    # What tensorflow-datasets itself left is not ours.
    assert list((tmp_path / "data").iterdir()) == [other]


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NAME).symlink_to(mine)
    with unfinished.folder_in(tmp_path / "data") as folder:
        (folder / "file").write_text("theirs")
    assert (mine / "file").read_text() == "mine"
    assert list((tmp_path / "data").iterdir()) == []


def test_the_folder_of_another_process_is_left_alone(tmp_path):
    with unfinished.folder_in(tmp_path) as folder:
        (folder / "file").write_text("half")
        with (
            pytest.raises(ValueError, match=f"process writes .*{NAME}.*Wait"),
            unfinished.folder_in(tmp_path),
        ):
            pass
        assert (folder / "file").read_text() == "half"


def test_without_locks_a_folder_may_be_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "fcntl", None)
    with unfinished.folder_in(tmp_path) as folder:
        assert folder.is_dir()
    folder.mkdir()
    with (
        pytest.raises(ValueError, match="none is running, delete the folder"),
        unfinished.folder_in(tmp_path),
    ):
        pass
    assert folder.is_dir()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        # As tensorflow-datasets has it.
        RuntimeError("Failed to finalize: No space left on device; x.record"),
    ],
)
def test_a_full_disk_is_told_by_name_and_nothing_is_left(tmp_path, error):
    with (
        pytest.raises(
            OSError,
            match=rf"{tmp_path} could not be written: no space is left on its "
            r"disk \(.*No space.*removed\. Make room",
        ),
        unfinished.folder_in(tmp_path) as folder,
    ):
        (folder / "file").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []
