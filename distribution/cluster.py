"""Which processes train together: from --devices, TensorFlow's TF_CONFIG or Slurm's variables."""

import dataclasses
import enum
import itertools
import json
import re
import secrets
import socket
from collections.abc import Mapping

from structures import UserError

LOCAL = "127.0.0.1"
LAST_OF_PORTS = 65535
# Slurm reserves no ports, so the numbers of job and step give them, below those that Linux hands out by itself (from
# 32768). Steps of a job run at once on a node, and so do jobs with numbers close to each other.
FIRST_PORT, LAST_PORT, PORTS_OF_A_STEP = 12000, 32000, 64
# From one step's ports to the next one's. It shares no factor with the 312 slots, so 312 steps differ
STEP_AWAY = 61


class Source(str, enum.Enum):
    """What names the ranks. A text, so that JSON takes it."""

    DEVICES = "--devices"
    TF_CONFIG = "TF_CONFIG"
    SLURM = "Slurm"

    @property
    def other_port(self) -> str:
        """What to do where a port is in use."""
        return {
            Source.DEVICES: "start again, at other ports",
            Source.TF_CONFIG: "free the port, or name another one in TF_CONFIG, on all hosts",
            Source.SLURM: "free the port, or start another step or job, whose number gives other ports",
        }[self]


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The ranks of a training, as one of them sees them.

    addresses: HOST:PORT of each rank's TensorFlow server. Rank 0 writes the run.
    rank: this process, an index into the addresses.
    meeting: HOST:PORT where rank 0 waits for the others.
    source: what names the ranks.
    training: tells this training from others that may have its ports, as far as it is known.
    """

    addresses: tuple[str, ...]
    rank: int
    meeting: str
    source: Source = Source.TF_CONFIG
    training: str = ""

    @property
    def size(self) -> int:
        return len(self.addresses)

    @property
    def neighbors(self) -> int:
        """How many ranks are on this one's host, this one included."""
        hosts = [host_of(address) for address in self.addresses]
        return hosts.count(hosts[self.rank])

    @property
    def local_index(self) -> int:
        """How many ranks before this one are on its host."""
        hosts = [host_of(address) for address in self.addresses]
        return hosts[: self.rank].count(hosts[self.rank])

    def name(self, rank: int) -> str:
        """A rank as messages name it: `rank 1 (gpu2:12345)`."""
        return f"rank {rank} ({self.addresses[rank]})"


def split(address: str) -> tuple[str, int]:
    """'gpu2:12345' -> ('gpu2', 12345), '[::1]:12345' -> ('::1', 12345)."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def join(host: str, port: int) -> str:
    """The inverse of `split`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(address: str) -> str:
    """'gpu2:12345' -> 'gpu2'."""
    return split(address)[0]


def port_of(address: str) -> int:
    """'gpu2:12345' -> 12345."""
    return split(address)[1]


