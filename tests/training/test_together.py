"""Where the processes of a training run, before any starts."""

import os
import re
import types

import pytest

import config
import ssd_utils
from distribution import cluster
from programs import ROOT
from settings.training_settings import DEFAULTS
from structures import UserError
from system import own_folders, worker_processes
from training import together, train_flags

NEW = ["--data", "data", "--train", "train", "--run", "runs/new"]


def parse(*flags):
    return train_flags.parse([*NEW, *flags], None)


@pytest.fixture(autouse=True)
def without_variables(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "TF_CONFIG", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    """The machine has four cores, and this process may use all."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


def test_each_rank_has_a_gpu_of_its_own_and_its_share_of_the_workers(monkeypatch):
    """Each made batches, and read pictures to validate on, with as many processes and threads as the machine has cores.

    It may run on all of them: which are near its GPU the system knows.
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,GPU-7")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    places = together._places_here(3)
    assert [place.variables["CUDA_VISIBLE_DEVICES"] for place in places] == ["3", "5", "GPU-7"]
    assert [place.cores for place in places] == [None] * 3
    for name, value in places[1].variables.items():
        monkeypatch.setenv(name, value)
    assert worker_processes.beside_network() == 64 // 3 - 2


@pytest.mark.parametrize(("size", "cores"), [(2, [[0, 1], [2, 3]]), (4, [[0], [1], [2], [3]]), (5, [None] * 5)])
def test_without_a_gpu_each_rank_has_as_many_cores(size, cores, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    places = together._places_here(size)
    assert [place.cores for place in places] == cores
    assert [place.variables for place in places] == [{}] * size


@pytest.mark.parametrize(
    ("visible", "rank", "variables"),
    [("0,1", 0, {}), ("0,1", 2, {"CUDA_VISIBLE_DEVICES": "1"}), ("4", 2, {}), ("", 2, {})],
)
def test_the_ranks_of_a_host_share_its_gpus(visible, rank, variables, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = cluster.Cluster(("a:1", "b:1", "b:2"), rank, "a:2")
    place = together._place_of(found)
    assert place.variables.get("CUDA_VISIBLE_DEVICES") == variables.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("gpus", ["", "4", "4,5"], ids=["no GPU", "a GPU each", "all GPUs"])
@pytest.mark.parametrize(
    ("usable", "rank", "cores", "sharers"),
    [
        ({0, 1, 2, 3}, 1, [0, 1], 2),
        ({0, 1, 2, 3}, 2, [2, 3], 2),
        ({0, 1, 2, 3}, 0, None, 1),  # alone on its host
        ({2, 3}, 2, None, 1),  # Slurm, or taskset, has chosen
    ],
)
def test_the_ranks_of_a_host_share_its_cores(gpus, usable, rank, cores, sharers, monkeypatch):
    """Where TF_CONFIG or Slurm names them, each had all."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: usable)
    place = together._place_of(cluster.Cluster(("a:1", "b:1", "b:2"), rank, "a:2"))
    assert place.cores == (None if gpus else cores)
    assert place.variables.get(worker_processes.SHARERS, "1") == ("1" if not gpus else str(sharers))


def second_task(monkeypatch, **more):
    """The Cluster of the second of two tasks on a node, by what srun of Slurm 22.05.8 has set."""
    environ = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "gpu01", "SLURM_STEP_TASKS_PER_NODE": "2"}
    environ |= {"SLURM_NODEID": "0", "SLURM_LOCALID": "1", "SLURM_GTIDS": "0,1", **more}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return cluster.find(os.environ)


@pytest.mark.parametrize(
    ("usable", "cores"),
    [
        ({0, 1}, [1]),  # the job's, of a machine with four: the tasks must divide them
        ({1}, None),  # the task's
    ],
)
def test_tasks_of_slurm_divide_the_cores_of_their_step(usable, cores, monkeypatch):
    """They have all of these where Slurm does not bind a task to some (srun -N1 -n2 --cpu-bind=none)."""
    found = second_task(monkeypatch, SLURM_CPUS_ON_NODE="2")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: usable)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert together._place_of(found).cores == cores
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert together._place_of(found).variables.get(worker_processes.SHARERS) == (cores and "2")


@pytest.mark.parametrize(("kind", "masks", "cores"), [("mask_cpu:", "0x33,0xcc", None), ("none", "", [4, 5])])
def test_a_task_that_slurm_has_bound_keeps_all_its_cores(kind, masks, cores, monkeypatch):
    """Where Slurm counts cores, Linux two for each: four numbers are as many as the step's two tasks have cores."""
    found = second_task(
        monkeypatch,
        SLURM_CPUS_ON_NODE="4",
        SLURM_CPU_BIND_TYPE=kind,
        SLURM_CPU_BIND_LIST=masks,
        CUDA_VISIBLE_DEVICES="",
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5})
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert together._place_of(found).cores == cores


def test_two_tasks_of_slurm_do_not_get_the_one_gpu_of_their_step(monkeypatch):
    """srun --gpus-per-node 1 shows both the same GPU, --gpus-per-task 1 each its own."""
    found = second_task(monkeypatch, SLURM_GPUS_ON_NODE="1", CUDA_VISIBLE_DEVICES="0")
    with pytest.raises(UserError, match=r"^gpu01 has 1 GPU for 2 ranks; start fewer there"):
        together._place_of(found)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert together._place_of(found).cores == [2, 3]
    found = second_task(monkeypatch, SLURM_GPUS_ON_NODE="2", CUDA_VISIBLE_DEVICES="1")
    assert "CUDA_VISIBLE_DEVICES" not in together._place_of(found).variables


def test_two_ranks_do_not_get_the_one_gpu_of_their_host(monkeypatch):
    """Unless the variable says that the process which has started this one has given it."""
    monkeypatch.setattr(worker_processes, "visible_gpus", lambda: ["0"])
    found = cluster.Cluster(("b:1", "b:2"), 0, "b:3")
    with pytest.raises(UserError, match=r"^b has 1 GPU for 2 ranks; .*CUDA_VISIBLE_DEVICES=-1 takes"):
        together._place_of(found)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "CUDA_VISIBLE_DEVICES" not in together._place_of(found).variables


def test_more_ranks_than_gpus_on_a_host(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UserError, match="b has 2 GPUs for 3 ranks"):
        together._place_of(cluster.Cluster(("b:1", "b:2", "b:3"), 0, "b:4"))


def test_the_flags_that_a_resume_needs_again(tmp_path):
    assert together.kept_flags(parse()) == ()
    flags = parse("--devices", "2", "--restarts", "1", "--xla", "off")
    assert together.kept_flags(flags) == ("--xla", "off", "--devices", "2", "--restarts", "1")
    assert together.kept_flags(parse("--within-data", "--devices", "2")) == ("--devices", "2", "--within-data")


def test_a_second_start_resumes_what_the_first_has_begun(tmp_path):
    flags = parse("--devices", "2", "--run", str(tmp_path / "run"))
    given = ["--run", str(tmp_path / "run"), "--devices", "2"]
    assert together._command(flags, given, 1)[1:] == [str(ROOT / "train.py"), *given]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / config.CONFIG).write_text("{}")
    assert together._command(flags, given, 0)[2:] == given
    resumed = ["--run", str(tmp_path / "run"), "--resume", "--data", os.path.abspath("data"), "--devices", "2"]
    assert together._command(flags, given, 1)[2:] == resumed


def test_a_second_start_keeps_what_is_each_hosts_own(tmp_path):
    """The config.json that it resumes has what rank 0's host has: other paths, and other numbers of workers."""
    own = ["--data", "/b/data", "--source", "voc", "--workers", "3", "--cache", "disk", "--cache-dir", "/b/ssd"]
    given = [
        *own,
        "--train",
        "train",
        "--run",
        str(tmp_path),
        "--epochs",
        "9",
        "--save-minutes",
        "5",
        "--restarts",
        "2",
    ]
    flags = train_flags.parse(given, None)
    (tmp_path / config.CONFIG).write_text("{}")
    again = together._command(flags, given, 1)[2:]
    assert again[:3] == ["--run", str(tmp_path), "--resume"] and again[-2:] == ["--restarts", "2"]
    taken = vars(train_flags.parse(again, None))
    for name in ("data", "source", "workers", "cache", "cache_dir"):
        assert taken[name] == vars(flags)[name]
    assert not {"train", "epochs", "save_minutes"} & taken.keys()  # those of the run hold for all
    found = cluster.Cluster(("a:1", "b:1"), 0, "a:2")
    assert "--data /b/data --source voc --workers 3 " in together._saved(flags, found)
    assert "--data" not in together._saved(flags, None)


def test_a_second_start_of_a_resume_has_its_flags(tmp_path):
    """Rank 0 may not have had the time to keep them in config.json."""
    (tmp_path / config.CONFIG).write_text("{}")
    given = ["--run", str(tmp_path), "--resume", "--epochs", "400", "--devices", "2"]
    assert together._command(train_flags.parse(given, None), given, 1)[2:] == given


@pytest.mark.parametrize(
    ("rank", "saved"), [(0, "nothing is saved yet"), (1, "^the run is on a; a resume needs it on a disk")]
)
def test_a_host_without_the_run_does_not_say_that_nothing_is_saved(rank, saved, tmp_path):
    found = cluster.Cluster(("a:1", "b:1"), rank, "a:2")
    assert re.search(saved, together._saved(parse("--run", str(tmp_path / "run")), found))


def test_one_process_is_trained_as_ever(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"index": 0}}')
    assert together.run(parse("--devices", "1"), []) is False
    monkeypatch.delenv("TF_CONFIG")
    assert together.run(parse(), []) is False


