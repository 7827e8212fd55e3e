"""The error report as average_precision.py --plots writes it."""

import html.parser
import json
import os

import cv2
import numpy as np
import pytest

import average_precision
from media import images
from results import detections_json
from scoring import error_pages, error_report
from structures import Detections
from system import file_names
from voc_cases import sample
from voc_tree import write_voc

NAMES = ["car", "a <b>", "a /b>", "van"]  # the second and third are one word as file names, a van is nowhere


class Page(html.parser.HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, path):
        super().__init__()
        self.sources, self.links, self.ids, self.words = [], [], set(), ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs["src"]] if "src" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        self.ids |= {attrs["id"]} if "id" in attrs else set()

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """(folder, data) of the report on three pictures, one of which is broken."""
    tmp_path, rng = tmp_path_factory.mktemp("reported"), np.random.default_rng(0)
    objects = [("car", (11, 11, 40, 40)), ("a <b>", (61, 11, 90, 40))]
    pictures = {key: (rng.integers(0, 255, (80, 120, 3), np.uint8), objects) for key in "abc"}
    voc = write_voc(tmp_path / "voc", pictures)
    broken = voc / "JPEGImages/b.jpg"
    broken.write_bytes(broken.read_bytes()[:-2000])  # its header is whole: the size can be read
    with detections_json.Writer(tmp_path / "d.json", model="m", class_names=NAMES, threshold=0.01) as writer:
        for key, box, score, label in (
            ("a", [10, 10, 40, 40], 0.9, 0),
            ("b", [60, 10, 90, 40], 0.8, 0),  # confused, in the broken picture
            ("c", [90, 60, 120, 80], 0.7, 2),  # background, at the corner, of a class without objects
        ):
            found = Detections(np.array([box], np.float32), np.array([score], np.float32), np.array([label], np.int32))
            writer.add(f"{key}.jpg", 120, 80, found)
    (tmp_path / "groups.csv").write_text("picture,group\na,day\nb,<night>\nc,day\n")
    flags = ("--data", str(voc), "--split", "trainval", "--plots", str(tmp_path / "plots"))
    flags += ("--groups", str(tmp_path / "groups.csv"), "--json", str(tmp_path / "plots" / "ap.json"))
    flags += ("--confusion-threshold", "0.1")
    average_precision.main([str(tmp_path / "d.json"), *flags])
    return tmp_path / "plots", json.loads((tmp_path / "plots/errors.json").read_text())


def test_counts_are_written(reported):
    classes = reported[1]["classes"]
    assert list(classes) == NAMES and reported[1]["iou"] == 0.5
    car = classes["car"]
    assert car["hits"] == {"top": 1, "all": 1} and car["missed"] == 2
    assert car["confused_with"] == {"a <b>": {"top": 1, "all": 1}}
    assert classes["a <b>"]["missed"] == 3
    assert [row["image"] for row in classes["a /b>"]["worst"]["background"]] == ["c"]


def test_page_needs_no_server_and_no_other_folder(reported):
    folder = reported[0]
    page = Page(folder / "errors.html")
    charts = [source for source in page.sources if not source.startswith("data:")]
    assert len(charts) == len(set(charts)) == 3  # one for each class, though two names are alike
    for name in (*charts, *(link for link in page.links if not link.startswith("#"))):
        assert name == os.path.basename(name) and cv2.imread(str(folder / name)) is not None
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert len(anchors) == 3 and set(anchors) <= page.ids
    assert "a <b>" in page.words and "score 0.80, IoU 1.00 with a <b>" in page.words


def test_a_picture_that_cannot_be_read_has_a_message_in_its_place(reported):
    page = Page(reported[0] / "errors.html")
    # In picture b: the confusion, the missed car and the missed a <b>
    assert page.words.count("cannot be shown") == 3
    # a: the missed a <b>; c: the missed car, the missed a <b> and the background
    assert sum(source.startswith("data:image/jpeg") for source in page.sources) == 4


def test_boxes_are_drawn_where_they_are(tmp_path):
    """The window follows the boxes; the marked one is red, its partner green."""
    image = np.full((300, 400, 3), 200, np.uint8)
    path = tmp_path / "a.png"
    images.write(path, image)
    one = sample("a", [[320, 220, 360, 260]], size=(400, 300))
    one = type(one)(**{**vars(one), "image_path": str(path)})
    box_px, partner_px = np.array([340, 240, 400, 300.0]), one.boxes_px[0]
    case = error_report.Case("localization", "a", box_px, 0.9, partner="car", partner_px=partner_px, overlap=0.1)
    drawn = error_pages.draw(case, one)
    assert max(drawn.shape) == 260
    left, top, right, bottom = error_pages._window(np.array([box_px, partner_px]), 400, 300)
    assert (right, bottom) == (400, 300) and right - left == bottom - top == 176  # 2.2 × 80
    scale = 260 / 176
    ys, xs = np.nonzero((drawn == error_pages.MARKED).all(axis=2))
    assert abs(xs.min() - (340 - left) * scale) <= 1 and abs(ys.min() - (240 - top) * scale) <= 1
    ys, xs = np.nonzero((drawn == error_pages.PARTNER).all(axis=2))
    assert abs(xs.min() - (320 - left) * scale) <= 1 and abs(ys.max() - (260 - top) * scale) <= 2


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ([0, 0, 2, 2], (5, 5)),
        ([0, 0, 500, 3], (500, 3)),
        ([-50, -50, -40, -40], (100, 80)),
        ([150, 9, 190, 12], (100, 80)),
    ],
)
def test_window_lies_inside_the_picture(box, size):
    left, top, right, bottom = error_pages._window(np.array([box], float), *size)
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def test_file_names_of_classes_are_all_different():
    names = file_names.safe_names(["a b", "a_b", "A_b", "a/b", "ä.x-1"])
    assert names == ["a_b", "a_b_", "A_b__", "a_b___", "ä.x-1"]


def test_the_report_holds_all_and_needs_no_server(reported):
    folder = reported[0]
    page = Page(folder / "report.html")
    charts = [source for source in page.sources if not source.startswith("data:")]
    drawn = {"precision_recall", "thresholds", "calibration", "score_cuts", "confusion", "error_costs"}
    assert drawn <= {name.removesuffix(".png") for name in charts} and len(charts) == len(set(charts)) == 9
    for name in charts:
        assert name == os.path.basename(name) and cv2.imread(str(folder / name)) is not None
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= page.ids and {"thresholds", "confusion", "groups"} <= set(inside)
    assert {link.split("#")[0] for link in page.links if link[0] != "#"} == {
        "errors.html",
        "https://arxiv.org/abs/2008.08115",
    }
    errors = Page(folder / "errors.html")
    assert {link.split("#")[1] for link in page.links if link.startswith("errors.html")} <= errors.ids
    assert "a <b> taken for car (1)" in page.words and "<night>" in page.words and "car missed (2)" in page.words


def test_the_numbers_of_the_matrix_link_to_their_pictures(reported):
    folder = reported[0]
    data = json.loads((folder / "ap.json").read_text())
    cells = {(one["object"], one["detection"]): one for one in data["confusion"]["errors"]}
    assert cells["a <b>", "car"]["pictures"] == ["b"]
    assert cells["car", "background"]["pictures"] == ["b", "c"] and cells["background", "a /b>"]["count"] == 1
    page = Page(folder / "report.html")
    assert len([link for link in page.links if link.startswith("#cell-")]) == len(cells)
    assert json.loads((folder / "thresholds.json").read_text()).keys() == {"all", "per_class"}
