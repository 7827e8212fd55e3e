"""The rows of pictures beside what the detector itself says of them."""

import io
import tarfile

import config
import detector
from many import detecting, shard
from many.inputs import Entry, read


def test_rows_are_what_the_detector_finds(trained, shapes, tmp_path):
    folder = shapes / "JPEGImages"
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    paths = [*sorted(folder.iterdir())[:3], tmp_path / "broken.jpg", tmp_path / "gone.jpg"]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in paths[:2]:
            tar.add(path, path.name)
        tar.addfile(tarfile.TarInfo("c.jpg"), io.BytesIO())
    entries = [*(Entry(path.name, str(path)) for path in paths), *read(str(tmp_path / "a.tar"))]
    with detecting.Opener(str(trained), 0.05, ("square",), "float32")() as detect:
        rows = detect(entries)
    assert [row["id"] for row in rows] == [one.id for one in entries]
    assert [row["status"] for row in rows] == ["done"] * 3 + ["unreadable"] * 2 + ["done"] * 2 + ["unreadable"]
    assert rows[5:7] == [{**row, "id": f"a.tar/{row['id']}"} for row in rows[:2]]
    with detector.load(str(trained), precision="float32", threshold=0.05) as loaded:
        found = [one.where(one.labels == 1) for one in loaded.detect(list(map(str, paths[:3])))]
    assert sum(map(len, found)) > 0
    for row, one in zip(rows, found, strict=False):
        table = one.rows(("disc", "square"))
        assert row["classes"] == [line["class"] for line in table] == ["square"] * len(one)
        assert row["scores"] == one.scores.tolist()
        assert row["boxes"] == [[line[edge] for edge in ("xmin", "ymin", "xmax", "ymax")] for line in table]
        assert (row["width"], row["height"]) == (120, 90)


def test_a_model_has_its_hash(trained, tmp_path):
    source = config.find_model(str(trained))
    assert detecting.model_hash(source) == detecting.model_hash(source) and len(detecting.model_hash(source)) == 32
    hashes = set()
    for content in (b"one", b"two"):
        (tmp_path / "model.pb").write_bytes(content)
        hashes.add(detecting.model_hash(config.find_model(str(tmp_path / "model.pb"))))
    assert len(hashes) == 2


def test_unreadable_rows_say_why(tmp_path):
    row = shard.row(Entry("a", "b"), shard.UNREADABLE, "is empty")
    assert (row["status"], row["reason"], row["width"], row["boxes"]) == ("unreadable", "is empty", None, [])
