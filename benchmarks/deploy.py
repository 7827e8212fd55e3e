"""Compare the formats of export_model.py on a trained model: size, load time, speed, mAP, difference from the run.

Each format is exported in each precision and runs in a process of its own; formats whose packages are missing, and
those that fail, are left out and named. int8 needs --calibration-split. Writes NAME.jsonl, a line for each row, and
NAME.md, the table, after each row. A line has machine.others_busy, the number of cores that other processes kept busy
meanwhile: do not quote one that is above 0.05.
"""

import bench_environment  # noqa: F401

import argparse
import json
import os
import subprocess
import sys
import tempfile

import bench_harness
import deploy_worker
from bench_harness import Side
from bench_paths import ROOT

import average_precision
import config
import pretrained
import sources
from exports import comparison, file_metadata, formats
from results.data_set import OTHER_CLASSES, DataSet, scored_samples
from structures import UserError
from system import cli, files, folder_tree, load, wording
from system.argument_parser import ArgumentParser
from system.argument_types import existing_path, output_file, positive_int
from system.wording import plural

INT8 = "int8"
RUN = "run"  # what stands in place of a format for the run itself
THRESHOLD = 0.01
ROUNDS, WARMUP = 5, 1
HEAD = "format,precision,MB,load in s,images/s at batch 1,at batch 8,mAP,largest difference in score,matched,unmatched"


def main(argv=None):
    flags = _parse(argv)
    source = config.find_model(flags.model)
    if source.exported:
        raise UserError(f"{flags.model}: is already an exported model; give the run")
    source = pretrained.fetched(source)
    rows, left_out = _plan(flags)
    data_set = DataSet(flags.data, flags.split, flags.source, other_classes=flags.other_classes)
    samples = scored_samples(data_set, flags.split, source.description.class_names, flags.limit)
    header = {"command": bench_harness.command_line("deploy.py", argv), "commit": bench_harness.commit()}
    header |= {"pictures": len(samples), "split": flags.split, "left_out": left_out, "machine": load.machine()}
    for name, reason in left_out.items():
        print(f"{name}: left out, {reason}; packages: pip install -r {formats.REQUIREMENTS}", file=sys.stderr)
    lines, wanted = [], None
    with tempfile.TemporaryDirectory(prefix="deploy-") as scratch:
        for name, precision in rows:
            print(f"{name} {precision} …", file=sys.stderr, flush=True)
            try:
                line, found = _measure(name, precision, source, flags, samples, scratch)
            except (UserError, RuntimeError) as error:  # too much is lost in int8, for example, or a process was killed
                if name == RUN:  # with which all are compared
                    raise UserError(str(error)) from None
                left_out[f"{name} {precision}"] = str(error)
                cli.warn(f"{name} {precision}: left out, {error}")
            else:
                wanted = wanted or found  # the run comes first
                if name != RUN:
                    line["difference"] = _difference(wanted, found, precision, samples, source.description.preset)
                lines.append(line)
            text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in (header, *lines))
            files.write(f"{flags.output}.jsonl", text)
            files.write(f"{flags.output}.md", page(header, lines))
    print(page(header, lines), end="")


def _plan(flags):
    """([(format, precision)], the run first; {what is left out: why}). Raises UserError if no format remains."""
    rows, left_out = [(RUN, "float32")], {}
    for name in flags.format:
        form = formats.FORMATS[name]
        if missing := formats.missing((*form.to_write, *form.to_run)):
            left_out[name] = f"needs {', '.join(missing)}"
            continue
        wanted = [precision for precision in form.precisions if precision in flags.precision]
        if INT8 in wanted and (needs := _needs_for_int8(form, flags)):
            left_out[f"{name} {INT8}"] = f"needs {needs}"
            wanted.remove(INT8)
        rows += [(name, precision) for precision in wanted]
    if len(rows) == 1 and not left_out:
        raise UserError(f"--precision {','.join(flags.precision)}: {', '.join(flags.format)} has none of them")
    return rows, left_out


def _needs_for_int8(form, flags):
    """What a format's rows in int8 need and is not there, "" if nothing."""
    return ", ".join(formats.missing(form.to_write_int8)) or ("" if flags.calibration_split else "--calibration-split")


def _measure(name, precision, source, flags, samples, scratch):
    """The dict of a row's line, and the Detections of the samples."""
    if name == RUN:
        path = flags.model
        size = source.size()
    else:
        folder = os.path.join(scratch, f"{name}-{precision}")
        os.mkdir(folder)
        path = os.path.join(folder, f"model{config.EXPORTED[name]}")
        _export(flags, path, name, precision)
        size = folder_tree.size(folder)
    found = os.path.join(scratch, f"{name}-{precision}.npz")
    options = {"model": path, "precision": precision, "threshold": THRESHOLD, "found": found}
    pictures = [(one.image_path, one.exif) for one in samples.values()]
    with Side("deploy_worker.py", "model", {**options, "pictures": pictures}) as side:
        (answers,), state = bench_harness.alternate([side], flags.rounds, WARMUP)
        facts = side.facts
    if unreadable := facts["unreadable"]:
        pictures = plural(len(unreadable), "picture")
        cli.warn_once(f"{pictures} that could not be read, counted as without detections: {unreadable[0]}")
    detections = deploy_worker.read(found)
    figures = average_precision.evaluate(
        samples, dict(zip(samples, detections, strict=True)), source.description.class_names
    )
    rates = {
        batch: bench_harness.spread([answer["rates"][batch] for answer in answers]) for batch in answers[0]["rates"]
    }
    line = {
        "format": name,
        "precision": precision,
        "mb": round(size / 1e6, 1),
        "load_seconds": round(facts["load_seconds"], 2),
        "images_per_second": rates,
        "map": round(100 * figures["area"]["mean"], 2),
        "peak_mb": round(max(answer["peak_mb"] for answer in answers)),
        "difference": None,
        "machine": state,
    }
    return line, detections


