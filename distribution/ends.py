"""How a rank ends before its work is done: what is raised in it, and what it tells others, who end for the same reason.

The one place that makes messages of exceptions, and exceptions of messages.
"""

import enum
from typing import NamedTuple

from structures import UserError


class Kind(str, enum.Enum):
    """Why a rank ends. A text, so that JSON takes it."""

    DIED = "died"  # another rank's process has ended, which is seen at once
    LOST = "lost"  # another rank does not answer, which is seen after some seconds
    ERROR = "error"
    INTERRUPTED = "interrupted"

    @property
    def is_loss(self) -> bool:
        """Whether all may start again: nothing is wrong with the training itself."""
        return self in (Kind.DIED, Kind.LOST)


class RankLost(UserError):
    """A rank does not answer any more, or has died: the others must end, and may start again."""


class RankDied(RankLost):
    """A rank's process has ended, or its host."""


class End(NamedTuple):
    """How a rank ends. The text is what the user reads; the pair travels as JSON."""

    kind: Kind
    text: str

    @classmethod
    def of(cls, error: BaseException, rank: str) -> "End":
        """What an exception is to the others. rank: the name of the rank in which it was raised."""
        for kind, raised in _RAISED.items():
            if isinstance(error, raised):
                return cls(kind, str(error))
        return cls(Kind.ERROR, f"{rank} failed: {type(error).__name__}: {error}")

    @classmethod
    def from_json(cls, value: object) -> "End":
        """Raises ValueError for what is no End."""
        if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], str)):
            raise ValueError("not the end of a rank")
        return cls(Kind(value[0]), value[1])

    def error(self) -> BaseException:
        """The exception to raise: of a class from which `of` makes the same End again."""
        return _RAISED[self.kind](self.text)


# The first that fits an exception counts, so what is special comes before what is general
_RAISED: dict[Kind, type[BaseException]] = {
    Kind.INTERRUPTED: KeyboardInterrupt,
    Kind.DIED: RankDied,
    Kind.LOST: RankLost,
    Kind.ERROR: UserError,
}
