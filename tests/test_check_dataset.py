"""Every defect, planted in a small data set, is reported with its file; --fix corrects what it claims, no more."""

import collections
import html.parser
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import types

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

import check_dataset
import source_pascal_voc
import ssd_utils
from dataset_check import anchor_advisor, checks, duplicates, fixes, html_report, reporting, scanning
from dataset_check.defects import DEFECTS
from formats import annotations
from media import images
from programs import ROOT, command, error_of, run, wait_until
from structures import UserError
from system import flag_rules, folder_tree
from voc_tree import fingerprint, voc_xml, write_voc

SHARED = pathlib.Path(__file__).parents[1].parent / "shared" / "data"
VGG300 = ssd_utils.get_preset("vgg300")
WIDTH, HEIGHT = 160, 120
GOOD = [("cat", (21, 11, 100, 90)), ("dog", (61, 31, 140, 110))]


def noise(seed, width=WIDTH, height=HEIGHT):
    """A picture unlike any other seed's, which compresses to a file large enough to cut."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image.astype(int) + rng.integers(-12, 13, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def clean(tmp_path):
    """A data set without defects: 14 pictures in train, 4 in test."""
    ids = {f"{split}{number:02d}": split for split, count in (("train", 14), ("test", 4)) for number in range(count)}
    pictures = {image_id: (noise(seed), GOOD) for seed, image_id in enumerate(ids)}
    splits = {name: [image_id for image_id, split in ids.items() if split == name] for name in ("train", "test")}
    return write_voc(tmp_path / "data", pictures, splits)


def picture(root, image_id="train03"):
    return root / "JPEGImages" / f"{image_id}.jpg"


def annotate(root, objects, size=(WIDTH, HEIGHT), image_id="train03"):
    path = root / "Annotations" / f"{image_id}.xml"
    path.write_text(voc_xml(*size, objects), "utf-8")
    return path


def findings(root, **options):
    scan = scanning.scan(root, workers=1)
    return checks.check(scan, VGG300, **options)


def plant_missing_picture(root):
    picture(root).unlink()
    return root / "JPEGImages" / "train03.*"


def plant_missing_annotation(root):
    path = root / "Annotations" / "train03.xml"
    path.unlink()
    return path


def plant_bad_annotation(root):
    path = root / "Annotations" / "train03.xml"
    path.write_text("<annotation><object>", "utf-8")
    return path


def plant_empty_split(root):
    path = root / "ImageSets" / "Main" / "night.txt"
    path.write_text("\n", "utf-8")
    return path


def plant_listed_twice(root):
    path = root / "ImageSets" / "Main" / "train.txt"
    path.write_text(path.read_text("utf-8") + "train03\n", "utf-8")
    return path


def plant_unreadable(root):
    picture(root).write_text("<html>404: not found</html>", "utf-8")
    return picture(root)


def plant_truncated(root):
    picture(root).write_bytes(picture(root).read_bytes()[:-2500])
    return picture(root)


def plant_damaged(root):
    """Overwrite bytes in the middle: libjpeg continues with gray or garbage."""
    data = bytearray(picture(root).read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 400):
        data[at] = data[at] * 7 % 251
    picture(root).write_bytes(data)
    return picture(root)


def plant_in_two_splits(root):
    path = root / "ImageSets" / "Main" / "test.txt"
    path.write_text(path.read_text("utf-8") + "train03\n", "utf-8")
    return picture(root)


def plant_duplicate_across_splits(root):
    shutil.copyfile(picture(root, "test01"), picture(root))
    return picture(root)


def plant_duplicate(root):
    shutil.copyfile(picture(root, "train05"), picture(root))
    annotate(root, GOOD[:1])
    return picture(root)


def plant_near_duplicate_across_splits(root):
    images.write(picture(root), images.read(picture(root, "test01")), quality=60)
    return picture(root)


def plant_size(root):
    return annotate(root, GOOD, size=(WIDTH * 3, HEIGHT))


def plant_resized(root):
    doubled = [(name, tuple(2 * corner for corner in box)) for name, box in GOOD]
    return annotate(root, doubled, size=(WIDTH * 2, HEIGHT * 2))


def plant_fractions(root):
    return annotate(root, [("cat", (0.1, 0.2, 0.5, 0.9)), ("dog", (0.5, 0.25, 1, 1))])


def plant_shape(root):
    path = annotate(root, GOOD)
    rotated = "<robndbox><cx>60</cx><cy>50</cy><w>60</w><h>30</h><angle>0.3</angle></robndbox>"
    text = path.read_text("utf-8")
    path.write_text(re.sub("<bndbox>.*?</bndbox>", rotated, text, count=1), "utf-8")
    return path


def plant_few_levels(root):
    """A thermal camera's picture: 16 bits, of which it uses a small part."""
    picture(root).unlink()
    values = 2000 + noise(94)[..., 0].astype(np.uint16) * 8
    Image.fromarray(values).save(root / "JPEGImages" / "train03.png")
    return root / "JPEGImages" / "train03.png"


def plant_inverted(root):
    return annotate(root, [("cat", (100, 11, 21, 90))])


def plant_empty(root):
    return annotate(root, [*GOOD, ("cat", (50, 20, 50, 20))])


