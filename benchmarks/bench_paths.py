"""The project's folder. Importing this module lets a benchmark import the project's modules.

It must import Python's standard library only, as the peer's interpreter imports it too.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"

for folder in (ROOT, ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
