"""What results ask of a data set is read when it is asked for, and once."""

import json
import os
import shutil
import types

import numpy as np
import pytest
from PIL import Image

import config
import dataset_formats
import result_cases
import sources
from formats import division
from results import data_set, detection_files, result_files
from results.data_set import DataSet
from results.result_files import Origin, Source
from structures import UserError
from voc_tree import write_voc


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """{format: DATA} of one small data set."""
    folder = tmp_path_factory.mktemp("data")
    picture = np.zeros((40, 60, 3), np.uint8), [("car", (11, 11, 30, 30))]
    voc = write_voc(folder / "voc", {"a": picture, "b": picture})
    return dataset_formats.write_all(voc, folder / "others", ["trainval"], ("car", "bus"))


@pytest.mark.parametrize("name", list(sources.SOURCES))
def test_data_sets_of_every_format(formats, name):
    data = DataSet(formats[name], "trainval")
    assert data.format == name
    assert data.class_names == sources.class_names(formats[name], "trainval")
    samples = data.samples(["car", "bus"])
    assert list(samples) == ["a", "b"]
    assert (samples["a"].width, samples["a"].height) == (60, 40)
    assert data.samples(("car", "bus")) is samples  # loaded once


def test_ids_of_a_coco_data_set(formats):
    image_ids, category_ids = DataSet(formats["coco"], "trainval").coco_ids
    assert set(image_ids) == {"a", "b"} and set(category_ids) == {"car", "bus"}


def test_settings_reach_the_data_set(formats):
    assert DataSet(formats["voc"], "trainval", other_classes="ignore").samples(["bus"])["a"].labels.size == 0
    with pytest.raises(UserError, match="car"):
        DataSet(formats["voc"], "trainval").samples(["bus"])
    assert DataSet(formats["coco"], "trainval", "csv").format == "csv"


@pytest.mark.parametrize(
    ("ids", "expected"),
    [({"a.jpg", "a.png"}, "a.jpg"), ({"x/a.jpg", "y/a"}, "x/a.jpg"), ({"x/a"}, "x/a"), (set(), "a")],
)
def test_the_id_of_a_file_that_results_name(ids, expected):
    """With its folder and its suffix as far as the ids of the data set have them."""
    file = "a.jpg" if expected == "a.jpg" else "x/a.jpg"
    assert result_files.picture_id(file, types.SimpleNamespace(ids=ids)) == expected
    assert result_files.picture_id(file) == "a"


@pytest.mark.parametrize("files", [("x/a.jpg", "y/a.jpg"), ("x/a.jpg", "x/a.png"), ("x/a.jpg", "y/a.jpg", "y/a.png")])
def test_pictures_of_one_name_keep_their_results(formats, tmp_path, files):
    """Ids are then paths, with the suffix if only that differs; every format of results writes and reads them."""
    for name in ("coco", "yolo", "csv"):
        for file in files:
            place = {"yolo": "images/trainval", "csv": "images", "coco": "trainval"}[name]
            target = tmp_path / name / place / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(next(formats["voc"].rglob("a.jpg")), target)
    described = [{"id": at, "file_name": file} for at, file in enumerate(files)]
    categories = [{"id": 7, "name": "car"}, {"id": 8, "name": "bus"}]
    content = {"images": described, "annotations": [], "categories": categories}
    (tmp_path / "coco" / "trainval.json").write_text(json.dumps(content))
    lines = [f"{file},1,1,9,9,{kind}\n" for file, kind in zip(files, ("car", "bus", "bus"), strict=False)]
    (tmp_path / "csv" / "trainval.csv").write_text("".join(lines))
    labels = tmp_path / "yolo" / "labels" / "trainval" / "x"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "yolo" / "data.yaml").write_text("trainval: images/trainval\nnames: [background, car, bus]\n")
    for name in ("coco", "yolo", "csv"):
        data, names = DataSet(tmp_path / name, "trainval"), ("car", "bus")
        entries = sources.find(data.path, "trainval")
        assert data.ids == {entry.id for entry in entries} and all("/" in entry.id for entry in entries)
        assert len(data.samples(names)) == len(entries) == len(files)
        assert data.ids is data.ids  # results ask for them once a picture
        of_others = {result_files.picture_id(os.path.relpath(one.image_path, data.path), data) for one in entries}
        assert of_others == data.ids  # another detector's results, which name the files
        origin = Origin(Source("model"), names, (0, 1), 0.5, data)
        found = {
            entry.id: result_cases.some_detections(np.random.default_rng(at), 9) for at, entry in enumerate(entries)
        }
        found = {key: one.where(one.labels < 2) for key, one in found.items()}
        for form, module in detection_files.FORMATS.items():
            if form == "coco" and name != "coco":
                continue
            out = tmp_path / f"{name}_{form}"
            with module.open_writer(out, origin) as writer:
                for key, one in found.items():
                    writer.add(f"{key}.jpg", 60, 40, one)
            inside = {"json": "detections.json", "coco": "coco_results.json", "csv": "detections.csv", "yolo": "labels"}
            read = module.read(out / inside.get(form, ""), names, data)
            assert set(read.detections) == set(found)
            for key, one in found.items():
                assert read.detections[key].labels.tolist() == one.labels.tolist()
                np.testing.assert_allclose(read.detections[key].boxes_px, one.boxes_px, rtol=1e-5, atol=0.005)
        if name == "yolo":  # numbers are the data set's, in which background has one
            lines = (tmp_path / "yolo_yolo" / "labels" / f"{entries[0].id}.txt").read_text().splitlines()
            assert {int(line.split()[0]) for line in lines} <= {1, 2} and lines


