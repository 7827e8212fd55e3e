"""The program: `python -m toy_road --output DIR` draws the data set, and `--drive FILE.mp4` adds a video."""

import system.environment  # noqa: F401

import argparse

from system import cli
from system.argument_parser import ArgumentParser
from system.argument_types import non_negative_int, output_file, output_folder, positive_int, seed
from toy_road.dataset import write_dataset
from toy_road.drive import write_drive
from toy_road.town import CLASSES


def main(argv=None):
    """Run the program. argv: its arguments, by default the command line's. Raises UserError, KeyboardInterrupt."""
    parser = ArgumentParser(
        prog="python -m toy_road",
        description="Draw the toy road: a data set in Pascal VOC layout, and a video of a drive.",
    )
    writes, draws = map(parser.add_argument_group, ("what it writes", "how it draws"))
    writes.add_argument("--output", required=True, type=output_folder, metavar="DIR", help="VOCdevkit folder to write")
    writes.add_argument("--train", type=positive_int, metavar="N", default=4000, help="training pictures")
    writes.add_argument("--test", type=positive_int, metavar="N", default=400, help="test pictures")
    writes.add_argument(
        "--drive", type=_mp4_file, metavar="FILE.mp4", help="also write a video of a drive, and its ground truth"
    )
    draws.add_argument("--seed", type=seed, metavar="N", default=0, help="each seed draws other pictures")
    draws.add_argument(
        "--drive-detail",
        type=positive_int,
        metavar="N",
        default=1,
        help="the drive has N times 480 x N times 360 pixels, to show distant things",
    )
    draws.add_argument(
        "--workers",
        type=non_negative_int,
        metavar="N",
        help="worker processes; 0 draws in this one (default: one per core)",
    )
    flags = parser.parse_args(argv)
    written = write_dataset(flags.output, flags.train, flags.test, flags.seed, flags.workers)
    note = "" if written else " (already there)"
    print(f"{flags.output}: {flags.train} training and {flags.test} test pictures{note}; use it with")
    print(f"  --data {flags.output} --classes {','.join(CLASSES)} --train 2007:train --valid 2007:test")
    if flags.drive:
        truth = write_drive(flags.drive, flags.seed, detail=flags.drive_detail)
        print(f"{flags.drive}: the drive; its ground truth is in {truth}")


def _mp4_file(text):
    if not text.lower().endswith(".mp4"):
        raise argparse.ArgumentTypeError(f"{text!r}: the video is written as MP4; give a name in .mp4")
    return output_file(text)


if __name__ == "__main__":
    cli.run(main)
