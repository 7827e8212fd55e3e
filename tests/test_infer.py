"""infer.py on folders as people have them."""

import argparse
import collections
import contextlib
import io
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import config
import dataset_formats
import detector
import infer
import programs
import ssd_utils
from boxes import nms
from many import detecting
from media import images
from programs import CLASSES, error_of, run
from results import result_folder
from structures import UserError
from system import files, folder_tree

READABLE = ("one.png", "gray.jpg", "cmyk.jpg", "deep.png", "alpha.png", "long.png", "turned.jpg")
UNREADABLE = ("text.jpg", "empty.jpg", "cut.jpg")


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    """The pictures that break programs."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    color = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    (folder / "text.jpg").write_text("not a picture", "utf-8")
    (folder / "empty.jpg").write_bytes(b"")
    color.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-900])
    Image.new("RGB", (1, 1), (9, 8, 7)).save(folder / "one.png")
    color.convert("L").save(folder / "gray.jpg")
    color.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(rng.integers(0, 65536, (50, 40), dtype=np.uint16)).save(folder / "deep.png")
    color.convert("RGBA").save(folder / "alpha.png")
    Image.new("RGB", (2, 5000)).save(folder / "long.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    color.save(folder / "turned.jpg", exif=exif)
    (folder / "notes.txt").write_text("no picture by its name either", "utf-8")
    return folder


def test_odd_pictures_are_detected_or_listed(trained, odd_folder, tmp_path):
    done = run("infer.py", trained, odd_folder, "--output", tmp_path / "out", "--threshold", "0.01")
    written = json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))
    assert sorted(entry["file"] for entry in written["images"]) == sorted(READABLE)
    assert sorted(entry["file"] for entry in written["errors"]) == sorted(UNREADABLE)
    sizes = {entry["file"]: (entry["width"], entry["height"]) for entry in written["images"]}
    assert "1 file left out: .txt (1)" in done.stdout
    assert sizes["turned.jpg"] == (60, 80)  # as a viewer shows it
    assert sizes["long.png"] == (2, 5000)
    for entry in written["images"]:
        for found in entry["detections"]:
            xmin, ymin, xmax, ymax = found["box"]
            assert 0 <= xmin <= xmax <= entry["width"]
            assert 0 <= ymin <= ymax <= entry["height"]
    assert "truncated" in done.stdout + done.stderr
    assert folder_tree.visible(tmp_path / "out" / "images") == sorted(READABLE)
    assert images.read(tmp_path / "out" / "images" / "turned.jpg").shape == (80, 60, 3)


def test_where_nothing_can_be_read_the_call_fails_and_leaves_nothing(trained, odd_folder, tmp_path):
    """A script that goes on to score or count would take the empty results for a picture without objects.

    The next call, with the right pictures, needs no --overwrite.
    """
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(UserError, match="none of 2 pictures could be read"):
            infer.main([trained, odd_folder / "text.jpg", odd_folder / "notes.txt", "--output", out, "--yolo-results"])
        assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="none of 1 picture could be read"):
        infer.main([trained, odd_folder / "text.jpg", "--output", out])
    assert os.listdir(out) == ["mine.txt"]


@pytest.mark.parametrize("place", ["link", "."])
def test_a_folder_that_cannot_be_removed_does_not_hide_the_reason(trained, odd_folder, tmp_path, monkeypatch, place):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "link").symlink_to(out)
    monkeypatch.chdir(out if place == "." else tmp_path)
    with pytest.raises(UserError, match="none of 1 picture could be read"):
        infer.main([trained, odd_folder / "text.jpg", "--output", place])
    assert os.listdir(out) == []


def test_a_table_in_the_place_of_pictures_is_refused(odd_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.csv", "list.TXT"):
        (tmp_path / name).write_text("a.jpg\n")
    flags = argparse.Namespace(images=["train.csv", "list.TXT"], recursive=False, output="out")
    with pytest.raises(UserError, match=r"^train\.csv: is not a picture; give @train\.csv if it lists pictures"):
        infer._find_files(flags)
    flags.images.append(str(odd_folder / "one.png"))  # as of photos/* in the shell
    assert [picture.name for picture in infer._find_files(flags)] == ["train.csv", "list.TXT", "one.png"]


def test_few_of_16_bits_are_warned_of(trained, tmp_path, capsys):
    """A thermal camera's picture is black to a model that was trained without --gray16."""
    Image.fromarray(np.linspace(7000, 7900, 1200).astype(np.uint16).reshape(30, 40)).save(tmp_path / "warm.tiff")
    infer.main([trained, tmp_path / "warm.tiff", "--output", tmp_path / "out"])
    said = capsys.readouterr().err
    assert (
        f"warning: {tmp_path}/warm.tiff has 16 bits per sample and uses 4 of 256 gray levels (7000 to 7900 of 65535)"
        in said
    )
    assert "--gray16 stretch" in said