def plant_outside(root):
    return annotate(root, [*GOOD, ("cat", (WIDTH + 3, 5, WIDTH + 40, 50))])


def plant_reaching(root):
    return annotate(root, [("cat", (-20, 11, 100, HEIGHT + 30)), GOOD[1]])


def plant_repeated(root):
    return annotate(root, [*GOOD, GOOD[0]])


def plant_tiny(root):
    return annotate(root, [*GOOD, ("dog", (50, 50, 52, 51))])


def plant_similar_class(root):
    return annotate(root, [*GOOD, ("Dog ", (5, 5, 60, 60)), ("dgo", (9, 5, 60, 60))])


def plant_refused_class(root):
    names = "__background__", "cat/dog", "big\u2028cat", "cafe\u0301"
    objects = [(name, (5 + at, 5, 60, 60)) for at, name in enumerate(names)]
    return annotate(root, [*GOOD, *objects, ("caf\xe9", (11, 5, 60, 60))])


def plant_rare_class(root):
    for number in range(14):
        annotate(root, [("cat", (1 + n, 11, 100 + n, 90)) for n in range(5)], image_id=f"train{number:02d}")
    return annotate(root, [("zebra", (5, 5, 60, 60))])


def plant_no_objects(root):
    return annotate(root, [])


def plant_gray(root):
    gray = cv2.cvtColor(noise(99), cv2.COLOR_RGB2GRAY)
    images.write(picture(root), np.repeat(gray[..., None], 3, axis=2))
    return picture(root)


def plant_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(98, HEIGHT, WIDTH)).save(picture(root), exif=exif, quality=95)  # stored on its side
    return picture(root)


def plant_unlisted(root):
    images.write(picture(root, "spare"), noise(97))
    return picture(root, "spare")


PLANTS = {
    "missing-picture": plant_missing_picture,
    "missing-annotation": plant_missing_annotation,
    "bad-annotation": plant_bad_annotation,
    "empty-split": plant_empty_split,
    "listed-twice": plant_listed_twice,
    "unreadable": plant_unreadable,
    "truncated": plant_truncated,
    "damaged": plant_damaged,
    "in-two-splits": plant_in_two_splits,
    "duplicate-across-splits": plant_duplicate_across_splits,
    "duplicate": plant_duplicate,
    "near-duplicate-across-splits": plant_near_duplicate_across_splits,
    "fractions": plant_fractions,
    "shape": plant_shape,
    "resized": plant_resized,
    "size": plant_size,
    "few-levels": plant_few_levels,
    "inverted-box": plant_inverted,
    "empty-box": plant_empty,
    "outside-box": plant_outside,
    "reaching-box": plant_reaching,
    "repeated-box": plant_repeated,
    "tiny-box": plant_tiny,
    "similar-class": plant_similar_class,
    "refused-class": plant_refused_class,
    "rare-class": plant_rare_class,
    "no-objects": plant_no_objects,
    "grayscale": plant_gray,
    "exif": plant_exif,
    "unlisted": plant_unlisted,
}


def test_clean_data_has_no_findings(clean):
    assert findings(clean) == []
    assert findings(clean, class_names=("cat", "dog"), near_duplicates=True) == []


def test_each_class_that_is_refused_is_named(clean):
    plant_refused_class(clean)
    details = [one.detail for one in findings(clean)]
    for part in (
        "'__background__': 1 object in 1 file; the network has this class itself",
        r"'big\u2028cat': 1 object in 1 file; it contains the character '\u2028'",
        "'caf\xe9': 1 object in 1 file; the name is there in two forms of Unicode",
        "'cafe\u0301': 1 object in 1 file; the name is there in two forms of Unicode",
        "'cat/dog': 1 object in 1 file; it contains a slash",
    ):
        assert sum(detail.startswith(part) for detail in details) == 1, (part, details)
    assert len(details) == 5


def test_every_defect_is_planted():
    assert set(PLANTS) == set(DEFECTS) - {"unknown-class", "near-duplicate", "no-area"}  # these have their own tests


@pytest.mark.parametrize("defect", PLANTS)
def test_planted_defect_is_reported_alone_and_corrected(clean, tmp_path, defect):
    path = PLANTS[defect](clean)
    scan = scanning.scan(clean, workers=1)
    found = checks.check(scan, VGG300)
    assert {one.defect for one in found} == {defect}
    assert found[0].path == str(path)
    report = reporting.make(scan, VGG300)
    lines = "\n".join(reporting.text(report))
    assert DEFECTS[defect].title in lines and path.name in lines
    html_report.write(tmp_path / "page.html", report)
    assert path.name in check_html((tmp_path / "page.html").read_text("utf-8"))

    before = fingerprint(clean)
    changes = fixes.write_copy(scan, found, tmp_path / "fixed")
    assert fingerprint(clean) == before
    left = {one.defect for one in findings(tmp_path / "fixed")}
    fixed = DEFECTS[defect].fixed
    assert left == (set() if fixed else {defect})
    assert bool(changes) == (fixed and defect != "unlisted")
    assert (tmp_path / "fixed" / "changes.txt").read_text("utf-8").splitlines() == changes
    assert all(path.name in line for line in changes)


