"""Train this project and torchvision's SSD300 on the same data from the same VGG-16, and show how fast each learns.

Both see the same number of images in batches of the same size, with the same family of augmentation, the same schedule
and the same layers frozen, each with several learning rates; both are scored by this project's VOC07 metric on the same
pictures. Writes DIR/learning.jsonl, DIR/learning.md and DIR/learning.png after each training. Called again with the
same arguments, it goes on with the trainings that are missing. docs/learning.md explains it.
"""

import bench_environment  # noqa: F401

import argparse
import contextlib
import dataclasses
import os
import sys
import tempfile

import learning_convert
import learning_plan
import learning_report
from bench_harness import NO_PEER, PEER_PYTHON_HELP, command_line, commit, interpreter, peer_python, peer_versions
from gpu_client import Budget, Failed, Worker
from learning_plan import SIDES

import sources
from structures import UserError
from system import chain, cli, files, worker_processes
from system.argument_parser import ArgumentParser
from system.argument_types import (
    existing_file,
    existing_path,
    non_negative_int,
    output_folder,
    positive_float,
    positive_int,
)

ASKING_SECONDS = 300  # that a side gets to start and name the card that it sees
DEFAULT_RUN = os.path.join("runs", "learning")
TINY = {"batch_size": 2, "images": 8, "every": 4, "warmup_steps": 2, "workers": 1}
TINY_LIMIT = 4  # pictures


def main(argv=None):
    flags = _parse(argv)
    with contextlib.ExitStack() as stack:
        environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": "-1"} if flags.device == "cpu" else {})}
        machine = _machine(flags, environment)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="learning-"))
        if flags.tiny:
            _tiny(flags, scratch)
        task = _task(flags, machine)
        _check_folder(flags.run, task, machine)
        from learning_trainings import Trainings  # imports TensorFlow: flags and machine are checked first

        header = {"command": command_line("learning.py", argv), "commit": commit(), "tiny": flags.tiny}
        header |= {"machine": machine, "task": dataclasses.asdict(task)}
        _train(flags, Trainings(flags.run, task, flags.peer_python, environment), header)


def _train(flags, trainings, header):
    """Do all trainings; write the results after each."""
    planned = learning_plan.trainings({side: flags.rates[side] for side in flags.sides})
    paths = {kind: os.path.join(flags.run, f"learning.{kind}") for kind in ("jsonl", "md", "png")}
    for number, training in enumerate(planned):
        print(f"{training.name} ({number + 1} of {len(planned)}) …", file=sys.stderr, flush=True)
        record = trainings.record(training)
        last = learning_report.end(record)
        score = f"mAP {last['voc07']:.3f}, {last['seconds']:.0f} s" if last else "diverged or without a score"
        print(f"{training.name}: {score}", file=sys.stderr, flush=True)
        records = [record for known in planned if (record := trainings.result(known))]
        files.write(paths["jsonl"], learning_report.lines(header, records))
        files.write(paths["md"], learning_report.page(header, records))
        learning_report.plot(paths["png"], records)
    print(files.read_text(paths["md"]), end="")
    if flags.run_is_given:
        print(f"\n{', '.join(paths.values())}")


def _machine(flags, environment):
    """The dict that describes the machine. Raises UserError if the two sides do not see the same kind of device."""
    versions = peer_versions(flags.peer_python)
    if versions is None:
        raise UserError(f"--peer-python {flags.peer_python}: {NO_PEER}")
    budget = Budget(ASKING_SECONDS)
    try:
        with Worker("gpu_ours.py", sys.executable, budget, environment) as ours:
            machine = ours.ask("machine")
        with Worker("gpu_torch.py", flags.peer_python, budget, environment) as torch:
            theirs = torch.ask("gpu")
    except Failed as error:
        raise UserError(f"--device {flags.device}: a side does not start: {error}") from None
    if bool(machine["gpu"]) != bool(theirs):
        sees = [name for name, gpu in (("TensorFlow", machine["gpu"]), ("PyTorch", theirs)) if gpu]
        raise UserError(f"--device {flags.device}: only {sees[0]} sees a GPU; give --device cpu, or repair the other")
    if flags.device == "gpu" and not machine["gpu"]:
        raise UserError("--device gpu: no GPU is seen; give --device cpu")
    return {**machine, **versions}


def _tiny(flags, scratch):
    """Replace flags by those of --tiny: a few pictures, a few steps, the first rate of each side."""
    from learning_trainings import write_random_vgg

    from toy_road import dataset, town

    for name, value in TINY.items():
        setattr(flags, name, value)
    flags.sides = list(SIDES)
    flags.rates = {side: rates[:1] for side, rates in flags.rates.items()}
    flags.run = flags.run if flags.run_is_given else scratch
    if not flags.data:
        flags.data, flags.train, flags.valid = os.path.join(flags.run, "toy"), "2007:train", "2007:test"
        flags.classes = ",".join(town.CLASSES)
        dataset.write_dataset(flags.data, train=TINY_LIMIT, test=TINY_LIMIT, workers=0)
    if not flags.vgg:
        flags.vgg = os.path.join(flags.run, "random-vgg16.npz")
        write_random_vgg(flags.vgg)


