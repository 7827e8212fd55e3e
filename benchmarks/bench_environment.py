"""Importing this module ends a benchmark with one line where packages are missing: it is the first import of each.

Only the programs import it, not their sides, which a peer's interpreter runs too.
"""

import shlex

import bench_paths

from system import environment

# Without these nothing is measured. gpu.py runs also where others are missing, and skips the rows of whole programs
NEEDED = ("numpy", "cv2", "tensorflow")
PEERS = ("torch", "torchvision", "safetensors")


def require_peers() -> None:
    """Exit with code 1 and a line on stderr unless the peers are there, which have an environment of their own."""
    environment.stop_without(PEERS, f"make -C {shlex.quote(str(bench_paths.ROOT))} .venv-parity/.installed")


environment.stop_without(NEEDED)
