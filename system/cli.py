"""What all programs share: wrong flags fail with one clear line, and exit codes.

A program is a `main(argv=None)` that parses its flags with `ArgumentParser` below and is started by `cli.run(main)`
under `if __name__ == "__main__":`. Other programs may call main too, in any thread and in a notebook. A wrong flag and
a wrong file both raise `structures.UserError`.
"""

import argparse
import contextlib
import errno
import functools
import importlib
import io
import math
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import NoReturn, TextIO

from structures import UserError
from system import compiled_code, files, schema, signals, wording

SUCCESS, FAILURE, INTERRUPTED = 0, 1, signals.INTERRUPTED
# Of the project. Not from system.environment, which only programs import: parts of the project need fewer packages
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class ReportedError(UserError):
    """A UserError whose line the process that met it has printed: `run` adds none."""


def run(main: Callable[[], object]) -> NoReturn:
    """Call main() and exit: 0; 1 after a user's error, reported in one line; 130 after Ctrl-C.

    A KeyboardInterrupt may carry a text that says what is saved and how to go on. Other exceptions are bugs and keep
    their traceback.
    """
    _open_closed_streams()
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
        with signals.handled(signal.SIG_IGN, signal.SIGINT):  # a second one, as of a process group, would cut it off
            _complain(str(interrupt) or "interrupted", prefix="")
        _flush(sys.stdout)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        sys.exit(FAILURE)
    except OSError as error:
        if _reader_is_gone(error):  # EIO: the terminal hung up, and nobody reads this, or the disk fails
            _complain(f"{error.strerror}; check the disk that the program reads or writes")
            _silence(sys.stdout)
            sys.exit(FAILURE)
        if not _is_environment(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = files.REMEDIES.get(error.errno or 0, "check its permissions or choose another place")
        _complain(f"{where}{error.strerror}; {remedy}")
        sys.exit(FAILURE)
    sys.exit(SUCCESS)


def command(program: str, *arguments: object) -> str:
    """The line that runs a program of this project in the current folder, as a message names it.

    program: a file such as train.py, or a package that is run with `python -m` in the project's folder.
    """
    words = ["-m", program]
    if program.endswith(".py"):
        at_home = os.path.realpath(os.curdir) == os.path.realpath(ROOT)
        words = [program if at_home else os.path.join(ROOT, program)]
    return shlex.join(["python", *words, *map(str, arguments)])


def words(argv: str | Iterable[object] | None) -> list[str]:
    """The arguments of a program. argv: as `main` takes it: None for the command line's, a line, or words.

    Words may be paths and numbers, as Python has them.
    """
    if argv is None:
        return sys.argv[1:]
    return shlex.split(argv) if isinstance(argv, str) else [str(word) for word in argv]


def warn(message: object) -> None:
    """Print one line on stderr, about something that the user should know but that stops nothing."""
    _complain(message, prefix="warning: ")


@functools.cache
def warn_once(message: str) -> None:
    """`warn`, but each message only once in a process: about data that is looked at several times."""
    warn(message)


def _complain(message, prefix="error: "):
    if sys.stderr:  # None if it is closed and `run` was not called
        print(prefix + " ".join(str(message).splitlines()), file=Unbreakable(sys.stderr))
        _flush(sys.stderr)


def _open_closed_streams():
    """Open closed streams (`2>&-`) on /dev/null: libraries write to them, and a new file could get their number."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # which is how Python marks a closed stream
            if not _is_open(number):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _reader_is_gone(error):
    """Whether an OSError means that nobody reads a stream any more: a closed pipe, or a terminal that hung up (EIO)."""
    return isinstance(error, BrokenPipeError) or (error.errno == errno.EIO and error.filename is None)


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody watches a stream, such as sys.stderr; what a notebook puts in its place may not know."""
    return hasattr(stream, "isatty") and stream.isatty()


def _flush(stream):
    """Flush a stream; what it holds is dropped if its reader (`| tee log`, a terminal) is gone."""
    try:
        stream.flush()
    except OSError as error:
        if not _reader_is_gone(error):
            raise
        _silence(stream)


def _silence(stream):
    """Send a stream that has lost its reader to /dev/null, with what it still holds."""
    with contextlib.suppress(io.UnsupportedOperation, AttributeError):  # a notebook's: there is no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _unbreakable_streams():
    """While open, sys.stdout and sys.stderr are Unbreakable."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Unbreakable, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class Unbreakable:
    """A text stream whose reader may go away, or whose disk may be full: what is then written is lost, no error."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        with contextlib.suppress(OSError):  # also EFBIG and ENOSPC, of a log
            self._stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError):
            _flush(self._stream)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def _is_environment(error):
    """Whether an OSError is about the user's files or disk (not about a socket or pipe between processes)."""
    return error.filename is not None or error.errno in (*files.DISK_IS_FULL, errno.EROFS)


