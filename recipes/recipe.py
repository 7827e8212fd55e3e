"""What the recipes share: look a data set over, train on it, detect, score, and say what came out.

Each recipe is a `Recipe` and a call of `run`. Everything lands in runs/NAME; called again, it goes on where it stopped.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # the project's modules

import results_section

from system import chain, cli, files

# Fine-tuning from VGG-16 in short trainings, as in README
TRAINING = [
    *("--preset", "vgg300", "--batch-size", "8", "--precision", "auto"),
    *("--optimizer", "adam", "--adam-epsilon", "1e-8", "--learning-rate", "2e-4"),
    *("--schedule", "cosine", "--warmup-steps", "100"),
]
NO_LIMIT = 10**9  # steps: the epochs end a training before
# Findings of check_dataset.py that flatter a score
SHARED = ("in-two-splits", "duplicate-across-splits", "near-duplicate-across-splits")
EPILOG = """What follows -- is passed on to train.py after the recipe's own flags, which it overrides:
  python recipes/%s.py --data DIR --vgg none -- --width 0.25 --learning-rate 1e-3
Called again with the same arguments, a recipe goes on where it stopped."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A data set in VOC layout and how long to train on it.

    classes: with commas; train, test: splits; epochs, valid_every: of train.py; other_classes: error or ignore;
    video: whether there is --video; expected: a line on how long it takes and what to expect; freeze: layers of VGG-16
    that are kept as they are; flags: of train.py, where they differ from TRAINING.
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
    flags: tuple = ()


class Place:
    """Where the files of one training lie."""

    def __init__(self, root):
        self.root = root
        self.run = os.path.join(root, "run")
        # The last checkpoint: the best one was chosen on the pictures that are scored
        self.model = f"{self.run}@last"
        self.inference = os.path.join(root, "inference")
        self.scores = os.path.join(root, "ap.json")
        self.plots = os.path.join(root, "plots")
        self.annotated = os.path.join(root, "annotated.mp4")
        self.timeline = os.path.join(root, "annotated.json")
        self.stages = os.path.join(root, "stages.json")


def run(recipe):
    """End the process as a program does, after `main`."""
    cli.run(lambda: main(recipe))


def main(recipe, argv=None):
    """The program of a recipe."""
    flags = _parse(recipe, sys.argv[1:] if argv is None else argv)
    places = [Place(flags.run)]
    if flags.seeds > 1:
        places = [Place(os.path.join(flags.run, f"seed{seed}")) for seed in range(flags.seeds)]
    check = _check(recipe, flags)
    for seed, place in enumerate(places):
        _one_training(recipe, flags, place, seed)
    scored = (flags.data, recipe.test, recipe.other_classes)
    page = results_section.write(flags.run, _results(recipe, places), places[0], *scored)
    print("\n".join(["", *_summary(recipe, places, check), f"  {page}   all of it on a page"]))


def _check(recipe, flags):
    """check_dataset.py's findings as a dict."""
    page, data = (os.path.join(flags.run, f"check.{kind}") for kind in ("html", "json"))
    arguments = ["--data", flags.data, "--split", f"{recipe.train},{recipe.test}", "--html", page, "--json", data]
    if recipe.other_classes == "error":
        arguments += ["--classes", recipe.classes]
    chain.Chain(os.path.join(flags.run, "check_stages.json")).call("check", "check_dataset.py", *arguments)
    return files.read_json(data)


def _one_training(recipe, flags, place, seed):
    """Train, detect on the test split, score, and annotate the video."""
    length = ["--epochs", flags.epochs, *(["--max-steps", flags.max_steps] if flags.max_steps else [])]
    more = ["--valid", recipe.test, "--valid-every", recipe.valid_every, *length, *flags.more]
    links = train_and_score(recipe, flags.data, place, [*start(recipe, flags.vgg), "--seed", seed, *more])
    if getattr(flags, "video", None):
        links.call("video", "process_video.py", place.model, flags.video, place.annotated, "--json", place.timeline)


def start(recipe, vgg):
    """Flags of train.py for the first weights: a file's, and its general features kept; or none."""
    return ["--vgg-weights", vgg, *(["--freeze", recipe.freeze] if vgg != "none" else [])]


def train_and_score(recipe, data, place, arguments):
    """Train with the recipe's flags and `arguments`, detect on its test split, score. Returns the Chain."""
    links = chain.Chain(place.stages)
    classes = ["--classes", recipe.classes, "--other-classes", recipe.other_classes]
    again = ["--resume"] if chain.has_begun(place.run) else []
    if again and not any(str(argument).partition("=")[0] == "--max-steps" for argument in arguments):
        again += ["--max-steps", NO_LIMIT]  # an earlier call may have had one, which the run remembers
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