def local(size: int) -> list[Cluster]:
    """The ranks of a training on this machine alone, at ports that are free now."""
    sockets = [socket.create_server((LOCAL, 0)) for _ in range(size + 1)]
    *addresses, meeting = (f"{LOCAL}:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    training = secrets.token_hex(8)
    return [Cluster(tuple(addresses), rank, meeting, Source.DEVICES, training) for rank in range(size)]


def find(environ: Mapping[str, str]) -> Cluster | None:
    """What the variables of TensorFlow or Slurm say of this process; None if they name no other one.

    Raises UserError if they cannot be understood.
    """
    return _of_tf_config(environ) or _of_slurm(environ)


def _of_tf_config(environ):
    if not environ.get("TF_CONFIG"):
        return None
    try:
        values = json.loads(environ["TF_CONFIG"])
        jobs, task = values.get("cluster", {}), values.get("task", {})
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
        addresses = [str(address) for job in ("chief", "worker") for address in jobs.get(job, [])]
        if index < 0:  # Python would count from the end
            raise LookupError
        own = str(jobs[kind][index]) if jobs else ""
    except (ValueError, AttributeError, TypeError, LookupError):
        raise UserError(
            'TF_CONFIG: is not of the form {"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", '
            '"index": 0}}; correct it, or train with this machine alone: --devices 1'
        ) from None
    if other := sorted(jobs.keys() - {"chief", "worker"}):
        raise UserError(f"TF_CONFIG: has the job {other[0]}, but train.py has only workers; remove that job")
    if len(addresses) < 2:
        return None
    if len(set(addresses)) < len(addresses) or not all(map(_is_address, addresses)):
        raise UserError(
            f"TF_CONFIG: {', '.join(addresses)} are not different addresses HOST:PORT, with ports from 1 to "
            f"{LAST_OF_PORTS}; correct them"
        )
    return Cluster(tuple(addresses), addresses.index(own), _meeting(addresses))


def _is_address(text):
    match = re.fullmatch(r".+:([0-9]{1,5})", text)
    return bool(match) and 0 < int(match[1]) <= LAST_OF_PORTS


def _meeting(addresses):
    """Where rank 0 waits: at the first port above that of its server, or below, which no rank on its host has."""
    host, own = split(addresses[0])
    taken = {port_of(address) for address in addresses if host_of(address) == host}
    ports = itertools.chain(range(own + 1, LAST_OF_PORTS + 1), range(own - 1, 0, -1))
    return next(join(host, number) for number in ports if number not in taken)


def _of_slurm(environ):
    size = environ.get("SLURM_STEP_NUM_TASKS", "")
    if not size.isdigit() or int(size) < 2:  # not started by srun, or alone
        return None
    try:
        hosts = expand_hosts(environ["SLURM_STEP_NODELIST"])
        counts = _tasks_per_node(environ["SLURM_STEP_TASKS_PER_NODE"])
        places = [(host, index) for host, count in zip(hosts, counts, strict=True) for index in range(count)]
        job, step = (int(environ.get(f"SLURM_{name}_ID", "0")) for name in ("JOB", "STEP"))
        node, local = (int(environ[f"SLURM_{name}"]) for name in ("NODEID", "LOCALID"))
        # Not SLURM_PROCID: tasks may be numbered around the nodes (--distribution=cyclic), ranks are node by node
        rank = places.index((hosts[node], local))
        if len(places) != int(size):
            raise LookupError
    except (ValueError, LookupError):
        raise UserError("Slurm's variables SLURM_STEP_… cannot be understood; give TF_CONFIG instead") from None
    if _is_batch_script(environ, counts[node]):
        return None
    if max(counts) >= PORTS_OF_A_STEP:
        raise UserError(f"Slurm starts {max(counts)} tasks on a node; there are ports for {PORTS_OF_A_STEP - 1}")
    slots = (LAST_PORT - FIRST_PORT) // PORTS_OF_A_STEP
    first = FIRST_PORT + (job + step * STEP_AWAY) % slots * PORTS_OF_A_STEP
    addresses = tuple(f"{host}:{first + 1 + index}" for host, index in places)
    return Cluster(addresses, rank, f"{hosts[0]}:{first}", Source.SLURM, f"{job}.{step}")


def _is_batch_script(environ, tasks):
    """Whether the variables of a step are those of another job: sbatch, called within a step, hands them on.

    tasks: of the step on this node. The batch script is one task, and says so.
    """
    here = environ.get("SLURM_GTIDS")
    return here is not None and len(here.split(",")) != tasks


def expand_hosts(text: str) -> list[str]:
    """Slurm's list of hosts: 'a[01-03,7],b' -> ['a01', 'a02', 'a03', 'a7', 'b']. Raises ValueError for another form."""
    hosts = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        match = re.fullmatch(r"([^\[\]]*)(?:\[([\d,-]+)\]([^\[\]]*))?", part)
        if not match:
            raise ValueError(text)
        before, numbers, after = match.groups()
        hosts += [f"{before}{number}{after or ''}" for number in _numbers(numbers)]
    return hosts


def _numbers(text):
    """'01-03,7' -> ['01', '02', '03', '7']; None -> ['']."""
    if text is None:
        return [""]
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]
    return found


def _tasks_per_node(text):
    """'2(x3),1' -> [2, 2, 2, 1]."""
    counts = []
    for part in text.split(","):
        count, times = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part).groups()
        counts += [int(count)] * int(times or 1)
    return counts
