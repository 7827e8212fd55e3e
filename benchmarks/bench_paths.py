"""Where the project lies; importing this lets a benchmark import its modules.

Must not import anything but Python's own library: the peer's interpreter imports it too.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"

for folder in (ROOT, ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
