"""--within-data refuses data sets and playlists that name files elsewhere; without it they are read as documented."""

import json
import shlex
import types

import cv2
import numpy as np
import pytest

import average_precision
import check_dataset
import convert_dataset
import infer
import sources
import train
from media import video
from structures import UserError

PICTURE = cv2.imencode(".png", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
COCO = {
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "car"}],
}


def coco(data, name):
    images = {"images": [{"id": 1, "file_name": name, "width": 30, "height": 20}]}
    (data / "train.json").write_text(json.dumps({**images, **COCO}))


def csv(data, name):
    (data / "train.csv").write_text(f"image,xmin,ymin,xmax,ymax,class\n{name},1,2,9,9,car\n")


def yolo(data, name):
    (data / "data.yaml").write_text("train: train.txt\nnames: [car]\n")
    (data / "train.txt").write_text(f"{name}\n")


def voc(data, name):
    """A link in the place of the picture."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (data / folder).mkdir(parents=True)
    (data / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (data / "Annotations" / "a.xml").write_text("<annotation></annotation>")
    (data / "JPEGImages" / "a.png").symlink_to(data / name)


WRITERS = {"coco": coco, "csv": csv, "yolo": yolo, "voc": voc}


@pytest.fixture(params=WRITERS)
def data(request, tmp_path):
    """(format, folder of a data set that names ../secret/a.png)."""
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.png").write_bytes(PICTURE)
    WRITERS[request.param](tmp_path / "data", "../secret/a.png")
    return request.param, tmp_path / "data"


def test_a_picture_elsewhere_is_refused_only_if_asked(data):
    source, folder = data
    assert len(sources.find(str(folder), "train", source)) == 1
    with pytest.raises(UserError, match=r"names .*, outside of .*data, which --within-data refuses"):
        sources.check_within(str(folder), "train", source)


@pytest.mark.parametrize("source", WRITERS)
def test_pictures_of_the_data_set_pass(source, tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)
    (tmp_path / "data").mkdir()
    WRITERS[source](tmp_path / "data", "a.png" if source != "voc" else "pictures/a.png")
    (tmp_path / "data" / "pictures").mkdir()
    for name in ("a.png", "pictures/a.png"):
        (tmp_path / "data" / name).write_bytes(PICTURE)
    sources.check_within(str(tmp_path / "data"), "train", source)
    if source == "coco":
        (tmp_path / "data" / "annotations").mkdir()
        (tmp_path / "data" / "train.json").rename(tmp_path / "data" / "annotations" / "instances_train.json")
        sources.check_within(str(tmp_path / "data" / "annotations" / "instances_train.json"), "train", source)


def test_a_link_and_the_folder_above_it(tmp_path):
    """pictures/../a.png is data/a.png by its letters, and another file to the system if `pictures` is a link."""
    for folder in ("data", "elsewhere/pictures"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("data", "elsewhere"):
        (tmp_path / folder / "a.png").write_bytes(PICTURE)
    (tmp_path / "data" / "pictures").symlink_to(tmp_path / "elsewhere" / "pictures")
    csv(tmp_path / "data", "pictures/../a.png")
    with pytest.raises(UserError, match="which --within-data refuses"):
        sources.check_within(str(tmp_path / "data"), "train")


def test_a_format_of_the_users_own(tmp_path, monkeypatch):
    """Its entries need no file of annotations, and may say where they are in any words."""
    code = (
        "import pathlib, types\n"
        "def find(data, splits):\n"
        "    name = (pathlib.Path(data) / 'name.txt').read_text()\n"
        "    return [types.SimpleNamespace(id='a', image_path=pathlib.Path(data) / name, where='picture 1')]\n"
        "split_names, class_names, load = (lambda data: ['all']), (lambda data, splits: ('car',)), None\n"
    )
    (tmp_path / "source_mine_w.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all").mkdir()  # not the split
    (tmp_path / "data").mkdir()
    for name in ("a.png", "data/a.png"):
        (tmp_path / name).write_bytes(PICTURE)
    (tmp_path / "data" / "name.txt").write_text("a.png")
    sources.check_within("data", "all", "mine_w")
    (tmp_path / "data" / "name.txt").write_text("../a.png")
    with pytest.raises(UserError, match=r"picture 1: names .*a\.png, outside of .*data, which --within-data refuses"):
        sources.check_within("data", "all", "mine_w")


@pytest.mark.parametrize("source", WRITERS)
def test_a_picture_that_is_missing_is_not_elsewhere(source, tmp_path, capsys):
    """check_dataset.py reports it; what trains on it names it when it reads the data set."""
    (tmp_path / "data").mkdir()
    WRITERS[source](tmp_path / "data", "a.png" if source != "voc" else "pictures/a.png")
    sources.check_within(str(tmp_path / "data"), "train", source)
    report = []
    for flags in ([], ["--within-data"]):
        check_dataset.main(["--data", str(tmp_path / "data"), "--workers", "1", *flags])
        report.append(capsys.readouterr().out)
    assert report[0] == report[1] and "missing" in report[0]


LISTS = [
    ("coco", "train.json"),
    ("csv", "train.csv"),
    ("yolo", "data.yaml"),
    ("yolo", "train.txt"),
    ("voc", "ImageSets/Main/train.txt"),
]


@pytest.mark.parametrize(("source", "name"), LISTS)
def test_a_list_that_is_a_link_to_elsewhere_is_refused(source, name, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    WRITERS[source](data, "a.png" if source != "voc" else "pictures/a.png")
    (data / "pictures").mkdir()
    for picture in ("a.png", "pictures/a.png"):
        (data / picture).write_bytes(PICTURE)
    sources.check_within(str(data), "train", source)
    (data / name).rename(data / f"{name}.bak")  # a link that stays inside
    (data / name).symlink_to(data / f"{name}.bak")
    sources.check_within(str(data), "train", source)
    (data / f"{name}.bak").rename(tmp_path / "elsewhere")
    (data / name).unlink()
    (data / name).symlink_to(tmp_path / "elsewhere")
    assert len(sources.find(str(data), "train", source)) == 1
    with pytest.raises(UserError, match=rf"{name}: leads out of .*data, which --within-data refuses"):
        sources.check_within(str(data), "train", source)


def test_every_program_has_the_flag(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_bytes(PICTURE)
    csv(tmp_path / "data", "../secret.png")
    given = ["--data", str(tmp_path / "data"), "--within-data"]
    calls = [
        (train, ["--train", "train", "--classes", "car", "--run", str(tmp_path / "run")]),
        (infer, ["ssd300-coco", "--split", "train", "--output", str(tmp_path / "out")]),
        (average_precision, [str(tmp_path / "data"), "--split", "train"]),
        (check_dataset, []),
        (convert_dataset, ["--to", "voc", "--output", str(tmp_path / "voc")]),
    ]
    for program, flags in calls:
        with pytest.raises(UserError, match="which --within-data refuses"):
            program.main([*flags, *given])
    assert {entry.name for entry in tmp_path.iterdir()} == {"data", "secret.png"}


def test_the_command_that_scores_keeps_the_flag():
    flags = types.SimpleNamespace(
        source="csv", valid_of=None, classes=None, output="out", data="data", split="val", within_data=True
    )
    words = shlex.split(infer._scoring_command(flags))
    assert words[-3:] == ["--source", "csv", "--within-data"] and words[1] == "average_precision.py"


def test_a_playlist_is_refused_only_if_asked(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    with video.VideoWriter(tmp_path / "a.mp4", 64, 64, 5) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index / 5)
    (tmp_path / "list.txt").write_text("ffconcat version 1.0\nfile a.mp4\n")
    (tmp_path / "film.mp4").write_text("\n  #EXTM3U\n#EXTINF:1,\na.mp4\n#EXT-X-ENDLIST\n")
    with video.VideoReader(tmp_path / "list.txt") as reader:
        assert len(list(reader)) == 5
    with video.VideoReader(tmp_path / "a.mp4", alone=True) as reader:
        assert len(list(reader)) == 5
    for name in ("list.txt", "film.mp4"):
        with pytest.raises(UserError, match="is a list of other files, which --within-data refuses"):
            video.VideoReader(tmp_path / name, alone=True)


def test_copies_stay_in_their_folder(tmp_path):
    """A picture that a data set names elsewhere is copied beside the others, not above them."""
    (tmp_path / "in" / "data").mkdir(parents=True)
    (tmp_path / "in" / "secret.png").write_bytes(PICTURE)
    csv(tmp_path / "in" / "data", "../secret.png")
    for number, (program, flags) in enumerate(
        ((check_dataset, ["--fix"]), (convert_dataset, ["--to", "csv", "--output"]))
    ):
        place = tmp_path / f"out{number}" / "copy"
        place.parent.mkdir()
        program.main(["--data", str(tmp_path / "in" / "data"), *flags, str(place)])
        assert [entry.name for entry in place.parent.iterdir()] == ["copy"]
