"""VOC layout: coordinates by hand, every odd file, every error line."""

import pathlib
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import source_pascal_voc as voc
from structures import UserError
from voc_tree import voc_xml, write_voc

SHARED = pathlib.Path(__file__).parents[1].parent / "shared" / "data"
NAMES = ("cat", "dog")


def error_of(function, *args, **kwargs):
    """The message of the UserError that a call raises, one line."""
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def set_xml(root, text, image_id="a"):
    path = root / "Annotations" / f"{image_id}.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.fixture
def one(tmp_path):
    """A data set of one picture of 20x10 with a cat."""
    return write_voc(tmp_path / "one", {"a": ((20, 10), [("cat", (5, 3, 10, 8))])})


def test_coordinates_by_hand(tmp_path):
    objects = [("cat", (1, 1, 20, 10)), ("dog", (5, 3, 10, 8), True), ("cat", (3, 2, 3.5, 4.25))]
    (sample,) = voc.load(write_voc(tmp_path, {"a": ((20, 10), objects)}), "trainval", NAMES)
    expected = [[0, 0, 1, 1], [4 / 20, 2 / 10, 10 / 20, 8 / 10], [2 / 20, 1 / 10, 3.5 / 20, 4.25 / 10]]
    np.testing.assert_array_equal(sample.boxes, np.array(expected, np.float32))
    assert sample.boxes.dtype == np.float32 and sample.labels.dtype == np.int32
    assert sample.labels.tolist() == [0, 1, 0]
    assert sample.difficult.tolist() == [False, True, False]
    assert (sample.id, sample.width, sample.height, sample.exif) == ("a", 20, 10, False)
    assert sample.image_path == str(tmp_path / "JPEGImages" / "a.jpg")


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_whole_pixels_survive_the_way_into_fractions_and_back(tmp_path_factory, data):
    width, height = data.draw(st.integers(2, 60)), data.draw(st.integers(2, 60))
    x1, y1 = data.draw(st.integers(1, width - 1)), data.draw(st.integers(1, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    root = write_voc(tmp_path_factory.mktemp("voc"), {"a": ((width, height), [("cat", (x1, y1, x2, y2))])})
    (sample,) = voc.load(root, "trainval", NAMES)
    assert np.add(sample.boxes_px, (1, 1, 0, 0)).tolist() == [[x1, y1, x2, y2]]


def test_size_of_the_file_counts_not_that_of_the_xml(one):
    set_xml(one, voc_xml(1000, 1000, [("cat", (5, 3, 10, 8))]))
    (sample,) = voc.load(one, "trainval", NAMES)
    np.testing.assert_allclose(sample.boxes, [[0.2, 0.2, 0.5, 0.8]], rtol=1e-6)
    assert (sample.width, sample.height) == (20, 10)


def test_boxes_are_clipped_and_empty_ones_dropped_with_one_warning(tmp_path, capsys):
    lossy = [
        ("cat", (-5, 0, 30, 10)),  # clipped
        ("dog", (7, 7, 7, 7)),  # a click without a drag, as in BCCD
        ("dog", (7, 3, 7, 9)),
        ("dog", (9, 3, 4, 9)),  # inverted
        ("dog", (21, 1, 25, 5)),  # outside: begins where the picture ends
        ("dog", (3, -9, 9, 0)),
        ("dog", (2, 2, 3, 3)),
    ]
    root = write_voc(tmp_path, {"a": ((20, 10), []), "b": ((20, 10), lossy), "c": ((20, 10), lossy[1:2])})
    samples = voc.load(root, "trainval", NAMES)
    np.testing.assert_allclose(samples[1].boxes, [[0, 0, 1, 1], [0.05, 0.1, 0.15, 0.3]], rtol=1e-6)
    assert samples[1].labels.tolist() == [0, 1] and samples[1].difficult.shape == (2,)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: dropped 6 boxes") and "2 pictures" in line
    assert line.endswith(f"{root / 'Annotations' / 'b.xml'}: object 2")


def test_no_warning_without_cause(one, capsys):
    voc.load(one, "trainval", NAMES)
    assert capsys.readouterr() == ("", "")


def test_pictures_without_objects_are_kept(tmp_path):
    (sample,) = voc.load(write_voc(tmp_path, {"a": ((20, 10), [])}), "trainval", NAMES)
    assert sample.boxes.shape == (0, 4) and sample.boxes.dtype == np.float32
    assert sample.labels.shape == (0,) and sample.labels.dtype == np.int32
    assert sample.difficult.shape == (0,) and sample.difficult.dtype == bool


def test_difficult_objects_are_used_or_left_out(tmp_path):
    root = write_voc(tmp_path, {"a": ((20, 10), [("cat", (1, 1, 5, 5), True), ("dog", (2, 2, 9, 9))])})
    assert voc.load(root, "trainval", NAMES)[0].labels.tolist() == [0, 1]
    assert voc.load(root, "trainval", NAMES, difficult="ignore")[0].labels.tolist() == [1]


def test_other_classes(tmp_path):
    root = write_voc(tmp_path, {"a": ((20, 10), [("dogs", (1, 1, 5, 5)), ("dog", (2, 2, 9, 9))])})
    message = error_of(voc.load, root, "trainval", NAMES)
    assert str(root / "Annotations" / "a.xml") in message and "'dogs'" in message and "'dog'" in message
    assert "--other-classes ignore" in message and "--classes" in message
    assert voc.load(root, "trainval", NAMES, other_classes="ignore")[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("orientation", "xml_size", "exif"),
    [
        (6, (10, 20), True),
        (8, (10, 20), True),
        (6, (20, 10), False),
        (6, (7, 7), False),
        (3, (20, 10), True),
        (3, (10, 20), True),  # mirrored whatever is stated: that leaves the size
        (1, (20, 10), False),
    ],
)
def test_exif_counts_only_where_the_annotation_was_made_on_the_rotated_picture(one, orientation, xml_size, exif):
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.new("RGB", (20, 10)).save(one / "JPEGImages" / "a.jpg", exif=tags)
    set_xml(one, voc_xml(*xml_size, [("cat", (2, 3, 4, 10))]))
    (sample,) = voc.load(one, "trainval", NAMES)
    width, height = (10, 20) if exif and orientation > 4 else (20, 10)
    assert (sample.exif, sample.width, sample.height) == (exif, width, height)
    np.testing.assert_allclose(sample.boxes, [[1 / width, 2 / height, 4 / width, 10 / height]], rtol=1e-6)


def test_square_picture_is_turned_as_tools_show_it(one):
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (10, 10)).save(one / "JPEGImages" / "a.jpg", exif=tags)
    set_xml(one, voc_xml(10, 10, []))
    assert voc.load(one, "trainval", NAMES)[0].exif


def test_splits_of_years_in_order(tmp_path):
    pictures = {i: ((8, 8), []) for i in ("b", "a")}
    write_voc(tmp_path / "VOC2007", pictures, {"trainval": ["b", "a"], "test": ["a"]})
    write_voc(tmp_path / "VOC2012", {"2012_x": ((8, 8), [])})
    ids = [sample.id for sample in voc.load(tmp_path, "2007:trainval, 2012:trainval", NAMES)]
    assert ids == ["b", "a", "2012_x"]


def test_split_files_of_every_habit(tmp_path):
    ids = ("000001", "000002", "000003", "shot 1", "ümlaut", "e.f")
    root = write_voc(tmp_path, {i: ((8, 8), []) for i in ids})
    text = "\ufeff000001  1\r\n\r\n000002 -1\r\n000003\t0\r\nshot 1\r\n  ümlaut \r\ne.f"
    (root / "ImageSets/Main/cat_train.txt").write_bytes(text.encode())
    assert [entry.id for entry in voc.find(root, "cat_train")] == list(ids)


@pytest.mark.parametrize("suffix", [".jpeg", ".png", ".JPG", ".Png"])
def test_image_comes_from_the_id_whatever_its_suffix(tmp_path, suffix):
    root = write_voc(tmp_path, {"a": ((20, 10), [])}, suffix=suffix)
    set_xml(root, "<annotation><filename>elsewhere.jpg</filename></annotation>")
    assert voc.load(root, "trainval", NAMES)[0].image_path == str(root / "JPEGImages" / f"a{suffix}")


def test_jpg_comes_before_png(one):
    (one / "JPEGImages" / "a.PNG").write_bytes(b"")
    (one / "JPEGImages" / "a.txt").write_bytes(b"")
    assert voc.find(one, "trainval")[0].image_path.endswith("a.jpg")


def test_parts_of_an_object_are_not_objects(one):
    part = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    part += f"<context><object>{part}</object></context>"
    box = "<bndbox><ymax>8</ymax><xmin> 5.0 </xmin><ymin>3</ymin><xmax>10</xmax></bndbox>"
    path = set_xml(one, f"<annotation><object>{part}<name> cat\n</name>{box}</object></annotation>")
    (found,) = voc.parse_annotation(path).objects
    assert found == voc.AnnotatedObject("cat", 5, 3, 10, 8, difficult=False, truncated=False)
    assert voc.load(one, "trainval", NAMES)[0].labels.tolist() == [0]


def test_annotation_as_written(one):
    path = set_xml(
        one,
        voc_xml("20.0", 0, []).replace("</annotation>", "")
        + (
            "<object><name>dog</name><truncated>1</truncated><difficult>Unspecified</difficult>"
            "<bndbox><xmin>0</xmin><ymin>-1</ymin><xmax>99</xmax><ymax>1e1</ymax></bndbox></object></annotation>"
        ),
    )
    expected = voc.Annotation(20, None, [voc.AnnotatedObject("dog", 0, -1, 99, 10, False, True)])
    assert voc.parse_annotation(path) == expected
    assert voc.parse_annotation(set_xml(one, "<annotation/>")) == voc.Annotation(None, None, [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
@pytest.mark.parametrize("entity", ["", '[<!ENTITY a "aaaa">]', 'SYSTEM "file:///etc/passwd"'])
def test_doctype_is_refused_in_any_encoding(one, encoding, entity):
    declared = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{declared}"?>\n<!-- c --><!DOCTYPE annotation {entity}><annotation/>'
    path = set_xml(one, text.encode(encoding))
    message = error_of(voc.parse_annotation, path)
    assert path in message and "DOCTYPE" in message
    path = set_xml(one, text.replace(f"<!DOCTYPE annotation {entity}>", "").encode(encoding))
    assert voc.parse_annotation(path).objects == []


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>5</ymax></bndbox>"


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("", "not valid XML"),
        ("<annotation>", "not valid XML"),
        ("<annotation>&amp;&nosuch;</annotation>", "not valid XML"),
        ('<?xml version="1.0" encoding="nosuch"?><annotation/>', "not valid XML"),
        (
            "<annotation><object><name>v\xe9lo</name></object></annotation>".encode("latin-1"),
            "it declares no encoding and is not UTF-8: save it as UTF-8",
        ),
        (b"<annotation><object><name>v\xc3", "; correct or remove the file"),
        (b"\xff" + bytes(300), "; correct or remove the file"),
        ("<html/>", "<html>"),
        ("<annotation><object>" + BOX.format(5) + "</object></annotation>", "object 1 has no <name>"),
        ("<annotation><object><name>cat</name></object></annotation>", "object 1 (cat) has no <bndbox>"),
    ]
    + [
        (f"<annotation><object><name>cat</name>{BOX.format(value)}</object></annotation>", f"(cat) is {value!r}")
        for value in ("nan", "inf", "-inf", "five", "", "1e999")
    ],
)
def test_malformed_annotations_are_named(one, xml, expected):
    path = set_xml(one, xml)
    message = error_of(voc.load, one, "trainval", NAMES)
    assert message.startswith(path) and expected in message


def test_missing_corner_is_named(one):
    path = set_xml(one, voc_xml(9, 9, [("dog", (1, 2, 3, 4)), ("cat", (1, 2, 3, 4))]).replace("<ymin>2</ymin>", "", 2))
    assert error_of(voc.parse_annotation, path).startswith(f"{path}: <ymin> of object 1 (dog) is missing")


def test_missing_files_are_named(one):
    xml, jpg = one / "Annotations" / "a.xml", one / "JPEGImages" / "a.jpg"
    xml.rename(one / "elsewhere.xml")
    assert error_of(voc.load, one, "trainval", NAMES).startswith(f"{xml}: ")
    jpg.unlink()
    message = error_of(voc.find, one, "trainval")
    assert message.startswith(f"{one / 'ImageSets' / 'Main' / 'trainval.txt'}: {jpg}: no such picture")


def test_unreadable_picture_is_named(one):
    (one / "JPEGImages" / "a.jpg").write_text("text")
    assert f"{one / 'JPEGImages' / 'a.jpg'}: " in error_of(voc.load, one, "trainval", NAMES)


def test_wrong_splits_and_folders(tmp_path, one):
    kit = tmp_path / "VOCdevkit"
    for year in ("2007", "2012"):
        write_voc(kit / f"VOC{year}", {"a": ((8, 8), [])}, {"train": ["a"], "val": ["a"], "none": []})
        (kit / f"VOC{year}" / "ImageSets/Main/car_train.txt").write_text("a 1\n")
    main = kit / "VOC2007" / "ImageSets" / "Main"
    for data, splits, named in [
        (tmp_path / "nowhere", "train", f"--data {tmp_path / 'nowhere'}: no such folder"),
        (main / "train.txt", "train", f"--data {main / 'train.txt'}: no such folder"),
        (kit, "2007:test", f"--data {kit}: .* '2007:test'; .*: 2007:none, 2007:train, 2007:val, 2012:none"),
        (kit, "2007:", f"--data {kit}: .* '2007:'; .*: 2007:none, 2007:train, 2007:val"),
        (kit, "2007:../Main/train", f"--data {kit}: .* '2007:../Main/train' .*; .*: 2007:none"),
        (one, "test", f"--data {one}: .* 'test'; the only split is 'trainval', "),
        (kit, "2010:train", f"--data {kit}: .* '2010:train'; .* 2007:none"),
        (kit, "train", f"--data {kit}: .* 2007:train"),
        (one, "2007:train", f"--data {one}: .* '2007:train'; the only split is 'trainval', "),
        (tmp_path, "2007:train", f"--data {tmp_path}: .* '2007:train'"),
        (kit / "VOC2007" / "ImageSets", "train", f"--data {kit / 'VOC2007' / 'ImageSets'}: .*: none$"),
        (kit, "2007:none", f"{main / 'none.txt'}: .* empty"),
        (kit, "2007:train,2007:train", f"{main / 'train.txt'}: .*a.jpg is listed twice"),
        (kit, "2007:train,2007:val", f"{main / 'val.txt'}: .*a.jpg .* {main / 'train.txt'}"),
        (kit, "2007:train,", f"--data {kit}: "),
    ]:
        assert re.search(named, error_of(voc.find, data, splits)), (data, splits)


def test_a_list_of_one_class_means_the_pictures_that_show_it(tmp_path, capsys):
    """1: with the class, 0: with difficult ones only, -1: without. All of them would train on pictures without it."""
    ids = ["a", "b", "c", "d"]
    write_voc(tmp_path, {one: ((8, 8), []) for one in ids}, {"train": ids})
    main = tmp_path / "ImageSets" / "Main"
    (main / "car_train.txt").write_text("a  1\nb -1\nc  0\nd -1\n")
    (main / "bus_train.txt").write_text("a -1\n")
    assert [one.id for one in voc.find(tmp_path, "car_train")] == ["a", "c"]
    assert [one.id for one in voc.find(tmp_path, "train")] == ids
    warning = (
        f"{main}/car_train.txt: a list of one class; 2 pictures without it, marked -1, left out (unmarked, all count)"
    )
    assert capsys.readouterr().err == f"warning: {warning}\n"
    assert error_of(voc.find, tmp_path, "bus_train").startswith(f"{main}/bus_train.txt: the split is empty; ")
    (main / "car_train.txt").write_text("a\nb\nc\nd\n")  # for a run that was trained with all of them
    assert [one.id for one in voc.find(tmp_path, "car_train")] == ids


def test_a_split_may_be_called_after_another(one):
    lists = one / "ImageSets" / "Main"
    for name, text in (("test", "a\n"), ("night_test", "a\n"), ("cat_test", "a  1\n"), ("dog_test", "a -1\n")):
        (lists / f"{name}.txt").write_text(text)
    assert voc.split_names(one) == ["night_test", "test", "trainval"]


def test_id_listed_twice_in_a_split(one):
    (one / "ImageSets/Main/trainval.txt").write_text("a\nb\na 1\n")
    (one / "JPEGImages" / "b.jpg").write_bytes(b"x")
    message = error_of(voc.find, one, "trainval")
    assert message.startswith(f"{one / 'ImageSets' / 'Main' / 'trainval.txt'}: ") and "a.jpg is listed twice" in message


def test_split_that_is_no_text(one):
    (one / "ImageSets/Main/trainval.txt").write_bytes(b"\xff\x00a")
    path = one / "ImageSets" / "Main" / "trainval.txt"
    message = error_of(voc.find, one, "trainval")
    assert message.startswith(str(path)) and "UTF-8" in message


def test_the_twenty_classes():
    assert len(voc.CLASSES) == 20 and list(voc.CLASSES) == sorted(voc.CLASSES)
    assert voc.CLASSES.index("person") == 14


def test_loading_is_fast(tmp_path, capsys):
    """16,551 annotations are to take less than 5 s, so 1,000 take 0.3 s of the processor."""
    objects = [("cat", (1, 1, 15, 9)), ("dog", (3, 2, 19, 10)), ("dog", (2, 2, 5, 5), True)]
    root = write_voc(tmp_path, {f"{i:06d}": ((20, 10), objects) for i in range(1000)})
    best = min(_seconds(voc.load, root, "trainval", NAMES, progress=True) for _ in range(3))
    assert best < 0.3
    assert "annotations" in capsys.readouterr().err


def _seconds(function, *args, **kwargs):
    start = time.process_time()
    function(*args, **kwargs)
    return time.process_time() - start


@pytest.mark.parametrize(
    ("name", "splits", "classes", "pictures", "objects", "difficult"),
    [
        ("bccd", "trainval,test", ("RBC", "WBC", "Platelets"), 364, 4886, 0),  # 4,888 but for two without area
        ("raccoon", "train,test", ("raccoon",), 200, 217, 0),
        ("voc_traffic", "train,val", voc.CLASSES, 800, 2601, 460),
    ],
)
def test_real_data_sets(name, splits, classes, pictures, objects, difficult):
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs {name}")
    samples = voc.load(SHARED / name, splits, classes)
    assert len(samples) == pictures
    assert sum(len(sample.labels) for sample in samples) == objects
    assert sum(sample.difficult.sum() for sample in samples) == difficult


def test_pictures_on_no_list_are_a_split(tmp_path):
    """As the article validates on the third of VOC2012's annotated pictures that its lists leave out."""
    picture = np.zeros((20, 30, 3), np.uint8), [("cat", (1, 1, 9, 9))]
    names = ("a", "b", "c", "d", "e")
    root = write_voc(tmp_path / "VOC2012", dict.fromkeys(names, picture), {"train": ["a"], "val": ["c"]})
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("a 1\n")
    (root / "Annotations" / "e.xml").unlink()  # of the test set: without an annotation
    for data, prefix in ((tmp_path, "2012:"), (root, "")):
        found = voc.find(data, f"{prefix}unlisted")
        assert [pathlib.Path(entry.annotation_path).name for entry in found] == ["b.xml", "d.xml"]
        assert voc.split_names(data) == [f"{prefix}train", f"{prefix}val"]
    (root / "ImageSets" / "Main" / "test.txt").write_text("b\nd\n")
    assert "unlisted: the split is empty" in error_of(voc.find, root, "unlisted")
