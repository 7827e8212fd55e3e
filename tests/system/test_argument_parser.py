"""Help, and wrong flags and arguments, which the parser names in one line."""

import os

import pytest

from structures import UserError
from system import argument_types
from system.argument_parser import ArgumentParser, rare
from system.argument_types import (
    existing_file,
    existing_folder,
    existing_path,
    output_file,
    output_folder,
    output_html,
    output_json,
)


def helpful_parser(**options):
    parser = ArgumentParser(prog="p", **options)
    writes = parser.add_argument_group("what it writes")
    writes.add_argument("--run", required=True, metavar="DIR", help="the folder")
    writes.add_argument("--steps", default=3, metavar="N", help="how many")
    writes.add_argument("--name", metavar="X", help="another name (default: the folder's)")
    rare(writes.add_argument("--draw", action="store_true", help="draw it"))
    rare(parser.add_argument_group("the rest").add_argument("--more", help="more of it"))
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


def parse(*argv, **kwargs):
    parser = ArgumentParser(prog="train.py")
    parser.add_argument("--value", **kwargs)
    parser.add_argument("--data", default="d")
    return parser.parse_args(argv).value


def complaint(*argv, **kwargs):
    with pytest.raises(UserError) as error:
        parse(*argv, **kwargs)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_wrong_flags_name_the_flag():
    assert "--value" in complaint("--value")
    assert "--value" in complaint(required=True)
    assert "'z'" in complaint("--value", "z", choices=["a", "b"])
    assert "--value" in complaint("--vlaue", "3")
    assert "--value" in complaint("--vlaue=3")
    assert "--value" not in complaint("--nothing-like-it")


def test_flags_may_stand_among_arguments():
    parser = ArgumentParser()
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
        assert parse(f"--value={text}", type=getattr(argument_types, kind)) == float(text)
    for text in bad:
        message = complaint(f"--value={text}", type=getattr(argument_types, kind))
        assert "--value" in message and repr(text) in message


def test_paths_to_read(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("a")
    missing = str(tmp_path / "missing")
    assert parse("--value", str(file), type=existing_file) == str(file)
    assert parse("--value", str(tmp_path), type=existing_folder) == str(tmp_path)
    assert parse("--value", str(tmp_path), type=existing_path) == str(tmp_path)
    for kind in (existing_file, existing_folder, existing_path):
        message = complaint("--value", missing, type=kind)
        assert "--value" in message and missing in message
    assert repr(str(tmp_path)) in complaint("--value", str(tmp_path), type=existing_file)
    assert repr(str(file)) in complaint("--value", str(file), type=existing_folder)


def test_paths_to_write(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("a")
    deep = str(tmp_path / "new" / "deep")
    for kind in (output_file, output_folder):
        assert parse("--value", deep, type=kind) == deep
        assert "--value" in complaint("--value", str(file / "below"), type=kind)
        assert "--value" in complaint("--value=", type=kind)
    for kind in (output_file, output_json, output_html, output_folder):
        assert "standard output" in complaint("--value", "-", type=kind)
    assert not (tmp_path / "new").exists()
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path), "/dev/null", str(tmp_path / "pipe")):
        assert repr(path) in complaint("--value", path, type=output_file)
    assert "new/" in complaint("--value", f"{tmp_path}/new/", type=output_file)
    assert repr(str(file)) in complaint("--value", str(file), type=output_folder)


def test_a_file_of_another_kind_is_not_replaced(tmp_path):
    file = tmp_path / "drive.mp4"
    for kind, content in ((output_json, ' {"a": 1}'), (output_json, "[]"), (output_html, "<html>")):
        assert parse("--value", str(file), type=kind) == str(file)  # there is none, or it is empty
        file.write_text(content)
        assert parse("--value", str(file), type=kind) == str(file)
        file.write_bytes(b"\0\0\0 ftypisom")
        assert "drive.mp4' exists" in complaint("--value", str(file), type=kind)
        file.write_bytes(b"")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(tmp_path):
    tmp_path.chmod(0o500)
    assert str(tmp_path) in complaint("--value", str(tmp_path / "x"), type=output_file)
