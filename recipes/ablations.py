"""Measure what matters: trainings that differ from a baseline in one thing each, and a table of their scores.

Where a difference is too small to trust one training of each, both are trained with more seeds. Called again with the
same arguments, it continues where it stopped. The table, DIR/ablations.md, is rewritten after each training.
"""

import dataclasses
import os
import statistics

import bccd
import recipe

from settings.training_settings import CHOICES
from structures import UserError
from system import chain, cli, files, wording
from system.argument_parser import ArgumentParser
from system.argument_types import existing_folder, non_negative_float, output_folder, positive_int
from system.wording import plural

BASELINE = "baseline"
SETTINGS = ("vgg", "steps", "classes", "other_classes", "train", "test", "more")  # those of all trainings in a folder


@dataclasses.dataclass(frozen=True)
class Variant:
    """A training that differs in one thing from the one it is compared with.

    name: of the variant, and of its folder.
    change: what is different, for the table.
    flags: the flags of train.py that make the difference.
    against: name of the variant that it is compared with.
    vgg: whether it starts from VGG-16.
    fits_anchors: whether its anchors are those that check_dataset.py proposes for the training split.
    """

    name: str
    change: str
    flags: tuple = ()
    against: str = BASELINE
    vgg: bool = True
    fits_anchors: bool = False


ONE_RATE = ("--vgg-lr-multiplier", "1")  # for all layers, if a variant does not say otherwise
# Each optimizer has its usual rate: one rate for all would favor one of them
VARIANTS = (
    Variant(
        BASELINE,
        "VGG-16 (conv1 to conv3 kept), AdamW (decay 0.05, rate 2e-4), full augmentation, float32, bipartite matching",
    ),
    Variant("he-start", "random layers not scaled by the first pictures", ("--initializer", "he")),
    Variant("adam", "Adam: decay of 5e-4 in the gradient", ("--optimizer", "adam")),
    Variant("no-decay", "no weight decay", ("--weight-decay", "0")),
    Variant("rate-5e-4", "2.5 times the rate", ("--learning-rate", "5e-4")),
    Variant(
        "new-layers-faster",
        "2.5 times the rate, VGG-16's layers as before",
        ("--learning-rate", "5e-4", "--vgg-lr-multiplier", "0.4"),
    ),
    Variant(
        "vgg-slower", "a tenth of the rate for VGG-16's layers, train.py's default", ("--vgg-lr-multiplier", "0.1")
    ),
    Variant("short-warm-up", "a warm-up of 25 steps in place of 100", ("--warmup-steps", "25")),
    Variant("average", "moving average of the weights, 0.99", ("--ema", "0.99")),
    Variant(
        "average-constant",
        "moving average of the weights, 0.99, at a constant rate",
        ("--ema", "0.99", "--schedule", "constant"),
    ),
    Variant("light-augmentation", "light augmentation", ("--augmentation", "light")),
    Variant(
        "light-fitted",
        "light augmentation, anchors fitted to the training split",
        ("--augmentation", "light"),
        against="light-augmentation",
        fits_anchors=True,
    ),
    Variant("random", "random initialization, nothing frozen", vgg=False),
    Variant("no-augmentation", "no augmentation", ("--augmentation", "none")),
    Variant(
        "adam-article",
        "the article's Adam: epsilon 0.1, rate 1e-3",
        ("--optimizer", "adam", "--adam-epsilon", "0.1", "--learning-rate", "1e-3"),
    ),
    Variant(
        "momentum",
        "momentum 0.9, rate 1e-3, twice that for biases",
        ("--optimizer", "momentum", "--learning-rate", "1e-3", "--bias-lr-multiplier", "2"),
        against="adam-article",
    ),
    Variant("bfloat16", "bfloat16", ("--precision", "bfloat16")),
    Variant("threshold-matching", "matching by threshold only", ("--matching", "threshold")),
    Variant("random-quarter", "random initialization, width 0.25", ("--width", "0.25"), against="random", vgg=False),
)
NAMES = tuple(variant.name for variant in VARIANTS)
HEAD = ("variant", "what is different", "mAP", "seeds", "compared with", "difference", "images/s")


def main(argv=None):
    flags = _parse(cli.words(argv))
    _check_folder(flags)
    if any(variant.fits_anchors for variant in flags.variants):
        recipe.check(dataclasses.replace(flags.recipe, fits_anchors=True), flags)
    for variant in flags.variants:
        _train(flags, variant, 0)
    for variant in _close(flags):
        for name in (variant.against, variant.name):
            for seed in range(1, flags.seeds):
                _train(flags, _named(name), seed)
    print("\n" + files.read_text(_table_path(flags)), end="")


def _check_folder(flags):
    """Raise UserError unless the folder's trainings have the same settings; only such trainings can be compared."""
    settings = {name: getattr(flags, name) for name in SETTINGS}
    settings["data"] = os.path.abspath(flags.data)
    chain.keep_settings(flags.run, settings, trained="*/seed*/run/config.json")


def _named(name):
    return VARIANTS[NAMES.index(name)]


def _close(flags):
    """The variants whose difference is too small to trust one training."""
    for variant in flags.variants:
        differences = _differences(*(_scores(flags, name) for name in (variant.name, variant.against)))
        # Of the first seed alone: a call that was stopped between two seeds goes on with the same variants
        if variant.name != BASELINE and differences and abs(differences[0]) < flags.close:
            yield variant


def _place(flags, name, seed):
    return recipe.Place(os.path.join(flags.run, name, f"seed{seed}"))


