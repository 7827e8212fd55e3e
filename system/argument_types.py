"""What the text of an argument may be: numbers in a range, files and folders to read or to write.

Each is a `type` of argparse: it takes the text and returns the value, or raises argparse.ArgumentTypeError.
"""

import argparse
import math
import os
import re

from system import files, schema, wording, write_errors


def _number(convert, accept, wanted, largest=schema.LARGEST_WHOLE):
    """An argument type: `convert(text)`, which must pass `accept`. wanted: the end of the message '… is not …'.

    largest: that a whole number may be; one that a file keeps must be read again from there.
    """

    def parse(text):
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if isinstance(value, int) and abs(value) > largest:
            raise argparse.ArgumentTypeError(f"{text!r} is too large a number; the largest is {largest}")
        if not math.isfinite(value) or not accept(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return parse


def width_x_height(text: str) -> tuple[int, int]:
    """argparse type: "512x288" -> (512, 288)."""
    found = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 512x288")
    return int(found[1]), int(found[2])


positive_int = _number(int, lambda n: n > 0, "a whole number above 0")
non_negative_int = _number(int, lambda n: n >= 0, "a whole number of at least 0")
seed = _number(int, lambda n: n >= 0, "a whole number of at least 0", schema.LARGEST_SEED)
positive_float = _number(float, lambda x: x > 0, "a number above 0")
non_negative_float = _number(float, lambda x: x >= 0, "a number of at least 0")
fraction = _number(float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
inner_fraction = _number(float, lambda x: 0 < x < 1, "a number above 0 and below 1")
positive_fraction = _number(float, lambda x: 0 < x <= 1, "a number above 0, at most 1")


def existing_file(text: str) -> str:
    """An argument type: the path of a file that can be read."""
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; give a file")
    try:
        files.check_regular(text)
    except FileNotFoundError:
        pass  # `_readable` says so
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read ({wording.reason(error)}); give a file") from None
    return _readable(text, "file")


def existing_folder(text: str) -> str:
    """An argument type: the path of a folder that can be read."""
    if os.path.exists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a file; give a folder")
    return _readable(text, "folder")


def existing_path(text: str) -> str:
    """An argument type: the path of a file or a folder that can be read."""
    return _readable(text, "file or folder")


def _readable(text, kind):
    if not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"{text!r}: no such {kind}")
    if not os.access(text, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read; check its permissions")
    return text


def output_file(text: str) -> str:
    """An argument type: the path of a file that can be written; nothing is created yet."""
    if not os.path.basename(text) or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file to write")
    if os.path.exists(text) and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is a device or pipe, which the output would replace; give the name of a file"
        )
    return _writable(text, files.check_writable)


def output_json(text: str) -> str:
    """An argument type: the path of a JSON file to write; an existing file that is none is not replaced."""
    return _replacing(output_file(text), b"{[", "JSON")


def output_html(text: str) -> str:
    """An argument type: the path of an HTML page to write; an existing file that is none is not replaced."""
    return _replacing(output_file(text), b"<", "HTML")


def _replacing(path, first, kind):
    """A path, unless there is a file that does not begin with one of the bytes `first`: a slip must cost no video."""
    if os.path.exists(path):
        with open(path, "rb") as file:
            begins = file.read(64).lstrip()[:1]
        if begins and begins not in first:
            raise argparse.ArgumentTypeError(
                f"{path!r} exists and is not {kind}; the output would replace it, so give another name"
            )
    return path


def output_folder(text: str) -> str:
    """An argument type: the path of a folder that exists or can be created; nothing is created yet."""
    if not text or (os.path.exists(text) and not os.path.isdir(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a folder to write to")
    return _writable(text, files.check_folder_writable)


def _writable(text, check):
    if text == "-":
        raise argparse.ArgumentTypeError("'-' does not mean standard output here; give a file or folder")
    try:
        check(text)
    except write_errors.UnwritableFile as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
