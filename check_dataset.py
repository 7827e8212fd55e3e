"""Check a data set before training: files, lists of splits, boxes, class names, anchors.

The data set may have any format that train.py reads (docs/formats.md); the format is detected.
Prints the defects, the most serious first ('!' marks those that stop training or spoil its result), with the files that
have them; then the number of objects of each class and split, and the share of objects that the preset's anchors can
match. The data set itself is never changed. The exit code is 0 even if there are defects.
"""

import system.environment  # noqa: F401

import os
from collections.abc import Sequence

import sources
import ssd_layers
import ssd_utils
from dataset_check import anchor_advisor, drawings, fixes, html_report, reporting, scanning
from formats import class_lists, listing
from structures import UserError
from system import cli, files, flag_rules, wording
from system.argument_parser import ArgumentParser
from system.argument_types import (
    non_negative_int,
    output_folder,
    output_html,
    output_json,
    positive_int,
    width_x_height,
)

EPILOG = """examples:
  python check_dataset.py --data mydata --html check.html
      check all splits; open check.html in a browser to see the pictures
  python check_dataset.py --data VOCdevkit --split 2007:trainval,2007:test --classes car,dog
      check two splits; class names other than car and dog are reported, each with the one that was probably meant
  python check_dataset.py --data mydata --fix mydata_clean
      write a copy in the same format with everything corrected that can be: unreadable files and copies of pictures
      left out, boxes clipped, boxes of resized pictures scaled; mydata_clean/changes.txt lists each change
  python check_dataset.py --data mydata --draw drawn
      draw every picture with its boxes and their classes to drawn/SPLIT, for a look at all of them
  python check_dataset.py --data mydata --preset vgg300 --anchors anchors.json
  python train.py --data mydata --preset vgg300 --anchors anchors.json ...
      write anchors that fit the sizes and shapes of the objects in this data, and train with them
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. argv: the arguments; by default those of the command line."""
    flags = _parse(argv)
    source = sources.choose(flags.data, flags.source)
    class_names = class_lists.parse_classes(flags.classes) if flags.classes else None
    _check_outputs(flags, source)
    if flags.within_data:
        names = listing.check_names(flags.split, sources.split_names(flags.data, source), flags.data)
        sources.check_within(flags.data, ",".join(names), source)
    reading = {"missing_annotations": flags.missing_annotations, "workers": flags.workers, "progress": True}
    preset = ssd_utils.get_preset(flags.preset)
    if flags.input:
        preset = ssd_layers.for_input(preset, *flags.input)
    scan = scanning.scan(flags.data, flags.split, source=source, **reading)
    report = reporting.make(scan, preset, class_names, flags.near_duplicates)
    print("\n".join(reporting.text(report, flags.files)))
    if flags.fix:  # first: its folder must be empty, and the other files may go into it
        changes = fixes.write_copy(scan, report.findings, flags.fix, progress=True)
        listed = os.path.join(flags.fix, "changes.txt")
        leaving = len(fixes.left_out(report.findings))
        without = f" without {leaving:,} of {wording.plural(len(scan.pictures), 'picture')}," if leaving else ""
        print(f"{flags.fix}: a copy{without} with {wording.plural(len(changes), 'change')}, listed in {listed}")
    if flags.draw:
        drawn, skipped = drawings.write(scan, flags.draw, flags.draw_limit, progress=True)
        print(f"{flags.draw}: {wording.plural(drawn, 'drawn picture')}, {skipped} skipped")
    if flags.html:
        html_report.write(flags.html, report)
        print(f"{flags.html}: this report with pictures")
    if flags.json:
        files.write_json(flags.json, reporting.to_json(report))
        print(f"{flags.json}: this report as JSON")
    if flags.anchors:
        _write_anchors(flags.anchors, report)


def _check_outputs(flags, source):
    """Raise UserError for a folder or file that cannot be written to, before anything is read."""
    for flag in ("html", "json", "anchors"):
        flag_rules.refuse_to_replace(f"--{flag}", getattr(flags, flag), [flags.data])
    if flags.fix:
        sources.check_fixable(source)
        flag_rules.check_new_folder("--fix", flags.fix, flags.data)
    if flags.draw:
        drawings.check_folder(flags.draw, flags.data, filter(None, (flags.html, flags.json, flags.anchors)))
    if flags.fix and flags.draw and os.path.realpath(flags.fix) == os.path.realpath(flags.draw):
        raise UserError("--draw: the folder of --fix; choose another one")


def _write_anchors(path, report):
    if report.advice is None:
        print(f"{path}: not written; there are no objects to fit anchors to")
        return
    anchor_advisor.write_anchors(path, report.advice)
    print(f"{path}: anchors for {report.preset.name}, matching {report.advice.after:.1%} of the objects")


def _parse(argv):
    parser = ArgumentParser(description=__doc__, epilog=EPILOG)
    _add_data_flags(parser.add_argument_group("what it reads").add_argument)
    _add_check_flags(parser.add_argument_group("how it checks").add_argument)
    _add_output_flags(parser.add_argument_group("what it prints and writes").add_argument)
    return parser.parse_args(argv)


def _add_data_flags(add):
    add(
        "--data",
        required=True,
        metavar="DIR",
        help="data set: a VOCdevkit (VOC2007, VOC2012, …), or any other that docs/formats.md lists",
    )
    add("--source", type=sources.source_name, default="auto", metavar="FORMAT", help=sources.SOURCE_HELP)
    add("--within-data", action="store_true", help=sources.WITHIN_HELP)
    add("--split", metavar="SPLITS", help="splits to check: train,val or 2007:trainval,2007:test (default: all)")
    add(
        "--classes",
        metavar="LIST",
        help="the class names to expect: car,dog or a file with one per line (default: those of the data)",
    )
    add(
        "--missing-annotations",
        choices=sources.MISSING_ANNOTATIONS,
        default="error",
        help="pictures without an annotation file: error reports them, background takes them as pictures without "
        "objects",
    )


def _add_check_flags(add):
    add(
        "--preset",
        choices=tuple(ssd_utils.PRESETS),
        default="vgg300",
        help="check boxes against the input size and anchors of this preset",
    )
    add(
        "--input",
        type=width_x_height,
        metavar="WIDTHxHEIGHT",
        help="check boxes against the preset at this input size, as with train.py --input (default: the preset's own)",
    )
    add("--near-duplicates", action="store_true", help="also report pictures of one split that look almost the same")
    add(
        "--workers",
        type=positive_int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one per CPU)",
    )


def _add_output_flags(add):
    add("--files", type=non_negative_int, default=3, metavar="N", help="files to name for each defect")
    add("--html", type=output_html, metavar="FILE", help="also write the report as a page with pictures")
    add("--json", type=output_json, metavar="FILE", help="also write the report as JSON, with every finding")
    add("--fix", type=output_folder, metavar="DIR", help="write a corrected copy to DIR, which must be new or empty")
    add(
        "--draw",
        type=output_folder,
        metavar="DIR",
        help="draw the boxes and classes of the checked splits to DIR, which must be new or empty, or hold nothing but "
        "those of an earlier call, which are replaced, and the other files that this call writes",
    )
    add(
        "--draw-limit",
        type=positive_int,
        metavar="N",
        help=f"draw at most N pictures of each split, the same ones every time (default: {drawings.MOST})",
    )
    add(
        "--anchors",
        type=output_json,
        metavar="FILE",
        help="write anchors that fit this data, for train.py --anchors",
    )


if __name__ == "__main__":
    cli.run(main)
