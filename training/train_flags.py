"""The flags of train.py, and what they say: the model's description and the training settings.

Free of TensorFlow, so that a wrong flag is told at once.
"""

import argparse
import dataclasses
import os
import re

import config
import source_pascal_voc
import sources
import ssd_layers
import ssd_utils
import training_data
from dataset_check import anchor_advisor
from formats import class_lists
from structures import UserError
from system import cli
from weights import class_transfer, weight_files

# Without pretrained features nothing expects 0..255; this brings the input to about unit variance
SCRATCH_INPUT_SCALE = 1 / 60
DEFAULTS = config.TrainingSettings(data="", train="")


def read(flags):
    """Flags of `parse` -> (ModelDescription, TrainingSettings), of a new or a resumed run. Raises UserError."""
    return _resume_config(flags) if flags.resume else _new_config(flags)


def _new_config(flags):
    """Flags -> (ModelDescription, TrainingSettings) of a new run; all that can be wrong without data is checked."""
    given = vars(flags)
    if "data" not in given:
        raise UserError("--data: needed to start a run (a resumed one knows it)")
    if not given.setdefault("train", source_pascal_voc.usual_training(given["data"])):
        raise UserError("--train: needed to start a run (a resumed one knows it), such as train or 2007:trainval")
    config.check_new(flags.run)
    names = {field.name for field in dataclasses.fields(config.TrainingSettings)}
    settings = config.TrainingSettings(**{name: value for name, value in given.items() if name in names})
    rate = given.get("learning_rate", config.usual_rate(settings.optimizer, settings.adam_epsilon))
    settings = dataclasses.replace(settings, vgg_weights=_vgg_weights(given, settings), learning_rate=rate)
    description = config.ModelDescription(_preset(given, settings), _class_names(given, settings))
    _check(settings)
    _check_layers(settings.freeze, description.preset)
    _check_classes(settings, description.class_names)
    return description, settings


def _vgg_weights(given, settings):
    """The file behind --vgg-weights, "auto" for the one that is downloaded when training starts, or None."""
    width = given.get("width", 1.0)
    choice = given.get("vgg_weights") or ("none" if width != 1 or settings.init_from else "auto")
    if choice == "none":
        return None
    if settings.init_from:
        raise UserError("--vgg-weights and --init-from: both set the first weights; give one of them")
    if width != 1:
        raise UserError(f"--vgg-weights {choice}: fits --width 1 only; use --vgg-weights none with --width {width:g}")
    if choice == "auto":
        return choice
    if not os.path.isfile(choice):
        raise UserError(f"--vgg-weights {choice}: no such file")
    weight_files.check_kind(choice)
    return os.path.abspath(choice)


def _preset(given, settings):
    """The preset of a new run, with the anchors of --anchors."""
    preset = _named_preset(given, settings)
    if "anchors" not in given:
        return preset
    changed = anchor_advisor.read_anchors(given["anchors"], preset)
    if settings.init_from:
        own = config.find_model(settings.init_from).description.preset.anchors_per_cell
        if changed.anchors_per_cell != own:
            raise UserError(
                f"--anchors {given['anchors']}: {changed.anchors_per_cell} anchors a cell, but the heads of "
                f"{settings.init_from} have {own}; leave one of the two flags out"
            )
    return changed


def _named_preset(given, settings):
    """The preset of --init-from; of --preset where that is given, with the width and input of --init-from's weights."""
    if not settings.init_from:
        preset = ssd_utils.get_preset(given.get("preset", "vgg300"))
        scale = 1.0 if settings.vgg_weights else SCRATCH_INPUT_SCALE
        return dataclasses.replace(preset, width=given.get("width", 1.0), input_scale=scale)
    source = config.find_model(settings.init_from)
    if source.frozen:
        raise UserError(f"--init-from {settings.init_from}: an exported graph cannot be trained; give its run")
    own = source.description.preset
    if "width" in given and given["width"] != own.width:
        raise UserError(f"--width {given['width']:g}: {settings.init_from} has width {own.width:g}")
    if "preset" not in given:
        return own
    kept = {name: getattr(own, name) for name in ("width", "input_scale", "mean", "channel_order")}
    return dataclasses.replace(ssd_utils.get_preset(given["preset"]), **kept)


