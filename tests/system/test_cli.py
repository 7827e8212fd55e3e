"""Exit codes, and errors and warnings of one line."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import tqdm

from programs import ROOT
from structures import UserError
from system import cli, signals, stopping
from system.argument_parser import ArgumentParser


def ended(main, capsys):
    """Exit code and stderr of a program."""
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code, capsys.readouterr().err


def fail(error):
    def main():
        raise error

    return main


def test_a_warning_may_be_said_once(capsys):
    for message in ("a cat", "a dog", "a cat"):
        cli.warn_once(message)
    assert capsys.readouterr().err == "warning: a cat\nwarning: a dog\n"


def test_success_is_0(capsys):
    assert ended(lambda: None, capsys) == (0, "")


def test_user_error_is_one_line_and_1(capsys):
    assert ended(fail(UserError("a.xml: broken\nmend it")), capsys) == (1, "error: a.xml: broken mend it\n")


def test_interrupt_is_130(capsys):
    code, err = ended(fail(KeyboardInterrupt()), capsys)
    assert code == 130 and len(err.splitlines()) == 1


def test_a_second_interrupt_does_not_cut_off_the_line(capsys, monkeypatch):
    """However late it comes."""
    complain = cli._complain

    def interrupted_again(*arguments, **options):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        complain(*arguments, **options)

    monkeypatch.setattr(cli, "_complain", interrupted_again)
    assert ended(fail(KeyboardInterrupt()), capsys) == (130, "interrupted\n")
    with pytest.raises(KeyboardInterrupt):  # whoever has called it is interrupted again
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_one_interrupt_which_its_repetition_does_not_disturb(number, capsys, monkeypatch):
    """As of `timeout`, which signals a process and its group, and in a terminal under a program that passes it on."""
    now, tidied = [100.0], []
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])

    def main():
        try:
            signal.raise_signal(number)
        finally:
            for _ in range(2):
                signal.raise_signal(number)
            tidied.append(True)

    assert ended(main, capsys) == (130, "interrupted\n") and tidied
    signal.raise_signal(number)  # while Python ends
    now[0] += 2
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_a_repetition_after_a_stop_request_is_none_either(capsys, monkeypatch):
    """A program that was between two steps is out of its StopRequest at once."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])

    def main():
        with stopping.StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        tidied.append(stop.requested)

    tidied = []
    assert ended(main, capsys)[0] == 0 and tidied == [True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_ignored_signal_stays_ignored(number, capsys):
    """As of a program in the background of a shell."""
    with signals.handled(signal.SIG_IGN, number):
        assert ended(lambda: signal.raise_signal(number), capsys) == (0, "")


def test_help_keeps_its_own_exit_code(capsys):
    def main():
        ArgumentParser(description="d").parse_args(["--help"])

    assert ended(main, capsys) == (0, "")


def test_disk_and_permission_errors_are_one_line(capsys):
    denied = PermissionError(errno.EACCES, "Permission denied", "runs/x")
    full = OSError(errno.ENOSPC, "No space left on device")
    for error, start in ((denied, "error: runs/x: Permission denied; "), (full, "error: No space left on device; ")):
        code, message = ended(fail(error), capsys)
        assert code == 1 and message.startswith(start) and len(message.splitlines()) == 1


@pytest.mark.parametrize("bug", [ValueError("bug"), ConnectionResetError("socket"), BrokenPipeError("a")])
def test_bugs_keep_their_traceback(bug):
    with pytest.raises(type(bug)):
        cli.run(fail(bug))


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 100_000])
def test_closed_output_pipe_is_quiet(lines, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    program = f"from system import cli\ncli.run(lambda: print('line\\n' * {lines}))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "latin-1:strict", "ascii:strict"])
def test_names_that_the_terminal_cannot_show_are_escaped(encoding):
    """A file name that is not UTF-8, or a character that the terminal lacks, must not lose the work so far."""
    program = "import os\nfrom system import cli\n"
    program += "cli.run(lambda: [print(os.fsdecode(b'caf\\xe9.jpg'), '≥ –'), cli.warn('≥')])"
    settings = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=settings, capture_output=True)
    assert done.returncode == 0, done.stderr
    signs = "≥ –" if encoding.startswith("utf-8") else r"\u2265 \u2013"
    assert done.stdout.decode("utf-8") == rf"caf\udce9.jpg {signs}" + "\n"


def test_libraries_write_to_closed_streams_too(tmp_path):
    program = "import pathlib, sys, tqdm\nfrom system import cli, tensorflow_loading\n"
    program += "def main():\n    tensorflow_loading.import_tensorflow()\n"
    program += "    print('heard?')\n    cli.warn('heard?')\n    list(tqdm.tqdm(range(3)))\n"
    program += "    pathlib.Path(sys.argv[1]).touch()\ncli.run(main)"
    (tmp_path / "chatty.py").write_text(program)
    line = f"exec {sys.executable} {tmp_path / 'chatty.py'} {tmp_path / 'done'} >&- 2>&-"
    done = subprocess.run(["sh", "-c", line], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, (tmp_path / "done").exists()) == (0, True)


def test_a_command_runs_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.command("train.py", "--run", "my run", "--limit", 3) == "python train.py --run 'my run' --limit 3"
    assert cli.command("toy_road", "--output", "a") == "python -m toy_road --output a"
    monkeypatch.chdir(tmp_path)
    assert cli.command("train.py") == f"python {ROOT}/train.py"


def test_a_stop_says_what_it_knows(capsys):
    def stopped():
        raise KeyboardInterrupt("interrupted; step 3 is saved")

    assert ended(stopped, capsys) == (130, "interrupted; step 3 is saved\n")


def test_a_warning_beside_a_progress_bar_is_a_line_of_its_own(capsys):
    with tqdm.tqdm(total=2, file=sys.stderr) as bar:
        cli.warn("the disk is slow")
        bar.update()
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "warning: the disk is slow" in lines
