"""Names of files: made of any text, and written into text whatever their encoding."""

import codecs
import hashlib
import os
import re
from collections.abc import Iterable

Path = str | os.PathLike
LONGEST_NAME = 200  # bytes that a text gives to a file name, to which callers add; most disks take 255
UNENCODABLE = "file_name"  # what `open` does with text that has no UTF-8


def _encode_rest(error):
    """Write a file name that is not UTF-8 as it was read, and a lone surrogate of another origin as \\udc00."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(UNENCODABLE, _encode_rest)


def safe_names(texts: Iterable[str]) -> list[str]:
    """A different file name part for each of different texts, valid on any disk and in links."""
    names: list[str] = []
    taken: set[str] = set()  # in lower case: some disks ignore case
    for text in texts:
        name = re.sub(r"[^\w.-]", "_", text)
        if len(name.encode()) > LONGEST_NAME:
            name = _shortened(name)
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        names.append(name)
    return names


def _shortened(name):
    """A long name's beginning and end, which often has a number, and between them what differs for each name."""
    start, end = (part.decode("utf-8", "ignore") for part in (name.encode()[:100], name.encode()[-80:]))
    return f"{start}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}-{end}"