def _class_names(given, settings):
    if "classes" in given:
        return class_lists.parse_classes(given["classes"])
    if settings.init_from:
        return config.find_model(settings.init_from).description.class_names
    return sources.class_names(settings.data, settings.train, settings.source)


def _check(settings):
    """Combinations of flags that make no sense."""
    if settings.patience is not None and not settings.valid:
        raise UserError("--patience: needs --valid")


def _check_layers(layers, preset):
    """The layers and groups of --freeze: one that matches nothing would freeze nothing."""
    names = ssd_layers.variable_names(preset)
    for layer in layers:
        if not any(ssd_layers.in_layer(name, layer) for name in names):
            known = ", ".join(dict.fromkeys(re.sub(r"(^conv\d+|^head_.*)_.*|/.*", r"\1", name) for name in names))
            raise UserError(f"--freeze {layer}: {preset.name} has no such layer; it has {known}, or parts like conv4_3")


def _check_classes(settings, class_names):
    """Flags that name classes."""
    training_data.class_weights(settings.class_weights, class_names)
    if settings.init_from:
        old_names = config.find_model(settings.init_from).description.class_names
        class_transfer.find_sources(old_names, class_names, settings.map_classes)
    elif settings.map_classes:
        raise UserError("--map-classes: needs --init-from")


