"""Which pictures an INPUT means."""

import io
import tarfile

import numpy as np
import pytest

from many import detecting, inputs
from media import images
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
    with detecting._as_files(found) as paths:
        assert [images.read(path).mean() for path in paths] == [0, 40, 0, 40]
    assert next(inputs.read(str(tmp_path / "tars" / "1.tar"))).id == "1.tar/b.png"


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


def test_an_address_that_cannot_be_read_is_a_row(tmp_path):
    entries = [inputs.Entry("a", str(tmp_path / "gone.tar"), 0, 10), inputs.Entry("b", str(tmp_path / "b.jpg"))]
    with detecting._as_files(entries) as paths:
        assert isinstance(paths[0], UserError) and paths[1] == entries[1].address


def test_a_tar_is_opened_once_for_many_pictures(folder, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("b.png", "more/a.jpg"):
            tar.add(folder / name, name)
    found = list(inputs.read(str(tmp_path / "a.tar")))
    opened, open_file = [], inputs.open_file
    monkeypatch.setattr(inputs, "open_file", lambda address: opened.append(address) or open_file(address))
    pictures = [(folder / name).read_bytes() for name in ("b.png", "more/a.jpg")]
    assert inputs.contents([*found, found[0]]) == [*pictures, pictures[0]]
    assert opened == [str(tmp_path / "a.tar")]


def test_remote_pictures_are_fetched_at_once(folder, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    content = [(folder / name).read_bytes() for name in ("b.png", "more/a.jpg")]
    memory.pipe("/test/two", b"".join(content))
    memory.pipe("/test/b.png", content[0])
    calls, fetch = [], type(memory).cat_ranges
    monkeypatch.setattr(type(memory), "cat_ranges", lambda *args, **more: calls.append(1) or fetch(*args, **more))
    entries = [
        inputs.Entry("whole", "memory://test/b.png"),
        inputs.Entry("gone", "memory://test/gone.png"),
        inputs.Entry("second", "memory://test/two", len(content[0]), len(content[1])),
        inputs.Entry("local", str(folder / "b.png"), 0, 10),
        inputs.Entry("first", "memory://test/two", 0, len(content[0])),
        inputs.Entry("nonsense", "nonsense://test/b.png"),
    ]
    whole, gone, second, local, first, nonsense = inputs.contents(entries)
    assert (whole, second, local, first) == (content[0], content[1], content[0][:10], content[0])
    assert calls == [1]
    assert str(gone).startswith("memory://test/gone.png: cannot be read") and isinstance(gone, UserError)
    assert str(nonsense).startswith("nonsense://test/b.png: cannot be read")


def test_what_opens_an_address_must_be_installed(monkeypatch):
    """Or else every picture would be unreadable."""
    fsspec = pytest.importorskip("fsspec")

    def needs(address):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", needs)
    with pytest.raises(UserError, match=r"^s3://b/c.png: cannot be read \(Install s3fs to access S3\)$"):
        inputs.contents([inputs.Entry("a", "s3://b/c.png")])
