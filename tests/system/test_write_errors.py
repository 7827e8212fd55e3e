"""What messages say of files that cannot be written."""

import errno
import re

import pytest

from system import write_errors


class GraphError(Exception):
    """As TensorFlow words it."""

    def __str__(self):
        return "Graph execution error:\n\nNode: 'save/SaveV2'\nruns/a/model.tempstate; No space left on device\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GraphError(), "No space left on device); free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded); free some space"),
        (OSError(errno.EFBIG, "File too large"), r"File too large); raise .*ulimit"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system); choose"),
        (OSError(errno.ENOTDIR, "Not a directory"), "Not a directory); choose another place"),
    ],
)
def test_every_error_of_writing_has_file_reason_and_remedy(error, said):
    begin = re.escape("runs/a: cannot be written (")
    assert re.match(begin + said.replace(")", r"\)"), str(write_errors.unwritable("runs/a", error)))
    assert write_errors.is_about_writing(error) == (getattr(error, "errno", None) != errno.ENOTDIR)