def test_a_picture_that_needs_too_many_tiles_is_listed(trained, odd_folder, tmp_path, capsys):
    """As one that cannot be read; the others have as many tiles as they need."""
    Image.new("RGB", (500, 400)).save(tmp_path / "large.png")
    flags = ["--output", str(tmp_path / "out"), "--no-draw", "--tile-size", "20"]
    infer.main([str(trained), str(tmp_path / "large.png"), str(odd_folder / "one.png"), *flags])
    written = json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))
    assert [entry["file"] for entry in written["images"]] == ["one.png"]
    assert [(one["file"], one["reason"][:42]) for one in written["errors"]] == [
        ("large.png", "500×400 pixels need 775 tiles of 20, more ")
    ]
    assert "large.png: 500×400 pixels need" in capsys.readouterr().out
    with pytest.raises(UserError, match="--tiles and --tile-size"):
        infer.main([str(trained), str(odd_folder), *flags, "--tiles", "3x2"])


@pytest.mark.parametrize("recursive", [False, True])
def test_what_is_left_out_of_a_folder_is_said(trained, tmp_path, capsys, recursive):
    for name in ("a.jpg", "b.jfif", "c.jpe", "._a.jpg", ".ipynb_checkpoints/a.jpg", "in/d.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "photos" / name, "PNG" if name.endswith("png") else "JPEG")
    for name in ("x.HEIC", "y.txt", "z.txt", "README", "Thumbs.db", "in/w.pcx"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    flags = ["--no-draw", "--output", str(tmp_path / "out"), *["--recursive"] * recursive]
    infer.main([str(trained), str(tmp_path / "photos"), *flags])
    found = json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))
    assert [entry["file"] for entry in found["images"]] == ["a.jpg", "b.jfif", "c.jpe", *["in/d.png"] * recursive]
    said = "5 files left out: .txt (2)" if recursive else "4 files left out: .txt (2)"
    out = capsys.readouterr().out
    assert ("photos: 1 folder with pictures in it not searched; --recursive" in out) == (not recursive)
    assert said in out and ".HEIC (1)" in out and "without a suffix (1)" in out and (".pcx (1)" in out) == recursive


@pytest.mark.parametrize("recursive", [False, True])
def test_links_that_lead_nowhere_are_said(trained, tmp_path, capsys, recursive):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "b.jpg").symlink_to("gone.jpg")
    (tmp_path / "photos" / "c.txt").symlink_to("gone.txt")
    flags = ["--no-draw", "--output", str(tmp_path / "out"), *["--recursive"] * recursive]
    infer.main([str(trained), str(tmp_path / "photos"), *flags])
    found = json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))
    assert [entry["file"] for entry in found["errors"]] == ["b.jpg"]
    assert "1 file left out: .txt (1)" in capsys.readouterr().out


def test_names_that_are_not_utf8_lose_nothing(trained, odd_folder, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = [os.fsdecode(name) for name in (b"broken\xe9.jpg", b"caf\xe9.png")]
    for name, origin in zip(names, ("text.jpg", "one.png"), strict=True):
        shutil.copy(odd_folder / origin, folder / name)
    settings = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as in most languages; in C they pass
    flags = ["--output", tmp_path / "out", "--yolo-results", "--voc-results"]
    done = run("infer.py", trained, folder, *flags, env=settings)
    assert r"broken\udce9.jpg" in done.stdout
    written = json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))
    assert [written[part][0]["file"] for part in ("errors", "images")] == names
    assert folder_tree.visible(tmp_path / "out" / "images") == names[1:]


