"""Ranks as threads of one process, with the sockets that they have as processes."""

import threading
import time
import types

from distribution import cluster, group


def never():
    """A request to stop that nobody makes."""
    return types.SimpleNamespace(requested=False, raise_if_requested=lambda: None)


def run_ranks(work, size=3, facts=None, ranks=None, delays=None, seconds=20):
    """[what work(group) returned or raised] of each of `ranks`, Clusters that may be the same rank twice.

    delays: after how many seconds each comes; seconds: how long they wait for each other.
    """
    ranks = ranks or cluster.local(size)
    results = [None] * len(ranks)

    def rank(index, one):
        time.sleep(delays[index] if delays else 0)
        try:
            own = facts(one.rank) if facts else {}
            with group.joined(one, own, never(), seconds=seconds) as joined:
                results[index] = work(joined)
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=rank, args=each) for each in enumerate(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results