def _task(flags, machine):
    """The learning_plan.Task of the flags. Raises UserError if there are no pictures."""
    limit = TINY_LIMIT if flags.tiny else None
    pictures = len(sources.find(flags.data, flags.train))
    pictures = min(pictures, limit) if limit else pictures
    images = flags.images or (learning_plan.WIDE if machine["gpu"] else learning_plan.NARROW)
    epochs, valid_every = learning_plan.length(images, flags.every, pictures)
    workers = worker_processes.beside_network() if flags.workers is None else flags.workers
    return learning_plan.Task(
        data=os.path.abspath(flags.data),
        train=flags.train,
        valid=flags.valid,
        classes=flags.classes,
        other_classes=flags.other_classes,
        limit=limit,
        pictures=pictures,
        vgg=os.path.abspath(flags.vgg),
        freeze=flags.freeze,
        batch_size=flags.batch_size,
        warmup_steps=flags.warmup_steps,
        epochs=epochs,
        valid_every=valid_every,
        workers=workers,
        seed=flags.seed,
        precision=machine["types"][0] if flags.precision == "auto" else flags.precision,
        more=tuple(flags.more),
    )


def _check_folder(run, task, machine):
    """Raise UserError unless the folder's trainings have this task and machine; only such can be compared."""
    # A training without a result is repeated from its start
    chain.keep_settings(run, {**dataclasses.asdict(task), "machine": machine}, trained="*/*/result.json")


def _rates(text):
    return tuple(map(positive_float, text.split(",")))


def _sides(text):
    sides = text.split(",")
    if unknown := [side for side in sides if side not in SIDES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]}: no such side; there are {', '.join(SIDES)}")
    return sides


def _parse(argv):
    parser = ArgumentParser(
        description=__doc__,
        epilog="Arguments after -- go to train.py: our side then has, say, -- --ema 0.999 --optimizer adamw",
    )
    _add_data_flags(parser.add_argument_group("data and output"))
    _add_training_flags(parser.add_argument_group("trainings"))
    _add_rate_flags(parser.add_argument_group("learning rates"))
    _add_machine_flags(parser.add_argument_group("machine"))
    parser.add_argument("more", nargs="*", metavar="-- FLAGS", help="further flags of train.py, for our side only")
    flags = parser.parse_args(argv)
    flags.rates = {side: getattr(flags, _destination(side)) for side in SIDES}
    flags.freeze = tuple(filter(None, flags.freeze.split(",")))
    learning_convert.frozen_names(flags.freeze)  # raises UserError
    flags.run_is_given, flags.run = flags.run is not None, flags.run or DEFAULT_RUN
    for name in ("data", "vgg"):
        if not flags.tiny and not getattr(flags, name):
            parser.error(f"--{name}: it is needed, except with --tiny")
    return flags


def _add_data_flags(group):
    add = group.add_argument
    add("--data", type=existing_path, metavar="DATA", help="the data set, in a format that train.py reads")
    add("--train", default="train", metavar="SPLIT", help="split to train on")
    add("--valid", default="val", metavar="SPLIT", help="split to score on")
    add(
        "--classes",
        default="car,bus,motorbike,bicycle,person",
        metavar="LIST",
        help="classes to learn, separated by commas",
    )
    add(
        "--other-classes",
        choices=("error", "ignore"),
        default="ignore",
        help="annotated objects of other classes: error stops, ignore drops them",
    )
    add("--vgg", type=existing_file, metavar="FILE", help="VGG-16's weights, a file that train.py reads")
    run = f"folder for the trainings and the results (default: {DEFAULT_RUN}; with --tiny none is kept)"
    add("--run", type=output_folder, metavar="DIR", help=run)
    add("--tiny", action="store_true", help="try everything with 4 pictures; measures nothing")


def _add_training_flags(group):
    add = group.add_argument
    number = {"type": positive_int, "metavar": "N"}
    images = f"images that a training sees (default: {learning_plan.WIDE} on a GPU, {learning_plan.NARROW} on a CPU)"
    add("--images", help=images + "; whole epochs, rounded up", **number)
    points = f"score after every N images, in whole epochs (default: {learning_plan.POINTS} times in a training)"
    add("--every", help=points, **number)
    add("--batch-size", default=8, help="images of a step", **number)
    add(
        "--freeze",
        default="conv1,conv2,conv3",
        metavar="LAYERS",
        help="layers that are not trained, separated by commas",
    )
    add(
        "--warmup-steps",
        type=non_negative_int,
        default=100,
        metavar="N",
        help="steps in which the rate rises, before it falls to 0 as a cosine",
    )
    add("--seed", type=non_negative_int, default=0, metavar="N", help="seed of both")
    default = [side for side in SIDES if side != "torchvision-adamw"]
    sides = f"sides to train, separated by commas: {', '.join(SIDES)} (default: {','.join(default)})"
    add("--sides", type=_sides, default=default, metavar="NAMES", help=sides)


def _destination(side):
    return f"rates_{side.replace('-', '_')}"


def _add_rate_flags(group):
    for side, (words, _, rates) in SIDES.items():
        text = f"of {words} (default: {','.join(f'{rate:g}' for rate in rates)})"
        group.add_argument(
            f"--rates-{side}", dest=_destination(side), type=_rates, default=rates, metavar="X,X,…", help=text
        )


def _add_machine_flags(group):
    add = group.add_argument
    devices = "where both compute; auto takes a GPU if both see one"
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help=devices)
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="data type of both, for torchvision as autocast; auto takes what train.py takes",
    )
    workers = "processes that make the batches of each side (default: as train.py)"
    add("--workers", type=non_negative_int, metavar="N", help=workers)
    add("--peer-python", type=interpreter, default=peer_python(), metavar="FILE", help=PEER_PYTHON_HELP)


if __name__ == "__main__":
    cli.run(main)