def test_copies_that_cannot_be_written_end_nothing(trained, odd_folder, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    long, longer = "l" * 251 + ".png", "m" * 251 + ".bmp"  # whose copy would end in .bmp.png, 259 bytes
    shutil.copy(odd_folder / "one.png", folder / long)
    Image.open(odd_folder / "one.png").save(folder / longer)
    Image.new("RGB", (65_600, 1)).save(folder / "wide.jpg", "PNG")  # a JPEG has at most 65,500 columns
    done = run("infer.py", trained, folder, "--output", out, "--yolo-results")
    written = json.loads((out / "detections.json").read_text("utf-8"))
    assert len(written["images"]) == 3 and written["errors"] == []
    assert folder_tree.visible(out / "images") == [long]
    assert f"{out / 'images' / longer}.png: " in done.stdout and "File name too long" in done.stdout
    assert f"{out / 'images' / 'wide.jpg'}: " in done.stdout and "65600x1" in done.stdout
    assert "2 not drawn" in done.stdout


@pytest.fixture(scope="module")
def crowded(trained, shapes, tmp_path_factory):
    """(output folder, what was printed) of a model that knows nothing, for all that it sees."""
    out = tmp_path_factory.mktemp("crowded") / "out"
    flags = [
        "--threshold",
        "0.01",
        "--draw-threshold",
        "0.01",
        "--csv",
        "--crops",
        "--dump-predictions",
        "--output",
        str(out),
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        infer.main([str(trained), f"{shapes}/JPEGImages/val_00[0-3].png", *flags])
    return out, printed.getvalue().splitlines()


def test_detections_are_counted_by_class(crowded):
    out, lines = crowded
    written = json.loads((out / "detections.json").read_text("utf-8"))["images"]
    counts = collections.Counter(one["class"] for image in written for one in image["detections"])
    assert ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) in lines
    assert len((out / "detections.csv").read_text("utf-8").splitlines()) == 1 + counts.total()


def test_a_model_that_papers_pictures_is_told_so(crowded):
    out, lines = crowded
    assert "4 pictures with more than 50 boxes scoring 0.01 or more: only the best of them are drawn" in lines[-2]
    assert "hardly learned" in lines[-1]
    higher = float(re.search(r"--draw-threshold (\S+) draws", lines[-1])[1])
    written = json.loads((out / "detections.json").read_text("utf-8"))["images"]
    scores = [one["score"] for image in written for one in image["detections"]]
    assert 0 <= sum(score >= higher for score in scores) <= 4 * infer.FEW < sum(score >= 0.01 for score in scores)
    assert sum(score >= higher - 0.011 for score in scores) > 4 * infer.FEW  # as low as two decimals allow


def test_crops_are_what_the_boxes_hold(crowded, shapes):
    out, _ = crowded
    crops = {path.relative_to(out / "crops"): path for path in (out / "crops").rglob("*.png")}
    assert len(crops) == 4 * 50  # the best
    image = json.loads((out / "detections.json").read_text("utf-8"))["images"][2]
    for number in (1, 50):
        best = image["detections"][number - 1]
        place = f"{best['class']}/{image['file'].removesuffix('.png')}_{number}.png"
        found = images.read(crops[pathlib.Path(place)])
        xmin, ymin, xmax, ymax = best["box"]
        picture = images.read(shapes / "JPEGImages" / image["file"])
        np.testing.assert_array_equal(found, picture[int(ymin) : math.ceil(ymax), int(xmin) : math.ceil(xmax)])


def test_dumped_predictions_give_the_detections(crowded):
    """Scores above the threshold, decoded and suppressed class by class, are what detections.json has."""
    out, _ = crowded
    for image in json.loads((out / "detections.json").read_text("utf-8"))["images"]:
        dumped = np.load(out / "predictions" / f"{image['file']}.npz")
        boxes = ssd_utils.decode_boxes(dumped["offsets"], dumped["anchors"], dumped["variances"])
        np.testing.assert_allclose(dumped["probabilities"].sum(axis=1), 1, atol=1e-5)
        assert dumped["class_names"].tolist() == CLASSES.split(",")
        found = []
        for label, scores in enumerate(dumped["probabilities"].T[1:]):
            best = np.argsort(-scores, kind="stable")[:400]
            best = best[scores[best] > 0.01]
            found += [(scores[best[n]], label, best[n]) for n in nms(boxes[best], scores[best], 0.45)]
        found = sorted(found, reverse=True)[:200]
        expected = [one["score"] for one in image["detections"]]
        np.testing.assert_allclose([score for score, *_ in found], expected, atol=1e-4)
        score, label, anchor = found[0]
        box = boxes[anchor].clip(0, 1) * np.tile((image["width"], image["height"]), 2)
        close = [one for one in image["detections"] if abs(one["score"] - score) < 1e-4]
        assert min(np.abs(np.array(one["box"]) - box).max() for one in close) < 0.02
        assert any(one["class"] == dumped["class_names"][label] for one in close)


def test_lists_of_pictures(trained, shapes, tmp_path, monkeypatch):
    paths = [str(shapes / "JPEGImages" / f"val_00{number}.png") for number in (4, 1)]
    (tmp_path / "list.txt").write_text("\n".join(paths) + "\n\n", "utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(paths[0]))
    for word, expected in (("@" + str(tmp_path / "list.txt"), paths), ("-", paths[:1])):
        flags = argparse.Namespace(images=[word], recursive=False, output=str(tmp_path / "out"))
        assert [picture.path for picture in infer._find_files(flags)] == expected
    (tmp_path / "@odd").mkdir()  # a folder that is called so
    shutil.copy(paths[0], tmp_path / "@odd" / "a.png")
    monkeypatch.chdir(tmp_path)
    flags.images = ["@odd"]
    assert [picture.name for picture in infer._find_files(flags)] == ["a.png"]


def test_old_results_are_not_mixed_with_new(trained, shapes, tmp_path):
    picture = sorted((shapes / "JPEGImages").iterdir())[0]
    out = tmp_path / "out"
    run("infer.py", trained, picture, "--output", out)
    assert "--overwrite" in error_of("infer.py", trained, picture, "--output", out)
    other = sorted((shapes / "JPEGImages").iterdir())[1]
    run("infer.py", trained, other, "--output", out, "--overwrite")
    assert folder_tree.visible(out / "images") == [other.name]


def test_recursive_keeps_folders_apart(trained, shapes, tmp_path):
    picture = sorted((shapes / "JPEGImages").iterdir())[0]
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "same.png").write_bytes(picture.read_bytes())
    out = tmp_path / "out"
    run("infer.py", trained, tmp_path / "in", "--recursive", "--output", out, "--yolo-results")
    assert (out / "images" / "a" / "same.png").exists()
    assert (out / "images" / "b" / "same.png").exists()
    assert (out / "labels" / "a" / "same.txt").exists()
    assert (out / "labels" / "b" / "same.txt").exists()
    written = json.loads((out / "detections.json").read_text("utf-8"))
    assert [entry["file"] for entry in written["images"]] == ["a/same.png", "b/same.png"]


def test_voc_results_are_there_for_every_class_and_score(trained, shapes, tmp_path):
    picture, out = sorted((shapes / "JPEGImages").iterdir())[0], tmp_path / "out"
    run("infer.py", trained, picture, "--output", out, "--voc-results")
    assert {name for name in os.listdir(out) if name.endswith(".txt")} == {
        "comp4_det_test_disc.txt",
        "comp4_det_test_square.txt",
    }
    assert json.loads((out / "detections.json").read_text("utf-8"))["threshold"] == 0.01  # to be scored


def test_results_name_the_chosen_classes_only(trained, shapes, tmp_path):
    """Otherwise a class that nobody looked for would count as missed everywhere."""
    split, found = ["--data", shapes, "--split", "val"], {}
    forms = ["--voc-results", "--yolo-results", "--coco-results"]
    for choice in ([], ["--classes", "square"]):
        out = tmp_path / str(len(choice))
        run("infer.py", trained, *split, "--output", out, "--no-draw", *forms, *choice)
        written = json.loads((out / "detections.json").read_text("utf-8"))
        squares = [[one for one in entry["detections"] if one["class"] == "square"] for entry in written["images"]]
        labels = [path.read_text("utf-8").splitlines() for path in sorted((out / "labels").iterdir())]
        found[len(choice)] = squares, [[line for line in lines if line.startswith("1 ")] for lines in labels]
    assert found[0] == found[2] and any(found[0][0])
    assert written["class_names"] == ["square"] and sum(map(len, labels)) == sum(map(len, found[2][1]))
    assert [name for name in os.listdir(out) if name.startswith("comp4")] == ["comp4_det_test_square.txt"]
    listed = json.loads((out / "coco_results.json").read_text("utf-8"))
    assert {one["category_id"] for one in listed} == {2}
    score = ["--other-classes", "ignore", "--json", tmp_path / "ap.json"]
    run("average_precision.py", out / "detections.json", *split, *score)
    assert list(json.loads((tmp_path / "ap.json").read_text("utf-8"))["ground_truth"]) == ["square"]


def test_what_was_detected_before_a_failure_is_kept(trained, shapes, tmp_path, monkeypatch, capsys):
    written = []

    def write(path, *_):
        written.append(path)
        if len(written) == 3:
            raise UserError(f"cannot write {path}: no space left on device")

    monkeypatch.setattr(images, "write", write)
    monkeypatch.setattr(infer.worker_processes, "beside_network", lambda: 1)  # then one picture waits to be drawn
    with pytest.raises(UserError, match="no space left"):
        infer.main([str(trained), "--data", str(shapes), "--split", "val", "--output", str(tmp_path / "out")])
    assert f"stopped: 4 of 6 pictures are in {tmp_path / 'out'}" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))["images"]) == 4


