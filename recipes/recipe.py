"""What the recipes share: check a data set, train on it, detect, score, and report the results.

Each recipe is a `Recipe` and a call of `run`. Everything is written to runs/NAME; called again, a recipe continues
where it stopped.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # the project's modules

import system.environment  # noqa: F401

import results_section

from system import chain, cli, files, wording
from system.argument_parser import ArgumentParser
from system.argument_types import existing_file, existing_folder, output_folder, positive_int
from system.wording import plural

# For fine-tuning from VGG-16 in short trainings, as in README
TRAINING = [
    *("--preset", "vgg300", "--batch-size", "8", "--precision", "auto"),
    *("--optimizer", "adamw", "--learning-rate", "2e-4"),
    *("--schedule", "cosine", "--warmup-steps", "100"),
]
NO_LIMIT = 10**9  # steps; a training ends earlier, with its epochs
# Findings of check_dataset.py that make a score look better than it is
SHARED = ("in-two-splits", "duplicate-across-splits", "near-duplicate-across-splits")
EPILOG = """Arguments after -- go to train.py and override the recipe's own:
  python recipes/%s.py --data DIR --vgg none -- --width 0.25 --learning-rate 1e-3
Called again with the same arguments, a recipe continues where it stopped."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A data set in VOC layout and how long to train on it.

    name: of the recipe, and of its folder in runs/.
    classes: separated by commas.
    train: the split to train on.
    test: the split to score on.
    epochs: as for train.py.
    valid_every: as for train.py, in epochs.
    expected: a line on how long it takes and which score to expect.
    other_classes: "error" or "ignore", as for train.py.
    video: whether there is a flag --video.
    freeze: layers of VGG-16 that are not trained.
    fits_anchors: whether to train with the anchors that check_dataset.py proposes for the training split.
    flags: of train.py, where they differ from TRAINING.
    """

    name: str
    classes: str
    train: str
    test: str
    epochs: int
    valid_every: int
    expected: str
    other_classes: str = "error"
    video: bool = False
    freeze: str = "conv1,conv2"
    fits_anchors: bool = False
    flags: tuple = ()


class Place:
    """The paths of one training's files. root: the folder that holds them."""

    def __init__(self, root):
        self.root = root
        self.run = os.path.join(root, "run")
        # Not the best checkpoint, which was chosen on the pictures that are scored
        self.model = f"{self.run}@last"
        self.inference = os.path.join(root, "inference")
        self.scores = os.path.join(root, "ap.json")
        self.plots = os.path.join(root, "plots")
        self.annotated = os.path.join(root, "annotated.mp4")
        self.timeline = os.path.join(root, "annotated.json")
        self.stages = os.path.join(root, "stages.json")


def run(recipe):
    """Run `main` as a program, which ends the process."""
    cli.run(lambda: main(recipe))


def main(recipe, argv=None):
    """The program of a recipe."""
    flags = _parse(recipe, cli.words(argv))
    places = [Place(flags.run)]
    if flags.seeds > 1:
        places = [Place(os.path.join(flags.run, f"seed{seed}")) for seed in range(flags.seeds)]
    findings = check(recipe, flags)
    for seed, place in enumerate(places):
        _one_training(recipe, flags, place, seed)
    scored = (flags.data, recipe.test, recipe.other_classes)
    page = results_section.write(flags.run, _results(recipe, places), places[0], *scored)
    print("\n".join(["", *_summary(recipe, places, findings), f"  {page}   all of this on one page"]))


def check(recipe, flags):
    """check_dataset.py's findings as a dict; it also writes `anchors` if the recipe fits them."""
    page, data = (os.path.join(flags.run, f"check.{kind}") for kind in ("html", "json"))
    arguments = ["--data", flags.data, "--split", f"{recipe.train},{recipe.test}", "--html", page, "--json", data]
    if recipe.other_classes == "error":
        arguments += ["--classes", recipe.classes]
    if recipe.fits_anchors:
        arguments += ["--anchors", anchors(flags)]
    chain.Chain(os.path.join(flags.run, "check_stages.json")).call("check", "check_dataset.py", *arguments)
    return files.read_json(data)


def anchors(flags):
    """The file of the fitted anchors, which all trainings of a folder share."""
    return os.path.join(flags.run, "anchors.json")


def _one_training(recipe, flags, place, seed):
    """Train, detect on the test split, score, and annotate the video."""
    length = ["--epochs", flags.epochs, *(["--max-steps", flags.max_steps] if flags.max_steps else [])]
    more = ["--valid", recipe.test, "--valid-every", recipe.valid_every, *length, *flags.more]
    fitted = ["--anchors", anchors(flags)] if recipe.fits_anchors else []
    links = train_and_score(recipe, flags.data, place, [*start(recipe, flags.vgg), *fitted, "--seed", seed, *more])
    if getattr(flags, "video", None):
        links.call("video", "process_video.py", place.model, flags.video, place.annotated, "--json", place.timeline)


def start(recipe, vgg):
    """Flags of train.py for the first weights: those of VGG-16, with its first layers frozen, or random ones."""
    return ["--vgg-weights", vgg, *(["--freeze", recipe.freeze] if vgg != "none" else [])]


