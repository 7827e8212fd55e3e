"""What `--help` of every program shows."""

import re
import runpy
import sys

import pytest

from programs import ROOT
from system import cli
from system.argument_parser import ArgumentParser

PROGRAMS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("", "recipes/", "toy_road/")
    for path in ROOT.glob(f"{folder}*.py")
    if '__name__ == "__main__"' in path.read_text("utf-8")
)
MOST_LINES = 100  # two screens
MANY = 5  # flags from which on they are in groups


class Parsed(Exception):
    """Ends a program where it parses its flags. Its argument is the parser."""


@pytest.fixture(params=PROGRAMS)
def parser(request, monkeypatch):
    """The ArgumentParser of each program."""

    def parse_args(self, *_):
        raise Parsed(self)

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(cli, "run", lambda main: main())
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    monkeypatch.setenv("COLUMNS", "102")  # argparse leaves two free
    with pytest.raises(Parsed) as parsed:
        runpy.run_path(str(ROOT / request.param), run_name="__main__")
    return parsed.value.args[0]


def flags(parser):
    return [action for action in parser._actions if action.option_strings and "help" not in action.option_strings[-1]]


def test_every_flag_has_a_text_and_its_default(parser):
    for action in parser._actions:
        assert action.help and action.help.strip(), action.option_strings or action.dest
    told = "".join(parser.format_help(every=True).split())
    for action in flags(parser):
        text = parser._get_formatter()._expand_help(action)
        assert re.search(r"\(([^()]*; )?(default|required)\b.*\)$", text), action.option_strings  # at the end
        assert "".join(text.split()) in told, action.option_strings


def test_the_usage_of_help_all_has_every_flag(parser):
    if parser.usage:  # by hand, with "[flags]"
        return
    usage = parser.format_help(every=True).split("\n\n")[0]
    for action in flags(parser):
        assert re.search(rf"(?<![\w-]){re.escape(action.option_strings[-1])}(?![\w-])", usage), action.option_strings


def test_the_usage_of_help_leaves_out_rare_flags(parser):
    usage = parser.format_help().split("\n\n")[0]
    rare = [action.option_strings[-1] for action in flags(parser) if getattr(action, "rare", False)]
    assert not [name for name in rare if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", usage)]


def test_the_help_of_a_program_is_two_screens_at_most(parser):
    assert len(parser.format_help().splitlines()) <= MOST_LINES


def test_many_flags_are_in_groups(parser):
    if len(flags(parser)) < MANY:
        return
    ungrouped = [action.option_strings[-1] for action in parser._optionals._group_actions]
    assert set(ungrouped) <= {"--help", "--help-all"}


def test_the_programs_are_found():
    assert {"train.py", "infer.py", "average_precision.py", "toy_road/__main__.py", "recipes/bccd.py"} <= set(PROGRAMS)
    assert len(PROGRAMS) >= 14
