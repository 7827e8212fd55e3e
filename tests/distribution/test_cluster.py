"""Who trains together, by the variables that TensorFlow and Slurm set."""

import json
import socket

import pytest

from distribution import cluster
from structures import UserError


def tf_config(addresses, index, job="worker", **others):
    return {"TF_CONFIG": json.dumps({"cluster": {job: addresses, **others}, "task": {"type": job, "index": index}})}


def test_tf_config_names_the_ranks():
    found = cluster.find(tf_config(["a:100", "b:100", "b:101"], 2))
    assert (found.rank, found.size, found.addresses) == (2, 3, ("a:100", "b:100", "b:101"))
    assert (found.local_index, found.neighbors, found.name(1)) == (1, 2, "rank 1 (b:100)")


def test_the_chief_is_rank_0():
    text = {"cluster": {"worker": ["b:1"], "chief": ["a:1"]}, "task": {"type": "worker", "index": 0}}
    found = cluster.find({"TF_CONFIG": json.dumps(text)})
    assert (found.rank, found.addresses) == (1, ("a:1", "b:1"))


def test_ranks_meet_at_a_port_that_none_of_them_has():
    assert cluster.find(tf_config(["a:100", "a:101", "b:102"], 0)).meeting == "a:102"
    assert cluster.find(tf_config(["a:65534", "b:1", "a:65535"], 0)).meeting == "a:65533"
    assert cluster.find(tf_config(["[::1]:100", "[::1]:101"], 0)).meeting == "[::1]:102"


def test_an_address_of_ipv6_has_brackets_and_its_host_none():
    assert cluster.split("[fe80::1]:100") == ("fe80::1", 100)
    assert cluster.split("gpu2:100") == ("gpu2", 100)


@pytest.mark.parametrize("environ", [{}, {"TF_CONFIG": ""}, tf_config(["a:1"], 0), {"TF_CONFIG": "{}"}])
def test_one_process_is_no_cluster(environ):
    assert cluster.find(environ) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not of the form"),
        ("[]", "is not of the form"),
        (tf_config(["a:1", "b:1"], 2)["TF_CONFIG"], "is not of the form"),
        (tf_config(["a:1", "b:1"], -1)["TF_CONFIG"], "is not of the form"),
        (tf_config(["a:1", "b:1"], 0, ps=["c:1"])["TF_CONFIG"], "has the job ps"),
        (tf_config(["a:1", "a:1"], 0)["TF_CONFIG"], "not different addresses"),
        (tf_config(["a", "b:1"], 0)["TF_CONFIG"], "not different addresses"),
        (tf_config(["a:1", "b:65536"], 0)["TF_CONFIG"], "not different addresses"),
        (tf_config(["a:0", "b:1"], 0)["TF_CONFIG"], "not different addresses"),
    ],
)
def test_a_wrong_tf_config_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        cluster.find({"TF_CONFIG": text})


def slurm(rank, node, local, nodes="gpu[01-02],login", tasks="2(x2),1", size=5):
    return {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(node),
        "SLURM_LOCALID": str(local),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
    }


def test_slurm_names_the_ranks():
    found = [cluster.find(slurm(*place)) for place in [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1), (4, 2, 0)]]
    assert len({(one.addresses, one.meeting) for one in found}) == 1
    assert [one.rank for one in found] == [0, 1, 2, 3, 4]
    hosts = [cluster.host_of(address) for address in found[0].addresses]
    assert hosts == ["gpu01", "gpu01", "gpu02", "gpu02", "login"]
    assert len(set(found[0].addresses)) == 5 and found[0].meeting not in found[0].addresses


