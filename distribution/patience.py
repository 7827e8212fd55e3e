"""A word on whom a rank has been waiting for: one that is there but does nothing (a disk that hangs) ends nothing."""

import time
from collections.abc import Iterable

from distribution.cluster import Cluster
from system import cli

WORD_SECONDS = 60.0


class Patience:
    """One wait of a rank for others."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._due = cluster, time.monotonic() + WORD_SECONDS

    def wait(self, ranks: Iterable[int]) -> None:
        """To be called again and again with those who are still missing; says so once, after WORD_SECONDS."""
        if time.monotonic() > self._due:
            self._due = float("inf")
            names = ", ".join(map(self._cluster.name, sorted(ranks)))
            cli.warn(f"still waiting for {names}, after {WORD_SECONDS:g} seconds")
