"""The small inputs of ../shared/cases, drawn after public reports, load as their notes say; skipped without them."""

from pathlib import Path

import pytest

import sources
from structures import UserError

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
NAMES = ("kite", "buoy")
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared cases")

# {case: {split: (pictures, objects)}}
LOADED = {
    "coco_bg": {"train": (5, 10), "val": (5, 10)},
    "coco_root": {"train": (4, 8), "val": (4, 8)},
    "csv_automl": {"train": (5, 10), "val": (5, 10)},
    "csv_makesense": {"train": (5, 10), "val": (5, 10)},
    "csv_racoon": {"train": (5, 10), "val": (5, 10)},
    "csv_semicolon": {"train": (5, 10), "val": (5, 10)},
    "csv_vott": {"train": (5, 10), "val": (5, 10)},
    "cvat_coco": {"default": (5, 10)},
    "cvat_nested": {"train": (5, 10), "val": (3, 6)},
    "cvat_yolo11": {"train": (6, 12)},
    "flat": {"all": (6, 12)},
    "fo_voc": {"train": (4, 8), "val": (4, 8)},
    "img_jfif": {"train": (3, 6), "val": (2, 4)},
    "list_blank": {"train": (5, 10), "val": (3, 6)},
    "list_comment": {"train": (5, 10), "val": (3, 6)},
    "list_ext": {"train": (5, 10), "val": (3, 6)},
    "list_path": {"train": (5, 10), "val": (3, 6)},
    "ls_coco2": {"result": (5, 10)},
    "ls_yolo": {"all": (6, 12)},
    "one_image": {"train": (1, 2)},
    "rf_coco": {"train": (5, 10), "val": (5, 10)},
    "roboflow": {"train": (5, 10), "val": (2, 4), "test": (1, 2)},
    "val_no_objects": {"train": (5, 10), "val": (3, 0)},
    "vott": {"train": (5, 10), "val": (3, 6)},
    "xml_gb2312": {"train": (3, 6), "val": (2, 4)},
    "xml_uppercase": {"train": (3, 6), "val": (2, 4)},
    "xml_utf16": {"train": (3, 6), "val": (2, 4)},
    "yolo_appledouble": {"train": (6, 12), "val": (3, 6)},
    "yolo_backslash": {"train": (6, 12), "val": (3, 6)},
    "yolo_bgclass": {"train": (6, 12), "val": (3, 6)},
    "yolo_checkpoints": {"train": (6, 12), "val": (3, 6)},
    "yolo_same_names": {"train": (6, 12), "val": (6, 12)},
    "yolo_valid": {"train": (6, 12), "val": (3, 6)},
}
# {case: (split, what a warning says)}
WARNED = {
    "csv_resized": ("train", "4 pictures of another size than the annotation states"),
    "pictures_grown_after": ("train", "states 160x120, the picture has 320x240"),
    "pictures_shrunk_after": ("train", "boxes are scaled"),
    "polygon_only": ("train", "1 polygon: the box around each is taken"),
    "rolabelimg_rbox": ("train", "1 rotated box"),
}
# {case: (split, what the error says)}
REFUSED = {
    "coco_frac": ("train", "fractions of the picture, COCO wants pixels"),
    "coords_normalised": ("train", "fractions of the picture, Pascal VOC's XML wants pixels"),
    "flat": ("train", "one split, 'all'"),
    "xml_missing_negative": ("train", "--missing-annotations background"),
    "xml_paren": ("train", "'(88, 100)', not a number"),
}


def load(case, split, **options):
    return sources.load(CASES / case, split, NAMES, **options)


@pytest.mark.parametrize("case", LOADED)
def test_loaded_in_silence(case, capsys):
    for split, expected in LOADED[case].items():
        samples = load(case, split)
        assert (len(samples), sum(len(sample.boxes) for sample in samples)) == expected
        assert all((sample.width, sample.height) == (160, 120) for sample in samples)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("case", WARNED)
def test_loaded_with_a_warning(case, capsys):
    split, said = WARNED[case]
    assert load(case, split)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and said in line


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case):
    split, said = REFUSED[case]
    with pytest.raises(UserError) as error:
        load(case, split)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("case", ["coco_bg", "rf_coco", "yolo_bgclass"])
def test_classes_without_objects_are_left_out(case, capsys):
    assert sources.class_names(CASES / case, "train") == NAMES
    assert "has no objects and is left out" in capsys.readouterr().err


def test_the_way_out_of_a_background_class():
    with pytest.raises(UserError, match=r"--classes kite --other-classes ignore"):
        sources.class_names(CASES / "voc_bg", "train")
    samples = sources.load(CASES / "voc_bg", "train", ("kite",), other_classes="ignore")
    assert sum(len(sample.boxes) for sample in samples) == 5


def test_pictures_without_xml_are_background_if_asked_for(capsys):
    samples = load("xml_missing_negative", "train", missing_annotations="background")
    assert [len(sample.boxes) for sample in samples].count(0) == 1
    assert "1 picture without an annotation file" in capsys.readouterr().err


def test_pictures_of_one_name_have_ids_of_their_own():
    ids = [sample.id for sample in load("yolo_same_names", "train")]
    assert ids[0] == "images/train/drive_a/frame_000000" and len(set(ids)) == 6
