"""Look a data set over before training on it: files, lists, boxes, classes, and whether the anchors fit.

Prints what was found, the gravest first ('!' stops a training or spoils its result), the objects per class and
split, and the share of objects that the preset's anchors can match. Nothing is changed; defects are a result, not a
failure: the exit code is 0.
"""

import argparse
import os

import source_pascal_voc
import sources
import ssd_utils
from dataset_check import anchor_advisor, fixes, reporting, scanning
from formats import class_lists
from structures import UserError
from system import cli, files

EPILOG = """examples:
  python check_dataset.py --data mydata --html check.html
      all splits; open check.html in a browser to see the pictures
  python check_dataset.py --data VOCdevkit --split 2007:trainval,2007:test --classes car,dog
      names beside car and dog are told, with the one that was probably meant
  python check_dataset.py --data mydata --fix mydata_clean
      a copy without what can be mended: broken files and copies off the lists, boxes clipped, sizes corrected;
      mydata_clean/changes.txt says what was done
  python check_dataset.py --data mydata --preset vgg300 --anchors anchors.json
  python train.py --data mydata --preset vgg300 --anchors anchors.json ...
      anchors made for the sizes and shapes of this data
"""


def main(argv=None):
    flags = _parse(argv)
    if os.path.exists(flags.data) and not source_pascal_voc.fits(flags.data):
        kind = sources.choose(flags.data)
        raise UserError(f"--data {flags.data}: of the format {kind}; this program reads Pascal VOC's layout only")
    class_names = class_lists.parse_classes(flags.classes) if flags.classes else None
    if flags.fix:
        fixes.check_target(flags.fix, flags.data)
    scan = scanning.scan(flags.data, flags.split, workers=flags.workers, progress=True)
    report = reporting.make(scan, ssd_utils.get_preset(flags.preset), class_names, flags.near_duplicates)
    print("\n".join(reporting.text(report, flags.files)))
    if flags.fix:  # first: other files may go into its folder, which must be empty
        changes = fixes.write_copy(scan, report.findings, flags.fix, progress=True)
        print(f"{flags.fix}: a copy with {len(changes)} changes, listed in {os.path.join(flags.fix, 'changes.txt')}")
    if flags.html:
        reporting.write_html(flags.html, report)
        print(f"{flags.html}: the same with pictures")
    if flags.json:
        files.write_json(flags.json, reporting.to_json(report))
        print(f"{flags.json}: the same for programs")
    if flags.anchors:
        _write_anchors(flags.anchors, report)


def _write_anchors(path, report):
    if report.advice is None:
        print(f"{path}: not written, there is no object to fit anchors to")
        return
    anchor_advisor.write_anchors(path, report.advice)
    print(f"{path}: anchors for {report.preset.name}, matching {report.advice.after:.1%} of the objects")


def _parse(argv):
    parser = cli.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG
    )
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="VOCdevkit with VOC2007, …, or one VOC-layout folder")
    add("--split", metavar="SPLITS", help="such as train,val or 2007:trainval,2007:test (default: all)")
    add("--classes", metavar="LIST", help="names with commas, or a file with one a line (default: those of the data)")
    add(
        "--preset",
        choices=tuple(ssd_utils.PRESETS),
        default="vgg300",
        help="whose input size and anchors to judge by (default: vgg300)",
    )
    add("--html", type=cli.output_file, metavar="FILE", help="also write one page with pictures, to open in a browser")
    add("--json", type=cli.output_file, metavar="FILE", help="also write every finding for programs")
    add("--fix", type=cli.output_folder, metavar="DIR", help="write a cleaned copy there; the original stays as it is")
    add("--anchors", type=cli.output_file, metavar="FILE", help="write better anchors there, for train.py --anchors")
    add("--near-duplicates", action="store_true", help="also pictures of one split that look almost the same")
    add("--files", type=cli.non_negative_int, default=3, metavar="N", help="files named for each defect (default: 3)")
    add("--workers", type=cli.positive_int, default=os.cpu_count() or 1, metavar="N", help="processes (default: all)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