def test_full_memory_ends_with_the_flag_to_change(trained, shapes, tmp_path, memory_full_at_the_second_batch, capsys):
    flags = ["--data", str(shapes), "--split", "val", "--batch-size", "2", "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"memory .*--batch-size 1"):
        infer.main([str(trained), *flags])
    assert f"stopped: 2 of 6 pictures are in {tmp_path / 'out'}" in capsys.readouterr().out


def test_linked_folders_are_looked_into_once(trained, shapes, tmp_path):
    picture = sorted((shapes / "JPEGImages").iterdir())[0]
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.png").write_bytes(picture.read_bytes())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "near").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "in")
    run("infer.py", trained, tmp_path / "in", "--recursive", "--output", tmp_path / "out", "--no-draw")
    written = json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))
    assert [entry["file"] for entry in written["images"]] == ["near/a.png"]


EQUAL_NAMES = {  # flag: two pictures that its results would mix, two that it keeps apart
    "--voc-results": ("a/same.png", "b/same.jpg", "a/same.png", "b/other.png"),
    "--coco-results": ("a/0001.jpg", "b/1.jpg", "a/1.jpg", "b/1a.jpg"),  # as numbers, which COCO's ids are
    "--yolo-results": ("a/same.png", "a/same.jpg", "a/same.png", "b/same.png"),
}


