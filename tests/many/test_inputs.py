"""Which pictures an INPUT means."""

import io
import os
import tarfile

import numpy as np
import pytest

from many import inputs
from media import images
from results import result_folder
from structures import UserError


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one of them below, and a file that is none."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for number, name in enumerate(("b.png", "more/a.jpg")):
        images.write(str(tmp_path / "pictures" / name), np.full((4, 5, 3), 40 * number, np.uint8))
    (tmp_path / "pictures" / "notes.md").write_text("no picture")
    return tmp_path / "pictures"


def test_a_folder(folder):
    names = ["b.png", "more/a.jpg"]
    assert list(inputs.read(str(folder))) == [inputs.Entry(name, f"{folder}/{name}") for name in names]


def test_what_infer_has_drawn_is_passed_over(folder, capsys):
    images.write(str(folder / "found" / "images" / "b.png"), np.zeros((4, 5, 3), np.uint8))
    (folder / "found" / "detections.json").write_text('{"model": "run", "images": []}')
    with_drawn = inputs.fingerprint(str(folder))
    assert [entry.id for entry in inputs.read(str(folder))] == ["b.png", "found/images/b.png", "more/a.jpg"]
    assert capsys.readouterr().out == ""
    result_folder.mark_drawn(str(folder / "found" / "images"))
    assert inputs.fingerprint(str(folder)) != with_drawn
    assert [entry.id for entry in inputs.read(str(folder))] == ["b.png", "more/a.jpg"]
    note = f"{folder}/found/images: drawn by an earlier infer.py, not searched; name it to detect in it\n"
    assert capsys.readouterr().out == note
    with pytest.raises(UserError, match="no pictures in it"):
        list(inputs.read(str(folder / "found")))
    assert capsys.readouterr().out == note
    assert [entry.id for entry in inputs.read(str(folder / "found" / "images"))] == ["b.png"]


def test_what_infer_has_drawn_is_passed_over_in_remote_folders(capsys):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    for name in ("a.png", "images/b.png", "found/images/sub/c.png", f"found/images/{result_folder.DRAWN_MARK}"):
        memory.pipe(f"/drawn/{name}", b"")
    try:
        assert [entry.id for entry in inputs.read("memory://drawn")] == ["a.png", "images/b.png"]
        note = "memory://drawn/found/images: drawn by an earlier infer.py, not searched; name it to detect in it\n"
        assert capsys.readouterr().out == note
        assert [entry.id for entry in inputs.read("memory://drawn/found/images")] == ["sub/c.png"]
    finally:
        memory.rm("/drawn", recursive=True)


def test_lists(folder, tmp_path):
    other = "/elsewhere/c.jpg"
    (tmp_path / "list.txt").write_text(f"pictures/b.png\n\n{other}\n")
    found = list(inputs.read(str(tmp_path / "list.txt")))
    assert found == [inputs.Entry("pictures/b.png", f"{folder}/b.png"), inputs.Entry(other, other)]
    (tmp_path / "list.csv").write_text("id,path\n7,pictures/b.png\n,s3://bucket/c.jpg\n")
    found = list(inputs.read(str(tmp_path / "list.csv")))
    assert found == [inputs.Entry("7", f"{folder}/b.png"), inputs.Entry("s3://bucket/c.jpg", "s3://bucket/c.jpg")]


def test_a_list_in_parquet(folder, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pa.table({"path": ["pictures/b.png", "/c.jpg"], "id": [7, None], "more": [1, 2]})
    pyarrow.parquet.write_table(table, tmp_path / "list.parquet")
    found = list(inputs.read(str(tmp_path / "list.parquet")))
    assert found == [inputs.Entry("7", f"{folder}/b.png"), inputs.Entry("/c.jpg", "/c.jpg")]


@pytest.mark.parametrize("part", ["rows", "their description", "all"])
def test_a_damaged_list_in_parquet_is_named(part, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    path = tmp_path / "list.parquet"
    pyarrow.parquet.write_table(pa.table({"path": [f"{number}.jpg" for number in range(5000)]}), path)
    data = bytearray(path.read_bytes())
    first, last = {"rows": (4, 3000), "their description": (-200, -8), "all": (0, None)}[part]
    data[first:last] = b"\xff" * len(data[first:last])
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"^{path}: is not a Parquet file, or is damaged \(.*\); write it again$"):
        list(inputs.read(str(path)))


def test_tars_are_read_where_they_are(folder, tmp_path):
    (tmp_path / "tars").mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / "tars" / f"{number}.tar", "w") as tar:
            for name in ("b.png", "more/a.jpg", "notes.md"):
                tar.add(folder / name, name)
    found = list(inputs.read(str(tmp_path / "tars")))
    assert [one.id for one in found] == [f"{n}.tar/{name}" for n in range(2) for name in ("b.png", "more/a.jpg")]
    for entry in found:
        with open(entry.address, "rb") as file:
            file.seek(entry.start)
            assert file.read(entry.size) == (folder / entry.id.partition("/")[2]).read_bytes()
    assert next(inputs.read(str(tmp_path / "tars" / "1.tar"))).id == "1.tar/b.png"


