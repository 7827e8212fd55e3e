"""Average precision by Pascal VOC's rules (VOCdevkit `VOCevaldet.m`); also a program.

    python average_precision.py RESULTS --data VOCDEVKIT --split 2007:test

The program scores the results of any detector, in any format of results/detection_files.py; with `--protocol coco` it
uses COCO's rules (scoring/coco_metric.py).

The metric works in the devkit's 1-based inclusive pixels, where a box is xmax − xmin + 1 wide;
`comp4.to_comp4_px` converts the continuous edges used elsewhere.
"""

import system.environment  # noqa: F401

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import config
import sources
from formats import class_lists
from media import charts
from results import comp4, detection_files
from results.data_set import MISSING_ANNOTATIONS, OTHER_CLASSES, VALID_OF, DataSet
from scoring import (
    coco_metric,
    comparison,
    comparison_page,
    error_pages,
    groups,
    matching,
    report_page,
    score_cuts,
    score_report,
    score_threshold,
)
from scoring.score_report import Scored
from structures import Detections, Sample, UserError
from system import cli, file_names, files, flag_rules, streams, write_errors
from system.argument_parser import ArgumentParser
from system.argument_types import existing_file, existing_path, fraction, output_folder, output_json, positive_fraction
from system.wording import plural

TRUE, FALSE, IGNORED = 1, 0, -1
# Results cut at a higher score lack the right end of their precision-recall curves.
HIGH_THRESHOLD = 0.05
# Flags that --protocol coco does not take, with their defaults
VOC_DEFAULTS: dict[str, Any] = {
    "iou": 0.5,
    "at_precision": score_report.Settings.precision,
    "at_recall": score_report.Settings.recall,
    "score_cuts": score_report.Settings.cuts,
    "confusion_threshold": score_report.Settings.confusion,
    "groups": None,
    "plots": None,
    "remember": None,
}


@dataclasses.dataclass(frozen=True, eq=False)
class ClassCurve:
    """One class: all its detections by falling score, the verdict on each, and the curve and AP that follow.

    name: of the class.
    positives: number of objects that count (not difficult).
    scores: [N], falling.
    verdicts: int8 [N], TRUE, FALSE or IGNORED (it hit a difficult object).
    recall: float64 [N], after each detection; NaN without positives.
    precision: float64 [N], after each detection.
    voc07: 11-point AP (VOC2007); None without positives, 0.0 without detections.
    area: AP as the area under the monotone envelope (VOC2010 on); None and 0.0 as for voc07.
    images: int64 [N], which image of the ground truth, by its order.
    boxes_px: [N,4], continuous edges.
    overlaps: float64 [N], the largest IoU with an object of this class.
    objects: int64 [N], the row of that object in its Sample, -1 without.
    """

    name: str
    positives: int
    scores: np.ndarray
    verdicts: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    voc07: float | None
    area: float | None
    images: np.ndarray
    boxes_px: np.ndarray
    overlaps: np.ndarray
    objects: np.ndarray

    @property
    def true(self) -> np.ndarray:
        """bool [N]: which detections are hits."""
        return self.verdicts == TRUE

    @property
    def false(self) -> np.ndarray:
        """bool [N]: which detections are false positives."""
        return self.verdicts == FALSE

    def where(self, mask: np.ndarray, positives: int) -> "ClassCurve":
        """The curve of some of the detections, bool [N], for another number of objects; their verdicts stay."""
        columns = (self.scores, self.verdicts, self.images, self.boxes_px, self.overlaps, self.objects)
        return _curve(self.name, positives, *(column[mask] for column in columns))


def evaluate(
    ground_truth: Mapping[str, Sample],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    iou_threshold: float = 0.5,
) -> dict:
    """The figures that `--json` writes (docs/formats.md), as a dict.

    ground_truth: id -> Sample.
    detections: id -> Detections; an id left out counts as no detections, an unknown one raises UserError.
    iou_threshold: above 0, at most 1.
    Equal scores are sorted by the order of ground_truth, then by the order within the image.
    Raises ValueError for another threshold, a score that is not a number, a label that is no index of class_names, and
    a name that is listed twice in them.
    """
    curves = precision_recall(ground_truth, detections, class_names, iou_threshold)
    return summarize(curves, len(ground_truth), iou_threshold)


