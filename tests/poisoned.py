"""infer_many.py whose worker is killed by each picture with `poison` in its name: python tests/poisoned.py ARGUMENTS.

No picture that crashes a decoder for certain is known. Ray sends the class below to the workers as it is.
"""

import contextlib
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import infer_many
from many import program
from system import cli


class Poisoned:
    """An Opener of detecting whose detector dies of poison."""

    def __init__(self, opener):
        self._opener = opener

    @contextlib.contextmanager
    def __call__(self):
        with self._opener() as detect:
            yield lambda entries, *following: self._survive(entries) or detect(entries, *following)

    @staticmethod
    def _survive(entries):
        if any("poison" in one.id for one in entries):
            os.kill(os.getpid(), signal.SIGKILL)


def main(argv=None):
    plan = program.plan

    def poisoned_plan(*arguments):
        opener, facts = plan(*arguments)
        return Poisoned(opener), facts

    program.plan = poisoned_plan
    infer_many.main(argv)


if __name__ == "__main__":
    cli.run(main)