class Page(html.parser.HTMLParser):
    """Collects the text of a page; fails if the page would load anything from elsewhere."""

    def __init__(self):
        super().__init__()
        self.text, self.pictures, self.ids, self.links = "", 0, set(), set()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href"):
                assert value.startswith(("data:image/jpeg;base64,", "#")), value
                self.pictures += tag == "img"
            if name == "href":
                self.links.add(value[1:])
            if name == "id":
                self.ids.add(value)
        assert tag not in ("script", "link", "iframe")

    def handle_data(self, data):
        self.text += data


def check_html(source):
    """The text of a page. Fails unless it needs no other file and every link has a target."""
    page = Page()
    page.feed(source)
    assert page.links == page.ids
    assert not re.search(r"https?://|url\(", source)
    return page.text


def test_unknown_class_is_named_with_the_nearest(clean):
    annotate(clean, [*GOOD, ("dogs", (5, 5, 60, 60)), ("wombat", (5, 5, 60, 70))])
    found = findings(clean, class_names=("cat", "dog"))
    assert [(one.defect, one.path) for one in found] == [
        ("unknown-class", str(clean / "Annotations" / "train03.xml"))
    ] * 2
    assert "'dogs'" in found[0].detail and "'dog'" in found[0].detail
    assert "'wombat'" in found[1].detail and "'dog'" not in found[1].detail
    missing = findings(clean, class_names=("cat", "dog", "cow", "dogs", "wombat"))
    (finding,) = missing
    assert finding.defect == "rare-class" and "'cow'" in finding.detail


def test_near_duplicates_of_one_split_are_reported_on_request(clean):
    images.write(picture(clean), images.read(picture(clean, "train05")), quality=60)
    assert findings(clean) == []
    (found,) = findings(clean, near_duplicates=True)
    assert (found.defect, found.path) == ("near-duplicate", str(picture(clean, "train05")))
    assert found.other.id == "train03"


def test_splits_that_hold_others_are_no_conflict(clean):
    lists = clean / "ImageSets" / "Main"
    train = (lists / "train.txt").read_text("utf-8")
    (lists / "val.txt").write_text((lists / "test.txt").read_text("utf-8"), "utf-8")
    (lists / "trainval.txt").write_text(train + (lists / "val.txt").read_text("utf-8"), "utf-8")
    (lists / "test.txt").unlink()
    (lists / "cat_train.txt").write_text("train00 1\n", "utf-8")  # the list of a class
    scan = scanning.scan(clean, workers=1)
    assert [split.name for split in scan.splits] == ["train", "trainval", "val"]
    assert checks.check(scan, VGG300) == []
    assert ("train", "val") in duplicates.conflicts(scan.splits)
    shutil.copyfile(picture(clean, "test01"), picture(clean))
    (found,) = findings(clean)
    assert (found.defect, found.path) == ("duplicate-across-splits", str(picture(clean)))


def test_lists_of_like_names_that_only_overlap_are_a_conflict(clean):
    (clean / "ImageSets" / "Main" / "train_b.txt").write_text("train03\nspare\n", "utf-8")
    images.write(picture(clean, "spare"), noise(97))
    annotate(clean, GOOD, image_id="spare")
    (found,) = findings(clean)
    assert (found.defect, found.path) == ("in-two-splits", str(picture(clean)))
    (clean / "ImageSets" / "Main" / "train_b.txt").write_text("train03\n", "utf-8")
    assert [one.defect for one in findings(clean)] == ["unlisted"]


def test_boxes_of_a_resized_picture_are_scaled(clean, tmp_path):
    annotate(clean, [("cat", (41, 21, 320, 180))], size=(WIDTH * 2, HEIGHT * 2))
    scan = scanning.scan(clean, workers=1)
    found = checks.check(scan, VGG300)
    assert {one.defect for one in found} == {"resized"}
    fixes.write_copy(scan, found, tmp_path / "fixed")
    annotation = source_pascal_voc.parse_annotation(tmp_path / "fixed" / "Annotations" / "train03.xml")
    assert (annotation.width, annotation.height) == (WIDTH, HEIGHT)
    assert annotation.objects[0][1:5] == (21, 11, 160, 90)
    assert findings(tmp_path / "fixed") == []


@pytest.mark.parametrize(("stated", "exif"), [((WIDTH, HEIGHT), True), ((HEIGHT, WIDTH), False)])
def test_exif_is_applied_to_the_pixels_or_removed_as_the_boxes_need_it(clean, tmp_path, stated, exif):
    plant_exif(clean)  # stored as HEIGHT × WIDTH
    annotate(clean, [("cat", (21, 11, 100, 90))], size=stated)
    scan = scanning.scan(clean, workers=1)
    (sample,) = [one for one in source_pascal_voc.load(clean, "train", ("cat", "dog")) if one.id == "train03"]
    assert sample.exif == exif
    shown = images.read(sample.image_path, exif=sample.exif).astype(int)
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    loaded = source_pascal_voc.load(tmp_path / "fixed", "train", ("cat", "dog"))
    (mended,) = [one for one in loaded if one.id == sample.id]
    assert images.header(mended.image_path) == (*stated, 1)
    np.testing.assert_array_equal(mended.boxes, sample.boxes)
    assert np.abs(images.read(mended.image_path) - shown).mean() < 4


