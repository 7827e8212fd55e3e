"""Every flag of train.py, with its type and its help, in the groups of --help. Imports no TensorFlow."""

import argparse
import os
from typing import Any

import config
import sources
import ssd_utils
import training_data
import transforms
from media import images
from settings.computation import XLA_FORMS
from settings.training_recipes import RECIPES
from settings.training_settings import CHOICES, DEFAULTS, RESUMABLE, TRAINED_FACTOR
from system import argument_parser, files, own_folders, worker_processes
from system.argument_types import (
    existing_file,
    inner_fraction,
    non_negative_float,
    non_negative_int,
    output_folder,
    positive_float,
    positive_fraction,
    positive_int,
    seed,
    width_x_height,
)
from tiling import tiles, views
from training import augmentation_file, caching

FC_FORMS = {"yes": "subsampled", "no": "full"}  # of --subsample-fc


def add_all(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser."""
    for title, functions in GROUPS:
        group = parser.add_argument_group(title)
        for add_flags in functions:
            add_flags(group)


def shown(value: Any, name: str = "") -> str:
    """A setting as its flag takes it; 'none' if it has no value."""
    if isinstance(value, transforms.Augmentation):
        return "FILE"
    if value is None or value == ():
        return "none"
    if name in ("input", "tiles"):
        return "{}x{}".format(*value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def flag_of(name: str) -> str:
    """'max_steps' -> '--max-steps'."""
    return "--" + name.replace("_", "-")


def _flag_list(names):
    """('max_steps', 'workers') -> '--max-steps and --workers'."""
    *first, last = map(flag_of, names)
    return f"{', '.join(first)} and {last}"


def _comma_list(text):
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pair_list(text):
    """'A=B, C=D', or a file with A=B on each line -> ('A=B', 'C=D'), without spaces around the names."""
    if os.path.isfile(text):
        pairs = [line.strip() for line in files.split_lines(files.read_text(text)) if line.strip()]
    else:
        pairs = text.split(",")
    for pair in pairs:
        left, sign, right = pair.rpartition("=")
        if not (sign and left.strip() and right.strip()):
            raise argparse.ArgumentTypeError(f"{text!r}: {pair.strip()!r} is not of the form NAME=…")
    return tuple("=".join(part.strip() for part in pair.split("=")) for pair in pairs)


def _class_weights(text):
    return text if text == "auto" else _pair_list(text)


def _augmentation(text):
    if text in CHOICES["augmentation"]:
        return text
    if not os.path.isfile(text):
        names = ", ".join(CHOICES["augmentation"])
        raise argparse.ArgumentTypeError(f"{text!r} is neither one of {names} nor a JSON file")
    return augmentation_file.read(text)


def _rate_list(text):
    return tuple(positive_float(part) for part in _comma_list(text))


def _step_list(text):
    steps = tuple(non_negative_int(part) for part in _comma_list(text))
    if not steps or sorted(set(steps)) != list(steps):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of steps in rising order, such as 80000,100000")
    return steps


def _add(group, flag, text, rare=False, **options):
    """Add a flag with a help text, which ends with the default of its setting unless it names a default itself.

    rare: only --help-all shows it.
    """
    default = getattr(DEFAULTS, flag[2:].replace("-", "_"), None)
    if "(default: " not in text and default not in (None, "", ()) and default is not False:
        text = f"{text} (default: {shown(default)})"
    action = group.add_argument(flag, help=text, **options)
    if rare:
        argument_parser.rare(action)


def _add_data_flags(group):
    _add(
        group,
        "--data",
        "data set: a VOCdevkit with VOC2007, VOC2012, …, one folder in VOC layout, or a data set in another format "
        "that docs/formats.md lists (required unless --resume)",
        metavar="DIR",
    )
    within = group.add_argument("--within-data", action="store_true", default=False, help=sources.WITHIN_HELP)
    argument_parser.rare(within)
    _add(group, "--source", sources.SOURCE_HELP, type=sources.source_name, metavar="FORMAT")
    _add(
        group,
        "--train",
        "comma-separated splits to train on, such as train, 2007:trainval or train2017 "
        "(default: 2007:trainval,2012:trainval if --data holds VOC2007 and VOC2012, else train, or the only split if "
        "--data has one or none)",
        metavar="SPLITS",
    )
    _add(
        group,
        "--valid",
        "comma-separated splits to validate on; the checkpoint with the highest VOC07 mean AP is kept as the best "
        "(default: none)",
        metavar="SPLITS",
    )
    _add(
        group,
        "--valid-share",
        "if the data set has no split for --valid: keep this share of the pictures of --train, such as 0.2, for "
        "validation, the same ones for every --seed; the run lists them (default: none)",
        type=inner_fraction,
        metavar="X",
    )


def _add_annotation_flags(group):
    _add(
        group,
        "--classes",
        "comma-separated class names, or a file with one name per line "
        "(default: those of --init-from, else those of --data)",
        metavar="LIST",
    )
    _add(
        group,
        "--other-classes",
        "objects of a class that is not in the list: error stops, ignore drops them",
        choices=CHOICES["other_classes"],
    )
    _add(
        group,
        "--difficult",
        "objects marked difficult: use trains on them, as the original does; ignore drops them",
        choices=CHOICES["difficult"],
        rare=True,
    )
    _add(
        group,
        "--missing-annotations",
        "pictures without an annotation file, in formats with one for each picture: error stops, background takes them "
        "as pictures without objects",
        choices=CHOICES["missing_annotations"],
        rare=True,
    )


def _add_sampling_flags(group):
    _add(
        group,
        "--limit",
        "use at most N pictures of --train and N of --valid (default: all)",
        type=positive_int,
        metavar="N",
    )
    _add(
        group,
        "--repeat",
        "show each picture N times an epoch, so that few pictures still make a long epoch",
        type=positive_int,
        metavar="N",
        rare=True,
    )
    _add(
        group,
        "--augmentation",
        "random changes of pictures: full (the original's), article (full, but cut objects keep their whole boxes), "
        "light (mirroring, brightness, contrast: for few pictures of large objects), none, or a JSON file of numbers",
        type=_augmentation,
        metavar=f"{'|'.join(CHOICES['augmentation'])}|FILE",
    )
    _add(
        group,
        "--show-batch",
        "do not train, but write a contact sheet of the first pictures as they are trained on, DIR/batch.jpg, with "
        "their objects and the anchors that match them",
        type=output_folder,
        metavar="DIR",
        rare=True,
    )


def _add_tile_flags(group):
    _add(
        group,
        "--tiles",
        "train for infer.py --tiles: an epoch shows each picture whole or as one of its C×R tiles, such as 3x2, and "
        "the next epoch shows another one; tiles without objects are left out. An object with less than "
        f"{views.LEAST_SHARE:g} of its area in a tile counts as background there. --valid uses whole pictures "
        "(default: none)",
        type=tiles.parse,
        metavar="CxR",
        rare=True,
    )
    _add(
        group,
        "--overlap",
        "share of a tile's side that overlaps the next tile; needs --tiles",
        type=inner_fraction,
        metavar="X",
        rare=True,
    )


def _add_recipe_flag(group):
    _add(
        group,
        "--recipe",
        "all settings at once: train.py's own, the article's or the original's; a flag given beside it wins. "
        "--help-all lists them. --init-from keeps the preset of its run (default: default)",
        choices=tuple(RECIPES),
    )


def _add_model_flags(group):
    _add(
        group,
        "--preset",
        "input size and anchors; vgg512 finds smaller objects at three times the cost "
        "(default: that of --init-from, else vgg300)",
        choices=tuple(ssd_utils.PRESETS),
    )
    _add(
        group,
        "--input",
        "network input in pixels in place of the preset's, each side a multiple of 32, such as 512x288 for "
        "16:9 pictures, which a square input squeezes. Anchors keep their share of the area "
        "(default: that of --preset)",
        type=width_x_height,
        metavar="WIDTHxHEIGHT",
        rare=True,
    )
    _add(
        group,
        "--anchors",
        "sizes and ratios of anchors in place of the preset's: a file that check_dataset.py --anchors writes",
        type=existing_file,
        metavar="FILE",
        rare=True,
    )
    _add(
        group,
        "--width",
        "factor on all channel counts, at most 1; 0.25 trains from scratch in minutes "
        "(default: that of --init-from, else 1)",
        type=positive_fraction,
        metavar="X",
    )


def _add_form_flags(group):
    _add(
        group,
        "--subsample-fc",
        "whether VGG-16's fc6 and fc7 are subsampled to 1024 channels, as in the original; no keeps 7×7×4096, as the "
        "article's code can, at several times the memory and time (default: that of --init-from, else yes)",
        choices=tuple(FC_FORMS),
        rare=True,
    )
    _add(
        group,
        "--classes-per-anchor",
        "which detections an anchor may give: one for each class (all, the original's), or one of its best class "
        "(best, the article's). The run keeps it for infer.py (default: that of --init-from, else that of --preset)",
        choices=ssd_utils.CLASSES_PER_ANCHOR,
        rare=True,
    )
    _add(
        group,
        "--gray16",
        "how 16-bit pictures, such as those of thermal cameras, become 8-bit: full takes the upper 8 bits; stretch "
        "spreads the values of each picture over all gray levels; LOW-HIGH, such as 2000-4040, spreads these values. "
        "The run keeps it for infer.py (default: that of --init-from, else full)",
        type=images.gray16_choice,
        metavar="full|stretch|LOW-HIGH",
        rare=True,
    )


def _add_weight_flags(group):
    _add(
        group,
        "--vgg-weights",
        "VGG-16 to start from: .npz, .h5, .pth, .safetensors, .caffemodel or a SavedModel; auto: Keras's, 553 MB "
        "(default: auto; none with --init-from or a --width below 1)",
        metavar="FILE|auto|none",
    )
    _add(
        group,
        "--init-from",
        "run to start from: its best checkpoint, or RUN@last. Classes of the same name are kept; others may differ",
        metavar="RUN",
    )
    _add(
        group,
        "--map-classes",
        "classes of --init-from that get another name here, such as car=vehicle, or a file with one such pair per line",
        type=_pair_list,
        metavar="OLD=NEW,…|FILE",
        rare=True,
    )
    _add(
        group,
        "--initializer",
        "random values for layers without given weights: lsuv, He's scaled by the first pictures so that the outputs "
        "of all layers start at one size; he; xavier, the original's",
        choices=CHOICES["initializer"],
        rare=True,
    )
    _add(
        group,
        "--freeze",
        "layers whose weights stay fixed, such as conv1,conv2 or conv4_3,fc6: general features are kept and a step "
        "takes less time (default: none)",
        type=_comma_list,
        metavar="LAYERS",
    )


def _add_loss_flags(group):
    _add(
        group,
        "--matching",
        "which anchors learn an object: all with an IoU of 0.5 or more; bipartite adds the best anchor of each object; "
        "threshold, the article's, does not",
        choices=CHOICES["matching"],
        rare=True,
    )
    _add(
        group,
        "--negative-ratio",
        "hard negatives for each positive anchor",
        type=positive_int,
        metavar="N",
        rare=True,
    )
    _add(
        group,
        "--unmatched",
        "what to do with a picture in which, after augmentation, no anchor matches an object: keep it, although it "
        f"teaches nothing, or redraw the augmentation up to {training_data.REDRAWS} times, as the article does",
        choices=CHOICES["unmatched"],
        rare=True,
    )
    _add(
        group,
        "--normalize",
        "what the loss is divided by: the matched anchors of all images of a step (batch, the original's), or those of "
        "each image, so that each image counts alike (image, the article's)",
        choices=CHOICES["normalize"],
        rare=True,
    )
    _add(
        group,
        "--class-weights",
        "factor on the confidence loss of a class's objects; auto makes rare classes count more: "
        "sum(n) / (sum(sqrt(n)) sqrt(n)) for n objects of a class in --train, at most 10, on average 1; FILE has "
        "NAME=X on each line, for names with commas (default: 1 for all)",
        type=_class_weights,
        metavar="auto|NAME=X,…|FILE",
        rare=True,
    )


def _add_optimization_flags(group):
    _add(
        group,
        "--batch-size",
        "images in memory at once",
        type=positive_int,
        metavar="N",
    )
    _add(
        group,
        "--accumulate",
        "batches per optimizer step; 4 gives the original's 32 images in the memory of 8",
        type=positive_int,
        metavar="N",
    )


def _add_optimizer_flags(group):
    _add(
        group,
        "--optimizer",
        "adamw is Adam with decoupled weight decay; adam is the article's, momentum the original's",
        choices=CHOICES["optimizer"],
        rare=True,
    )
    _add(
        group,
        "--adam-epsilon",
        "epsilon of Adam and AdamW; with the article's 0.1 a short training learns far less",
        type=positive_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--momentum",
        "share of the last update that --optimizer momentum keeps in the next",
        type=inner_fraction,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--momentum-form",
        "what --optimizer momentum sums up: gradients (tensorflow), or gradients times the learning rate, so that "
        "a change of the rate affects only later gradients (caffe)",
        choices=CHOICES["momentum_form"],
        rare=True,
    )


def _add_update_flags(group):
    _add(
        group,
        "--clip-norm",
        "largest norm of the gradient, against an early NaN; 0 for no limit",
        type=non_negative_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--weight-decay",
        "decay of weights; biases are not decayed "
        f"(default: {DEFAULTS.weight_decay:g}; 0.0005 with adam or momentum, which add it to the gradient)",
        type=non_negative_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--ema",
        "also keep an exponential moving average of the weights, with the decay X, such as 0.999. Validation, "
        "infer.py and export_model.py use the average; training continues from the weights themselves (default: none)",
        type=inner_fraction,
        metavar="X",
        rare=True,
    )


def _add_rate_flags(group):
    _add(
        group,
        "--learning-rate",
        "rate before --schedule lowers it "
        f"(default: {DEFAULTS.learning_rate:g}; 0.001 with momentum or the article's epsilon)",
        type=positive_float,
        metavar="X",
    )
    _add(
        group,
        "--find-rate",
        "do not train, but try rising learning rates for at most two minutes and propose one; writes RUN-rate.png and "
        ".json",
        action="store_true",
        default=False,
    )
    _add(
        group,
        "--schedule",
        "cosine: falls to 0 at the end of the training; exponential: × 0.97 an epoch, the article's; step: × 0.1 at "
        "each of --schedule-steps, the original's",
        choices=CHOICES["schedule"],
    )
    _add(
        group,
        "--schedule-steps",
        "steps at which --schedule step lowers the rate",
        type=_step_list,
        metavar="N,N",
        rare=True,
    )
    _add(
        group,
        "--schedule-rates",
        "with --schedule step: the rates themselves in place of --learning-rate and × 0.1, one for the start and one "
        "from each of --schedule-steps on, such as 0.00075,0.0001,0.00001 (default: none)",
        type=_rate_list,
        metavar="X,X,X",
        rare=True,
    )
    _add(
        group,
        "--warmup-steps",
        "steps in which the rate rises linearly to --learning-rate, against an early NaN; 0 for none",
        type=non_negative_int,
        metavar="N",
        rare=True,
    )


def _add_multiplier_flags(group):
    _add(
        group,
        "--bias-lr-multiplier",
        "factor on the learning rate of biases; the original's is 2",
        type=positive_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--vgg-lr-multiplier",
        "factor on the learning rate of VGG-16's convolutions, conv1_1 to conv5_3, so that trained weights change less "
        f"than new ones (default: {TRAINED_FACTOR:g} when starting from VGG-16 with Adam or AdamW, unless "
        "--adam-epsilon is 0.01 or more; else 1)",
        type=positive_float,
        metavar="X",
        rare=True,
    )


def _add_run_flags(group):
    _add(
        group,
        "--run",
        "folder for the configuration, checkpoints, metrics and plots",
        type=config.run_folder,
        required=True,
        metavar="DIR",
    )
    _add(
        group,
        "--resume",
        "continue the run from its last checkpoint; only "
        f"{_flag_list((*RESUMABLE, 'xla', 'devices', 'restarts'))} may change",
        action="store_true",
        default=False,
    )
    _add(group, "--epochs", "passes over the pictures of --train", type=positive_int, metavar="N")
    _add(
        group,
        "--max-steps",
        "end after N optimizer steps, even if --epochs are not done (default: no limit)",
        type=positive_int,
        metavar="N",
    )


def _add_record_flags(group):
    _add(
        group,
        "--valid-every",
        "epochs from one validation to the next",
        type=positive_int,
        metavar="EPOCHS",
        rare=True,
    )
    _add(
        group,
        "--score-train",
        "at each validation, also score N pictures of --train, the same ones every time: train_voc07 in metrics.csv, "
        "and some of them in TensorBoard. A score far above that of --valid means overfitting",
        type=non_negative_int,
        metavar="N",
        rare=True,
    )
    _add(
        group,
        "--events",
        "folder for TensorBoard's records, empty or new; it may hold folders of other runs (default: events in the "
        "run)",
        type=output_folder,
        metavar="DIR",
        rare=True,
    )
    _add(
        group,
        "--patience",
        "stop after this many epochs without a better mean AP; needs --valid or --valid-share (default: never)",
        type=positive_int,
        metavar="EPOCHS",
    )


def _add_saving_flags(group):
    _add(
        group,
        "--keep-every",
        "keep the checkpoint of each N-th epoch beside the last and the best; wherever MODEL is expected, RUN@epoch-40 "
        "(an epoch) or RUN@12000 (a step) names one (default: keep none)",
        type=positive_int,
        metavar="N",
        rare=True,
    )
    _add(
        group,
        "--save-minutes",
        "minutes between checkpoints within an epoch; an epoch ends with one too, unless epochs are so short that "
        "saving would take more than a tenth of the time",
        type=positive_float,
        metavar="X",
        rare=True,
    )


def _add_precision_flags(group):
    _add(
        group,
        "--precision",
        "data type of the computation; weights are always float32. auto takes the fastest that the hardware has",
        choices=CHOICES["precision"],
    )
    xla = group.add_argument(
        "--xla",
        choices=("auto", *XLA_FORMS),
        default="auto",
        help="which part of the training step XLA compiles before training starts; a GPU then runs faster: nothing "
        "(off), the optimizer's update (seconds), what TensorFlow chooses (on, a minute or so at the first start), "
        "everything (whole, likewise). auto is on for long trainings on a GPU, else off; may change on --resume "
        "(default: auto)",
    )
    argument_parser.rare(xla)


def _add_worker_flags(group):
    _add(
        group,
        "--workers",
        "processes that prepare batches, for each of --devices; 0 prepares them between the steps "
        f"(default: its cores less two, at least 2 and at most {worker_processes.MOST_WORKERS})",
        type=non_negative_int,
        metavar="N",
    )
    _add(
        group,
        "--cache",
        "keep decoded pictures, so that each is decoded once: ram in memory, disk in files that later trainings use "
        "too. The batches are the same",
        choices=CHOICES["cache"],
        rare=True,
    )
    _add(
        group,
        "--cache-gb",
        "most gigabytes that the cache takes; pictures that do not fit are decoded each time "
        f"(default: half of the free memory; {caching.DISK_GB} on disk, together with other trainings)",
        type=positive_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--cache-dir",
        f"folder of --cache disk (default: pictures in ${own_folders.CACHE_VARIABLE} or ~/.cache/ssd-tensorflow)",
        type=output_folder,
        metavar="DIR",
        rare=True,
    )
    _add(group, "--seed", "seed of all random numbers", type=seed, metavar="N")
    _add(
        group,
        "--deterministic",
        "repeat the same numbers in every execution, where TensorFlow can",
        action="store_true",
        rare=True,
    )


def _add_device_flags(group):
    devices = group.add_argument(
        "--devices",
        type=positive_int,
        default=None,
        metavar="N",
        help="train with N processes on this machine, each on a GPU of its own or a share of the cores. A batch is "
        "divided among them, and the weights become those of one process. 1: one process, even if TF_CONFIG or Slurm "
        "name processes on several machines. May change on --resume. More than one: whoever reaches this machine's "
        "ports can read and write your files meanwhile; docs/scale.md says what keeps them off (default: what these "
        "name, else 1)",
    )
    restarts = group.add_argument(
        "--restarts",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="with several processes: when one is killed, or its machine or network fails, restart all from the "
        "last checkpoint, up to N times (default: 0)",
    )
    for flag in (devices, restarts):
        argument_parser.rare(flag)
    _add(
        group,
        "--wire",
        "data type of the gradients that several processes send each other; bfloat16 takes half the time on a slow "
        "network, and rounds",
        choices=CHOICES["wire"],
        rare=True,
    )
    _add(
        group,
        "--bucket-mb",
        "send gradients between processes in pieces of at least X MB, such as 25, each as soon as the backward pass "
        "has it; saves time on a slow network (default: messages of about 10 MB after the backward pass)",
        type=positive_float,
        metavar="X",
        rare=True,
    )


GROUPS = (
    ("what it reads", (_add_data_flags, _add_annotation_flags)),
    ("what it writes, and how long it trains", (_add_run_flags, _add_record_flags, _add_saving_flags)),
    ("the weights it starts from", (_add_weight_flags,)),
    ("the network and its anchors", (_add_model_flags, _add_form_flags)),
    ("all settings of a training at once", (_add_recipe_flag,)),
    ("the pictures of an epoch", (_add_sampling_flags, _add_tile_flags)),
    ("how it updates the weights", (_add_optimization_flags, _add_optimizer_flags, _add_update_flags)),
    ("how large the steps are", (_add_rate_flags, _add_multiplier_flags)),
    ("the loss", (_add_loss_flags,)),
    ("how it computes", (_add_precision_flags, _add_device_flags, _add_worker_flags)),
)
