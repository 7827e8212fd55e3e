"""Write a data set in another format: Pascal VOC's, COCO's, YOLO's or CSV tables.

The data set may have any format that train.py reads (docs/formats.md); the format is detected. All splits are written,
with their names. Boxes are those that train.py would learn: fitted to pictures that were resized, clipped, without
empty ones. Flags (difficult, truncated, crowd regions), areas and sizes are kept where the format has a place for them;
the program prints what it had no place for, with a count. Outlines (polygons, masks), keypoints and other additions are
not written.
"""

import system.environment  # noqa: F401

from collections.abc import Sequence

import sources
from conversion import records, writing
from formats import class_lists, division, listing
from structures import UserError
from system import cli, flag_rules, wording
from system.argument_parser import ArgumentParser
from system.argument_types import inner_fraction, output_folder

EPILOG = """examples:
  python convert_dataset.py --data mydata --to coco --output mydata_coco
      all splits of a data set in COCO's format, with copies of the pictures
  python convert_dataset.py --data VOCdevkit --split 2007:trainval,2007:test --to yolo --output voc_yolo --link
      two splits in YOLO's format, with symbolic links to the pictures; data.yaml describes it
  python convert_dataset.py --data flat --to voc --output flat_voc --valid-share 0.2
      a folder without splits in Pascal VOC's format, a fifth of it in the split val: the pictures that
      train.py --valid-share 0.2 would take

what the formats hold:
  voc   difficult, truncated; crowd regions as difficult objects with <iscrowd>, which only this project reads; boxes
        of up to a pixel in width or height are left out
  coco  everything; truncated objects with "truncated", which only this project reads
  yolo  boxes alone; crowd regions are left out
  csv   everything, in columns that other programs may not know
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. argv: the arguments; by default those of the command line."""
    flags = _parse(argv)
    source = sources.choose(flags.data, flags.source)
    flag_rules.check_new_folder("--output", flags.output, flags.data)
    splits = listing.check_names(flags.split, sources.split_names(flags.data, source), flags.data)
    if flags.valid_share and len(splits) > 1:
        raise UserError(
            f"--valid-share: divides one split, and --data has {', '.join(splits)}; choose the one with --split"
        )
    if flags.within_data:
        sources.check_within(flags.data, ",".join(splits), source)
    class_names = _class_names(flags, splits, source)
    options = {"other_classes": flags.other_classes, "missing_annotations": flags.missing_annotations, "progress": True}
    parts, samples = records.gather(flags.data, splits, class_names, source, **options)
    if flags.valid_share:
        parts = _divided(parts[0], samples[splits[0]], flags)
    for line in writing.losses(parts, class_names, flags.to):
        cli.warn(line)
    writing.write(parts, class_names, flags.output, flags.to, flags.link, progress=True)
    objects = writing.count_objects(parts, flags.to)
    counted = ", ".join(f"{part.split} ({wording.plural(len(part.records), 'picture')})" for part in parts)
    of_classes = f"{wording.plural(objects, 'object')} of {wording.plural(len(class_names), 'class')}"
    print(f"{flags.output}: {counted}; {of_classes}, from {source} to {flags.to}")


def _class_names(flags, splits, source):
    """Those of --classes, or of all splits, in their order."""
    if flags.classes:
        return class_lists.parse_classes(flags.classes)
    found: dict = {}
    for split in splits:
        try:
            found |= dict.fromkeys(sources.class_names(flags.data, split, source))
        except class_lists.NoObjects:
            continue
    return class_lists.names_of_data(list(found), flags.data, ",".join(splits))


def _divided(part, samples, flags):
    """The Parts train and val of one Part. samples: its Samples, in the same order."""
    found = division.divide(samples, flags.valid_share, flags.data)
    side_of = dict.fromkeys(found.train, "train") | dict.fromkeys(found.valid, "val")
    sides = [side_of[division.picture_name(record.image_path, flags.data)] for record in part.records]
    return [
        records.Part(split, [record for record, side in zip(part.records, sides, strict=True) if side == split])
        for split in ("train", "val")
    ]


def _parse(argv):
    parser = ArgumentParser(description=__doc__, epilog=EPILOG)
    reads, writes = map(parser.add_argument_group, ("what it reads", "what it writes"))
    add = reads.add_argument
    add("--data", required=True, metavar="DIR", help="the data set to read")
    add("--source", type=sources.source_name, default="auto", metavar="FORMAT", help=sources.SOURCE_HELP)
    add("--within-data", action="store_true", help=sources.WITHIN_HELP)
    add("--split", metavar="SPLITS", help="splits to write: train,val or 2007:trainval,2007:test (default: all)")
    add(
        "--classes",
        metavar="LIST",
        help="the class names and their order: car,dog or a file with one per line (default: those of the data)",
    )
    add(
        "--other-classes",
        choices=("error", "ignore"),
        default="error",
        help="objects of a class that is not in --classes: error stops, ignore drops them",
    )
    add(
        "--missing-annotations",
        choices=sources.MISSING_ANNOTATIONS,
        default="error",
        help="pictures without an annotation file: error stops, background takes them as pictures without objects",
    )
    writes.add_argument("--to", required=True, choices=tuple(writing.WRITERS), help="format to write")
    writes.add_argument(
        "--output",
        required=True,
        type=output_folder,
        metavar="DIR",
        help="folder to write, which must be new or empty; it appears when it is complete",
    )
    pictures = writes.add_mutually_exclusive_group()
    pictures.add_argument("--copy", action="store_true", help="copy the pictures (default)")
    pictures.add_argument("--link", action="store_true", help="make symbolic links to the pictures")
    writes.add_argument(
        "--valid-share",
        type=inner_fraction,
        metavar="X",
        help="divide the one split into train and val, with the share X of pictures and objects in val, as "
        "train.py --valid-share does (default: keep the splits)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
