"""Parquet files: lists of pictures, and rows of shards. They need pyarrow, which comes with requirements-scale.txt."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from structures import UserError
from system import file_names, stages, wording

ROWS = 1000  # written and read at once


def _pyarrow():
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError("Parquet needs pyarrow: pip install -r requirements-scale.txt") from None
    return pyarrow


def read_columns(name: str, file: IO[bytes], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of an open file with those of some columns that it has.

    Raises UserError if it is no Parquet, or damaged.
    """
    with _reading(name, "write it again"):
        opened = _pyarrow().parquet.ParquetFile(file)
        found = [column for column in columns if column in opened.schema_arrow.names]
        for batch in opened.iter_batches(ROWS, columns=found):
            yield from batch.to_pylist()


@contextlib.contextmanager
def _reading(name, remedy):
    """What pyarrow raises for a file that it cannot read becomes a UserError."""
    try:
        yield
    except (_pyarrow().ArrowException, OSError, UnicodeDecodeError) as error:  # OSError, without errno, for damage too
        raise UserError(f"{name}: is not a Parquet file, or is damaged ({wording.reason(error)}); {remedy}") from None


def write_rows(path: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of `shard.Row` with the column model, ROWS at a time, so that no more of them are in memory."""
    pa = _pyarrow()
    text, number = pa.string(), pa.int32()
    schema = pa.schema(
        {
            "id": text,
            "width": number,
            "height": number,
            "status": text,
            "reason": text,
            "boxes": pa.list_(pa.list_(pa.float32(), 4)),
            "scores": pa.list_(pa.float32()),
            "labels": pa.list_(number),
            "classes": pa.list_(text),
            "model": text,
        }
    )
    written = ({**row, "id": as_text(row["id"]), "reason": as_text(row["reason"])} for row in rows)
    with pa.parquet.ParquetWriter(path, schema) as writer:
        for some in stages.batched(written, ROWS):
            writer.write_table(pa.Table.from_pylist(some, schema))


def as_text(text: str | None) -> str | None:
    """A name as Parquet can hold it, which has UTF-8 only: other bytes of a file's name are written as \\xe9."""
    return text and text.encode("utf-8", file_names.UNENCODABLE).decode("utf-8", "backslashreplace")


def read_rows(path: str, columns: Sequence[str], remedy: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of such a file, with these of their columns. Raises UserError, with a remedy, if it is damaged."""
    with _reading(path, remedy), _pyarrow().parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, columns=list(columns)):
            yield from batch.to_pylist()
