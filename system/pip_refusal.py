"""What pip is told: this is a repository to clone and run, so `pip install` fails and names the command to use instead.

pyproject.toml names this module as the build backend (PEP 517, PEP 660). pip shows what its hooks print, in a frame of
its own. The hooks need the standard library only, and pip asks them before it fetches anything.
"""

import sys

MESSAGE = (
    "error: ssd-tensorflow is run from its clone and cannot be installed; in the folder of the clone run: "
    "make .venv/.installed && source .venv/bin/activate (or, in an environment of your own: "
    "pip install -r requirements.txt)"
)


def _refuse(*_, **__):
    sys.exit(MESSAGE)


# pip asks the first three before it builds, other tools the last three at once
get_requires_for_build_wheel = get_requires_for_build_editable = get_requires_for_build_sdist = _refuse
build_wheel = build_editable = build_sdist = _refuse
