"""The program: `python -m toy_road --output DIR` draws the data set, and a drive with `--drive FILE.mp4`."""

from system import cli
from toy_road.dataset import CLASSES, write_dataset, write_drive


def main(argv=None):
    """Parse the flags and write what they ask for."""
    parser = cli.ArgumentParser(description="Draw the toy road: a data set in Pascal VOC layout, and a drive.")
    parser.add_argument("--output", required=True, type=cli.output_folder, help="folder to make, a VOCdevkit")
    parser.add_argument("--train", type=cli.positive_int, default=4000, help="training pictures (%(default)s)")
    parser.add_argument("--test", type=cli.positive_int, default=400, help="test pictures (%(default)s)")
    parser.add_argument("--drive", type=cli.output_file, metavar="FILE.mp4", help="also write a video of a drive")
    parser.add_argument("--seed", type=cli.non_negative_int, default=0, help="another seed, another town (0)")
    parser.add_argument("--workers", type=cli.non_negative_int, help="processes (one per core); 0 = no others")
    flags = parser.parse_args(argv)
    written = write_dataset(flags.output, flags.train, flags.test, flags.seed, flags.workers)
    note = "" if written else " (was there already)"
    print(f"{flags.output}: {flags.train} training and {flags.test} test pictures{note}; use it with")
    print(f"  --data {flags.output} --classes {','.join(CLASSES)} --train 2007:train --valid 2007:test")
    if flags.drive:
        truth = write_drive(flags.drive, flags.seed)
        print(f"{flags.drive}: the drive; its ground truth: {truth}")


if __name__ == "__main__":
    cli.run(main)