def _stdout_is_closed():
    """Whether the reader of the output (`| head`) is gone; if so, also silence the flush at exit."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        _silence(sys.stdout)
        return True
    except (OSError, ValueError):  # a stdout without a file behind it
        pass
    return False


_NAMES_DEFAULT = re.compile(r"\(([^()]*; )?(default|required)\b")  # also "(implies --track; default: none)"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Ends the text of each flag with its default, unless it names one itself."""

    def _get_help_string(self, action):
        if not action.option_strings or isinstance(action, _HELP) or _NAMES_DEFAULT.search(action.help):
            return action.help
        return f"{action.help} ({_default(action)})"


def _default(action):
    if action.required:
        return "required"
    if action.nargs == 0:
        return "default: off"
    return f"default: {'none' if action.default in (None, argparse.SUPPRESS) else action.default}"


class _HelpAll(argparse.Action):
    """--help-all: prints the whole help and exits."""

    def __call__(self, parser, *_):
        print(parser.format_help(every=True), end="")
        parser.exit()


_HELP = (argparse._HelpAction, _HelpAll)


def rare(action: argparse.Action) -> None:
    """Keep a flag out of --help: only --help-all of an ArgumentParser with `rest` shows it."""
    action.rare = True  # type: ignore[attr-defined]


class ArgumentParser(argparse.ArgumentParser):
    """An argparse parser whose errors are UserErrors (one line, exit code 1).

    It accepts no abbreviated flags, and flags between arguments: `MODEL a.jpg --output DIR b.jpg`.
    """

    def __init__(self, rest: str | None = None, **kwargs):
        """rest: the end of --help-all, for a program with flags that `rare` keeps out of --help."""
        super().__init__(**{"allow_abbrev": False, "formatter_class": HelpFormatter, **kwargs})
        self._rest = rest
        if rest is not None:
            self.add_argument("--help-all", action=_HelpAll, nargs=0, help="show all flags and exit")

    def format_usage(self) -> str:
        """The lines that begin with `usage:`, without rare flags."""
        formatter = self._get_formatter()
        self._add_usage(formatter, self._rare())
        return formatter.format_help()

    def _add_usage(self, formatter, hidden):
        shown = [action for action in self._actions if action not in hidden]
        formatter.add_usage(self.usage, shown, self._mutually_exclusive_groups)

    def _rare(self):
        return [action for action in self._actions if getattr(action, "rare", False)]

    def format_help(self, every: bool = False) -> str:
        """The text of --help; of --help-all if `every`."""
        hidden = [] if every else self._rare()
        formatter = self._get_formatter()
        self._add_usage(formatter, hidden)
        formatter.add_text(self.description)
        for group in self._action_groups:
            if shown := [action for action in group._group_actions if action not in hidden]:
                formatter.start_section(group.title)
                formatter.add_text(group.description)
                formatter.add_arguments(shown)
                formatter.end_section()
        formatter.add_text(self.epilog)
        formatter.add_text(f"{wording.plural(len(hidden), 'more flag')}: --help-all" if hidden else self._rest)
        return formatter.format_help()

    def parse_args(self, args=None, namespace=None):
        args = words(args)
        # Intermixed parsing loses a -- that follows a flag's value
        parse = self.parse_known_args if "--" in args else self.parse_known_intermixed_args
        parsed, unknown = parse(args, namespace)
        if unknown:
            word = unknown[0]
            if not word.startswith("-"):
                self.error(f"{word}: unexpected argument; is a flag missing before it?")
            self.error(f"{word}: no such argument" + self._nearest(word))
        return parsed

    def error(self, message):
        raise UserError(f"{message.removeprefix('argument ')} (see --help)")

    def _get_value(self, action, arg_string):
        """What an argument's type makes of its text; what is wrong in a file that it reads names the flag too."""
        try:
            return super()._get_value(action, arg_string)
        except UserError as error:
            raise argparse.ArgumentError(action, str(error)) from None

    def _nearest(self, flag):
        """`, did you mean --run?` for `--rnu`."""
        known = [name for action in self._actions for name in action.option_strings]
        near = wording.nearest(flag.split("=")[0], known)
        return f", did you mean {near}?" if near else ""


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
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read ({files.reason(error)}); give a file") from None
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
    """A path, unless there is a file that does not begin with one of the bytes `first`: a slip must not cost a film."""
    if os.path.exists(path):
        with open(path, "rb") as file:
            begins = file.read(64).lstrip()[:1]
        if begins and begins not in first:
            raise argparse.ArgumentTypeError(
                f"{path!r} exists and is not {kind}; the output would replace it, so give another name"
            )
    return path