def test_a_corrected_annotation_keeps_everything_else(clean, tmp_path):
    path = clean / "Annotations" / "train03.xml"
    text = voc_xml(WIDTH, HEIGHT, [("cat", (-5, 11, 100, 90), True), ("dog", (9, 9, 9, 9))])
    path.write_text(text.replace("<size>", "<owner>Zoë</owner><size>"), "utf-8")
    scan = scanning.scan(clean, workers=1)
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    mended = tmp_path / "fixed" / "Annotations" / "train03.xml"
    assert "<owner>Zoë</owner>" in mended.read_text("utf-8")
    assert source_pascal_voc.parse_annotation(mended).objects == [
        source_pascal_voc.AnnotatedObject("cat", 1, 11, 100, 90, True, False)
    ]
    untouched = tmp_path / "fixed" / "Annotations" / "train04.xml"
    assert untouched.read_bytes() == (clean / "Annotations" / "train04.xml").read_bytes()


@pytest.mark.parametrize(
    ("corners", "mended", "done"),
    [
        ((5, 6, 20, 30), (5, 6, 20, 30), ""),
        ((20, 30, 5, 6), (5, 6, 20, 30), "corners swapped"),
        ((20, 6, 5, 30), (5, 6, 20, 30), "corners swapped"),
        ((-9, 0, 20, 300), (1, 1, 20, 50), "clipped"),
        ((7, 6, 7, 30), None, "empty"),
        ((120, 6, 140, 30), None, "outside"),
        ((-30, 6, 1, 30), None, "outside"),
    ],
)
def test_mend_box(corners, mended, done):
    edges, reason = fixes.mend_box(annotations.from_inclusive(corners), (100, 50), first_pixel=1)
    assert (edges and annotations.to_inclusive(edges), reason) == (mended, done)


@pytest.mark.parametrize("corners", [(5, 5, 1, 1), (3, 3, 3, 8), (90, 40, 500, 500), (101, 1, 130, 9), (1, 1, 100, 50)])
def test_a_corrected_box_is_one_that_training_uses(corners):
    """mend_box and box_defect agree: a box that mend_box keeps has no defect left."""
    mended, _ = fixes.mend_box(annotations.from_inclusive(corners), (100, 50), first_pixel=1)
    assert mended is None or checks.box_defect(mended, (100, 50), 300) is None


def test_devkit_of_two_years_is_copied_with_its_years(tmp_path):
    root = tmp_path / "devkit"
    for year, seed in (("2007", 0), ("2012", 50)):
        pictures = {f"{year}_{number}": (noise(seed + number), GOOD) for number in range(3)}
        write_voc(root / f"VOC{year}", pictures, {"trainval": list(pictures)})
    annotate(root / "VOC2012", [*GOOD, ("cat", (9, 9, 9, 9))], image_id="2012_1")
    scan = scanning.scan(root, workers=1)
    assert [split.name for split in scan.splits] == ["2007:trainval", "2012:trainval"]
    found = checks.check(scan, VGG300)
    assert [(one.defect, one.path) for one in found] == [
        ("empty-box", str(root / "VOC2012" / "Annotations" / "2012_1.xml"))
    ]
    fixes.write_copy(scan, found, tmp_path / "fixed")
    assert findings(tmp_path / "fixed") == []
    assert len(source_pascal_voc.find(tmp_path / "fixed", "2007:trainval,2012:trainval")) == 6


def test_pascal_vocs_own_splits_are_no_conflict(tmp_path):
    """In a devkit the names of splits begin with the year."""
    pictures = {f"p{number}": (noise(number), GOOD) for number in range(7)}
    lists = {"train": ["p0", "p1"], "val": ["p2", "p3"], "trainval": ["p0", "p1", "p2", "p3"], "test": ["p4", "p5"]}
    write_voc(tmp_path / "kit" / "VOC2007", pictures, {**lists, "night": ["p4", "p6"], "all": list(pictures)})
    scan = scanning.scan(tmp_path / "kit", workers=1)
    assert ("2007:train", "2007:val") in duplicates.conflicts(scan.splits)
    assert [(one.defect, one.picture.id) for one in checks.check(scan, VGG300)] == [("in-two-splits", "p4")]
    fixes.write_copy(scan, [], tmp_path / "fixed")
    assert len(source_pascal_voc.find(tmp_path / "fixed", "2007:trainval")) == 4


def test_a_trainval_that_is_train_keeps_its_pictures(clean, tmp_path):
    lists = clean / "ImageSets" / "Main"
    shutil.copyfile(lists / "train.txt", lists / "trainval.txt")
    scan = scanning.scan(clean, workers=1)
    assert checks.check(scan, VGG300) == []
    fixes.write_copy(scan, [], tmp_path / "fixed")
    assert len(source_pascal_voc.find(tmp_path / "fixed", "trainval")) == 14


