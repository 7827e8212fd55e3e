"""Train a detector on a data set in the format of Pascal VOC, COCO, YOLO or a CSV table, or another one."""

import system.environment  # noqa: F401

import os

import config
import sources
import training_data
from dataset_check import before_training
from distribution import member
from formats import division
from structures import UserError
from system import cli, stopping, tensorflow_loading
from system.wording import plural
from training import batch_sheet, together, train_flags


def main(argv: list[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    flags = train_flags.parse(argv, __doc__)
    rank = member.of_this_process()
    if rank is None and together.run(flags, argv):
        return
    leads = rank is None or rank.cluster.rank == 0
    with member.speaking(rank):
        with member.silent(not leads):
            description, settings, samples, valid, divided = _read(flags, leads)
        if "show_batch" in flags:
            print(batch_sheet.write(flags.show_batch, samples * settings.repeat, description, settings))
            return
        with rank.stop_request() if rank else stopping.StopRequest() as stop:
            if rank:
                rank.follow(stop)
            tensorflow_loading.import_tensorflow(xla=flags.xla != "off", xla_on_cpu=flags.xla == "on")
            stop.raise_if_requested()
            # They import TensorFlow, which takes seconds: flags and data are checked first
            from training import follower, trainer

            samples, again = samples * settings.repeat, together.kept_flags(flags)
            task = trainer.Task(
                flags.run, description, settings, samples, valid, flags.resume, flags.xla, divided, again=again
            )
            if flags.find_rate:
                _find_rate(task, stop, cli.words(argv))
                return
            open_one = trainer.open_trainer if leads else follower.open_follower
            with together.joined(rank, task, stop) as task, open_one(task, stop) as opened:
                opened.train()


def _read(flags, leads):
    """(description, settings, samples to train on, to validate on, the Division of --valid-share or None), checked."""
    description, settings = train_flags.read(flags, leads)
    source = sources.choose(settings.data, settings.source)
    _refuse_one_file(settings, source)
    samples, valid, divided = _pictures(flags, settings, source, description.class_names)
    if not any(len(sample.boxes) for sample in samples):
        raise UserError(
            f"--train {settings.train}: no object of {', '.join(description.class_names)} in it; "
            "check --train and --classes"
        )
    if not flags.resume:
        if "classes" not in flags:
            print(before_training.class_line(samples, description.class_names))
        if not valid and (split := sources.usual_validation(settings.data, settings.train, source)):
            print(f"nothing to validate on; --data has {split}: --valid {split} adds scores and the best checkpoint")
        for note in before_training.notes(samples, valid, description, settings):
            cli.warn(note)
    return description, settings, samples, valid, divided


def _pictures(flags, settings, source, class_names):
    """(samples to train on, samples to validate on, the Division of --valid-share or None), at most --limit each."""
    if flags.within_data:
        for splits in filter(None, (settings.train, settings.valid)):
            sources.check_within(settings.data, splits, source)
    divided = None
    if settings.valid_share:
        both = _load(settings, source, settings.train, class_names, "use")
        divided = division.read(os.path.join(flags.run, config.DIVISION)) if flags.resume else None
        if divided is None:  # a new run, or one that was stopped before it was written
            divided = division.divide(both, settings.valid_share, settings.data)
            print(
                f"--valid-share {settings.valid_share:g}: {len(divided.valid)} of {plural(len(both), 'picture')} "
                "for validation, "
                f"which {os.path.join(flags.run, config.DIVISION)} lists"
            )
        samples, valid = divided.apply(both, settings.data)
        samples = sources.without_difficult(samples) if settings.difficult == "ignore" else samples
    else:
        samples = _load(settings, source, settings.train, class_names, settings.difficult)
        valid = _load(settings, source, settings.valid, class_names, "use") if settings.valid else []
    samples, valid = (list(training_data.limited(some, settings.limit)) for some in (samples, valid))
    return sources.without_crowds(samples), valid, divided


def _refuse_one_file(settings, source):
    """Raise UserError if --train and --valid name two splits of a file that holds one."""
    if settings.valid and settings.valid != settings.train and os.path.isfile(settings.data):
        names = sources.split_names(settings.data, source)
        if len(names) == 1:
            raise UserError(
                f"--valid {settings.valid}: --data {settings.data} is one file, so both splits would be the same "
                "pictures; give the folder with a file for each split"
            )


def _find_rate(task, stop, argv):
    """Print the learning rate of a range test, and the command that trains with it."""
    from training import rate_test

    rate = rate_test.find(task, stop, *train_flags.rate_files(task.run))
    print(f"learning rate {rate:g}; train with: {train_flags.training_command(argv, rate)}")
    stop.raise_if_requested()


def _load(settings, source, splits, class_names, difficult):
    """The samples of some splits. source: the format."""
    return sources.load(
        settings.data,
        splits,
        class_names,
        source=source,
        other_classes=settings.other_classes,
        difficult=difficult,
        missing_annotations=settings.missing_annotations,
        progress=True,
    )


if __name__ == "__main__":
    cli.run(main)
