"""Train a detector on a data set in the format of Pascal VOC, COCO, YOLO or a CSV table."""

import sources
import training_data
from dataset_check import checks
from structures import UserError
from system import cli
from training import train_flags


def main(argv: list[str] | None = None) -> None:
    flags = train_flags.parse(argv, __doc__)
    description, settings = train_flags.read(flags)
    samples = _load(settings, settings.train, description.class_names, settings.difficult)
    samples = sources.without_crowds(samples)
    valid = _load(settings, settings.valid, description.class_names, "use") if settings.valid else []
    if not any(len(sample.boxes) for sample in samples):
        raise UserError(
            f"--train {settings.train}: no object of {', '.join(description.class_names)} in it; "
            "check --train and --classes"
        )
    if not flags.resume:
        for note in checks.quick_notes(samples, valid, description.class_names, description.preset):
            cli.warn(note)
    with cli.StopRequest() as stop:
        cli.import_tensorflow(xla=flags.xla != "off", xla_on_cpu=flags.xla == "on")
        from training import trainer  # imports TensorFlow, which takes seconds: flags and data are checked first

        samples = samples * settings.repeat
        task = trainer.Task(flags.run, description, settings, samples, valid, flags.resume, flags.xla)
        with trainer.open_trainer(task, stop) as opened:
            opened.train()


def _load(settings, splits, class_names, difficult):
    """The samples of some splits, at most --limit."""
    samples = sources.load(
        settings.data,
        splits,
        class_names,
        source=settings.source,
        other_classes=settings.other_classes,
        difficult=difficult,
        progress=True,
    )
    return training_data.limited(samples, settings.limit)


if __name__ == "__main__":
    cli.run(main)
