"""Why a file or folder cannot be written, with what helps."""

import errno
import os

from structures import UserError
from system import wording
from system.file_names import Path

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)  # errno of a full disk and of a used-up quota
# Why a file cannot be written, with what helps. TensorFlow's messages have the system's text for one of these in them
REMEDIES = {
    **dict.fromkeys(DISK_IS_FULL, "free some space or choose another place"),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or choose another place",
    errno.EROFS: "choose a place that can be written",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "correct the permissions or choose another place"),
    errno.EIO: "check the disk or choose another place",
}


class UnwritableFile(UserError, OSError):
    """A file that cannot be written; `errno` and `strerror` say why, for callers with a remedy of their own."""

    def __str__(self):
        return self.args[0]  # OSError would build a message from errno and strerror


def unwritable(path: Path, error: Exception, saved: str = "") -> UnwritableFile:
    """The UnwritableFile for what happened while a file or folder was written: its name, the reason, and what helps.

    error: an OSError, which does not name its file if it comes from a write or a flush, or an error of TensorFlow or
    FFmpeg. saved: what is safe all the same, in words.
    """
    number, why = _reason_of_writing(error)
    remedy = REMEDIES.get(number, "choose another place")
    found = UnwritableFile(f"{path}: cannot be written ({why}){f'; {saved}' if saved else ''}; {remedy}")
    found.errno, found.strerror = number, why
    return found


def is_about_writing(error: Exception) -> bool:
    """Whether an error of whatever library says that the disk is full, read-only or the like."""
    return _reason_of_writing(error)[0] in REMEDIES


def _reason_of_writing(error):
    """(errno or None, its words) of an error."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in REMEDIES:
        return number, os.strerror(number)
    text = str(error)
    known = next((one for one in REMEDIES if os.strerror(one) in text), None)
    return (known, os.strerror(known)) if known else (number, wording.reason(error))
