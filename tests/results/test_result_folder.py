"""The mark of unfinished results: no link is followed, and two programs do not share a folder."""

import os

import pytest

from results import result_folder
from structures import UserError


def test_a_link_in_the_place_of_the_mark_is_not_followed(tmp_path):
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_text("precious")
    (out / result_folder.UNFINISHED).symlink_to(precious)
    with result_folder.unfinished(out):
        assert precious.read_text() == "precious"
    assert list(out.iterdir()) == []


@pytest.fixture
def earlier(tmp_path):
    """A folder with results of an earlier call: images/a.png, which is a link to a picture elsewhere."""
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    (out / result_folder.UNFINISHED).touch()
    (tmp_path / "elsewhere.png").touch()
    (out / "images" / "a.png").symlink_to(tmp_path / "elsewhere.png")
    return out


def test_earlier_results_are_replaced_unless_they_are_read(earlier, tmp_path):
    place = str(earlier / "images")
    for read in ("images/a.png", "images/deep/b.png", "images"):
        with pytest.raises(UserError, match=f"{place} is in the way"):
            result_folder.check(earlier, True, [str(earlier / read)])
    for read in (earlier / "images_of_mine" / "b.png", tmp_path / "elsewhere.png"):
        assert result_folder.check(earlier, True, [str(read)]) == [place]


def test_of_a_linked_folder_of_results_the_link_alone_is_removed(earlier, tmp_path):
    (earlier / "images").rename(tmp_path / "far")
    (earlier / "images").symlink_to(tmp_path / "far")
    result_folder.remove(earlier, result_folder.check(earlier, True, []))
    assert not (earlier / "images").exists() and (tmp_path / "far" / "a.png").is_symlink()


def test_a_second_call_into_the_folder_is_refused(tmp_path):
    with (
        result_folder.unfinished(tmp_path),
        pytest.raises(UserError, match=f"--output {tmp_path}: another infer.py is writing there"),
        result_folder.unfinished(tmp_path),
    ):
        pass
    with result_folder.unfinished(tmp_path):  # and free again
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_when_there_is_something_to_write(tmp_path):
    """A call that is stopped, or whose model cannot be loaded, leaves none."""
    out = tmp_path / "new" / "out"
    assert result_folder.check(out, False, []) == []
    assert not os.path.lexists(tmp_path / "new")
    with result_folder.unfinished(out):
        assert os.listdir(out) == [result_folder.UNFINISHED]
    (tmp_path / "file").touch()
    for place in ("file", "file/out"):
        with pytest.raises(UserError, match=r"--output .*: cannot be written"):
            result_folder.check(tmp_path / place, False, [])