@pytest.mark.parametrize(
    ("flag", "compared"),
    [
        *((name, True) for name in ("--epochs", "--max-steps", "--bucket-mb", "--score-train", "--seed")),
        *((name, False) for name in ("--workers", "--cache-gb", "--save-minutes", "--data", "--events")),
    ],
)
def test_what_all_ranks_must_have_in_common(flag, compared):
    """A rank with another length of the training would have another learning rate, and nobody would see it."""
    assert (flag in together._facts(make_task())) == compared


def make_task():
    description = config.ModelDescription(ssd_utils.PRESETS["vgg300"], ("car",))
    return types.SimpleNamespace(settings=DEFAULTS, run="run", description=description, samples=[], valid=[])


def test_another_version_of_the_project_is_found(tmp_path, monkeypatch):
    """Also where flags are the same; not by a user's own file, which need not be on all hosts."""
    facts = together._facts(make_task())
    assert {"losses.py of this project", "training/engine.py of this project"} <= facts.keys()
    assert not any("tests/" in name or "benchmarks/" in name for name in facts)
    for name in ("losses.py", "training/__init__.py", "training/engine.py", "source_mine.py", "data/notes.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(own_folders, "ROOT", str(tmp_path))
    copied = together._facts(make_task())
    own = {name for name in copied if name.endswith(" of this project")}
    assert own == {f"{name} of this project" for name in ("losses.py", "training/__init__.py", "training/engine.py")}
    (tmp_path / "training" / "engine.py").write_text("2")
    changed = together._facts(make_task())
    assert {name for name in changed if changed[name] != copied[name]} == {"training/engine.py of this project"}