def train_and_score(recipe, data, place, arguments):
    """Train with the recipe's flags and `arguments`, detect on its test split, score. Returns the Chain."""
    links = chain.Chain(place.stages)
    classes = ["--classes", recipe.classes, "--other-classes", recipe.other_classes]
    again = ["--resume"] if chain.has_begun(place.run) else []
    if again and not any(str(argument).partition("=")[0] == "--max-steps" for argument in arguments):
        again += ["--max-steps", NO_LIMIT]  # lifts the limit of an earlier call, which the run remembers
    links.call(
        "train",
        "train.py",
        "--data",
        data,
        "--train",
        recipe.train,
        *classes,
        "--run",
        place.run,
        *TRAINING,
        *recipe.flags,
        *arguments,
        again=again,
    )
    scored = ["--data", data, "--split", recipe.test]
    links.call("infer", "infer.py", place.model, *scored, "--output", place.inference, "--overwrite")
    found = os.path.join(place.inference, "detections.json")
    scored += ["--other-classes", recipe.other_classes, "--json", place.scores, "--plots", place.plots]
    links.call("score", "average_precision.py", found, *scored)
    return links


def _summary(recipe, places, findings):
    """Yield the lines of the report."""
    reports = [files.read_json(place.scores) for place in places]
    shared = [one for one in findings["findings"] if one["defect"] in SHARED]
    pictures = plural(reports[0]["images"], "picture")
    yield f"{recipe.name}: VOC07 AP at IoU {reports[0]['iou']:g} on {pictures} of {recipe.test}"
    for name, objects in reports[0]["ground_truth"].items():
        values = [report["voc07"]["per_class"][name] for report in reports]
        yield f"  {name:12}  {_figures(values)}  ({plural(objects, 'object')})"
    yield f"  {'mean':12}  {_figures([report['voc07']['mean'] for report in reports])}"
    for place in places:
        last = chain.last_metrics(place.run)
        steps, rate = plural(int(last["step"]), "step"), float(last["images_per_second"])
        yield f"{place.run}: {steps}, {rate:.1f} images/s in the last epoch"
    if shared:
        named = f"the first is {shared[0]['file']}" + (f" ({shared[0]['detail']})" if shared[0]["detail"] else "")
        pictures = "picture that is" if len(shared) == 1 else "pictures that are"
        which = f"{recipe.train} has {len(shared)} {pictures} also in {recipe.test}, exactly or almost"
        yield f"warning: {which}, which makes the score look better than it is; {named}"
    yield "Look at"
    for place in places:
        yield f"  {place.inference}/images   pictures of {recipe.test} with boxes"
        yield f"  {place.plots}/errors.html   the errors; precision and recall are beside it"
        yield f"  {place.run}/plots   learning curves"
        if os.path.exists(place.timeline):
            yield f"  {place.annotated}   the annotated video"


def _results(recipe, places):
    """Yield the parts of a page with the figures, in Markdown."""
    reports = [files.read_json(place.scores) for place in places]
    rows = []
    for name, objects in reports[0]["ground_truth"].items():
        cells = [_figures([report[metric]["per_class"][name] for report in reports]) for metric in ("voc07", "area")]
        rows.append([name, f"{objects:,}", *cells])
    cells = [_figures([report[metric]["mean"] for report in reports]) for metric in ("voc07", "area")]
    rows.append(["mean", f"{sum(reports[0]['ground_truth'].values()):,}", *cells])
    steps = plural(int(chain.last_metrics(places[0].run)["step"]), "step")
    pictures = plural(reports[0]["images"], "picture")
    seeds = "" if len(places) == 1 else f", mean of {len(places)} seeds (each in brackets)"
    yield f"# {recipe.name}"
    yield f"{pictures} of {recipe.test}, IoU {reports[0]['iou']:g}, after {steps}{seeds}."
    yield wording.table(["class", "objects", "AP VOC07", "AP area"], rows)


def _figures(values):
    """'0.812'; for several values their mean and the values, '0.812 (0.801 0.823)'."""
    if None in values:
        return "n/a"
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({' '.join(f'{value:.3f}' for value in values)})"


def split_arguments(argv):
    """The arguments of a command line before and after --: (the recipe's own, those for train.py)."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def vgg_weights(text):
    """An argument type: auto, none or the path of a file."""
    if text not in ("auto", "none") and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return text


def _parse(recipe, argv):
    own, more = split_arguments(argv)
    parser = ArgumentParser(
        description=f"{recipe.name}: check the data set, train, detect, score, report. {recipe.expected}",
        epilog=EPILOG % recipe.name,
    )
    _add_flags(parser, recipe)
    flags = parser.parse_args(own)
    flags.more = more
    return flags


def _add_flags(parser, recipe):
    data, training = parser.add_argument_group("data and output"), parser.add_argument_group("training")
    default = os.path.join("runs", recipe.name)
    folder = {"type": output_folder, "metavar": "DIR", "default": default}
    data.add_argument(
        "--data", required=True, type=existing_folder, metavar="FOLDER", help="the data set, in VOC layout"
    )
    data.add_argument("--run", help=f"folder for everything that is written (default: {default})", **folder)
    if recipe.video:
        what = "a video to annotate with the trained detector (default: none)"
        data.add_argument("--video", type=existing_file, metavar="FILE", help=what)
    training.add_argument(
        "--vgg",
        type=vgg_weights,
        default="auto",
        metavar="FILE",
        help="VGG-16 weights, or auto or none, as for train.py --vgg-weights (default: auto)",
    )
    number = {"type": positive_int, "metavar": "N"}
    length = f"length of the training (default: {recipe.epochs})"
    training.add_argument("--epochs", default=recipe.epochs, help=length, **number)
    training.add_argument("--max-steps", help="end after N steps (default: no limit)", **number)
    seeds = "number of trainings, whose mean is reported (default: 1)"
    training.add_argument("--seeds", default=1, help=seeds, **number)