def refuse_given(flags: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Raise UserError if a flag was given that has no meaning in this call. names: of attributes; None: not given."""
    for name in names:
        if getattr(flags, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: {why}")


def set_absent(flags: argparse.Namespace, defaults: Mapping[str, object]) -> None:
    """Give flags that were not given, which are None, their defaults: {attribute: value}."""
    for name, default in defaults.items():
        if getattr(flags, name) is None:
            setattr(flags, name, default)


def refuse_to_replace(flag: str, path: str | None, read: Iterable[str]) -> None:
    """Raise UserError if the file that a flag writes is one that the program reads. path: None without the flag."""
    if path is not None and os.path.realpath(path) in map(os.path.realpath, read):
        raise UserError(f"{flag} {path}: would replace what is read; give another name")


def output_folder(text: str) -> str:
    """An argument type: the path of a folder that exists or can be created; nothing is created yet."""
    if not text or (os.path.exists(text) and not os.path.isdir(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a folder to write to")
    return _writable(text, files.check_folder_writable)


def check_new_folder(flag: str, path: str, data: str, may_replace: bool = False) -> None:
    """Raise UserError unless the folder of a flag is new or empty, and neither in nor around the data set.

    may_replace: whether what it holds is the program's own, and will be replaced.
    """
    new, old = os.path.realpath(path), os.path.realpath(data)
    if os.path.commonpath([new, old]) in (new, old):
        raise UserError(f"{flag} {path}: it is inside --data {data} or contains it; choose another place")
    if os.path.exists(path) and not may_replace and (not os.path.isdir(path) or os.listdir(path)):
        raise UserError(f"{flag} {path}: it exists and is not an empty folder; choose another name")


def _writable(text, check):
    if text == "-":
        raise argparse.ArgumentTypeError("'-' does not mean standard output here; give a file or folder")
    try:
        check(text)
    except files.UnwritableFile as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


class StopRequest:
    """While open, Ctrl-C and SIGTERM set a flag instead of interrupting a step; a second signal interrupts it.

    Work that can be saved checks `requested` between steps; `raise_if_requested` ends work that cannot. Output that
    nobody reads any more is no error meanwhile: Ctrl-C also ends the `tee` that reads it.
    In another thread than the main one, which receives no signals, it changes nothing.
    """

    SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    REPEAT_SECONDS = 1.0  # signals this close together count as one: `timeout` and `chain` signal parent and child

    def __init__(self):
        self.requested = False
        self._since = None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(signals.handled(self._handle, *self.SIGNALS))
            if signals.in_main_thread():  # several threads would put each other's streams back
                stack.enter_context(_unbreakable_streams())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def _handle(self, number, _frame):
        if self._since is not None:  # `requested` may also be set by the program, as where another process stops
            if time.monotonic() - self._since < self.REPEAT_SECONDS:
                return
            raise KeyboardInterrupt
        self.requested, self._since = True, time.monotonic()
        pressed = number == signal.SIGINT
        name, again = ("Ctrl-C", "press") if pressed else (signal.Signals(number).name, "send")
        text = f"\n{name}: stopping after this step; {again} it again to stop now and lose what is not saved\n"
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no reader, or no file behind stderr
            place = sys.stderr.fileno()
            place = _put_aside.get(place, place)
            os.write(place, text.encode())  # print() would fail in the middle of another print()

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt if a stop was requested."""
        if self.requested:
            raise KeyboardInterrupt


_put_aside: dict[int, int] = {}  # descriptor -> that of the user's terminal, while `import_tensorflow` needs its number


def import_tensorflow(xla: bool = False, xla_on_cpu: bool = False) -> ModuleType:
    """Import TensorFlow without the start-up messages that it prints on every machine, and only hear its errors later.

    Nothing is suppressed if the user has set TF_CPP_MIN_LOG_LEVEL. If the import fails, what was suppressed is
    printed. oneDNN's kernels are switched on, unless TF_ENABLE_ONEDNN_OPTS says otherwise.

    xla: whether XLA may compile something, which is then kept for the next start if the disk allows it.
    xla_on_cpu: whether it may choose what it compiles on CPUs too.
    Returns the module tensorflow.compat.v1.
    """
    compiled_code.keep_drivers()
    if xla:
        _keep_compiled_code(xla_on_cpu)
    # By itself TensorFlow uses them only on CPUs with AVX512-VNNI or newer; with AVX2 they are a fifth faster too
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return importlib.import_module("tensorflow.compat.v1")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # for its C++ code, which prints some lines before it reads this
    sys.stderr.flush()
    before = _put_aside[2] = os.dup(2)
    with open(os.memfd_create("TensorFlow's messages"), "w+b", buffering=0) as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            tensorflow = importlib.import_module("tensorflow.compat.v1")
            tensorflow.logging.set_verbosity(tensorflow.logging.ERROR)  # of Python: not that a function is deprecated
            return tensorflow
        except Exception:  # Ctrl-C is no failure, which these lines would explain
            held_back.seek(0)
            os.write(before, held_back.read())
            raise
        finally:
            os.dup2(before, 2)
            del _put_aside[2]
            os.close(before)


def _keep_compiled_code(xla_on_cpu):
    if xla_on_cpu:
        compiled_code.allow_on_cpu()
    try:
        compiled_code.keep()
    except OSError as error:
        warn(f"{files.cache_folder()}: cannot be written ({files.reason(error)}); what XLA compiles is not kept")