def summarize(curves: Sequence[ClassCurve], images: int, iou_threshold: float) -> dict:
    """Dict as in docs/formats.md from the ClassCurves of `images` images. Means are over the classes with an AP."""
    return {
        "voc07": _mean_and_classes({curve.name: curve.voc07 for curve in curves}),
        "area": _mean_and_classes({curve.name: curve.area for curve in curves}),
        "iou": float(iou_threshold),
        "images": images,
        "ground_truth": {curve.name: curve.positives for curve in curves},
        "detections": {curve.name: len(curve.scores) for curve in curves},
    }


def _mean_and_classes(per_class):
    return {"mean": matching.mean(per_class), "per_class": per_class}


def precision_recall(
    ground_truth: Mapping[str, Sample],
    detections: Mapping[str, Detections],
    class_names: Sequence[str],
    iou_threshold: float = 0.5,
) -> list[ClassCurve]:
    """One ClassCurve per class, in the order of class_names. Arguments and errors as in `evaluate`."""
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold {iou_threshold} is not above 0 and at most 1")
    if len(set(class_names)) != len(class_names):
        raise ValueError("a class name is listed twice")
    matching.require_known(ground_truth, detections)
    gt = _gather_ground_truth(ground_truth, len(class_names))
    found = _gather_detections(ground_truth, detections, len(class_names))
    overlaps, targets = _most_overlapped(found, gt, len(ground_truth) * len(class_names))
    verdicts = _judge(overlaps, targets, gt.difficult, iou_threshold)
    objects = np.where(targets >= 0, np.append(gt.rows, -1)[targets], -1)
    images = found.groups // max(len(class_names), 1)
    ends = np.searchsorted(found.labels, np.arange(len(class_names) + 1))
    positives = np.bincount(gt.labels[~gt.difficult], minlength=len(class_names))
    columns = (found.scores, verdicts, images, found.boxes_px, overlaps, objects)
    return [
        _curve(name, int(positives[label]), *(column[start:end] for column in columns))
        for label, (name, start, end) in enumerate(zip(class_names, ends[:-1], ends[1:], strict=True))
    ]


@dataclasses.dataclass(frozen=True, eq=False)
class _Boxes:
    """Boxes of many images in one array: ground truth, with difficult and rows, or detections, with scores.

    boxes_px: [N,4], continuous edges.
    labels: [N].
    groups: int64 [N], image · classes + label.
    difficult: bool [N], or None.
    rows: int64 [N], of the object in its Sample, or None.
    scores: [N], or None.
    """

    boxes_px: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    difficult: np.ndarray | None = None
    rows: np.ndarray | None = None
    scores: np.ndarray | None = None


def _gather_ground_truth(ground_truth, classes):
    """All objects, sorted by group; within a group as annotated."""
    samples = list(ground_truth.values())
    labels, groups = _labels_and_groups([sample.labels for sample in samples], classes)
    order = np.argsort(groups, kind="stable")
    return _Boxes(
        boxes_px=_concatenate([sample.boxes_px for sample in samples], (0, 4))[order],
        labels=labels[order],
        groups=groups[order],
        difficult=_concatenate([sample.difficult for sample in samples], 0).astype(bool)[order],
        rows=_concatenate([np.arange(len(sample.labels)) for sample in samples], 0).astype(np.int64)[order],
    )


def _gather_detections(ground_truth, detections, classes):
    """All detections by class, then falling score, then the order of images, then that within the image."""
    per_image = [detections.get(key) for key in ground_truth]
    images = np.array([index for index, found in enumerate(per_image) if found is not None], np.int64)
    per_image = [found for found in per_image if found is not None]
    labels, groups = _labels_and_groups([found.labels for found in per_image], classes, images)
    scores = _concatenate([found.scores for found in per_image], 0)
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    order = np.argsort(-scores, kind="stable")
    order = order[np.argsort(labels[order], kind="stable")]
    boxes_px = _concatenate([found.boxes_px for found in per_image], (0, 4))
    return _Boxes(boxes_px[order], labels[order], groups[order], scores=scores[order])