def test_exif_is_applied_as_for_training(tmp_path):
    """infer.py reads a picture as its boxes were drawn: as stored where the annotation states that size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    objects = [("car", (11, 11, 30, 30))]
    pictures = {"a": ((60, 40), objects), "b": ((60, 40), objects), "c": ((60, 40), objects)}
    root = write_voc(tmp_path, pictures, {"train": list(pictures)})
    for name, size in (("a", (60, 40)), ("b", (40, 60))):  # b is stored on its side
        Image.new("RGB", size).save(root / "JPEGImages" / f"{name}.jpg", exif=exif)
    data = DataSet(root, "train")
    assert [entry.id for entry in data.entries] == ["a", "b", "c"] and data.exif == [False, True, False]
    assert data.exif == [one.exif for one in data.samples(["car"]).values()]
    (root / "Annotations" / "a.xml").unlink()
    (root / "JPEGImages" / "c.jpg").write_bytes(b"")
    assert DataSet(root, "train").exif == [True, True, True]  # also where nothing says how boxes were drawn


def test_the_pictures_of_a_run_must_all_be_there(formats, tmp_path):
    """Those that its --valid-share kept for validation; figures of a part of them would be others."""
    place = division.picture_name(DataSet(formats["voc"], "trainval").entries[0].image_path, formats["voc"])
    division.Division([], [place]).write(tmp_path / config.DIVISION)
    assert list(DataSet(formats["voc"], "trainval", valid_of=tmp_path).samples(("car",))) == ["a"]
    division.Division([], [place, "gone.jpg"]).write(tmp_path / config.DIVISION)
    with pytest.raises(UserError, match=r"--valid-of: .* has only 1 of the run's 2 pictures"):
        DataSet(formats["voc"], "trainval", valid_of=tmp_path).samples(("car",))


@pytest.mark.parametrize(("data", "split"), [("mine", None), (None, "val")])
def test_a_data_set_and_its_split_are_given_together(data, split):
    with pytest.raises(UserError, match="give both or neither"):
        data_set.check_flags(types.SimpleNamespace(data=data, split=split), (), ())


@pytest.mark.parametrize(
    ("most", "expected"), [(4, [0, 3, 6, 9]), (9, [0, 2, 4, 6, 8]), (10, [*range(10)]), (None, [*range(10)])]
)
def test_some_of_many_are_spread(most, expected):
    assert data_set.spread(list(range(10)), most) == expected


def test_pictures_to_score_need_an_object_that_counts():
    """One is enough; those that are difficult do not count."""

    def scored(*difficult):
        samples = {"a": types.SimpleNamespace(difficult=np.array(difficult, bool))}
        whole = types.SimpleNamespace(samples=lambda names: samples)
        return data_set.scored_samples(whole, "val", ("car",)) == samples

    assert scored(True, False)
    for difficult in ((), (True,)):
        with pytest.raises(UserError, match="--split val: has no objects"):
            scored(*difficult)