def _train(flags, variant, seed):
    """Train and score once, unless that is done; then write the table."""
    print(f"\n== {variant.name}, seed {seed}: {variant.change}", flush=True)
    steps = ["--epochs", flags.steps, "--max-steps", flags.steps, "--seed", seed]  # an epoch has a step at least
    fitted = ["--anchors", recipe.anchors(flags)] if variant.fits_anchors else []
    first = recipe.start(flags.recipe, flags.vgg if variant.vgg else "none")
    arguments = [*first, *fitted, *ONE_RATE, *variant.flags, *steps, *flags.more]
    recipe.train_and_score(flags.recipe, flags.data, _place(flags, variant.name, seed), arguments)
    files.write(_table_path(flags), table(_results(flags), flags.steps))


def _results(flags):
    """{variant: (scores by seed, images/s)} of the variants that have a score."""
    results = {}
    for name in NAMES:
        if scores := _scores(flags, name):
            speed = float(chain.last_metrics(_place(flags, name, 0).run)["images_per_second"])
            results[name] = (scores, speed)
    return results


def _scores(flags, name):
    """VOC07 means of the seeds that have finished, in order."""
    scores = []
    while os.path.exists(path := _place(flags, name, len(scores)).scores):
        mean = files.read_json(path)["voc07"]["mean"]
        if mean is None:
            raise UserError(
                f"{path}: no object in the test split, so there is nothing to compare; choose another with --test"
            )
        scores.append(mean)
    return scores


def _table_path(flags):
    return os.path.join(flags.run, "ablations.md")


def table(results, steps):
    """Markdown of {variant: (scores, images/s)}; variants without a score have dashes."""
    return (
        f"Trainings of {plural(steps, 'step')}; VOC07 mAP at IoU 0.5 of the last checkpoint, the mean of the seeds; "
        "the lowest and the highest are in brackets. A difference is the mean over the seeds that both have.\n\n"
        f"{wording.table(HEAD, [_cells(variant, results) for variant in VARIANTS])}\n"
    )


def _cells(variant, results):
    """The cells of a variant's row. results: as of `table`."""
    scores, speed = results.get(variant.name, ((), None))
    cells = [variant.name, variant.change, "–", "–", "–", "–", "–"]
    if scores:
        spread = f" ({min(scores):.3f} – {max(scores):.3f})" if len(scores) > 1 else ""
        cells[2:4] = f"{statistics.fmean(scores):.3f}{spread}", len(scores)
        cells[6] = f"{speed:.1f}"
    if variant.name != BASELINE:
        cells[4] = variant.against
        if scores and variant.against in results:
            cells[5] = f"{statistics.fmean(_differences(scores, results[variant.against][0])):+.3f}"
    return cells


def _differences(scores, others):
    """What two variants differ by with each seed that both have: seeds differ more than many variants do."""
    return [mine - other for mine, other in zip(scores, others, strict=False)]


def _parse(argv):
    own, more = recipe.split_arguments(argv)
    parser = ArgumentParser(
        description=__doc__,
        epilog="Arguments after -- go to train.py in every training and override the variants' own.",
    )
    _add_flags(parser.add_argument_group("data and output"), parser.add_argument_group("trainings"))
    flags = parser.parse_args(own)
    flags.more, flags.variants = more, _variants(flags.only)
    splits = {name: getattr(flags, name) for name in ("classes", "other_classes", "train", "test")}
    # conv3 is frozen too, which saves a quarter of the time
    short = {"freeze": "conv1,conv2,conv3", "flags": ("--precision", "float32")}
    flags.recipe = dataclasses.replace(bccd.BCCD, **splits, **short)
    return flags


def _add_flags(data, training):
    default = os.path.join("runs", "ablations")
    folder = {"type": output_folder, "metavar": "DIR", "default": default}
    what = "the data set, in VOC layout: BCCD or another"
    data.add_argument("--data", required=True, type=existing_folder, metavar="FOLDER", help=what)
    data.add_argument(
        "--other-classes",
        choices=CHOICES["other_classes"],
        default=bccd.BCCD.other_classes,
        help="objects of a class that is not in the list: error stops, ignore drops them",
    )
    for name, meaning in (
        ("classes", "classes, separated by commas"),
        ("train", "split to train on"),
        ("test", "split to score on"),
    ):
        data.add_argument(f"--{name}", default=getattr(bccd.BCCD, name), help=meaning)
    data.add_argument("--run", help=f"folder for the trainings and the table (default: {default})", **folder)
    training.add_argument(
        "--vgg",
        type=recipe.vgg_weights,
        default="auto",
        metavar="FILE",
        help="VGG-16 weights, or auto or none, as for train.py --vgg-weights (default: auto)",
    )
    number = {"type": positive_int, "metavar": "N"}
    training.add_argument("--steps", default=500, help="length of each training (default: 500)", **number)
    names = f"variants to train, separated by commas: {', '.join(NAMES)} (default: all)"
    training.add_argument("--only", metavar="NAMES", help=names)
    training.add_argument(
        "--close",
        type=non_negative_float,
        default=0.03,
        metavar="X",
        help="train both variants with more seeds if their scores differ by less than X (default: 0.03)",
    )
    seeds = "seeds of each training in that case (default: 3)"
    training.add_argument("--seeds", default=3, help=seeds, **number)


def _variants(only):
    """The chosen variants and those they are compared with, in the order of VARIANTS."""
    wanted = set(NAMES if only is None else only.split(","))
    if unknown := sorted(wanted - set(NAMES)):
        raise UserError(f"--only {unknown[0]}: no such variant; there are {', '.join(NAMES)}")
    for variant in reversed(VARIANTS):  # a variant comes after the one it is compared with
        if variant.name in wanted:
            wanted.add(variant.against)
    return [variant for variant in VARIANTS if variant.name in wanted]


if __name__ == "__main__":
    cli.run(main)
