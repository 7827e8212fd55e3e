"""What every program shares: flags that fail in one clear line, and exit codes.

A program is `main(argv=None)` built on `ArgumentParser` below, ended by `cli.run(main)` under
`if __name__ == "__main__":`. A wrong flag and a wrong file both arrive as `structures.UserError`.
"""

import argparse
import contextlib
import errno
import importlib
import math
import os
import signal
import sys
import time

from structures import UserError
from system import files, wording

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 130


def run(main):
    """Call main() and end the process: 0; 1 after a user's error, told in one line; 130 after Ctrl-C.

    Other exceptions are bugs and keep their traceback.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not UTF-8, or a ≥ on a terminal without it, is no reason to lose an hour's work
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        _complain(error)
        sys.exit(FAILURE)
    except KeyboardInterrupt:
        _complain("interrupted", prefix="")
        _flush(sys.stdout)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        sys.exit(FAILURE)
    except OSError as error:
        if _reader_has_gone(error):  # EIO of a terminal that hung up, where nobody hears this; or of a failing disk
            _complain(f"{error.strerror}; check the disk that is written to or read from")
            _silence(sys.stdout)
            sys.exit(FAILURE)
        if not _is_environment(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space or write elsewhere" if full else "check its permissions or choose another place"
        _complain(f"{where}{error.strerror}; {remedy}")
        sys.exit(FAILURE)
    sys.exit(SUCCESS)


def warn(message):
    """One line on stderr about something the user should know but that stops nothing."""
    _complain(message, prefix="warning: ")


def _complain(message, prefix="error: "):
    if sys.stderr:  # closed ones are led into nothing where `run` was called
        print(prefix + " ".join(str(message).splitlines()), file=Unbreakable(sys.stderr))
        _flush(sys.stderr)


def _open_closed_streams():
    """Lead streams that were closed (`2>&-`) into nothing: libraries write to them, and what we open might be them."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # so Python says it
            if not _is_open(number):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _reader_has_gone(error):
    """Whether an OSError says that nobody reads a stream any more: a closed pipe, or a terminal that hung up (EIO)."""
    return isinstance(error, BrokenPipeError) or (error.errno == errno.EIO and error.filename is None)


def _flush(stream):
    """Write out what a stream holds back, into nothing if its reader (`| tee log`, a terminal) has gone."""
    try:
        stream.flush()
    except OSError as error:
        if not _reader_has_gone(error):
            raise
        _silence(stream)


