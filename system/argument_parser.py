"""The parser of all programs: its errors are one clear line, and its help names defaults and leaves rare flags out."""

import argparse
import re

from structures import UserError
from system import cli, wording

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
        args = cli.words(args)
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
