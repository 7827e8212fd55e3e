"""What all programs share: exit codes, errors and warnings of one line, and the line that runs a program.

A program is a `main(argv=None)` that parses its flags with `argument_parser.ArgumentParser` and is started by
`cli.run(main)` under `if __name__ == "__main__":`. Other programs may call main too, in any thread and in a notebook.
A wrong flag and a wrong file both raise `structures.UserError`.
"""

import contextlib
import errno
import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from structures import UserError
from system import own_folders, signals, streams, write_errors

SUCCESS, FAILURE, INTERRUPTED = 0, 1, signals.INTERRUPTED


class ReportedError(UserError):
    """A UserError whose line the process that met it has printed: `run` adds none."""


def run(main: Callable[[], object]) -> NoReturn:
    """Call main() and exit: 0; 1 after a user's error, reported in one line; 130 after Ctrl-C or SIGTERM.

    A KeyboardInterrupt may carry a text that says what is saved and how to go on. Other exceptions are bugs and keep
    their traceback.
    """
    streams.open_closed()
    for stream in (sys.stdout, sys.stderr):
        # Neither a file name that is not UTF-8 nor a ≥ that the terminal cannot show may end an hour's work
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        signals.raise_at_interrupt()
        main()
        sys.stdout.flush()
    except UserError as error:
        if not isinstance(error, ReportedError):
            _complain(error)
        sys.exit(FAILURE)
    except KeyboardInterrupt as interrupt:
        with signals.handled(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM):  # a second one would cut it off
            _complain(str(interrupt) or "interrupted", prefix="")
        streams.flush(sys.stdout)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        if not streams.stdout_is_closed():
            raise
        sys.exit(FAILURE)
    except OSError as error:
        if streams.reader_is_gone(error):  # EIO: the terminal hung up, and nobody reads this, or the disk fails
            _complain(f"{error.strerror}; check the disk that the program reads or writes")
            streams.silence(sys.stdout)
            sys.exit(FAILURE)
        if not _is_environment(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = write_errors.REMEDIES.get(error.errno or 0, "check its permissions or choose another place")
        _complain(f"{where}{error.strerror}; {remedy}")
        sys.exit(FAILURE)
    sys.exit(SUCCESS)


def command(program: str, *arguments: object) -> str:
    """The line that runs a program of this project in the current folder, as a message names it.

    program: a file such as train.py, or a package that is run with `python -m` in the project's folder.
    """
    words = ["-m", program]
    if program.endswith(".py"):
        at_home = os.path.realpath(os.curdir) == os.path.realpath(own_folders.ROOT)
        words = [program if at_home else os.path.join(own_folders.ROOT, program)]
    return shlex.join(["python", *words, *map(str, arguments)])


def words(argv: str | Iterable[object] | None) -> list[str]:
    """The arguments of a program. argv: as `main` takes it: None for the command line's, a line, or words.

    Words may be paths and numbers, as Python has them.
    """
    if argv is None:
        return sys.argv[1:]
    return shlex.split(argv) if isinstance(argv, str) else [str(word) for word in argv]


def warn(message: object) -> None:
    """Print one line on stderr, about something that the user should know but that stops nothing.

    It is a line of its own, also while a progress bar is shown.
    """
    with beside_bars():
        _complain(message, prefix="warning: ")


def beside_bars() -> contextlib.AbstractContextManager:
    """Context manager: what is written to stderr comes between tqdm's bars, which are drawn again at the end."""
    bars = sys.modules.get("tqdm")  # nobody shows a bar who has not imported it
    return bars.tqdm.external_write_mode(sys.stderr) if bars and sys.stderr else contextlib.nullcontext()


@functools.cache
def warn_once(message: str) -> None:
    """`warn`, but each message only once in a process: about data that is looked at several times."""
    warn(message)


def _complain(message, prefix="error: "):
    if sys.stderr:  # None if it is closed and `run` was not called
        print(prefix + " ".join(str(message).splitlines()), file=streams.Unbreakable(sys.stderr))
        streams.flush(sys.stderr)


def _is_environment(error):
    """Whether an OSError is about the user's files or disk (not about a socket or pipe between processes)."""
    return error.filename is not None or error.errno in (*write_errors.DISK_IS_FULL, errno.EROFS)