def _resume_config(flags):
    """The config of an existing run with the flags that may change; every other difference is an error."""
    description, settings = config.read_config(flags.run)
    if settings is None:
        raise UserError(f"--resume: {flags.run} holds imported weights, not a training; use --init-from {flags.run}")
    stored = {
        **dataclasses.asdict(settings),
        "preset": description.preset.name,
        "width": description.preset.width,
        "classes": description.class_names,
    }
    given = {name: value for name, value in vars(flags).items() if name in stored}
    if "classes" in given:
        given["classes"] = class_lists.parse_classes(given["classes"])
    if given.get("vgg_weights"):
        given["vgg_weights"] = _resumed_weights(given["vgg_weights"])
    if stored["init_from"]:  # of an older version: as it was given
        stored["init_from"] = _whole_path(stored["init_from"])
    if given.get("precision") == "auto":  # became a type when the run was started
        del given["precision"]
    for name, value in given.items():
        if name not in config.RESUMABLE and value != stored[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {value}: the run was started with {stored[name]}; leave it out to resume")
    if "anchors" in flags and anchor_advisor.read_anchors(flags.anchors, description.preset) != description.preset:
        raise UserError(f"--anchors {flags.anchors}: the run was started with others; leave it out to resume")
    changes = {name: given[name] for name in config.RESUMABLE if name in given}
    return description, dataclasses.replace(settings, **changes)


def _whole_path(run):
    """--init-from as it is stored: a resume from another folder is to find it, if TensorFlow can read such a path."""
    whole = os.path.abspath(run)
    return run if config.is_pattern(whole) else whole


def _resumed_weights(choice):
    """What the run would have stored."""
    return {"none": None, "auto": "auto"}.get(choice, os.path.abspath(choice))


def _comma_list(text):
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pair_list(text):
    """Texts A=B, separated by commas, without spaces around the names."""
    pairs = [tuple(part.strip() for part in pair.split("=")) for pair in text.split(",")]
    for pair in pairs:
        if len(pair) != 2 or "" in pair:
            raise argparse.ArgumentTypeError(f"{text!r}: {'='.join(pair)!r} is not of the form NAME=…")
    return tuple("=".join(pair) for pair in pairs)


def _class_weights(text):
    return text if text == "auto" else _pair_list(text)


def _step_list(text):
    try:
        steps = tuple(int(part) for part in _comma_list(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 80000,100000") from None
    if not steps or sorted(set(steps)) != list(steps) or steps[0] < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rising list of steps")
    return steps


def parse(argv, description):
    """Flags that were given, and only those: what is absent takes its default, or the run's value on --resume."""
    parser = cli.ArgumentParser(
        description=description,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A first run on your own pictures:\n"
        "  python train.py --data mydata --train train --valid val --classes cat,dog --run runs/mine \\\n"
        "      --freeze conv1,conv2 --precision auto --schedule cosine --epochs 40",
    )
    _data_flags(parser.add_argument_group("data"))
    _model_flags(parser.add_argument_group("model"))
    _training_flags(parser.add_argument_group("training"))
    _optimiser_flags(parser.add_argument_group("optimiser"))
    flags = parser.parse_args(argv)
    if "data" in flags:
        flags.data = os.path.abspath(flags.data)
    if "init_from" in flags:
        try:
            config.find_model(flags.init_from)
        except UserError as error:
            raise UserError(f"--init-from {error}") from None
        flags.init_from = _whole_path(flags.init_from)
    return flags


def _add(group, flag, **options):
    """Add a flag, whose help ends in the default of the setting it is, unless it says something of defaults itself."""
    text, default = options.get("help", ""), getattr(DEFAULTS, flag[2:].replace("-", "_"), None)
    if "(default: " not in text and default not in (None, "", ()) and default is not False:
        shown = f"{default:g}" if isinstance(default, float) else default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else shown
        options["help"] = f"{text} (default: {shown})".strip()
    group.add_argument(flag, **options)


def _data_flags(group):
    _add(
        group,
        "--data",
        metavar="DIR",
        help="VOCdevkit with VOC2007, VOC2012, …, or one VOC-layout folder; COCO, YOLO or CSV data set (see README)",
    )
    _add(group, "--source", choices=sources.CHOICES, help="format of --data (default: auto, what fits)")
    _add(
        group,
        "--train",
        metavar="SPLITS",
        help="such as train, or train2017 (default: 2007:trainval,2012:trainval, if --data holds VOC2007 and VOC2012)",
    )
    _add(group, "--valid", metavar="SPLITS", help="scored after every epoch; the best model is kept")
    _add(
        group,
        "--classes",
        metavar="LIST",
        help="names with commas, or a file with one a line (default: those of --init-from, else of --data)",
    )
    _add(
        group,
        "--other-classes",
        choices=config.CHOICES["other_classes"],
        help="what to do with classes not in the list",
    )
    _add(
        group,
        "--difficult",
        choices=config.CHOICES["difficult"],
        help="train on objects marked difficult, as the original does",
    )
    _add(
        group,
        "--limit",
        type=cli.positive_int,
        metavar="N",
        help="at most N pictures of --train and N of --valid, drawn the same way every time (default: all)",
    )
    _add(group, "--repeat", type=cli.positive_int, metavar="N", help="show each picture N times an epoch")
    _add(
        group,
        "--augmentation",
        choices=config.CHOICES["augmentation"],
        help="full is the original's; article: cut objects keep their whole boxes; light keeps objects whole",
    )
    _add(group, "--workers", type=cli.non_negative_int, metavar="N", help="processes that prepare batches")


def _model_flags(group):
    _add(
        group,
        "--run",
        type=config.run_folder,
        required=True,
        metavar="DIR",
        help="where config, checkpoints, metrics and plots go",
    )
    _add(group, "--resume", action="store_true", default=False, help="continue the run from its last checkpoint")
    _add(group, "--preset", choices=tuple(ssd_utils.PRESETS), help="input size and anchors (default: vgg300)")
    _add(
        group,
        "--anchors",
        type=cli.existing_file,
        metavar="FILE",
        help="sizes and ratios in place of the preset's, as check_dataset.py --anchors writes them",
    )
    _add(group, "--width", type=cli.positive_fraction, metavar="X", help="factor on all channel counts (default: 1)")
    _add(
        group,
        "--vgg-weights",
        metavar="FILE|auto|none",
        help="VGG-16 to start from: .npz, .h5, .pth, .safetensors or .caffemodel; auto downloads Keras' once, 553 MB "
        "(default: auto at width 1, none at another and with --init-from)",
    )
    _add(
        group,
        "--init-from",
        metavar="RUN",
        help="start from the weights of another run; classes of the same name are kept, others may differ",
    )
    _add(
        group,
        "--map-classes",
        type=_pair_list,
        metavar="OLD=NEW,…",
        help="classes of --init-from that go on under another name here: car=vehicle",
    )
    _add(
        group,
        "--initializer",
        choices=config.CHOICES["initializer"],
        help="of layers without given weights; xavier is the original's",
    )
    _add(group, "--freeze", type=_comma_list, metavar="LAYERS", help="keep as they are: conv1,conv2 or conv4_3, fc6, …")
    _add(
        group,
        "--precision",
        choices=config.CHOICES["precision"],
        help="of the computation; weights are always float32",
    )
    _add(
        group,
        "--matching",
        choices=config.CHOICES["matching"],
        help="threshold leaves out the bipartite step, as the article",
    )


def _training_flags(group):
    _add(group, "--epochs", type=cli.positive_int, metavar="N")
    _add(group, "--max-steps", type=cli.positive_int, metavar="N", help="end after that many optimiser steps")
    _add(group, "--valid-every", type=cli.positive_int, metavar="EPOCHS")
    _add(
        group,
        "--patience",
        type=cli.positive_int,
        metavar="EPOCHS",
        help="stop after that many without a better mean AP",
    )
    _add(group, "--batch-size", type=cli.positive_int, metavar="N", help="images in memory at once")
    _add(group, "--accumulate", type=cli.positive_int, metavar="N", help="batches for one optimiser step")
    _add(group, "--save-minutes", type=cli.positive_float, metavar="X", help="save within an epoch that often")
    _add(group, "--seed", type=cli.non_negative_int, metavar="N")
    _add(
        group, "--deterministic", action="store_true", help="the same numbers in every execution, where TensorFlow can"
    )


def _optimiser_flags(group):
    _add(group, "--optimizer", choices=config.CHOICES["optimizer"], help="the article's or the original's")
    _add(
        group,
        "--adam-epsilon",
        type=cli.positive_float,
        metavar="X",
        help="the article's is 0.1, with which a short training learns far less",
    )
    _add(
        group,
        "--learning-rate",
        type=cli.positive_float,
        metavar="X",
        help=f"(default: {DEFAULTS.learning_rate:g}; 0.001 with momentum or the article's epsilon)",
    )
    _add(
        group,
        "--schedule",
        choices=config.CHOICES["schedule"],
        help="exponential: × 0.97 an epoch; step: × 0.1 at --schedule-steps; cosine: to 0",
    )
    _add(group, "--schedule-steps", type=_step_list, metavar="N,N")
    _add(group, "--warmup-steps", type=cli.non_negative_int, metavar="N", help="linear rise to the rate")
    _add(
        group,
        "--clip-norm",
        type=cli.non_negative_float,
        metavar="X",
        help="largest norm of the gradient, 0 for none",
    )
    _add(group, "--bias-lr-multiplier", type=cli.positive_float, metavar="X", help="the original's is 2")
    _add(group, "--weight-decay", type=cli.non_negative_float, metavar="X", help="on weights, not biases")
    _add(
        group,
        "--ema",
        type=cli.inner_fraction,
        metavar="X",
        help="keep a moving average of the weights, of which each step leaves a share X, such as 0.999: it is scored, "
        "exported and used, while training goes on from the weights themselves (default: none)",
    )
    _add(
        group,
        "--class-weights",
        type=_class_weights,
        metavar="auto|NAME=X,…",
        help="factor on the confidence loss of a class's objects; auto: sum(n) / (sum(sqrt(n)) sqrt(n)) for n objects "
        "of a class in --train, at most 10: rare ones count more, 1 on average (default: 1 for all)",
    )
    _add(group, "--negative-ratio", type=cli.positive_int, metavar="N", help="hard negatives for each positive")