def test_drawn_copies_that_would_share_a_name_are_refused(trained, tmp_path):
    for name in ("a.bmp", "a.bmp.png"):
        (tmp_path / name).write_bytes(b"")
    said = error_of("infer.py", trained, tmp_path, "--output", tmp_path / "out")
    assert "--output" in said and str(tmp_path / "a.bmp.png") in said and f"{tmp_path / 'a.bmp'} " in said


def test_a_wrong_call_keeps_old_results(trained, shapes_of, mine, tmp_path):
    out = tmp_path / "out"
    run("infer.py", trained, tmp_path / "apart", "--output", out)
    before = contents(out)
    other = tmp_path / "other"
    shutil.copytree(shapes_of["yolo"], other)
    (path,) = other.glob("*.yaml")
    path.write_text(path.read_text("utf-8").replace("disc", "ring"), "utf-8")
    exported = tmp_path / "model.pb"
    run("export_model.py", trained, "--output", exported, "--threshold", "0.2")
    apart = tmp_path / "apart"
    for call, named in (
        ((trained, "--data", other, "--split", "val", "--yolo-results"), "'disc'"),
        ((trained, apart, "--classes", "dog"), "dog"),
        ((trained, apart, "--classes", "missing.txt"), "missing.txt"),
        ((exported, apart, "--classes", "dog"), "dog"),
        ((exported, apart, "--threshold", "0.1"), "--threshold"),
    ):
        assert named in error_of("infer.py", *call, "--output", out, "--overwrite")
        assert contents(out) == before
    error_of("infer.py", trained, apart, "--classes", "dog", "--output", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("flag", EQUAL_NAMES)
def test_results_that_would_mix_pictures_are_refused(flag, trained, tmp_path):
    *equal, one, other = EQUAL_NAMES[flag]
    for folder, names in (("equal", equal), ("different", (one, other))):
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_bytes(b"")
    call = ["infer.py", trained, tmp_path / "equal", "--recursive", "--output", tmp_path / "out"]
    said = error_of(*call, flag)
    assert flag in said and all(str(tmp_path / "equal" / name) in said for name in equal)
    assert not (tmp_path / "out").exists()
    files = infer._find_files(infer._parse([*map(str, call[1:])]))
    infer._refuse_equal_names(infer._parse([*map(str, call[1:])]), files, None)  # without the flag
    flags = infer._parse(["x", str(tmp_path / "different"), "--recursive", "--output", str(tmp_path / "out"), flag])
    infer._refuse_equal_names(flags, infer._find_files(flags), None)


def test_a_video_is_sent_to_the_program_for_videos(trained, tmp_path):
    film = tmp_path / "film.MP4"
    film.write_bytes(b"")
    said = error_of("infer.py", trained, film, "--output", tmp_path / "out")
    assert str(film) in said and f"process_video.py {trained} {film} OUTPUT.mp4" in said
    assert not (tmp_path / "out").exists()


def test_a_run_gets_no_results(trained, mine):
    before = contents(trained)
    said = error_of("infer.py", trained, mine.parent / "apart", "--output", trained, "--overwrite")
    assert f"--output {trained}: is a run" in said
    assert contents(trained) == before


def contents(folder):
    """{path: bytes} of all files below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def mine(shapes, tmp_path):
    """A folder with pictures and labels of the user's own in images/ and labels/, and other pictures elsewhere."""
    picture = sorted((shapes / "JPEGImages").iterdir())[0]
    for path in ("mine/images/a.png", "apart/b.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(picture.read_bytes())
    (tmp_path / "mine" / "labels").mkdir()
    (tmp_path / "mine" / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n", "utf-8")
    return tmp_path / "mine"


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_own_pictures_and_labels_are_not_results(trained, mine, tmp_path, overwrite):
    before = contents(mine)
    for pictures in (["mine/images"], ["mine/images/a.png"], ["mine", "--recursive"], ["apart"]):
        paths = [part if part.startswith("-") else tmp_path / part for part in pictures]
        said = error_of("infer.py", trained, *paths, "--output", mine, *overwrite)
        assert said.startswith(f"error: --output {mine}: {mine / 'images'} ")
        assert contents(mine) == before
    (mine / "images").rename(mine / "pictures")
    before = contents(mine)
    said = error_of("infer.py", trained, tmp_path / "apart", "--output", mine, "--no-draw", *overwrite)
    assert said.startswith(f"error: --output {mine}: {mine / 'labels'} ")
    assert contents(mine) == before


@pytest.mark.parametrize("name", ["coco", "yolo", "csv"])
def test_a_data_set_is_not_a_result(trained, shapes_of, tmp_path, name):
    """Not even beside a detections.json, which an earlier version took as proof."""
    data = tmp_path / "data"
    shutil.copytree(shapes_of[name], data)
    if name == "coco":
        (data / "val").rename(data / "images")
    (data / "detections.json").write_text('{"model": "run", "images": []}', "utf-8")
    before = contents(data)
    for extra in ([], ["--overwrite"]):
        said = error_of("infer.py", trained, "--data", data, "--split", "val", "--output", data, *extra)
        assert said.startswith(f"error: --output {data}: {data / 'images'} ")
        assert contents(data) == before


def test_links_do_not_hide_inputs(trained, mine, tmp_path):
    """Neither if the output, the input or a picture is a link, nor if the input is the model."""
    (mine / "detections.json").write_text('{"model": "run", "images": []}', "utf-8")
    (tmp_path / "link").symlink_to(mine)
    (tmp_path / "linked.png").symlink_to(mine / "images" / "a.png")
    (mine / "labels" / "model.pb").write_bytes(b"")
    calls = [
        (trained, mine / "images", tmp_path / "link"),
        (trained, tmp_path / "link" / "images", mine),
        (trained, tmp_path / "linked.png", mine),
        (mine / "labels" / "model.pb", tmp_path / "apart", mine),
    ]
    before = contents(mine)
    for model, pictures, output in calls:
        said = error_of("infer.py", model, pictures, "--output", output, "--overwrite")
        assert said.startswith(f"error: --output {output}: {output}{os.sep}")
        assert contents(mine) == before


@pytest.mark.parametrize("place", ["out", "."])
def test_drawn_copies_are_not_detected_again(trained, mine, place, capsys):
    """With --recursive and the output among the pictures."""
    shutil.rmtree(mine / "labels")
    (mine / "images").rename(mine / "pictures")
    out = mine / place
    for count, extra in enumerate(([], ["--crops", "--overwrite"], ["--overwrite"])):
        infer.main([trained, mine, "--recursive", "--output", out, *extra])
        written = json.loads((out / "detections.json").read_text("utf-8"))
        assert [entry["file"] for entry in written["images"]] == ["pictures/a.png"]
        assert folder_tree.visible(out / "images") == ["pictures"]
        said = capsys.readouterr().out
        assert said.count("drawn by an earlier infer.py, not searched; name it to detect in it\n") == count
    assert all(f"{out / name}: drawn by" in said for name in DRAWN)


def test_results_of_a_killed_call_are_replaced(trained, mine, tmp_path):
    """They have no detections.json, so they could be taken for the user's own pictures."""
    out = tmp_path / "out"
    call = programs.command("infer.py", trained, tmp_path / "apart", "--output", out)
    code = "import os, sys; from media import images; images.write = lambda *_: os.kill(os.getpid(), 9); "
    code += f"sys.argv = {call[1:]}; sys.path[0] = {str(programs.ROOT)!r}; "
    code += "import infer; from system import cli; cli.run(infer.main)"
    assert subprocess.run([sys.executable, "-c", code], cwd=programs.ROOT).returncode == -9
    assert (out / "images").exists() and not (out / "detections.json").exists()
    assert "--overwrite" in error_of("infer.py", trained, tmp_path / "apart", "--output", out)
    run("infer.py", trained, tmp_path / "apart", "--output", out, "--overwrite")
    left = {"detections.json", "images"}
    assert {name for name in os.listdir(out) if not name.endswith(".tmp")} == left


DRAWN = ("crops", "images")


def test_drawn_copies_of_other_calls_are_not_detected_again(mine, tmp_path, capsys):
    """Wherever they are in the folder, which is said; whoever names them gets them."""
    found = mine / "deep" / "found"
    for place in ("images/sub", "crops/car", "own"):
        shutil.copytree(mine / "images", found / place)
    for place in ("images", "crops"):
        result_folder.mark_drawn(found / place)
    flags = argparse.Namespace(images=[str(mine)], recursive=True, output=str(tmp_path / "out"))
    assert [picture.name for picture in infer._find_files(flags)] == ["deep/found/own/a.png", "images/a.png"]
    notes = [f"{found / name}: drawn by an earlier infer.py, not searched; name it to detect in it" for name in DRAWN]
    assert capsys.readouterr().out.splitlines() == [*notes, f"{mine}: 1 file left out: .txt (1)"]
    flags.images = [str(found / "images")]
    assert [picture.name for picture in infer._find_files(flags)] == ["sub/a.png"]
    flags.images, flags.recursive = [str(mine / "images")], False
    shutil.copytree(found, mine / "images" / "found", ignore=shutil.ignore_patterns("own"))
    assert [picture.name for picture in infer._find_files(flags)] == ["a.png"]
    assert "not searched" not in capsys.readouterr().out


def test_where_all_is_drawn_it_is_said(mine, tmp_path, capsys):
    (mine / "images" / result_folder.DRAWN_MARK).touch()
    flags = argparse.Namespace(images=[str(mine)], recursive=True, output=str(tmp_path / "out"))
    with pytest.raises(UserError, match="no pictures in it"):
        infer._find_files(flags)
    assert f"{mine / 'images'}: drawn by an earlier infer.py, not searched" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["detections.json", result_folder.UNFINISHED])
@pytest.mark.parametrize("output", ["out", "mine"])
def test_own_pictures_beside_results_are_found(mine, tmp_path, name, output):
    """Such as beside a copied detections.json, in whosever folder it is."""
    (mine / name).write_text('{"model": "run", "images": []}', "utf-8")
    flags = argparse.Namespace(images=[str(tmp_path)], recursive=True, output=str(tmp_path / output))
    assert [picture.name for picture in infer._find_files(flags)] == ["apart/b.png", "mine/images/a.png"]


def test_results_that_cannot_be_looked_into_do_not_end_the_search(mine, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (mine / "detections.json").write_text('{"model": "run", "images": []}', "utf-8")
    monkeypatch.setattr(files, "open_regular", refuse)
    flags = argparse.Namespace(images=[str(tmp_path)], recursive=True, output=str(tmp_path / "out"))
    assert [picture.name for picture in infer._find_files(flags)] == ["apart/b.png", "mine/images/a.png"]


MISTAKES = {
    "missing model": (["nothing", "{pictures}", "--output", "{out}"], "nothing"),
    "missing folder": (["{model}", "nowhere", "--output", "{out}"], "nowhere"),
    "folder without pictures": (["{model}", "{model}", "--output", "{out}"], "--recursive"),
    "unwritable output": (["{model}", "{pictures}", "--output", "{file}/x"], "--output"),
    "unknown class": (["{model}", "{pictures}", "--output", "{out}", "--classes", "dog"], "dog"),
    "no checkpoint of that name": (["{model}@first", "{pictures}", "--output", "{out}"], "first"),
    "split without data": (["{model}", "--split", "val", "--output", "{out}"], "--data"),
    "a format without data": (["{model}", "{pictures}", "--source", "voc"], "--source: says how to read a data set"),
    "neither pictures nor a split": (["{model}", "--output", "{out}"], "pictures"),
    "an address": (["{model}", "https://a.b/c.jpg", "--output", "{out}"], "download"),
    "a pattern of nothing": (["{model}", "{pictures}/*.gif", "--output", "{out}"], "*.gif"),
    "a missing list": (["{model}", "@{out}.txt", "--output", "{out}"], "no such list"),
    "an empty list": (["{model}", "@{file}", "--output", "{out}"], "empty list"),
    "a data set in the place of results": (["{model}", "{pictures}", "--output", "{data}"], "holds a data set (voc)"),
    "an empty name": (["{model}", ""], "an empty name"),
    "an empty model": (["", "{pictures}"], "MODEL is empty"),
    "an empty output": (["{model}", "{pictures}", "--output", ""], "--output: is empty"),
    "a name with spaces": (["{model}", "{out}", "of", "mine"], "do you mean '{out} of mine'"),
    "the model behind a picture": (["{picture}", "{model}@last"], "infer.py {model}@last {picture}"),
    "the model behind a folder": (["{pictures}", "ssd300-coco"], "infer.py ssd300-coco {pictures}"),
    "results beside the pictures": (["{model}", "{pictures}", "--output", "{pictures}/"], "{pictures}/found"),
    "a picture as threshold": (["{model}", "{pictures}", "--threshold", "{picture}"], "--threshold: {picture}"),
    "threshold above 1": (["{model}", "{pictures}", "--output", "{out}", "--threshold", "1.5"], "--threshold"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_with_one_line(mistake, trained, shapes, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    (tmp_path / "out of mine").mkdir()
    places = {
        "model": trained,
        "pictures": shapes / "JPEGImages",
        "picture": shapes / "JPEGImages" / "val_000.png",
        "data": shapes,
        "out": tmp_path / "out",
        "file": tmp_path / "file",
    }
    arguments, named = MISTAKES[mistake]
    before = contents(shapes)
    assert named.format(**places) in error_of("infer.py", *(argument.format(**places) for argument in arguments))
    assert contents(shapes) == before


@pytest.fixture(scope="module")
def shapes_of(shapes, tmp_path_factory):
    """{format: DATA} of the shapes' split val."""
    return dataset_formats.write_all(shapes, tmp_path_factory.mktemp("formats"), ["val"], ("disc", "square"))


@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "csv"])
def test_results_of_every_form_score_the_same(trained, shapes_of, tmp_path, name):
    """On a data set of each format; a COCO results list names ids, which only a COCO data set has."""
    out, split = tmp_path / "out", ["--data", shapes_of[name], "--split", "val"]
    formats = ["--coco-results", "--yolo-results", "--voc-results", "--csv"]
    run("infer.py", trained, *split, "--output", out, "--no-draw", *formats)
    forms = ["detections.json", "detections.csv", "", "labels"] + ["coco_results.json"] * (name == "coco")
    scores = []
    for protocol in ("voc", "coco"):
        for form in forms:
            classes = ["--classes", "disc,square", "--protocol", protocol, "--json", tmp_path / "ap.json"]
            run("average_precision.py", out / form, *split, *classes)
            scores.append(json.loads((tmp_path / "ap.json").read_text("utf-8")))
        assert scores[-len(forms)].pop("source")["split"] == "val"
        exact = forms[2:]
        assert scores.count(scores[-1]) >= len(exact)
        for rounded in scores[-len(forms) : -len(exact)]:  # boxes with two decimals
            assert rounded["detections"] == scores[-1]["detections"]
            mean = {"voc": lambda report: report["voc07"]["mean"], "coco": lambda report: report["coco"]["mean"]["AP"]}
            assert mean[protocol](rounded) == pytest.approx(mean[protocol](scores[-1]), abs=1e-3)
    assert scores[0]["images"] == 6
    listed = json.loads((out / "coco_results.json").read_text("utf-8"))
    assert len(listed) == sum(scores[0]["detections"].values()) > 0
    assert {one["category_id"] for one in listed} <= ({10, 13} if name == "coco" else {1, 2})


def test_source_is_the_one_given(trained, shapes_of, tmp_path):
    wrong = ["--data", shapes_of["coco"], "--split", "val", "--source", "csv", "--output", tmp_path / "out"]
    assert "val.csv" in error_of("infer.py", trained, *wrong)


class Opened(Exception):
    """Instead of a detector: nothing is detected."""


@pytest.mark.parametrize("more", [[], ["--shards", "2"]])
@pytest.mark.parametrize(
    ("author", "flags", "precision"),
    [("others", [], "float32"), ("others", ["--precision", "auto"], "auto"), ("train.py", [], "auto")],
)
def test_imported_weights_detect_in_float32(author, flags, precision, more, trained, shapes, tmp_path, monkeypatch):
    """Their scores are those of their own program."""
    model, opened = tmp_path / "model", []
    shutil.copytree(trained, model)
    if author == "others":
        config.write_config(str(model), config.read_config(str(model))[0], None, {})

    def open_none(*values, precision=None, **_):
        opened.append(precision or values[3]["precision"])
        raise Opened

    monkeypatch.setattr(detector, "load", open_none)
    monkeypatch.setattr(detecting, "Opener", open_none)
    with pytest.raises(Opened):
        infer.main([str(model), str(shapes / "JPEGImages"), "--output", str(tmp_path / "out"), *flags, *more])
    assert opened == [precision]