def _export(flags, path, name, precision):
    """Write a file, in a process that gives its memory back. Raises UserError with the message of export_model.py."""
    command = [sys.executable, str(ROOT / "export_model.py"), *_export_words(flags, path, name, precision)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"{name} {precision}: not exported: {reason}")
    print(done.stdout, end="", file=sys.stderr)  # which layers stay in float, for example


def _export_words(flags, path, name, precision):
    """The arguments of export_model.py."""
    words = [flags.model, "--output", path, "--format", name, "--precision", precision, "--threshold", str(THRESHOLD)]
    if precision != INT8:
        return [*words, "--no-check"]
    words += ["--data", flags.data, "--source", flags.source, "--other-classes", flags.other_classes]
    words += ["--calibration-split", flags.calibration_split, "--split", flags.split]
    return [*words, *(["--limit", str(flags.limit)] if flags.limit else [])]


def _difference(wanted, found, precision, samples, preset):
    """{"score", "box", "matched", "unmatched", "tied"} of detections beside those of the run."""
    sizes = [(sample.width, sample.height) for sample in samples.values()]
    tolerance = formats.TOLERANCES[precision]
    result = comparison.compare(wanted, found, sizes, THRESHOLD, preset.keep, preset.nms_iou, tolerance)
    return {name: getattr(result, name) for name in ("score", "box", "matched", "unmatched", "tied")}


def page(header, lines):
    """The page in Markdown. header: the first line's dict; lines: those of the rows."""
    machine = header["machine"]
    parts = [
        f"{bench_harness.written_by(header)}, on {machine['cpu']}, {plural(machine['cores'], 'core')}. "
        f"mAP by VOC2010's rules on {plural(header['pictures'], 'picture')} of {header['split']}; speed with "
        "suppression, without reading pictures, the median of several rounds; load time until a first picture has its "
        "detections. Each file is what `python export_model.py MODEL --format FORMAT --precision PRECISION --output "
        "FILE` writes; detections are matched within the tolerances of `exports/formats.py`.",
        wording.table(HEAD.split(","), [_cells(line) for line in lines]),
    ]
    if header["left_out"]:
        names = (f"{name} ({reason})" for name, reason in header["left_out"].items())
        parts.append(f"Left out: {', '.join(names)}.")
    busy = max(line["machine"]["others_busy"] for line in lines)
    if busy > 0.05:
        parts.append(f"Other processes kept up to {busy:.2f} cores busy: the times mean little.")
    return "\n\n".join(parts) + "\n"


def _cells(line):
    """The cells of a row."""
    rates = (f"{line['images_per_second'][batch]['median']:.3g}" for batch in ("1", "8"))
    difference = line["difference"]
    last = (
        ["", "", ""]
        if difference is None
        else [f"{difference['score']:.1e}", difference["matched"], difference["unmatched"]]
    )
    return [line["format"], line["precision"], line["mb"], line["load_seconds"], *rates, f"{line['map']:.2f}", *last]


def _choices(allowed):
    """A type of argparse: names of `allowed`, separated by commas."""

    def parse(text):
        names = tuple(dict.fromkeys(text.split(",")))
        if unknown := [name for name in names if name not in allowed]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(allowed)}")
        return names

    return parse


def _parse(argv):
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    precisions = tuple(name for name in file_metadata.PRECISIONS if name != "auto")
    add("model", metavar="MODEL", help="a run directory, as for export_model.py")
    add("--data", type=existing_path, required=True, metavar="DATA", help="the data set, as for train.py (required)")
    add("--source", type=sources.source_name, metavar="FORMAT", default="auto", help=sources.SOURCE_HELP)
    add("--split", required=True, metavar="SPLIT", help="its split that is scored (required)")
    add("--other-classes", **OTHER_CLASSES)
    add(
        "--calibration-split",
        metavar="SPLIT",
        help="its split for training, from which int8 takes the ranges of values (default: no rows in int8)",
    )
    add("--limit", type=positive_int, metavar="N", help="at most N pictures, spread over the split (default: all)")
    add("--output", type=output_file, required=True, metavar="NAME", help="writes NAME.jsonl and NAME.md (required)")
    add(
        "--format",
        type=_choices(tuple(formats.FORMATS)),
        default=tuple(formats.FORMATS),
        metavar="NAMES",
        help=f"of {', '.join(formats.FORMATS)}, separated by commas (default: all)",
    )
    add(
        "--precision",
        type=_choices(precisions),
        default=precisions,
        metavar="NAMES",
        help=f"of {', '.join(precisions)}, separated by commas; each format has some of them (default: all)",
    )
    add("--rounds", type=positive_int, default=ROUNDS, metavar="N", help=f"that are timed (default: {ROUNDS})")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