def _summary(recipe, places, check):
    """What came out, as lines."""
    reports = [files.read_json(place.scores) for place in places]
    shared = [one for one in check["findings"] if one["defect"] in SHARED]
    yield f"{recipe.name}: VOC07 AP at IoU {reports[0]['iou']:g} on {reports[0]['images']} pictures of {recipe.test}"
    for name, objects in reports[0]["ground_truth"].items():
        values = [report["voc07"]["per_class"][name] for report in reports]
        yield f"  {name:12}  {_figures(values)}  ({objects:,} objects)"
    yield f"  {'mean':12}  {_figures([report['voc07']['mean'] for report in reports])}"
    for place in places:
        last = chain.last_metrics(place.run)
        yield f"{place.run}: {last['step']} steps, {float(last['images_per_second']):.1f} images/s in the last epoch"
    if shared:
        named = f"the first is {shared[0]['file']}" + (f" ({shared[0]['detail']})" if shared[0]["detail"] else "")
        pictures = "picture that is" if len(shared) == 1 else "pictures that are"
        which = f"{recipe.train} holds {len(shared)} {pictures} in {recipe.test} too, or almost the same as one there"
        yield f"warning: {which}, which flatters the score; {named}"
    yield "Look at"
    for place in places:
        yield f"  {place.inference}/images   pictures of {recipe.test} with boxes"
        yield f"  {place.plots}/errors.html   what went wrong; precision and recall beside it"
        yield f"  {place.run}/plots   learning curves"
        if os.path.exists(place.timeline):
            yield f"  {place.annotated}   the annotated video"


def _results(recipe, places):
    """The figures in Markdown, parts of a page."""
    reports = [files.read_json(place.scores) for place in places]
    rows = ["| class | objects | AP VOC07 | AP area |", "| --- | --- | --- | --- |"]
    for name, objects in reports[0]["ground_truth"].items():
        cells = [_figures([report[metric]["per_class"][name] for report in reports]) for metric in ("voc07", "area")]
        rows.append(f"| {name} | {objects:,} | {' | '.join(cells)} |")
    cells = [_figures([report[metric]["mean"] for report in reports]) for metric in ("voc07", "area")]
    rows.append(f"| mean | {sum(reports[0]['ground_truth'].values()):,} | {' | '.join(cells)} |")
    steps = chain.last_metrics(places[0].run)["step"]
    seeds = "" if len(places) == 1 else f", mean of {len(places)} seeds (each in brackets)"
    yield f"# {recipe.name}"
    yield f"{reports[0]['images']} pictures of {recipe.test}, IoU {reports[0]['iou']:g}, after {steps} steps{seeds}."
    yield "\n".join(rows)


def _figures(values):
    """'0.812', or for several '0.812 (0.801 0.823)': their mean and they themselves."""
    if None in values:
        return "n/a"
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({' '.join(f'{value:.3f}' for value in values)})"


def split_arguments(argv):
    """(the recipe's own, those for train.py) of a command line's arguments."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def vgg_weights(text):
    """An argument type: auto, none or a file."""
    if text not in ("auto", "none") and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return text


def _parse(recipe, argv):
    own, more = split_arguments(argv)
    default = os.path.join("runs", recipe.name)
    parser = cli.ArgumentParser(
        description=f"{recipe.name}: look over, train, detect, score, report. {recipe.expected}",
        epilog=EPILOG % recipe.name,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", required=True, type=cli.existing_folder, metavar="FOLDER", help="the data set, in VOC layout")
    add(
        "--vgg",
        type=vgg_weights,
        default="auto",
        metavar="FILE",
        help="VGG-16 weights, or auto or none as of train.py (default: auto)",
    )
    add("--run", default=default, type=cli.output_folder, metavar="DIR", help=f"(default: {default})")
    add("--epochs", type=cli.positive_int, default=recipe.epochs, metavar="N", help=f"(default: {recipe.epochs})")
    add("--max-steps", type=cli.positive_int, metavar="N", help="end after that many steps")
    add("--seeds", type=cli.positive_int, default=1, metavar="N", help="trainings, to give their mean (default: 1)")
    if recipe.video:
        add("--video", type=cli.existing_file, metavar="FILE", help="a video to annotate with the trained detector")
    flags = parser.parse_args(own)
    flags.more = more
    return flags