def test_many_missing_pictures_do_not_list_their_folder_each(clean, monkeypatch):
    """Other files of their names lie beside them: labels, and pictures of a kind that is not read."""
    listed, visible = [], folder_tree.visible
    monkeypatch.setattr(
        folder_tree, "visible", lambda folder, *more: listed.append(str(folder)) or visible(folder, *more)
    )
    scanning.scan(clean, workers=1)
    before = listed.count(str(clean / "JPEGImages"))
    for number in range(14):
        path = picture(clean, f"train{number:02d}")
        path.rename(path.with_suffix(".xcf" if number < 7 else ".txt"))
    listed.clear()
    found = [one.problem for one in scanning.scan(clean, workers=1).pictures if one.image_path is None]
    assert listed.count(str(clean / "JPEGImages")) <= before + 1
    assert sum(one is not None and "only train0" in one for one in found) == 7 and found.count(None) == 7
    picture(clean, "train00").with_suffix(".xcf").unlink()
    assert sum(one.problem is None for one in scanning.scan(clean, workers=1).pictures if one.image_path is None) == 8


def test_pictures_of_a_fixed_camera_are_reported_once_each(tmp_path):
    """12 pictures that are all alike make 66 pairs, 32 of them across the splits."""
    scene = noise(3)
    frames = [np.clip(scene.astype(int) + number % 3, 0, 255).astype(np.uint8) for number in range(12)]
    for number, image in enumerate(frames):
        image[0, number] = 0  # makes the files differ
    pictures = {f"f{number:02d}": (image, GOOD) for number, image in enumerate(frames)}
    ids = list(pictures)
    root = write_voc(tmp_path / "data", pictures, {"train": ids[:8], "test": ids[8:]})
    found = findings(root)
    assert {one.defect for one in found} == {"near-duplicate-across-splits"}
    assert sorted(one.picture.id for one in found) == ids[:8] and {one.other.id for one in found} <= set(ids[8:])
    of_kind = collections.Counter(one.defect for one in findings(root, near_duplicates=True))
    assert of_kind == {"near-duplicate-across-splits": 8, "near-duplicate": 7 + 3}


def near_duplicates_one_by_one(scan, within_splits):
    """(kind, earlier, later) as check_near_duplicates reports them, with a comparison of each two pictures."""
    pictures = sorted(scan.pictures, key=lambda one: -max(map(duplicates.side, one.splits)))
    conflicting = duplicates.conflicts(scan.splits)
    values = [np.frombuffer(one.signature, np.uint8).astype(float) for one in pictures]
    order = sorted(range(len(pictures)), key=lambda at: values[at].mean())
    seen, found = set(), []
    for place, at in enumerate(order):
        near = []
        for other in order[place + 1 :]:
            if np.abs(values[at] - values[other]).mean() <= 3 and pictures[at].digest != pictures[other].digest:
                both = itertools.product(pictures[at].splits, pictures[other].splits)
                near.append((other, any(pair in conflicting for pair in both)))
        for kind, crossing in (("near-duplicate-across-splits", True), ("near-duplicate", False)):
            if crossing or within_splits:
                pairs = [(at, other) if other > at else (other, at) for other, apart in near if apart == crossing]
                for earlier, later in sorted(pairs, key=lambda pair: pair[1] == at):
                    if (kind, later) not in seen:
                        found.append((kind, pictures[earlier].id, pictures[later].id))
                    seen.add((kind, later))
    return found


def scan_of_copies(copies, splits_of, digests=None):
    """A Scan with Pictures of 16 × 16 gray levels, [N,256]. splits_of: the names of the splits of each."""
    pictures = [
        scanning.Picture(
            f"p{at}",
            "",
            splits,
            f"p{at}.jpg",
            f"p{at}.xml",
            digest=b"%d" % (at if digests is None else digests[at]),
            signature=copy.astype(np.uint8).tobytes(),
            annotation=annotations.Annotated([]),
        )
        for at, (copy, splits) in enumerate(zip(copies, splits_of, strict=True))
    ]
    splits = [
        types.SimpleNamespace(name=name, home="", ids=[one.id for one in pictures if name in one.splits])
        for name in dict.fromkeys(itertools.chain(*splits_of))
    ]
    return scanning.Scan("", "voc", tuple(splits), tuple(pictures))


