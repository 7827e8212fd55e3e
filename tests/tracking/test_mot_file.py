"""Ground truth in MOT's format."""

import pytest

from structures import UserError
from tracking import mot_file


def write(folder, text, name="gt.txt", labels=None):
    (folder / name).write_text(text)
    if labels is not None:
        (folder / name.replace("gt.txt", "labels.txt")).write_text(labels)
    return str(folder / name)


def test_what_is_written_is_read(tmp_path):
    path = str(tmp_path / "film.gt.txt")
    frames = [
        mot_file.objects([3, 1], [1, 0], [(1, 2, 11, 22), (0.5, 0, 4.25, 9)], [True, False]),
        mot_file.objects([], [], [], []),
        mot_file.objects([3], [1], [(2, 2, 12, 22)], [True]),
    ]
    mot_file.write(path, frames, ["car", "bus"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["film.gt.txt", "film.labels.txt"]
    truth = mot_file.read(path)
    assert truth.class_names == ["car", "bus"] and sorted(truth.frames) == [0, 2]
    for index, one in truth.frames.items():
        for part, expected in zip(one, frames[index], strict=True):
            assert part.tolist() == expected.tolist()


def test_without_names_all_are_of_one_class_and_short_lines_count(tmp_path):
    truth = mot_file.read(write(tmp_path, "1, 7, 10, 20, 30, 40\n1,8,0,0,5,5,0,12,0.5\n4,7,10,20,30,40,1,2,1,-1\n"))
    assert truth.class_names is None and sorted(truth.frames) == [0, 3]
    first = truth.frames[0]
    assert (first.ids.tolist(), first.labels.tolist(), first.counts.tolist()) == ([7, 8], [0, 0], [True, False])
    assert first.boxes_px[0].tolist() == [10, 20, 40, 60]


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ("", None, "gt.txt: has no objects"),
        ("1,2,3\n", None, r"gt\.txt:1: '1,2,3' is not frame,id"),
        ("1,1,0,0,9,9\n1,1,0,0,9,x\n", None, r"gt\.txt:2: "),
        ("0,1,0,0,9,9\n", None, "frames from 1"),
        ("1,1,0,0,-9,9\n", None, "is not frame,id"),
        ("1,1,0,0,nan,9\n", None, "is not frame,id"),
        ("1,1e300,0,0,9,9\n", None, "is not frame,id"),
        ("1,1,0,0,9,9\n1,1,5,5,9,9\n", None, r"gt\.txt:2: frame 1 has object 1 already"),
        ("1,1,0,0,9,9,1,3,1\n", "car\nbus\n", r"class 3, but .*labels\.txt has 2"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, text, labels, message):
    with pytest.raises(UserError, match=message) as caught:
        mot_file.read(write(tmp_path, text, labels=labels))
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"gt\.txt"):
        mot_file.read(str(tmp_path / "gt.txt"))
