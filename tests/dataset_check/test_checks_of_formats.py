"""check_dataset.py finds and corrects the same in every format, and writes the format that it has read."""

import errno
import json
import shutil

import cv2
import numpy as np
import pytest
import yaml

import check_dataset
import dataset_formats
import sources
import ssd_utils
from dataset_check import checks, drawings, fixes, html_report, reporting, scanning
from formats import annotations
from media import images
from media.class_colors import class_colors
from structures import UserError
from system import write_errors
from voc_tree import fingerprint, voc_xml, write_voc

NAMES = ("cat", "dog")
FORMATS = ("voc", "coco", "yolo", "csv", "bdd100k", "kitti", "labelme")
VGG300 = ssd_utils.get_preset("vgg300")
WIDTH, HEIGHT = 160, 120
GOOD = [("cat", (21, 11, 100, 90)), ("dog", (61, 31, 140, 110))]
DEFECTS = {  # {picture: (objects, defect)}
    "train1": ([("cat", (-19, 11, 100, HEIGHT + 30)), GOOD[1]], "reaching-box"),
    "train2": ([*GOOD, ("cat", (WIDTH + 3, 5, WIDTH + 40, 50))], "outside-box"),
    "train3": ([*GOOD, GOOD[0]], "repeated-box"),
    "train4": ([GOOD[1], ("cat", (100, 11, 21, 90))], "inverted-box"),
    "train5": ([], "no-objects"),
}
OTHERS = {"train6": "unreadable", "train7": "missing-picture", "train8": "duplicate-across-splits"}