@pytest.mark.parametrize("within_splits", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_near_duplicates_are_those_of_each_two_pictures(seed, within_splits, monkeypatch):
    """Scenes with pictures that are alike, not all with each other, and copies of files."""
    monkeypatch.setattr(duplicates, "FIRST_COMPARED", 1 + seed % 3)
    rng = np.random.default_rng(seed)
    scenes = rng.integers(40, 200, (4, 256))
    copies = scenes[rng.integers(0, 4, 120)] + rng.integers(-3, 4, (120, 256)) + rng.integers(-2, 3, (120, 1))
    known = [("train",), ("val",), ("test",), ("train", "trainval"), ("val", "trainval")]
    splits_of = [known[at] for at in rng.integers(0, len(known), 120)]
    scan = scan_of_copies(copies, splits_of, rng.integers(0, 60, 120))
    found = duplicates.check_near_duplicates(scan, within_splits)
    expected = near_duplicates_one_by_one(scan, within_splits)
    assert [(one.defect, one.other.id, one.picture.id) for one in found] == expected and len(expected) > 20


@pytest.mark.parametrize("brightness", ["rising", "falling", "random"])
def test_a_fixed_camera_does_not_take_a_comparison_of_each_two(brightness, monkeypatch):
    count, compared = 1000, []
    ranks = {
        "rising": np.arange(count),
        "falling": -np.arange(count) % count,
        "random": np.arange(count) * 7919 % count,
    }
    copies = np.where(np.arange(256) < ranks[brightness][:, None] // 4, 101, 100)
    scan = scan_of_copies(copies, [("train",)] * (count // 2) + [("test",)] * (count // 2))
    alike = duplicates._Tiny.alike
    monkeypatch.setattr(
        duplicates._Tiny,
        "alike",
        lambda tiny, index, others: compared.append(len(others)) or alike(tiny, index, others),
    )
    assert len(list(duplicates.check_near_duplicates(scan, within_splits=True))) == count // 2 + count - 2
    assert sum(compared) < 150 * count


def test_reports_may_go_into_the_copys_folder(clean, tmp_path):
    plant_inverted(clean)
    fixed = tmp_path / "fixed"
    page, table = fixed / "check.html", fixed / "check.json"
    check_dataset.main(["--data", str(clean), "--fix", str(fixed), "--html", str(page), "--json", str(table)])
    assert page.stat().st_size and table.stat().st_size and findings(fixed) == []


def test_a_copy_goes_nowhere_near_the_original(clean, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for target in (clean, clean / "new", tmp_path, tmp_path / "full"):
        with pytest.raises(UserError, match="--fix"):
            flag_rules.check_new_folder("--fix", target, clean)
    flag_rules.check_new_folder("--fix", tmp_path / "new", clean)


def test_workers_find_what_one_process_finds(clean):
    plant_damaged(clean)
    plant_gray(clean)
    assert scanning.scan(clean, workers=2) == scanning.scan(clean, workers=1)


def test_damage_is_no_extraneous_byte(clean):
    """Bytes between the pixels and the end marker: libjpeg reports them, but nothing is lost."""
    data = picture(clean).read_bytes()
    picture(clean).write_bytes(data[:-2] + b"\x00\x12\x34" + data[-2:])
    assert findings(clean) == []


def test_thumbnail_shows_boxes_that_lie_outside(clean):
    annotate(clean, [("cat", (-40, 10, 20, 60)), ("dog", (30, 30, 80, 80))])
    scan = scanning.scan(clean, workers=1)
    (one,) = [item for item in scan.pictures if item.id == "train03"]
    image = html_report.thumbnail(one, marked=(0,))
    assert max(image.shape) == html_report.THUMBNAIL and image.shape[1] > image.shape[0] * WIDTH / HEIGHT
    red = np.flatnonzero((image == html_report.RED).all(axis=2).any(axis=0))
    assert red[0] <= 1 and image[0, 2].tolist() == [205, 205, 205]


def test_page_stays_small_and_escapes(tmp_path):
    objects = [("<b>&", (n + 1, 1, n + 90, 80)) for n in range(3)] + [("cat", (9, 9, 9, 9))]
    root = write_voc(tmp_path / "a&b", {f"p<{n}>": (noise(n, 900, 700), objects) for n in range(30)})
    scan = scanning.scan(root, workers=1)
    html_report.write(tmp_path / "page.html", reporting.make(scan, VGG300))
    source = (tmp_path / "page.html").read_text("utf-8")
    assert "<b>&" not in source and "&lt;b&gt;&amp;" in source
    check_html(source)
    assert len(source) < 30 * 40_000


def test_program_writes_all_that_is_asked_for(clean, tmp_path):
    plant_reaching(clean)
    outputs = {name: tmp_path / name for name in ("page.html", "check.json", "anchors.json", "fixed")}
    done = run(
        "check_dataset.py",
        "--data",
        clean,
        "--html",
        outputs["page.html"],
        "--json",
        outputs["check.json"],
        "--anchors",
        outputs["anchors.json"],
        "--fix",
        outputs["fixed"],
        "--workers",
        "2",
    )
    assert DEFECTS["reaching-box"].title in done.stdout and "Annotations/train03.xml" in done.stdout
    assert "Traceback" not in done.stderr
    values = json.loads(outputs["check.json"].read_text("utf-8"))
    assert [(one["defect"], one["file"]) for one in values["findings"]] == [("reaching-box", "Annotations/train03.xml")]
    assert values["objects"] == {"cat": {"test": 4, "train": 14}, "dog": {"test": 4, "train": 14}}
    assert anchor_advisor.read_anchors(outputs["anchors.json"], VGG300).name == "vgg300"
    assert findings(outputs["fixed"]) == []
    check_html(outputs["page.html"].read_text("utf-8"))


def test_errors_of_the_user(clean, tmp_path):
    assert f"--data {tmp_path / 'none'}: no such file or folder" in error_of(
        "check_dataset.py", "--data", tmp_path / "none"
    )
    picture = next((clean / "JPEGImages").iterdir())
    listed = tmp_path / "instances.json"
    listed.write_text('{"images": [], "annotations": [], "categories": []}')
    for arguments, named in (
        (["--data", clean, "--draw", clean / "new"], f"--draw {clean / 'new'}: .*{clean}"),
        (["--data", clean, "--draw", tmp_path / "a", "--fix", tmp_path / "a"], "--draw: the folder of --fix"),
        (["--data", clean, "--split", "tset"], r"'tset' \(nearest: 'test'\); .*: test, train$"),
        (["--data", clean, "--split", "test,test"], "--split test,test: test "),
        (["--data", clean, "--classes", "cat,cat"], "--classes cat,cat: 'cat'"),
        (["--data", clean, "--fix", clean / "new"], f"--fix {clean / 'new'}: .*{clean}"),
        (["--data", listed, "--anchors", listed], "--anchors .*instances.json: would replace what is read"),
        (
            ["--data", clean, "--html", picture],
            f"--html: '{picture}' exists and is not HTML; the output would replace it",
        ),
        (["--data", clean, "--htlm", "x"], r"--htlm: .* --html\?"),
        ([], "--data"),
    ):
        with pytest.raises(UserError, match=named):
            check_dataset.main([str(item) for item in arguments])


def test_no_object_at_all_is_no_crash(tmp_path, capsys):
    root = write_voc(tmp_path / "data", {"a": (noise(1), [])})
    check_dataset.main(
        [
            "--data",
            str(root),
            "--workers",
            "1",
            "--html",
            str(tmp_path / "page.html"),
            "--anchors",
            str(tmp_path / "anchors.json"),
        ]
    )
    assert str(tmp_path / "anchors.json") in capsys.readouterr().out and not (tmp_path / "anchors.json").exists()


@pytest.mark.parametrize(("name", "gain"), [("bccd", 0.02), ("raccoon", 0)])
def test_advice_on_real_data(name, gain):
    """The share of objects that anchors match, vgg300's and advised: BCCD 0.965 and 0.999, raccoon 1 and 1."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {name} here")
    report = reporting.make(scanning.scan(SHARED / name, workers=2), VGG300)
    print(reporting.advice_line(report))
    assert report.advice.after >= report.advice.before + gain and report.advice.after > 0.98
    kinds = {one.defect for one in report.findings}
    assert ("empty-box" if name == "bccd" else "duplicate-across-splits") in kinds


def test_names_that_are_not_utf8(clean):
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(picture(clean), clean / "JPEGImages" / name)
    settings = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    pages = ["--html", clean / "check.html", "--json", clean / "check.json"]
    done = run("check_dataset.py", "--data", clean, "--workers", "1", *pages, env=settings)
    assert r"caf\udce9.jpg" in done.stdout
    assert "caf?.jpg" in (clean / "check.html").read_text("utf-8")
    assert r"caf\udce9.jpg" in (clean / "check.json").read_text("utf-8")


@pytest.fixture
def at_work(tmp_path):
    """check_dataset.py at work on many large pictures: (process, its descendants, the file of its stderr).

    It runs in its own session; the descendants are its workers, their fork server and the resource tracker.
    """
    ids = [f"{number:03d}" for number in range(600)]
    root = write_voc(tmp_path / "large", {image_id: (noise(0), GOOD) for image_id in ids[:1]}, {"train": ids})
    Image.fromarray(noise(1, 3000, 2000)).save(root / "JPEGImages" / "000.jpg")
    for image_id in ids[1:]:
        for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
            os.link(root / part / f"000.{suffix}", root / part / f"{image_id}.{suffix}")
    arguments = command("check_dataset.py", "--data", root, "--workers", "2")
    errors = tmp_path / "stderr.txt"
    with open(errors, "w") as stderr:
        process = subprocess.Popen(
            arguments, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=stderr
        )
    wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 4, process)
    family = psutil.Process(process.pid).children(recursive=True)
    yield process, family, errors
    for one in psutil.wait_procs(family, timeout=0)[1]:
        one.kill()


def wait_until_pictures_are_read(process, errors):
    """Wait until the progress bar counts pictures: both workers are then at work."""
    wait_until(lambda: re.search(r" [1-9]\d*/600 ", errors.read_text()), process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(at_work, number):
    process, family, _ = at_work
    process.send_signal(number)
    process.wait(timeout=30)
    assert not psutil.wait_procs(family, timeout=30)[1]


@pytest.mark.parametrize("moment", ["workers start", "workers read"])
def test_ctrl_c_ends_it_without_a_traceback(at_work, moment):
    process, family, errors = at_work
    if moment == "workers read":
        wait_until_pictures_are_read(process, errors)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130 and "Traceback" not in errors.read_text()
    assert not psutil.wait_procs(family, timeout=30)[1]


def test_a_killed_worker_is_reported(at_work):
    process, family, errors = at_work
    wait_until_pictures_are_read(process, errors)
    workers = [one for one in family if one.ppid() != process.pid]
    assert len(workers) == 2
    workers[0].kill()
    assert process.wait(timeout=60) == 1
    assert re.search(r"error: .* --workers 1$", errors.read_text().rstrip()) and "Traceback" not in errors.read_text()
    assert not psutil.wait_procs(family, timeout=30)[1]


def test_objects_of_a_picture_under_two_names_are_not_lost_without_a_word(tmp_path):
    """Such as é in two forms of Unicode, or two images of a COCO file: each name has objects of its own."""
    images.write(tmp_path / "data" / "e\u0301.jpg", noise(1))
    images.write(tmp_path / "data" / "b.jpg", noise(2))
    (tmp_path / "data" / "train.csv").write_text(
        "\xe9.jpg,1,2,30,40,cat\nb.jpg,1,2,30,40,cat\ne\u0301.jpg,5,6,30,40,dog\n"
    )
    check_dataset.main(["--data", str(tmp_path / "data"), "--fix", str(tmp_path / "fixed"), "--workers", "1"])
    table = f"{tmp_path}/data/train.csv"
    assert (tmp_path / "fixed" / "changes.txt").read_text().splitlines() == [
        f"{table}: each picture listed once",
        f"{table}, line 3: left out, with its objects: the picture is that of {table}, line 1",
    ]


def test_classes_of_missing_pictures_count_as_their_objects_do(tmp_path, capsys):
    box = (1, 1, 5, 5)
    voc = write_voc(tmp_path, {"a": ((8, 8), [("cat", box)]), "b": ((8, 8), [("dog", box)])}, {"train": ["a", "b"]})
    (voc / "JPEGImages" / "b.jpg").unlink()
    check_dataset.main(["--data", str(voc), "--workers", "1"])
    assert capsys.readouterr().out.startswith(f"{voc} (voc): 2 pictures in 1 split, 2 objects of 2 classes\n")


@pytest.mark.parametrize("what", ["fractions", "no pictures"])
def test_a_copy_with_an_empty_split_is_refused(clean, tmp_path, what):
    for number in range(4):
        if what == "fractions":
            annotate(clean, [("cat", (0.1, 0.2, 0.5, 0.9))], image_id=f"test{number:02d}")
        else:
            (clean / "JPEGImages" / f"test{number:02d}.jpg").unlink()
    message = error_of("check_dataset.py", "--data", clean, "--fix", tmp_path / "fixed", "--workers", "1")
    assert f"--fix {tmp_path / 'fixed'}: the split test would have no pictures left: 4 would be left out" in message
    assert ("fractions of the picture" if what == "fractions" else "no such picture") in message
    assert not (tmp_path / "fixed").exists()


def test_a_copy_without_objects_is_refused(clean, tmp_path):
    for number in range(4):
        annotate(clean, [("cat", (WIDTH + 3, 5, WIDTH + 40, 50))], image_id=f"test{number:02d}")
    scan = scanning.scan(clean, workers=1)
    with pytest.raises(UserError, match="the split test would have no objects left"):
        fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")


def test_a_size_of_another_shape_stays_beside_its_boxes(clean, tmp_path):
    path = annotate(clean, [*GOOD, ("dog", (9, 9, 9, 9))], size=(WIDTH * 3, HEIGHT))
    scan = scanning.scan(clean, workers=1)
    fixes.write_copy(scan, checks.check(scan, VGG300), tmp_path / "fixed")
    mended = source_pascal_voc.parse_annotation(tmp_path / "fixed" / "Annotations" / path.name)
    assert mended.stated_size == (WIDTH * 3, HEIGHT)
    assert [item[:5] for item in mended.objects] == [(name, *box) for name, box in GOOD]


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_copy_has_the_folders_of_the_original(clean, tmp_path, side_by_side):
    """Without lists: a folder for each split, or none; a broken picture is left out, a box corrected."""
    plant_unreadable(clean)
    annotate(clean, [*GOOD, ("cat", (9, 9, 9, 9))], image_id="train04")
    root = tmp_path / "flat"
    for path in [*(clean / "JPEGImages").iterdir(), *(clean / "Annotations").iterdir()]:
        home = root if side_by_side else root / path.name[:-6]
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, home)
    scan = scanning.scan(root, workers=1)
    found = checks.check(scan, VGG300)
    assert sorted(one.defect for one in found) == ["empty-box", "unreadable"]
    fixes.write_copy(scan, found, tmp_path / "fixed")
    assert findings(tmp_path / "fixed") == []
    left = {path.relative_to(tmp_path / "fixed") for path in (tmp_path / "fixed").rglob("*.*")}
    gone = {path.relative_to(root) for path in root.rglob("train03.*")}
    assert left == {path.relative_to(root) for path in root.rglob("*.*")} - gone | {pathlib.Path("changes.txt")}


def test_nested_ids_and_missing_annotations(clean, tmp_path):
    """As CVAT writes; a picture without a file of annotations is background if asked for."""
    for part in ("JPEGImages", "Annotations"):
        (clean / part / "cam0" / "day").mkdir(parents=True)
        for path in list((clean / part).glob("t*.*")):
            path.rename(clean / part / "cam0" / "day" / path.name)
    for path in (clean / "ImageSets/Main").glob("*.txt"):
        path.write_text("".join(f"cam0/day/{line}.jpg\n" for line in path.read_text().split()))
    assert findings(clean) == []
    (clean / "Annotations/cam0/day/train03.xml").unlink()
    assert [one.defect for one in findings(clean)] == ["missing-annotation"]
    scan = scanning.scan(clean, missing_annotations="background", workers=1)
    found = checks.check(scan, VGG300)
    assert [one.defect for one in found] == ["no-objects"]
    fixes.write_copy(scan, found, tmp_path / "fixed")
    assert (tmp_path / "fixed/JPEGImages/cam0/day/train03.jpg").is_file()
    assert len(source_pascal_voc.find(tmp_path / "fixed", "train")) == 14
