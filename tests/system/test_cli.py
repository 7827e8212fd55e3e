"""Exit codes, one-line errors and argument types."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import pytest

from programs import ROOT, wait_until
from structures import UserError
from system import cli


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
    """As where a whole process group gets one, and the program that runs this one passes its own on."""
    complain = cli._complain

    def interrupted_again(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        complain(*arguments, **options)

    monkeypatch.setattr(cli, "_complain", interrupted_again)
    assert ended(fail(KeyboardInterrupt()), capsys) == (130, "interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # whoever has called it is interrupted again


def test_help_keeps_its_own_exit_code(capsys):
    def main():
        cli.ArgumentParser(description="d").parse_args(["--help"])

    assert ended(main, capsys) == (0, "")


def helpful_parser(**options):
    parser = cli.ArgumentParser(prog="p", **options)
    writes = parser.add_argument_group("what it writes")
    writes.add_argument("--run", required=True, metavar="DIR", help="the folder")
    writes.add_argument("--steps", default=3, metavar="N", help="how many")
    writes.add_argument("--name", metavar="X", help="another name (default: the folder's)")
    cli.rare(writes.add_argument("--draw", action="store_true", help="draw it"))
    cli.rare(parser.add_argument_group("the rest").add_argument("--more", help="more of it"))
    return parser


def test_help_shows_the_defaults_and_keeps_rare_flags_for_help_all(capsys):
    parser = helpful_parser(rest="at the end")
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as end:
            parser.parse_args([flag])
        assert end.value.code == 0
    short, _, whole = capsys.readouterr().out.partition("2 more flags: --help-all\n")
    for told in (short, whole):
        assert "the folder (required)" in told
        assert "how many (default: 3)" in told
        assert "another name (default: the folder's)" in told
    assert not any(hidden in short for hidden in ("--draw", "the rest", "--more", "at the end"))
    assert "draw it (default: off)" in whole and "more of it (default: none)" in whole
    assert whole.endswith("at the end\n")


def test_rare_flags_are_taken():
    assert helpful_parser(rest="").parse_args(["--run", "a", "--draw"]).draw


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


def parse(*argv, **kwargs):
    parser = cli.ArgumentParser(prog="train.py")
    parser.add_argument("--value", **kwargs)
    parser.add_argument("--data", default="d")
    return parser.parse_args(argv).value


def complaint(*argv, **kwargs):
    with pytest.raises(UserError) as error:
        parse(*argv, **kwargs)
    message = str(error.value)
    assert "\n" not in message
    return message


UNHEARD = """
import pathlib, sys, time
from system import cli, signals
def main():
    with cli.StopRequest() as stop:
        pathlib.Path(sys.argv[1] + ".ready").touch()
        steps = 0
        while not stop.requested:
            steps += 1
            pathlib.Path(sys.argv[1] + ".steps").write_text("." * steps)
            print("step", flush=True)
            time.sleep(0.01)
        print("saving", file=sys.stderr)
        pathlib.Path(sys.argv[1]).touch()
        print("saved", flush=True)
        stop.raise_if_requested()
cli.run(main)
"""


def test_work_is_saved_although_nobody_reads_its_output(tmp_path):
    """Ctrl-C under `2>&1 | tee log` ends tee first."""
    call = [sys.executable, "-c", UNHEARD, str(tmp_path / "saved")]
    worker = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert worker.stdout.readline() == b"step\n"
    worker.stdout.close()
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=60) == 130
    assert (tmp_path / "saved").exists()


def test_closed_streams_stop_nothing(tmp_path):
    (tmp_path / "unheard.py").write_text(UNHEARD)
    line = f"exec {sys.executable} {tmp_path / 'unheard.py'} {tmp_path / 'saved'} >&- 2>&-"
    worker = subprocess.Popen(["sh", "-c", line], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_until((tmp_path / "saved.ready").exists, worker)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=60) == 130
    assert (tmp_path / "saved").exists()


def test_libraries_write_to_closed_streams_too(tmp_path):
    program = "import pathlib, sys, tqdm\nfrom system import cli\ndef main():\n    cli.import_tensorflow()\n"
    program += "    print('heard?')\n    cli.warn('heard?')\n    list(tqdm.tqdm(range(3)))\n"
    program += "    pathlib.Path(sys.argv[1]).touch()\ncli.run(main)"
    (tmp_path / "chatty.py").write_text(program)
    line = f"exec {sys.executable} {tmp_path / 'chatty.py'} {tmp_path / 'done'} >&- 2>&-"
    done = subprocess.run(["sh", "-c", line], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, (tmp_path / "done").exists()) == (0, True)


def test_work_continues_after_the_terminal_hung_up(tmp_path):
    """A training in the background of a shell that was closed."""
    ours, terminal = os.openpty()
    call = [sys.executable, "-c", UNHEARD, str(tmp_path / "saved")]
    worker = subprocess.Popen(call, cwd=ROOT, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert os.read(ours, 4) == b"step"
    os.close(ours)
    steps = tmp_path / "saved.steps"
    before = steps.stat().st_size
    wait_until(lambda: steps.stat().st_size > before + 2, worker)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=60) == 130
    assert (tmp_path / "saved").exists()


def test_a_signal_that_arrives_twice_is_one(monkeypatch):
    """`timeout` and schedulers send it to parent and child, and the parent passes it on too."""
    now = [100.0]
    monkeypatch.setattr(cli.time, "monotonic", lambda: now[0])
    with cli.StopRequest() as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        now[0] += 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("number", "again"), [(signal.SIGINT, "press it again"), (signal.SIGTERM, "send it again")])
def test_what_a_second_signal_does_is_said_in_its_own_word(number, again, capfd):
    """Slurm's scancel presses nothing."""
    with cli.StopRequest():
        signal.raise_signal(number)
    assert f"after this step; {again} to stop now" in capfd.readouterr().err