def test_an_input_that_has_changed_shows(folder, tmp_path):
    listing = tmp_path / "list.csv"
    listing.write_text("path\npictures/b.png\n")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(folder / "b.png", "b.png")
    places = [str(folder), str(listing), str(tmp_path / "a.tar")]
    before = [inputs.fingerprint(place) for place in places]
    (folder / "found.json").write_text("no picture")
    assert [inputs.fingerprint(place) for place in places] == before
    (folder / "c.png").write_bytes(b"")
    listing.write_text("path\npictures/c.png\n")  # as long as it was
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(20):
            tar.add(folder / "b.png", f"{number}.png")
    assert not set(before) & {inputs.fingerprint(place) for place in places}


def test_a_folder_of_tars_has_changed_with_its_tars_only(folder):
    for name in ("a.tar", "b.tar"):
        with tarfile.open(folder / name, "w") as tar:
            tar.add(folder / "b.png", "b.png")
    before = inputs.fingerprint(str(folder))
    (folder / "thumb.png").write_bytes(b"")  # a folder of tars is read without it
    assert inputs.fingerprint(str(folder)) == before
    with open(folder / "b.tar", "ab") as file:
        file.write(bytes(10240))
    assert inputs.fingerprint(str(folder)) != before


def test_a_changed_input_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder, list"):
        inputs.fingerprint(str(tmp_path / "gone"))
    for name in ("gone.csv", "gone.tar"):
        with pytest.raises(UserError, match=f"{name}: cannot be read"):
            inputs.fingerprint(str(tmp_path / name))


def test_what_cannot_be_sought_in_has_no_size_but_a_hash(tmp_path, monkeypatch):
    """fsspec's files of a web server that does not say their length claim to be seekable."""

    class Streaming(io.BytesIO):
        def seek(self, *_):
            raise ValueError("Cannot seek streaming HTTP file")

    monkeypatch.setattr(inputs, "open_file", lambda _: Streaming(b"a.jpg\n"))
    assert len(inputs.fingerprint("https://host/list.txt")) == 64
    assert inputs.fingerprint("https://host/a.tar") == "None"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.txt", b"", "no pictures in it"),
        ("list.csv", b"file\nb.png\n", "has no column path"),
        ("a.tar", b"no tar" * 200, "is not an uncompressed tar"),
        ("nothing", None, "no such folder, list"),
        ("gone.txt", None, "cannot be read"),
    ],
)
def test_what_cannot_be_read(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(inputs.read(str(tmp_path / name)))


def test_a_compressed_tar_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    with pytest.raises(UserError, match="is not an uncompressed tar"):
        list(inputs.read(str(tmp_path / "a.tar")))


def ids_of(path):
    return [(one.id, os.path.basename(one.address)) for one in inputs.read(str(path))]


def test_zero_is_an_id(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"path": ["a.jpg", "b.jpg"], "id": [0, 1]}), tmp_path / "list.parquet")
    assert ids_of(tmp_path / "list.parquet") == [("0", "a.jpg"), ("1", "b.jpg")]


def test_a_mark_of_the_byte_order_is_no_part_of_an_address(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n", "utf-8-sig")
    assert ids_of(tmp_path / "list.txt") == [("a.jpg", "a.jpg"), ("b.jpg", "b.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,id\na.jpg,1\n,2\n", r"list\.csv: row 3 has no path"),
        (b"id,path\n1,a.jpg\n2\n", r"list\.csv: row 3 has no path"),
        (b"path\ncaf\xe9.jpg\n", r"list\.csv: after line \d: .*utf-8.*; save it as CSV in UTF-8"),
    ],
    ids=["empty", "short", "latin"],
)
def test_a_table_that_is_damaged_names_its_row(content, message, tmp_path):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        ids_of(tmp_path / "list.csv")
