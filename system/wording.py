"""Small pieces of text for messages and names."""

import difflib
import os
import unicodedata
from collections.abc import Iterable


def stem(path: str | os.PathLike) -> str:
    """'some/folder/a.jpg' -> 'a': the id of a picture, which matches results with data sets."""
    return os.path.splitext(os.path.basename(path))[0]


def shorten(value: object) -> str:
    """The repr of a value from a file, at most 40 characters long, for a message."""
    try:
        text = repr(value)
    except RecursionError:  # JSON nests as deep as it could just be read
        text = f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


def plural(count: int, what: str) -> str:
    """'1 picture', '2 pictures', '2 boxes', '1,000 pictures'."""
    ending = "" if count == 1 else "es" if what.endswith(("s", "x")) else "s"
    return f"{count:,} {what}{ending}"


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown. head: the cells of its first row."""
    head = list(head)
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in [head, ["---"] * len(head), *rows])


def per_class(threshold: float | tuple[float, ...], class_names: Iterable[str]) -> str:
    """'0.5' for one number, 'car=0.4,person=0.6' for one for each class."""
    if not isinstance(threshold, tuple):
        return f"{threshold}"
    return ",".join(f"{name}={one}" for name, one in zip(class_names, threshold, strict=True))


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The most similar of some names, or None if none is similar. Compares letters and digits only, without case.

    cutoff: the least similarity, 0 to 1, as in difflib.get_close_matches.
    """
    of_plain = {plain(other): other for other in names}
    close = difflib.get_close_matches(plain(name), of_plain, n=1, cutoff=cutoff)
    return of_plain[close[0]] if close else None


def nearest_hint(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: " (nearest: 'dog')", or "" if no known name is similar."""
    near = nearest(name, names)
    same = near and unicodedata.normalize("NFC", near) == unicodedata.normalize("NFC", name)
    return f" (nearest: {near!r}{', in another form of Unicode' if same else ''})" if near else ""


def plain(text: str) -> str:
    """The letters and digits of a name, in lower case."""
    text = unicodedata.normalize("NFC", text)  # an accent of its own is no letter
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def number(value: float, digits: int = 3) -> str:
    """A number as text, rounded to some digits after the point, without zeros at the end: '12', '0.5'."""
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def reason(error: Exception) -> str:
    """One line that says why something failed, from any exception.

    A line that ends in a colon only announces the next: OpenVINO's errors begin with some, and so do TensorFlow's.
    """
    lines = [line.strip() for line in (str(getattr(error, "strerror", None) or ""), *str(error).splitlines())]
    whole = [line for line in lines if line and not line.endswith(":")]
    announced = [line.rstrip(": ") for line in lines]
    return next(filter(None, whole + announced), type(error).__name__)