def test_a_signal_after_a_stop_that_the_program_asked_for_is_the_first(monkeypatch):
    """Another rank of a training passes on the Ctrl-C that then reaches this one too: it must not lose its work."""
    now = [100.0]
    monkeypatch.setattr(cli.time, "monotonic", lambda: now[0])
    with cli.StopRequest() as stop:
        stop.requested = True
        signal.raise_signal(signal.SIGTERM)
        now[0] += 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_wrong_flags_name_the_flag():
    assert "--value" in complaint("--value")
    assert "--value" in complaint(required=True)
    assert "'z'" in complaint("--value", "z", choices=["a", "b"])
    assert "--value" in complaint("--vlaue", "3")
    assert "--value" in complaint("--vlaue=3")
    assert "--value" not in complaint("--nothing-like-it")


def test_flags_may_stand_among_arguments():
    parser = cli.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--output")
    for line in ("m a b --output o", "m a --output o b", "m --output o a b", "--output o m a b"):
        assert vars(parser.parse_args(line.split())) == {"model": "m", "pictures": ["a", "b"], "output": "o"}
    assert parser.parse_args(["m"]).pictures == []
    assert parser.parse_args(["--output", "o", "--", "m", "-a.jpg"]).pictures == ["-a.jpg"]
    with pytest.raises(UserError, match=r"--otput.*--output"):
        parser.parse_args(["m", "a", "--otput", "o"])


def test_a_flag_is_named_that_reads_a_wrong_file():
    def read(text):
        raise UserError(f"{text}: not UTF-8 text")

    assert complaint("--value", "a.jpg", type=read) == "--value: a.jpg: not UTF-8 text (see --help)"


def test_abbreviated_flags_are_refused():
    assert "--val" in complaint("--val", "3")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("positive_int", ["1", "12"], ["0", "-1", "1.5", "x", "", "9" * 20, "9" * 400, "-" + "9" * 400]),
        ("non_negative_int", ["0", "3"], ["-1", "0.0", "nan"]),
        ("positive_float", ["1e-3", "2"], ["0", "-1", "nan", "inf", "1,5"]),
        ("non_negative_float", ["0", "0.5"], ["-0.1", "inf"]),
        ("fraction", ["0", "1", "0.5"], ["1.01", "-0.1", "50%"]),
        ("positive_fraction", ["1", "0.5"], ["0", "1.5"]),
    ],
)
def test_numbers(kind, good, bad):
    for text in good:
        assert parse(f"--value={text}", type=getattr(cli, kind)) == float(text)
    for text in bad:
        message = complaint(f"--value={text}", type=getattr(cli, kind))
        assert "--value" in message and repr(text) in message


def test_paths_to_read(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("a")
    missing = str(tmp_path / "missing")
    assert parse("--value", str(file), type=cli.existing_file) == str(file)
    assert parse("--value", str(tmp_path), type=cli.existing_folder) == str(tmp_path)
    assert parse("--value", str(tmp_path), type=cli.existing_path) == str(tmp_path)
    for kind in (cli.existing_file, cli.existing_folder, cli.existing_path):
        message = complaint("--value", missing, type=kind)
        assert "--value" in message and missing in message
    assert repr(str(tmp_path)) in complaint("--value", str(tmp_path), type=cli.existing_file)
    assert repr(str(file)) in complaint("--value", str(file), type=cli.existing_folder)


def test_paths_to_write(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("a")
    deep = str(tmp_path / "new" / "deep")
    for kind in (cli.output_file, cli.output_folder):
        assert parse("--value", deep, type=kind) == deep
        assert "--value" in complaint("--value", str(file / "below"), type=kind)
        assert "--value" in complaint("--value=", type=kind)
    for kind in (cli.output_file, cli.output_json, cli.output_html, cli.output_folder):
        assert "standard output" in complaint("--value", "-", type=kind)
    assert not (tmp_path / "new").exists()
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path), "/dev/null", str(tmp_path / "pipe")):
        assert repr(path) in complaint("--value", path, type=cli.output_file)
    assert "new/" in complaint("--value", f"{tmp_path}/new/", type=cli.output_file)
    assert repr(str(file)) in complaint("--value", str(file), type=cli.output_folder)


def test_a_file_of_another_kind_is_not_replaced(tmp_path):
    file = tmp_path / "drive.mp4"
    for kind, content in ((cli.output_json, ' {"a": 1}'), (cli.output_json, "[]"), (cli.output_html, "<html>")):
        assert parse("--value", str(file), type=kind) == str(file)  # there is none, or it is empty
        file.write_text(content)
        assert parse("--value", str(file), type=kind) == str(file)
        file.write_bytes(b"\0\0\0 ftypisom")
        assert "drive.mp4' exists" in complaint("--value", str(file), type=kind)
        file.write_bytes(b"")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(tmp_path):
    tmp_path.chmod(0o500)
    assert str(tmp_path) in complaint("--value", str(tmp_path / "x"), type=cli.output_file)


@pytest.mark.parametrize(("wish", "found"), [({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")])
def test_programs_use_onednn_unless_told_otherwise(wish, found):
    program = "import os; from system import cli; cli.import_tensorflow(); print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    settings = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"} | wish
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.stdout.strip() == found, done.stderr


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


def test_a_log_on_a_full_disk_ends_nothing():
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # Python flushes again as it closes the file
        with pytest.raises(OSError):
            print("a line", file=full, flush=True)
        for _ in range(3):
            print("a line", file=cli.Unbreakable(full), flush=True)