def noise(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def write_formats(root, pictures, splits):
    """{format: DATA} of a data set; pictures: {id: objects}."""
    drawn = {name: (noise(seed), objects) for seed, (name, objects) in enumerate(pictures.items())}
    voc = write_voc(root / "voc", drawn, splits, suffix=".png")
    return dataset_formats.write_all(voc, root / "others", list(splits), NAMES)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """{format: DATA} with the DEFECTS and OTHERS in each; not to be changed."""
    train = {f"train{number}": GOOD for number in range(10)} | {name: one for name, (one, _) in DEFECTS.items()}
    splits = {"train": list(train), "val": ["val0", "val1"]}
    root = tmp_path_factory.mktemp("originals")
    data = write_formats(root, {**train, "val0": GOOD, "val1": GOOD}, splits)
    for folder in data.values():
        next(folder.rglob("train6.png")).write_bytes(b"GIF89a?")
        next(folder.rglob("train7.png")).unlink()
        shutil.copy(next(folder.rglob("val1.png")), next(folder.rglob("train8.png")))
    return data


def scan_of(data, **options):
    return scanning.scan(data, workers=1, **options)


def defects_of(scan):
    return {(one.defect, one.picture.place.rpartition("/")[2]) for one in checks.check(scan, VGG300) if one.picture}


@pytest.mark.parametrize("name", FORMATS)
def test_planted_defects_are_found_and_corrected(originals, tmp_path, name):
    before, scan = fingerprint(originals[name]), scan_of(originals[name])
    assert scan.format == name
    expected = {one: defect for one, (_, defect) in DEFECTS.items()} | OTHERS
    if name == "labelme":
        del expected["train4"]  # the corners of its rectangles come in any order
    if name == "yolo":
        del expected["train7"]  # a folder does not list what it has not
    assert {(defect, picture.partition(".")[0]) for defect, picture in defects_of(scan)} == {
        (defect, one) for one, defect in expected.items()
    }

    changes = fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    assert fingerprint(originals[name]) == before
    assert (tmp_path / "fixed" / "changes.txt").read_text().splitlines() == changes
    mended = scan_of(tmp_path / "fixed")
    assert mended.format == name and defects_of(mended) == {("no-objects", "train5.png")}
    assert [split.name for split in mended.splits] == ["train", "val"]
    samples = sources.load(tmp_path / "fixed", "train", NAMES)
    assert [one.id for one in samples] == [f"train{number}" for number in (0, 1, 2, 3, 4, 5, 9)]
    boxes = {one.id: sorted(one.boxes_px.tolist()) for one in samples}
    good = [[20, 10, 100, 90], [60, 30, 140, 110]]
    assert boxes["train1"] == [[0, 10, 100, HEIGHT], good[1]] and boxes["train5"] == []
    assert boxes["train2"] == boxes["train3"] == good
    swapped = [20, 10, 100, 90] if name == "voc" else [21, 10, 99, 90]  # XML counts the last pixel too
    assert boxes["train4"] == [swapped, good[1]]


@pytest.mark.parametrize("name", FORMATS)
def test_a_copy_of_clean_data_is_the_same(tmp_path, name):
    data = write_formats(tmp_path, {f"{at}": GOOD for at in range(3)}, {"train": ["0", "1"], "val": ["2"]})[name]
    scan = scan_of(data)
    assert fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed") == []
    for split in ("train", "val"):
        ours, theirs = (sources.load(root, split, NAMES) for root in (data, tmp_path / "fixed"))
        for one, other in zip(ours, theirs, strict=True):
            assert one.id == other.id
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(images.read(one.image_path), images.read(other.image_path))
    assert sources.class_names(data, "train") == sources.class_names(tmp_path / "fixed", "train")


def write_doubled(data, name):
    """Make the pictures twice as large, after the annotations state their size."""
    for path in data.rglob("*.png"):
        images.write(path, cv2.resize(images.read(path), None, fx=2, fy=2))
    if name == "csv":
        for table in data.glob("*.csv"):
            lines = [line for line in table.read_text().splitlines() if not line.startswith("image")]
            head = "image,xmin,ymin,xmax,ymax,class,width,height"
            table.write_text("\n".join([head, *(f"{line},{WIDTH},{HEIGHT}" for line in lines), ""]))


@pytest.mark.parametrize("name", ["voc", "coco", "csv", "labelme"])
def test_boxes_of_resized_pictures_are_scaled_with_the_size(tmp_path, capsys, name):
    data = write_formats(tmp_path, {"a": GOOD, "b": [], "c": GOOD}, {"train": ["a", "b"], "val": ["c"]})[name]
    write_doubled(data, name)
    scan = scan_of(data)
    assert {defect for defect, _ in defects_of(scan)} == {"resized", "no-objects"}
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    assert {defect for defect, _ in defects_of(scan_of(tmp_path / "fixed"))} == {"no-objects"}
    capsys.readouterr()
    first = sources.load(tmp_path / "fixed", "train", NAMES)[0]
    assert capsys.readouterr().err == ""  # the size is that of the picture
    assert (first.width, first.height) == (2 * WIDTH, 2 * HEIGHT)
    np.testing.assert_allclose(first.boxes_px, [[40, 20, 200, 180], [120, 60, 280, 220]], atol=2e-3)


@pytest.mark.parametrize("area", ["900", "900.0", "900,0", ""])
def test_areas_of_a_table_are_scaled_with_the_size(tmp_path, area):
    """The area is that of an outline within the box."""
    images.write(tmp_path / "data/a.png", noise(1)[: HEIGHT // 2, : WIDTH // 2])
    images.write(tmp_path / "data/b.png", noise(2))
    lines = [f"{name}.png;10;10;50;50;cat;{WIDTH};{HEIGHT};{area}\n" for name in "ab"]
    table = "image;xmin;ymin;xmax;ymax;class;width;height;area\n"
    (tmp_path / "data" / "train.csv").write_text(table + "".join(lines))
    scan = scan_of(tmp_path / "data")
    assert {one.defect for one in checks.check(scan, VGG300)} >= {"resized"}
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    for data in ("data", "fixed"):
        one, two = sources.load(tmp_path / data, "train", NAMES)
        assert one.boxes_px.tolist() == [[5, 5, 25, 25]] and two.boxes_px.tolist() == [[10, 10, 50, 50]]
        areas = [None if found.area is None else found.area.tolist() for found in (one, two)]
        assert areas == ([[225], [900]] if area else [None, None])


@pytest.mark.parametrize("name", FORMATS)
def test_a_split_that_would_be_empty_is_refused(tmp_path, name):
    data = write_formats(tmp_path, {"a": GOOD, "b": GOOD}, {"train": ["a"], "val": ["b"]})[name]
    next(data.rglob("b.png")).write_bytes(b"no picture")
    scan = scan_of(data)
    with pytest.raises(UserError, match=r"the split val would have no pictures left: 1 .* unreadable picture"):
        fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


def test_shapes_without_an_area_are_reported(tmp_path):
    data = write_formats(tmp_path, {"a": GOOD}, {"train": ["a"]})["labelme"]
    path = data / "train" / "a.json"
    content = json.loads(path.read_text())
    points = [[10, 10], [20, 20]]
    content["shapes"][:0] = [{"label": "lane", "shape_type": kind, "points": points} for kind in ("line", "linestrip")]
    path.write_text(json.dumps(content))
    found = [one for one in checks.check(scan_of(data), VGG300) if one.defect == "no-area"]
    assert [(one.path, one.detail) for one in found] == [(str(path), "2 of its shapes")]


def test_corners_are_named_without_what_computing_leaves():
    """Fractions of 16 digits, as YOLO's, do not give whole pixels exactly."""
    written = annotations.Written("cat", (-1.84297e-14, 27.0000000001, 330.5, 1234567), "a.txt, line 1")
    assert checks.object_name(0, written, 0) == "object 1 (cat 0,27,330.5,1234567)"


@pytest.mark.parametrize(("others", "left"), [([], "no pictures"), (GOOD[:1], "1 of 5 objects")])
@pytest.mark.parametrize("name", ["voc", "coco", "bdd100k", "kitti", "labelme"])
def test_a_copy_that_would_lose_most_objects_to_fractions_is_refused(tmp_path, name, others, left):
    """A box around all of a picture counts as one in fractions too, where the others are."""
    low = name != "voc"  # write_all takes boxes of VOC, which count from 1
    boxes = {"a": (0.13, 0.09, 0.62, 0.75), "b": (0.2, 0.3, 0.9, 0.8), "c": (0.5, 0, 1, 1), "whole": (0, 0, 1, 1)}
    pictures = {key: [("cat", (x0 + low, y0 + low, x1, y1))] for key, (x0, y0, x1, y1) in boxes.items()}
    pictures |= {"pixels": others} if others else {}
    scan = scan_of(write_formats(tmp_path, pictures, {"train": list(pictures)})[name])
    found = checks.check(scan, VGG300)
    assert sum(one.defect == "fractions" for one in found) == 4
    assert len(checks.ground_truth(scan, found).boxes) == len(others)
    why = r": 4 would be left out, the first for boxes in fractions .* multiply x by its width and y by its height"
    with pytest.raises(UserError, match=f"the split train would have {left} left{why}"):
        fixes.write_copy(scan, found, tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_page_and_drawings(originals, tmp_path, capsys, name):
    scan = scan_of(originals[name])
    html_report.write(tmp_path / "page.html", reporting.make(scan, VGG300))
    assert "train6.png" in (tmp_path / "page.html").read_text()
    drawn, skipped = drawings.write(scan, tmp_path / "drawn", limit=100)
    missing = 0 if name == "yolo" else 1  # a folder does not list what it has not
    assert (drawn, skipped) == (10, 1 + missing)
    said = capsys.readouterr().err
    assert "train6" in said and said.count("not drawn") == skipped
    (path,) = (tmp_path / "drawn" / "val").glob("*val0.jpg")
    image, plain = images.read(path).astype(int), noise(10).astype(int)
    color = dict(zip(NAMES, class_colors(NAMES), strict=True))
    assert np.abs(image[50, 20] - color["cat"]).max() < 60 and np.abs(image[70, 139] - color["dog"]).max() < 60
    assert np.abs(image[115, :10] - plain[115, :10]).max() < 40  # nothing is drawn there


def test_drawings_are_bounded(originals, tmp_path, capsys, monkeypatch):
    scan = scan_of(originals["coco"])
    assert sum(drawings.write(scan, tmp_path / "drawn", limit=1)) == 2
    assert "--draw-limit" not in capsys.readouterr().err  # who gave it knows
    monkeypatch.setattr(drawings, "MOST", 1)
    assert sum(drawings.write(scan, tmp_path / "by itself", limit=None)) == 2
    assert "1 picture of the 10 of train; --draw-limit N draws more" in capsys.readouterr().err


def test_drawings_are_replaced_by_those_of_the_next_call(originals, tmp_path):
    """After a correction, with the same command; but nothing else is removed."""
    scan, folder = scan_of(originals["coco"]), tmp_path / "drawn"
    for limit, number in ((2, 3), (1, 2)):  # of train6.png nothing can be drawn
        drawings.check_folder(str(folder), str(originals["coco"]))
        drawings.write(scan, str(folder), limit)
        assert len(list(folder.rglob("*.jpg"))) == number
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]
    (folder / "notes.txt").write_text("the user's own")
    with pytest.raises(UserError, match=f"^--draw {folder}: it exists and is not an empty folder"):
        drawings.check_folder(str(folder), str(originals["coco"]))


def test_drawings_that_the_disk_does_not_hold_leave_nothing(originals, tmp_path, monkeypatch):
    """Half of them would be in the way of the same command."""
    write, written = images.write, []

    def filling(path, *arguments):
        write(path, *arguments)
        written.append(path)
        if len(written) == 3:
            raise write_errors.unwritable(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(images, "write", filling)
    folder = tmp_path / "drawn"
    with pytest.raises(UserError, match=rf"^--draw {folder}: cannot be written \(No space left on device\); free"):
        drawings.write(scan_of(originals["coco"]), folder, limit=100)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["yolo", "coco", "csv"])
def test_drawings_of_a_file_have_the_names_of_those_of_its_folder(originals, tmp_path, name):
    """Also of pictures that lie elsewhere, whose names would begin with dots: such files are hidden."""
    data = tmp_path / "data"
    shutil.copytree(originals[name], data)
    (file,) = [path for path in data.rglob("*") if path.name in ("data.yaml", "instances_val.json", "val.csv")]
    found = []
    for number, one in enumerate((data, file)):
        drawings.write(scan_of(one, splits="val"), tmp_path / f"drawn{number}", limit=100)
        found.append(sorted(path.name for path in (tmp_path / f"drawn{number}").rglob("*.jpg")))
    assert found[0] == found[1] and len(found[0]) == 2 and not any(one.startswith(".") for one in found[0])


def test_drawings_of_pictures_elsewhere_are_not_hidden(tmp_path):
    (tmp_path / "data").mkdir()
    for place in ("one/.a.png", "one/b.png", "two/b.png"):
        images.write(tmp_path / place, noise(1))
    lines = [f"../{place},5,5,60,60,cat\n" for place in ("one/.a.png", "one/b.png", "two/b.png")]
    (tmp_path / "data" / "train.csv").write_text("".join(lines))
    assert drawings.write(scan_of(tmp_path / "data"), tmp_path / "drawn", limit=100) == (3, 0)
    drawn = sorted(path.name for path in (tmp_path / "drawn").rglob("*.jpg"))
    assert drawn == ["one_.a.jpg", "one_b.jpg", "two_b.jpg"]


def test_the_program_on_another_format(originals, tmp_path, capsys):
    arguments = ["--data", originals["yolo"], "--split", "val", "--workers", "1", "--draw", tmp_path / "drawn"]
    check_dataset.main([str(one) for one in [*arguments, "--fix", tmp_path / "fixed"]])
    said = capsys.readouterr().out
    assert "(yolo): 2 pictures in 1 split, 4 objects" in said and "drawn: 2 drawn pictures, 0 skipped" in said
    assert sources.split_names(tmp_path / "fixed") == ["val"]


@pytest.mark.parametrize("names", [["no", "yes"], {0: "no", 1: "yes"}], ids=["list", "mapping"])
def test_what_yolo_describes_leads_into_the_copy(originals, tmp_path, names):
    """An absolute path in the YAML file of the copy would mean the original."""
    data = tmp_path / "data"
    shutil.copytree(originals["yolo"], data)
    listed = [str(path) for path in sorted((data / "images/val").glob("*.png"))]
    (data / "lists").mkdir()
    (data / "lists/val.txt").write_text("\n".join(listed) + "\n")
    content = {"path": str(data), "train": ["images/train"], "val": str(data / "lists/val.txt"), "nc": 2}
    (data / "data.yaml").write_text(yaml.safe_dump({**content, "names": names}))
    scan = scan_of(data)
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    described = yaml.safe_load((tmp_path / "fixed/data.yaml").read_text())
    assert described["names"] == names and described["nc"] == 2 and described["path"] == "."
    shutil.rmtree(data)
    assert [one.id for one in sources.load(tmp_path / "fixed", "val", ("no", "yes"))] == ["val0", "val1"]
    assert sources.load(tmp_path / "fixed", "train", ("no", "yes"))


def test_coco_keeps_what_it_does_not_know(tmp_path):
    data = write_formats(tmp_path, {"a": [*GOOD, ("cat", (5, 5, 5, 200))]}, {"train": ["a"]})["coco"]
    path = data / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["info"] = {"year": 2026}
    content["annotations"][0] |= {"segmentation": [[20, 10, 100, 10, 100, 90]], "score": 0.5}
    content["images"][0] |= {"width": WIDTH // 2, "height": HEIGHT // 2, "license": 3}
    for one in content["annotations"]:
        one["bbox"], one["area"] = [side / 2 for side in one["bbox"]], one["area"] / 4
    path.write_text(json.dumps(content))
    scan = scan_of(data)
    assert "resized" not in {defect for defect, _ in defects_of(scan)}  # a box does not fit the stated size
    content["annotations"][2]["bbox"] = [2, 2, 0, 20]
    path.write_text(json.dumps(content))
    scan = scan_of(data)
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    written = json.loads((tmp_path / "fixed/annotations/instances_train.json").read_text())
    assert written["info"] == content["info"] and written["categories"] == content["categories"]
    assert written["images"][0] == content["images"][0] | {"width": WIDTH, "height": HEIGHT}
    first, second = written["annotations"]
    assert first["bbox"] == [20, 10, 80, 80] and first["segmentation"] == [[40, 20, 200, 20, 200, 180]]
    assert first["area"] == 6400 and first["score"] == 0.5 and second["id"] == 2


def test_splits_that_share_a_picture_in_two_files(tmp_path):
    """trainval holds train, which is no defect; a picture in train and val is one."""
    pictures = {str(at): GOOD for at in range(6)}
    splits = {"train": ["0", "1", "2"], "trainval": ["0", "1", "2", "3", "4"], "val": ["3", "4"]}
    data = write_formats(tmp_path, pictures, splits)["csv"]
    assert defects_of(scan_of(data)) == set()
    (data / "val.csv").write_text((data / "val.csv").read_text() + "2.png,20,10,100,90,cat\n")
    scan = scan_of(data, splits="train,val")
    assert defects_of(scan) == {("in-two-splits", "2.png")}
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    assert [one.id for one in sources.find(tmp_path / "fixed", "train")] == ["0", "1"]
    assert [one.id for one in sources.find(tmp_path / "fixed", "val")] == ["3", "4", "2"]


def test_a_split_whose_pictures_are_all_in_another_one_is_refused(tmp_path):
    data = write_formats(tmp_path, {"a": GOOD, "b": GOOD}, {"train": ["a"], "val": ["a", "b"]})
    for name in ("voc", "coco", "csv"):
        scan = scan_of(data[name])
        with pytest.raises(UserError, match=r"the split train would have no pictures left.*a\.png"):
            fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
        assert not (tmp_path / "fixed").exists()


def test_a_format_of_the_users_own(tmp_path, monkeypatch, capsys):
    write_voc(tmp_path / "data", {"a": ((WIDTH, HEIGHT), GOOD)}, {"train": ["a"]})
    (tmp_path / "source_mine.py").write_text(
        "import source_pascal_voc\nfrom source_pascal_voc import class_names, find, load, split_names\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "data", "--source", "mine", "--workers", "1"]
    check_dataset.main(arguments)
    assert "data (mine): 1 picture in 1 split, 2 objects of 2 classes" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--fix: source_mine\.py has no function 'write_fixed'"):
        check_dataset.main([*arguments, "--fix", "fixed"])


def test_nothing_is_left_after_a_failure(tmp_path, monkeypatch):
    data = write_formats(tmp_path, {"a": [*GOOD, GOOD[0]], "b": GOOD}, {"train": ["a"], "val": ["b"]})["kitti"]
    scan = scan_of(data)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sources, "write_fixed", fail)
    with pytest.raises(UserError, match="No space left"):
        fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists() and not list(tmp_path.glob(".*"))


def test_the_xml_states_what_it_stated(tmp_path):
    """A box of the XML layout counts from 1: a corrected file has whole pixels again."""
    data = write_formats(tmp_path, {"a": [*GOOD, GOOD[0]]}, {"train": ["a"]})["voc"]
    scan = scan_of(data)
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    text = (tmp_path / "fixed/Annotations/a.xml").read_text()
    assert text.count("<object>") == 2
    assert text.partition("?>")[2].strip() == voc_xml(WIDTH, HEIGHT, GOOD)