def _concatenate(arrays, empty_shape):
    return np.concatenate([np.zeros(empty_shape, np.float32), *arrays])


def _labels_and_groups(labels_per_image, classes, images=None):
    """Labels [N] of all images, and the group image · classes + label [N] of each."""
    images = np.arange(len(labels_per_image)) if images is None else images
    given = np.concatenate([np.zeros(0, np.int32), *labels_per_image])
    if given.size and not 0 <= given.min() <= given.max() < classes:
        raise ValueError(f"labels reach from {given.min()} to {given.max()}, there are {plural(classes, 'class')}")
    labels = given.astype(np.int32)
    if (labels != given).any():
        raise ValueError(f"{given[labels != given][0]} is not a label; labels are whole numbers")
    image_of = np.repeat(images, [len(labels) for labels in labels_per_image])
    return labels, image_of * classes + labels


def _judge(overlap, target, gt_difficult, iou_threshold):
    """int8 [N]: TRUE, FALSE or IGNORED for each detection. overlap, target: from `_most_overlapped`.

    A detection can only hit the object that it overlaps most. So each object is claimed by the first detection (they
    are sorted by falling score) that has it as its target and overlaps it enough, whatever became of the others.
    """
    verdicts = np.full(len(target), FALSE, np.int8)
    hits = np.flatnonzero(overlap >= iou_threshold)
    difficult = gt_difficult[target[hits]]
    verdicts[hits[difficult]] = IGNORED
    hits = hits[~difficult]
    _, firsts = np.unique(target[hits], return_index=True)
    verdicts[hits[firsts]] = TRUE
    return verdicts


def _most_overlapped(found, gt, groups):
    """For each detection the largest IoU with an object of its group, float64 [N], and that object, int64 [N].

    Equal overlaps go to the object annotated first; without overlap the IoU is 0 and the object -1.
    groups: the number of groups.
    """
    count = np.bincount(gt.groups, minlength=groups)
    first = np.cumsum(count) - count
    found_px, gt_px = (comp4.to_comp4_px(some.boxes_px) for some in (found, gt))
    return matching.most_overlapped(found_px, first[found.groups], count[found.groups], gt_px)


def _curve(name, positives, scores, verdicts, *evidence):
    """ClassCurve of one class from its detections by falling score. evidence: the last four fields."""
    true, false = np.cumsum(verdicts == TRUE), np.cumsum(verdicts == FALSE)
    precision = np.divide(true, true + false, out=np.zeros(len(true)), where=true + false > 0)  # 0/0 is 0
    if positives == 0:
        return ClassCurve(name, 0, scores, verdicts, np.full(len(true), np.nan), precision, None, None, *evidence)
    recall = true / positives
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    voc07, area = _eleven_points(true, positives, envelope), _area(recall, envelope)
    return ClassCurve(name, positives, scores, verdicts, recall, precision, voc07, area, *evidence)


def _eleven_points(true, positives, envelope):
    """VOC2007 AP: the mean of the best precision at recall ≥ 0, 0.1, …, 1, 0 where it is not reached.

    Recall is compared in integers, 10·tp ≥ j·positives: steps of 0.1 in floating point miss exact recalls.
    """
    reached = np.searchsorted(10 * true, np.arange(11) * positives, side="left")
    return float(np.append(envelope, 0.0)[reached].sum() / 11)