def _silence(stream):
    """Lead a stream that has lost its reader into nothing, also what it still holds back."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Unbreakable:
    """A text stream whose reader may go: what is written after that is lost, and nothing else."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        try:
            self._stream.write(text)
        except OSError as error:
            if not _reader_has_gone(error):
                raise
        return len(text)

    def flush(self):
        _flush(self._stream)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def _is_environment(error):
    """Whether an OSError tells of the user's files or disk (not of a socket or pipe between processes)."""
    return error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _stdout_is_closed():
    """Whether the reader of our output (`| head`) has gone; then also silences the flush at exit."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        _silence(sys.stdout)
        return True
    except (OSError, ValueError):  # a stdout without a file behind it
        pass
    return False


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose errors are UserErrors (one line, exit code 1).

    It takes no shortened flags, and what belongs together may stand apart: `MODEL a.jpg --output DIR b.jpg`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"allow_abbrev": False, **kwargs})

    def parse_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        # What takes arguments and flags in any order loses a -- that follows a flag's value
        parse = self.parse_known_args if "--" in args else self.parse_known_intermixed_args
        parsed, unknown = parse(args, namespace)
        if unknown:
            self.error(f"{unknown[0]}: no such argument" + self._nearest(unknown[0]))
        return parsed

    def error(self, message):
        raise UserError(f"{message.removeprefix('argument ')} (see --help)")

    def _nearest(self, flag):
        """`, did you mean --run?` for `--rnu`."""
        known = [name for action in self._actions for name in action.option_strings]
        near = wording.nearest(flag.split("=")[0], known)
        return f", did you mean {near}?" if near else ""


def _number(convert, accept, wanted):
    """An argument type: `convert(text)`, which must pass `accept`; `wanted` completes 'is not …'."""

    def parse(text):
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not accept(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return parse


positive_int = _number(int, lambda n: n > 0, "a whole number above 0")
non_negative_int = _number(int, lambda n: n >= 0, "a whole number of at least 0")
positive_float = _number(float, lambda x: x > 0, "a number above 0")
non_negative_float = _number(float, lambda x: x >= 0, "a number of at least 0")
fraction = _number(float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
inner_fraction = _number(float, lambda x: 0 < x < 1, "a number above 0 and below 1")
positive_fraction = _number(float, lambda x: 0 < x <= 1, "a number above 0, at most 1")


def existing_file(text):
    """An argument type: the path of a file that can be read."""
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder, a file is needed")
    return _readable(text, "file")


def existing_folder(text):
    """An argument type: the path of a folder that can be read."""
    if os.path.exists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a file, a folder is needed")
    return _readable(text, "folder")


def existing_path(text):
    """An argument type: the path of a file or a folder that can be read."""
    return _readable(text, "file or folder")


def _readable(text, kind):
    if not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"{text!r}: no such {kind}")
    if not os.access(text, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read, check its permissions")
    return text


def output_file(text):
    """An argument type: the path of a file that can be written; nothing is created yet."""
    if not text or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file to write")
    if os.path.exists(text) and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a device or pipe, which the file would replace; name a file")
    return _writable(text, files.check_writable)


def output_folder(text):
    """An argument type: the path of a folder that exists or can be made; nothing is created yet."""
    if not text or (os.path.exists(text) and not os.path.isdir(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a folder to write to")
    return _writable(text, files.check_folder_writable)


def _writable(text, check):
    try:
        check(text)
    except files.UnwritableFile as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


class StopRequest:
    """While open, Ctrl-C and SIGTERM set a flag instead of cutting a step in half; a second one cuts.

    `requested` is read between steps by work that can save itself; `raise_if_requested` ends work that cannot. Nor does
    such work end because nobody reads what it says any more: Ctrl-C ends the `tee` behind it too.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)
    REPEAT_SECONDS = 1.0  # signals so close together are one: `timeout` sends it to parent and child, and so do we

    def __init__(self):
        self.requested = False
        self._since = None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = map(Unbreakable, self._streams)
        return self

    def __exit__(self, *_):
        sys.stdout, sys.stderr = self._streams
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, _frame):
        if self.requested:
            if time.monotonic() - self._since < self.REPEAT_SECONDS:
                return
            raise KeyboardInterrupt
        self.requested, self._since = True, time.monotonic()
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        text = f"\n{name}: stopping after this step; once more stops at once and loses what is not saved\n"
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no reader, or no file behind stderr
            os.write(sys.stderr.fileno(), text.encode())  # print() would fail in the middle of another one

    def raise_if_requested(self):
        """Raises KeyboardInterrupt after a stop was asked for."""
        if self.requested:
            raise KeyboardInterrupt


def import_tensorflow():
    """Import TensorFlow without the start-up chatter it prints on every machine.

    TF_CPP_MIN_LOG_LEVEL, if set, is the user's wish and nothing is held back. If the import fails, all of
    what was held back is shown. oneDNN's kernels are switched on, unless TF_ENABLE_ONEDNN_OPTS says otherwise.
    """
    # TensorFlow takes them by itself only on CPUs with AVX512-VNNI or newer; with AVX2 they are a fifth faster too
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return importlib.import_module("tensorflow.compat.v1")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # its C++ side; the lines before that is read go round it
    sys.stderr.flush()
    before = os.dup(2)
    with open(os.memfd_create("TensorFlow's chatter"), "w+b", buffering=0) as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            return importlib.import_module("tensorflow.compat.v1")
        except BaseException:
            held_back.seek(0)
            os.write(before, held_back.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
