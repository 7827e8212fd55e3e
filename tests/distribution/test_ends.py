"""What ends one rank is the end of the others too, over connections between machines and processes."""

import json

import pytest

from distribution.ends import End, Kind, RankDied, RankLost
from structures import UserError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyboardInterrupt("saved"), Kind.INTERRUPTED),
        (UserError("saved"), Kind.ERROR),
        (RankLost("saved"), Kind.LOST),
        (RankDied("saved"), Kind.DIED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_arrives_as_it_was_raised(error, kind):
    end = End.of(error, "rank 1 (a:1)")
    assert end == (kind, "saved")
    arrived = End.from_json(json.loads(json.dumps(end)))
    assert type(arrived.error()) is type(error) and str(arrived.error()) == "saved"


def test_a_bug_is_an_error_that_names_the_rank():
    end = End.of(ValueError("odd"), "rank 1 (a:1)")
    assert end == (Kind.ERROR, "rank 1 (a:1) failed: ValueError: odd")


@pytest.mark.parametrize("value", [None, "error", ["error"], ["other", "text"], ["error", 5], {"error": "text"}])
def test_what_is_no_end_is_refused(value):
    with pytest.raises(ValueError):
        End.from_json(value)