def test_steps_of_a_job_of_slurm_have_ports_of_their_own():
    """Both run at once on a node: `srun -n2 … & srun -n2 … &`."""
    ports, trainings = set(), set()
    jobs_and_steps = [(job, step) for job in (77, 78, 79) for step in range(4)]
    for job, step in jobs_and_steps:
        found = cluster.find({**slurm(0, 0, 0), "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)})
        ports |= {cluster.port_of(address) for address in (found.meeting, *found.addresses)}
        trainings.add(found.training)
    assert len(ports) == len(jobs_and_steps) * 3  # the meeting and two tasks on a node
    assert len(trainings) == len(jobs_and_steps)


# As srun and sbatch of Slurm 22.05.8 have set them on two nodes
_STEP = {"SLURM_JOB_NODELIST": "gpu[01-02]", "SLURM_STEP_NODELIST": "gpu[01-02]", "SLURM_CPUS_ON_NODE": "1"}
_STEP |= {"SLURM_JOB_ID": "11", "SLURM_STEP_ID": "0"}
CYCLIC = [  # srun -N2 -n4 --distribution=cyclic
    {**_STEP, "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_PROCID": task, **place}
    for task, place in {
        "0": {"SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_GTIDS": "0,2"},
        "1": {"SLURM_NODEID": "1", "SLURM_LOCALID": "0", "SLURM_GTIDS": "1,3"},
        "2": {"SLURM_NODEID": "0", "SLURM_LOCALID": "1", "SLURM_GTIDS": "0,2"},
        "3": {"SLURM_NODEID": "1", "SLURM_LOCALID": "1", "SLURM_GTIDS": "1,3"},
    }.items()
]
ARBITRARY = [  # srun --distribution=arbitrary -n3, SLURM_HOSTFILE has gpu02, gpu01, gpu02
    {**_STEP, "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_TASKS_PER_NODE": "1,2", "SLURM_PROCID": task, **place}
    for task, place in {
        "0": {"SLURM_NODEID": "1", "SLURM_LOCALID": "0", "SLURM_GTIDS": "0,2"},
        "1": {"SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_GTIDS": "1"},
        "2": {"SLURM_NODEID": "1", "SLURM_LOCALID": "1", "SLURM_GTIDS": "0,2"},
    }.items()
]
BATCH = {  # of the script, whose step's are those of the `srun -N1 -n2` in which sbatch was called
    "SLURM_JOB_ID": "19",
    "SLURM_JOB_NODELIST": "gpu01",
    "SLURM_PROCID": "0",
    "SLURM_NODEID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_GTIDS": "0",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu01",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2",
}


def test_a_batch_script_of_slurm_is_no_cluster():
    environ = slurm(0, 0, 0)
    del environ["SLURM_STEP_NUM_TASKS"]
    assert cluster.find(environ) is None


def test_a_batch_script_that_a_step_has_submitted_is_no_cluster():
    """It has the variables of that step, whose other tasks would never come."""
    assert cluster.find(BATCH) is None
    assert cluster.find({**BATCH, "SLURM_GTIDS": "0,1"}).size == 2


@pytest.mark.parametrize(("tasks", "ranks"), [(CYCLIC, [0, 2, 1, 3]), (ARBITRARY, [1, 0, 2])])
def test_ranks_are_numbered_node_by_node_however_tasks_are(tasks, ranks):
    """One that refused its number ended, and the others waited for it for ten minutes."""
    found = [cluster.find(environ) for environ in tasks]
    assert [one.rank for one in found] == ranks
    assert len({(one.addresses, one.meeting) for one in found}) == 1
    for one, environ in zip(found, tasks, strict=True):
        host = cluster.host_of(one.addresses[one.rank])
        assert host == ["gpu01", "gpu02"][int(environ["SLURM_NODEID"])]
        assert one.local_index == int(environ["SLURM_LOCALID"])


@pytest.mark.parametrize(
    "given", [{"SLURM_NODEID": "2"}, {"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, {"SLURM_LOCALID": ""}]
)
def test_variables_of_slurm_that_do_not_fit_together_are_refused(given):
    with pytest.raises(UserError, match="cannot be understood"):
        cluster.find({**CYCLIC[0], **given})


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a", ["a"]),
        ("a1,b2", ["a1", "b2"]),
        ("a[1-3]", ["a1", "a2", "a3"]),
        ("a[08-10,12]-ib,b", ["a08-ib", "a09-ib", "a10-ib", "a12-ib", "b"]),
    ],
)
def test_lists_of_hosts(text, hosts):
    assert cluster.expand_hosts(text) == hosts


def test_ports_of_this_machine_are_free_and_different():
    ranks = cluster.local(3)
    addresses = {*ranks[0].addresses, ranks[0].meeting}
    assert len(addresses) == 4 and [one.rank for one in ranks] == [0, 1, 2]
    for address in addresses:
        socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))).close()