def _area(recall, envelope):
    """VOC2010 AP: the area under the envelope, which falls to 0 after the last recall reached."""
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def main(argv: Sequence[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    args = _parse(argv)
    names = class_lists.parse_classes(args.classes) if args.classes else None
    loading = {"other_classes": args.other_classes, "missing_annotations": args.missing_annotations}
    loading["progress"] = streams.is_terminal(sys.stderr)
    if args.within_data:
        sources.check_within(args.data, args.split, args.source)
    data = DataSet(args.data, args.split, args.source, args.valid_of, **loading)
    read = detection_files.read(args.results, names, data)
    ground_truth = _ground_truth(data, read, args)
    _check_results(args.results, read, ground_truth, args)
    if args.others:
        report = _compare(args, data, read, ground_truth)
    elif args.protocol == "coco":
        report = coco_metric.evaluate(ground_truth, read.detections, read.class_names)
        print(coco_metric.table(report))
    else:
        report = _score_by_voc(args, read, ground_truth)
    if read.source and not args.others:
        print(f"results of {read.source}")
        report = {**report, "source": dataclasses.asdict(read.source)}
    if args.json:
        files.write_json(args.json, report)


def _ground_truth(data, read, args):
    """The samples of the split by id. Raises UserError, also if RESULTS are for other classes than the data has."""
    try:
        found = data.samples(read.class_names)
        strange = args.other_classes == "ignore" and not any(len(sample.labels) for sample in found.values())
    except UserError as error:
        if not args.classes and (message := _other_classes(data, read, args)):
            raise UserError(message) from error
        raise
    if strange and not args.classes and (message := _other_classes(data, read, args)):
        raise UserError(message)
    left_out = args.other_classes == "ignore" and not strange  # without any objects there are no classes to name
    if left_out and not read.all_classes and (others := _unnamed_classes(data, read)):
        cli.warn(
            f"{args.results}: objects of {_some(others)} are left out; such a table names only classes that were "
            "detected: if its model has these, give all its classes with --classes, so that they count"
        )
    return found


def _unnamed_classes(data, read):
    """The classes of the data that RESULTS does not name, a list.

    [] where they cannot be read, or not all can be a detector's, such as one called background.
    """
    try:
        return [name for name in data.class_names if name not in read.class_names]
    except UserError:
        return []


def _other_classes(data, read, args):
    """What to say where the data has classes that RESULTS does not name; None if it has none or cannot be read."""
    if not (others := _unnamed_classes(data, read)):
        return None
    made = f" (made by {read.source})" if read.source else ""
    remedy = "detect again with a model of these classes"
    if not read.all_classes:
        remedy = f"such a table names only classes that were detected: give its model's with --classes, {remedy}"
    if len(others) < len(data.class_names):
        remedy += ", or leave their objects out with --other-classes ignore"
    return (
        f"{args.results}: names other classes than the data: {_some(read.class_names) or 'none'}{made}, "
        f"but split {args.split} of {args.data} has {_some(others)}; {remedy}"
    )


def _some(names):
    """The first five of some names."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _check_source(path, source, args):
    """Warn if results record that they are from other data, or from a checkpoint that their model has no more."""
    if source is None:
        return
    if source.data and (os.path.realpath(source.data), source.split) != (os.path.realpath(args.data), args.split):
        cli.warn(f"{path}: made on {source.split} of {source.data}, not on {args.split} of {args.data}")
    try:
        now = score_threshold.checkpoint_of(config.find_model(source.model)) if source.checkpoint else None
    except UserError:  # which is elsewhere, or gone
        return
    if now not in (None, source.checkpoint):
        cli.warn(f"{path}: made with {source.checkpoint} of {source.model}, which is {now} now; detect again")


def _score_by_voc(args, read, ground_truth):
    """Print the figures, draw and remember what was asked for; returns the dict for --json."""
    run = _run_to_remember(args, read)
    if args.confusion_threshold:
        args.confusion_threshold.check("--confusion-threshold", args.results, read.class_names)
    grouped = groups.read(args.groups, ground_truth) if args.groups else {}
    curves = precision_recall(ground_truth, read.detections, read.class_names, args.iou)
    report = summarize(curves, len(ground_truth), args.iou)
    print(table(report))
    scored = Scored(ground_truth, read.detections, read.class_names, curves, args.iou, read.threshold or 0.0)
    settings = score_report.Settings(args.at_precision, args.at_recall, args.score_cuts, args.confusion_threshold)
    found, matrix = score_report.figures(scored, settings)
    print(score_report.best_line(found))
    by_group = _by_group(grouped, scored, settings)
    if args.plots:
        print(score_cuts.text(found["score_cuts"]))
        _plot(curves, report, args.plots)
        score_report.draw(args.plots, scored, found, matrix)
        page = error_pages.write(args.plots, ground_truth, read.detections, curves, read.class_names, args.iou)
        print(f"{page}: the errors, with pictures")
        more = {"by_group": by_group, "errors_page": os.path.basename(page)}
        page = report_page.write(args.plots, scored, report, found, matrix, **more)
        print(f"{page}: all figures on one page")
    if run:
        _remember(args, run, read.source, found["thresholds"])
    return {**report, **found, **({"groups": by_group} if by_group else {})}


def _compare(args, data, read, ground_truth):
    """Print how other results differ from the first, draw what was asked for; returns the dict for --json."""
    paths, reads, results, reports = [args.results, *args.others], [read], [], {}
    for path in args.others:
        reads.append(detection_files.read(path, read.class_names, data))
        _check_results(path, reads[-1], ground_truth, args)
    for path, one in zip(paths, reads, strict=True):
        curves = precision_recall(ground_truth, one.detections, one.class_names, args.iou)
        results.append(Scored(ground_truth, one.detections, one.class_names, curves, args.iou, one.threshold or 0.0))
        reports[path] = summarize(curves, len(ground_truth), args.iou)
        if one.source:
            reports[path]["source"] = dataclasses.asdict(one.source)
    compared = comparison.compare(results)
    print(comparison.text(compared, paths))
    for path, one in zip(paths, reads, strict=True):
        if one.source:
            print(f"{path}: results of {one.source}")
    if args.plots:
        page = comparison_page.write(args.plots, compared, paths, ground_truth)
        print(f"{page}: what one finds and the other misses")
    return {"results": reports, "comparison": compared}


def _by_group(grouped, scored, settings):
    """{group: the dict for --json} of the groups of `groups.read`, printed."""
    by_group = {}
    for name, ids in grouped.items():
        part = groups.part(scored, ids)
        report = summarize(part.curves, len(part.ground_truth), part.iou)
        by_group[name] = {**report, **score_report.figures(part, settings)[0]}
    if by_group:
        print(groups.table(by_group))
    return by_group


def _run_to_remember(args, read):
    """The config.ModelSource of --remember, or that of the run that the results say they are from; or None."""
    run = args.remember
    if not run:
        return read.source and score_threshold.find_run(read.source.model, read.class_names)
    if not run.run:
        raise UserError(f"--remember {run.name}: is an exported graph; give the run that it is from")
    if run.to_fetch:
        raise UserError(f"--remember {run.name}: has not been fetched yet; detect with it first")
    if other := set(read.class_names) - set(run.class_names or ()):
        raise UserError(f"--remember {run.name}: the run has no class {min(other)!r}, which RESULTS has; give its run")
    return run


def _remember(args, run, source, points):
    """Write the best thresholds into a run. source: the result_files.Source of the results, or None."""
    facts = {"results": args.results, "data": args.data, "split": args.split, "iou": args.iou}
    facts["checkpoint"] = source and source.checkpoint
    try:
        print(f"{score_threshold.remember(run, points, **facts)}: the thresholds for --threshold best")
    except write_errors.UnwritableFile as error:
        if args.remember:
            raise
        cli.warn(f"{error}; --threshold best will not have them")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        description="Score the detections of any detector with Pascal VOC's metric or COCO's, and show the errors.",
        epilog="example: python average_precision.py runs/found --data VOCdevkit --split 2007:test",
    )
    looks = ", ".join(module.LOOKS for module in detection_files.FORMATS.values())
    reads = parser.add_argument_group("what it reads")
    reads.add_argument(
        "results",
        metavar="RESULTS",
        type=existing_path,
        help=f"the detections: {looks}. The format is detected automatically",
    )
    reads.add_argument(
        "others",
        metavar="OTHER",
        nargs="*",
        type=existing_path,
        help="more results on the same pictures: print the differences of AP from RESULTS by class and size, with "
        "intervals, and with --plots show what one finds and the other does not",
    )
    _data_flags(parser.add_argument_group("the data set that it scores on"))
    _metric_flags(parser.add_argument_group("how it scores"))
    _output_flags(parser.add_argument_group("what it writes (the figures are also printed)"))
    args = parser.parse_args(argv)
    if args.protocol == "coco":
        flag_rules.refuse_given(args, VOC_DEFAULTS, "for --protocol voc only; leave it out with --protocol coco")
    if args.others:
        _check_comparison(args)
    flag_rules.refuse_to_replace("--json", args.json, [args.data, *_files_of([args.results, *args.others])])
    flag_rules.set_absent(args, VOC_DEFAULTS)
    return args


def _files_of(paths):
    """The files that some RESULTS may hold: those of folders, and files themselves."""
    for path in paths:
        yield from (os.path.join(path, name) for name in os.listdir(path)) if os.path.isdir(path) else [path]


def _check_comparison(args):
    """Raise UserError for what several RESULTS do not take."""
    if args.protocol == "coco":
        raise UserError("--protocol coco: compares no results; give one RESULTS, or leave the flag out")
    flag_rules.refuse_given(
        args, VOC_DEFAULTS.keys() - {"iou", "plots"}, "for one RESULTS only; leave it out, or give one"
    )
    given = set()
    for path in [args.results, *args.others]:
        if (whole := os.path.realpath(path)) in given:
            raise UserError(f"{path}: is given twice; give different results")
        given.add(whole)


def _data_flags(group):
    group.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        type=existing_path,
        help="the data set, in any format that train.py reads",
    )
    group.add_argument("--within-data", action="store_true", help=sources.WITHIN_HELP)
    group.add_argument(
        "--source",
        type=sources.source_name,
        metavar="FORMAT",
        default="auto",
        help=sources.SOURCE_HELP,
    )
    group.add_argument(
        "--split",
        required=True,
        help="the split that RESULTS is for: 2007:test, or test, val2017, … in data without years",
    )
    group.add_argument("--valid-of", **VALID_OF)
    group.add_argument(
        "--classes",
        metavar="FILE|NAMES",
        help="classes to score: a file with one name per line, or names separated by commas (default: those of "
        "RESULTS; those of DATA if RESULTS only has numbers)",
    )
    group.add_argument("--other-classes", **OTHER_CLASSES)
    group.add_argument("--missing-annotations", **MISSING_ANNOTATIONS)


def _metric_flags(group):
    group.add_argument(
        "--protocol",
        choices=("voc", "coco"),
        default="voc",
        help="voc: average precision (AP) at one overlap, in two variants, of 2007 and 2010; coco: AP averaged over "
        "ten overlaps, AP by size of object, and recall",
    )
    group.add_argument(
        "--iou",
        type=positive_fraction,
        metavar="X",
        help="smallest overlap (intersection over union) at which a detection counts as a hit, with --protocol voc "
        f"(default: {VOC_DEFAULTS['iou']:g})",
    )
    for what in ("precision", "recall"):
        group.add_argument(
            f"--at-{what}",
            type=positive_fraction,
            metavar="X",
            help=f"beside the threshold of best F1, look for the one that gives this {what} (default: "
            f"{VOC_DEFAULTS[f'at_{what}']:g})",
        )
    group.add_argument(
        "--score-cuts",
        type=_cuts,
        metavar="X,…",
        help="give AP also where only the detections above these scores are kept (default: "
        f"{','.join(f'{cut:g}' for cut in VOC_DEFAULTS['score_cuts'])})",
    )
    group.add_argument(
        "--confusion-threshold",
        type=score_threshold.parse,
        metavar="X",
        help="the confusion matrix counts the detections that score above X: a number, car=0.4,…, a JSON file, or "
        "best, the best F1 of each class (default: the best F1 of all classes together)",
    )
    group.add_argument(
        "--groups",
        type=existing_file,
        metavar="FILE.csv",
        help="a CSV table with the header picture,group (day, night, a camera …): also give all figures for each group",
    )


def _cuts(text: str) -> tuple[float, ...]:
    """An argument type: scores separated by commas, rising."""
    cuts = tuple(fraction(part) for part in text.split(","))
    if list(cuts) != sorted(set(cuts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not in rising order, each score once")
    return cuts


def _output_flags(group):
    group.add_argument("--json", type=output_json, metavar="FILE", help="write the figures to this file")
    group.add_argument(
        "--plots",
        type=output_folder,
        metavar="DIR",
        help="draw precision-recall curves, thresholds, the confusion matrix and what errors cost, and write a page of "
        "all (report.html) and an error report (errors.html, errors.json) into this folder, with --protocol voc",
    )
    group.add_argument(
        "--remember",
        type=config.find_model,
        metavar="RUN",
        help="write the thresholds of best F1 into this run, for --threshold best of the other programs (default: the "
        "run that RESULTS names, if it is there)",
    )


def _check_results(path, read, ground_truth, args):
    """Raise UserError unless results and the split name the same pictures; warn about what makes figures doubtful."""
    where = f"{path}, compared with split {args.split} of {args.data}"
    unknown = [key for key in (*read.detections, *read.errors) if key not in ground_truth]
    if unknown:
        raise UserError(
            f"{where}: {plural(len(unknown), 'image')} not in the split, first {unknown[0]!r};"
            " give the split that RESULTS is for"
        )
    missing = [key for key in ground_truth if key not in read.detections and key not in read.errors]
    if missing and read.complete:  # others do not list images without detections
        raise UserError(
            f"{where}: no result for {len(missing)} of {plural(len(ground_truth), 'image')}, "
            f"first {missing[0]!r}; detect on the whole split"
        )
    failed = [key for key in ground_truth if key in read.errors and key not in read.detections]
    if failed:
        more = ", …" if len(failed) > 1 else ""
        cli.warn(
            f"{path}: {plural(len(failed), 'image')} that could not be read, counted as without detections: "
            f"{failed[0]}{more}"
        )
    resized = [key for key, size in read.sizes.items() if size != _size(ground_truth[key])]
    if resized:
        first = resized[0]
        cli.warn(
            f"{path}: {plural(len(resized), 'image')} of another size or orientation than in the data set: {first} "
            f"has {read.sizes[first]}, not {_size(ground_truth[first])}; their boxes do not match"
        )
    if read.threshold is not None and read.threshold > HIGH_THRESHOLD:
        cli.warn(
            f"{path}: only has scores above {read.threshold:g}, which cuts the curves short and lowers AP;"
            " detect with --threshold 0.01"
        )
    _check_source(path, read.source, args)


def _size(sample):
    return sample.width, sample.height


def table(report: dict) -> str:
    """The figures of `evaluate` as text, one class a line."""
    width = max(len(name) for name in ("class", *report["ground_truth"]))
    lines = [f"{'class':{width}}  objects  detections  AP VOC07  AP area"]
    rows = [
        (name, objects, report["detections"][name], *(report[m]["per_class"][name] for m in ("voc07", "area")))
        for name, objects in report["ground_truth"].items()
    ]
    totals = [sum(report[count].values()) for count in ("ground_truth", "detections")]
    rows.append(("mean", *totals, report["voc07"]["mean"], report["area"]["mean"]))
    for name, objects, found, voc07, area in rows:
        lines.append(f"{name:{width}}  {objects:7}  {found:10}  {_show(voc07):>8}  {_show(area):>7}")
    return "\n".join([*lines, f"{plural(report['images'], 'image')}, IoU ≥ {report['iou']:g}"])


def _show(ap):
    return "n/a" if ap is None else f"{ap:.4f}"


def _plot(curves, report, folder):
    """Write `precision_recall.png` with all classes, and a picture per class. Numbers beside a curve are its area."""
    os.makedirs(folder, exist_ok=True)
    drawn = [curve for curve in curves if curve.positives]
    lines = [(f"{curve.name} {curve.area:.3f}", curve.recall, curve.precision) for curve in drawn]
    title = f"mean AP {_show(report['area']['mean'])} as area, {_show(report['voc07']['mean'])} by VOC07"
    title += f" (IoU ≥ {report['iou']:g}, {plural(report['images'], 'image')})"
    charts.plot_precision_recall(os.path.join(folder, "precision_recall.png"), lines, title)
    class_names = [curve.name for curve in curves]
    names = dict(zip(class_names, file_names.safe_names(class_names), strict=True))
    for curve, line in zip(drawn, lines, strict=True):
        title = f"{curve.name}: AP {curve.area:.4f} as area, {curve.voc07:.4f} by VOC07"
        path = os.path.join(folder, f"precision_recall_{names[curve.name]}.png")
        charts.plot_precision_recall(path, [line], title)


if __name__ == "__main__":
    cli.run(main)
