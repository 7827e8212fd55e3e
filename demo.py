"""Run all programs on the toy road: draw a data set, train, score, detect, export, annotate a video.

All files are written to one folder. Called again, it continues where it stopped.
"""

import system.environment  # noqa: F401

import dataclasses
import os
import time
from collections.abc import Sequence

from kernels import cpu
from scoring import error_pages, report_page
from structures import UserError
from system import chain, cli, files
from system.argument_parser import ArgumentParser
from system.argument_types import output_folder, positive_int
from system.wording import plural
from toy_road import dataset

CLASSES = "car,bus,pedestrian,traffic_light"
TEST = "2007:test"
# Upright, left of the middle: cars that come from the left cross it, which is "in"
CROSSING = "0.35,0.72,0.35,0.5"
# From scratch at a quarter of the channels; these settings reached the README's score in the least time on two cores
RECIPE = [
    *("--width", "0.25", "--augmentation", "light", "--precision", "auto"),
    *("--adam-epsilon", "1e-8", "--weight-decay", "0", "--schedule", "cosine", "--warmup-steps", "50"),
]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is trained.

    learning_rate: as train.py takes it.
    images: training pictures to draw.
    """

    steps: int
    batch_size: int
    learning_rate: str
    images: int


# On two cores: 6 minutes of training at 23 images/s with bfloat16, 3 to 6 minutes at 10 to 18 images/s without
FAST, SLOW = Plan(560, 16, "1e-3", 4000), Plan(460, 8, "2e-3", 3680)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. argv: its arguments, by default the command line's. Raises UserError, KeyboardInterrupt."""
    flags = _parse(argv)
    start = time.monotonic()
    plan = _plan(flags)
    place = Place(flags.root)
    data = ["--data", place.data]
    chain.call("toy_road", "--output", place.data, "--train", plan.images, "--drive", place.drive)
    _train(place, data, plan, flags.steps)
    chain.call("infer.py", place.run, *data, "--split", TEST, "--output", place.inference, "--overwrite")
    found = os.path.join(place.inference, "detections.json")
    chain.call("average_precision.py", found, *data, "--split", TEST, "--json", place.scores, "--plots", place.plots)
    chain.call("export_model.py", place.run, "--output", place.model, "--precision", "auto")
    _annotate(place)
    _print_summary(place, time.monotonic() - start)


class Place:
    """The paths of the demo's files, all below the folder `root`."""

    def __init__(self, root: str | os.PathLike) -> None:
        self.data = os.path.join(root, "data")
        self.drive = os.path.join(root, "data", "drive.mp4")
        self.run = os.path.join(root, "run")
        self.inference = os.path.join(root, "inference")
        self.scores = os.path.join(root, "ap.json")
        self.plots = os.path.join(root, "plots")
        self.model = os.path.join(root, "model.pb")
        self.annotated = os.path.join(root, "drive_annotated.mp4")
        self.timeline = os.path.join(root, "drive.json")
        self.tracks = os.path.join(root, "drive_tracks.png")
        self.truth = os.path.join(root, "data", "drive.gt.txt")


def _plan(flags):
    """The Plan that this machine trains in minutes, with the numbers that the flags give."""
    plan = FAST if cpu.bfloat16_is_faster() else SLOW
    if plan is SLOW and not (flags.steps and flags.images):
        print(
            "This CPU is no faster in bfloat16: the demo trains less and detects a little less (--steps N trains more)."
        )
    given = {name: getattr(flags, name) for name in ("steps", "images") if getattr(flags, name)}
    drawn = _drawn_images(flags.root)
    if drawn and given.setdefault("images", drawn) != drawn:
        raise UserError(
            f"--images {flags.images}: {flags.root} already holds {drawn}; leave --images out, or give a new --root"
        )
    return dataclasses.replace(plan, **given)


def _drawn_images(root):
    """How many training pictures an earlier call has drawn, perhaps with other flags; None if there was none."""
    manifest = dataset.read_manifest(Place(root).data)
    return manifest and manifest["train"]


def _train(place, data, plan, more):
    """Train a new run or resume an existing one, with `more` as its new number of steps unless that is None."""
    if chain.has_begun(place.run):
        chain.call("train.py", "--run", place.run, "--resume", *(["--max-steps", more] if more else []))
        return
    splits = ["--classes", CLASSES, "--train", "2007:train", "--valid", TEST]
    amount = ["--batch-size", plan.batch_size, "--learning-rate", plan.learning_rate, "--max-steps", plan.steps]
    chain.call("train.py", *data, *splits, "--run", place.run, *RECIPE, *amount)


def _annotate(place):
    """Follow the objects of the drive, count who crosses the second crossing, and compare with what was drawn."""
    shown = ["--legend", "--line", f"crossing={CROSSING}", "--timeline", place.tracks]
    written = ["--json", place.timeline, "--score-tracks", place.truth]
    chain.call("process_video.py", place.model, place.drive, place.annotated, *written, *shown)


def _print_summary(place, seconds):
    scores = files.read_json(place.scores)
    drive = files.read_json(place.timeline)
    came, went = (sum(drive["counts"]["lines"][0][way].values()) for way in ("in", "out"))
    followed = f"HOTA {drive['track_scores']['hota']:.3f}, {plural(len(drive['tracks']), 'track')}"
    last = chain.last_metrics(place.run)
    per_class = ", ".join(f"{name} {ap:.3f}" for name, ap in scores["voc07"]["per_class"].items())
    print(f"""
The demo took {seconds / 60:.1f} minutes.
  VOC07 mean AP at IoU 0.5   {scores["voc07"]["mean"]:.3f} ({per_class}), on {plural(scores["images"], "picture")}
  training                   {float(last["images_per_second"]):.1f} images/s, {plural(int(last["step"]), "step")}
  annotating the drive       {drive["timing"]["end_to_end"]["frames_per_second"]:.1f} frames/s end to end
  following its objects      {followed}; {came} cross from the left, {went} from the right
Look first at
  {place.annotated}   the drive, with boxes, identities and counts
  {os.path.join(place.plots, error_pages.PAGE)}   what the detector gets wrong, with pictures (open it in a browser)
then at
  {place.tracks}   when which object was there
  {place.inference}/images   the test pictures, with boxes
  {os.path.join(place.plots, report_page.PAGE)}   all figures: precision and recall, thresholds, confusions
  {place.run}/plots/learning_curves.png   how it learned
  {place.model}   the exported graph
With your own pictures (README.md says more)
  {cli.command("infer.py", "ssd300-coco", "PICTURES")}   finds people, cars and 78 other classes, without a training
  {cli.command("check_dataset.py", "--data", "DATA", "--html", "check.html")}   is your own data set in order?
  {cli.command("train.py", "--data", "DATA", "--valid-share", "0.2", "--run", "runs/mine")}   trains on it""")


def _parse(argv):
    parser = ArgumentParser(description=__doc__)
    default_root = os.path.join("runs", "demo")
    parser.add_argument(
        "--root",
        type=output_folder,
        default=default_root,
        metavar="DIR",
        help=f"folder for all files (default: {default_root})",
    )
    for name, what in (("steps", "training steps"), ("images", "training pictures to draw")):
        fast, slow = getattr(FAST, name), getattr(SLOW, name)
        defaults = f"(default: {fast}, or {slow} on a CPU that is no faster in bfloat16)"
        parser.add_argument(f"--{name}", type=positive_int, metavar="N", help=f"{what} {defaults}")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
