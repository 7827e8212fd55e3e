"""The flags of train.py, and what they mean: the model's description and the training settings.

Imports no TensorFlow, so that a wrong flag fails at once.
"""

import argparse
import dataclasses
import glob
import os
import re
from collections.abc import Sequence

import config
import pretrained
import sources
import ssd_layers
import ssd_utils
import training_data
import transforms
from dataset_check import anchor_advisor
from formats import class_lists
from media import images
from structures import UserError
from system import cli, files, worker_processes
from system.wording import plural
from training import augmentation_file, caching
from weights import class_transfer, weight_files

# Pretrained features expect 0..255. From scratch, this brings the input to about unit variance
SCRATCH_INPUT_SCALE = 1 / 60
FC_FORMS = {"yes": "subsampled", "no": "full"}  # of --subsample-fc


def read(flags: argparse.Namespace, writes: bool = True) -> tuple[config.ModelDescription, config.TrainingSettings]:
    """Flags of `parse` -> (ModelDescription, TrainingSettings) of a new or resumed run.

    Checks everything that can be checked without reading pictures. writes: False in a process that writes nothing, and
    so does not look at what the one that writes may have begun. Raises UserError that names the flag.
    """
    if "show_batch" in flags and flags.find_rate:
        raise UserError("--show-batch and --find-rate: each is a call of its own")
    if flags.find_rate:
        if flags.resume:
            raise UserError("--find-rate: tests the flags of a new run; leave --resume out")
        for path in rate_files(flags.run):
            _check_rate_file(path)
    description, settings = _resume_config(flags) if flags.resume else _new_config(flags, writes)
    _check_cache(flags, settings)
    _check_effect(flags, settings)
    return description, settings


def _check_cache(flags, settings):
    """Refuse flags of the cache that would do nothing."""
    if "cache_gb" in flags and settings.cache == "none":
        raise UserError("--cache-gb: needs --cache ram or --cache disk")
    if "cache_dir" in flags and settings.cache != "disk":
        raise UserError("--cache-dir: needs --cache disk")


def _check_effect(flags, settings):
    """Refuse flags of a new run that another one keeps from having an effect."""
    if flags.resume:
        return
    if "schedule_steps" in flags and settings.schedule != "step":
        raise UserError(f"--schedule-steps: needs --schedule step, and the schedule is {settings.schedule}")
    if "adam_epsilon" in flags and settings.optimizer == "momentum":
        raise UserError("--adam-epsilon: needs --optimizer adamw or adam; momentum has no epsilon")
    if "momentum_form" in flags and settings.optimizer != "momentum":
        raise UserError(f"--momentum-form: needs --optimizer momentum, and the optimizer is {settings.optimizer}")


def rate_files(run: str) -> tuple[str, str]:
    """(plot, curve): what --find-rate writes, beside the run, which a training can then create."""
    return f"{os.path.normpath(run)}-rate.png", f"{os.path.normpath(run)}-rate.json"


def _check_rate_file(path):
    try:
        cli.output_file(path)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--find-rate: {error}") from None


def training_command(argv: Sequence[str], rate: float) -> str:
    """The command that trains with the flags of a --find-rate, at a rate of its own."""
    kept, words = [], iter(argv)
    for word in words:
        if word == "--learning-rate":
            next(words)
        elif word != "--find-rate" and not word.startswith("--learning-rate="):
            kept.append(word)
    return cli.command("train.py", *kept, "--learning-rate", f"{rate:g}")


def _new_config(flags, writes):
    given = _with_recipe(vars(flags), "init_from" in flags)
    if "data" not in given:
        raise UserError("--data: needed to start a run (only --resume does without)")
    if "train" not in given:
        given["train"] = sources.usual_training(given["data"], given.get("source", "auto"))
    if not given["train"]:
        names = ", ".join(sources.split_names(given["data"], given.get("source", "auto")))
        raise UserError(f"--train: needed to start a run; the splits of --data are: {names}")
    if writes:
        config.check_new(flags.run)
    names = {field.name for field in dataclasses.fields(config.TrainingSettings)}
    settings = config.TrainingSettings(**{name: value for name, value in given.items() if name in names})
    usual = {
        name: value for name, value in _usual(settings.optimizer, settings.adam_epsilon).items() if name not in given
    }
    if settings.schedule_rates:
        usual["learning_rate"] = _first_rate(flags, settings)
    settings = dataclasses.replace(settings, vgg_weights=_vgg_weights(given, settings), **usual)
    description = config.ModelDescription(_preset(given, settings), _class_names(given, settings))
    _check(settings, writes)
    _check_layers(settings.freeze, description.preset)
    _check_classes(settings, description.class_names)
    return description, settings


def _usual(optimizer, adam_epsilon):
    """The settings whose defaults depend on the optimizer."""
    return {
        "learning_rate": config.usual_rate(optimizer, adam_epsilon),
        "weight_decay": config.usual_decay(optimizer),
    }


def _first_rate(flags, settings):
    """The first of --schedule-rates. Raises UserError if they do not fit the other flags."""
    rates, steps = settings.schedule_rates, settings.schedule_steps
    for flag, name in (("--learning-rate", "learning_rate"), ("--find-rate", "find_rate")):
        if vars(flags).get(name):
            raise UserError(f"--schedule-rates: sets all rates; leave it or {flag} out")
    if settings.schedule != "step":
        raise UserError(f"--schedule-rates: needs --schedule step; it is {settings.schedule}")
    if len(rates) != len(steps) + 1:
        raise UserError(
            f"--schedule-rates {_shown(rates)}: {plural(len(rates), 'rate')} for {plural(len(steps), 'step')} in "
            f"--schedule-steps {_shown(steps)}; give one rate more than steps, the first for the start"
        )
    return rates[0]


def _with_recipe(given, has_first_run):
    """The given flags, {name: value}, and what --recipe sets beside them.

    has_first_run: whether the training starts from a run, whose anchors its weights need.
    """
    if "recipe" not in given:
        return dict(given)
    filled = {**config.RECIPES[given["recipe"]], **given}
    if has_first_run and "preset" not in given:
        del filled["preset"]
    if given["recipe"] == "default":
        filled |= {**_usual(filled["optimizer"], filled["adam_epsilon"]), **given}
    return filled


def _vgg_weights(given, settings):
    """The path of --vgg-weights; "auto" for the file that is downloaded when training starts; or None."""
    width = given.get("width", 1.0)
    choice = given.get("vgg_weights") or ("none" if width != 1 or settings.init_from else "auto")
    if choice == "none":
        return None
    if settings.init_from:
        raise UserError("--vgg-weights and --init-from: both set the first weights; give only one")
    if width != 1:
        raise UserError(f"--vgg-weights {choice}: fits --width 1 only; give --vgg-weights none with --width {width:g}")
    if choice == "auto":
        return choice
    if config.is_run(choice):
        raise UserError(f"--vgg-weights {choice}: is a run; give it with --init-from {choice}")
    choice = weight_files.file_of(choice)
    if not os.path.isfile(choice):
        raise UserError(f"--vgg-weights {choice}: no such file")
    weight_files.check_kind(choice)
    return os.path.abspath(choice)


def _preset(given, settings):
    """The preset of a new run, with the anchors of --anchors."""
    preset = _named_preset(given, settings)
    if "subsample_fc" in given:
        form = FC_FORMS[given["subsample_fc"]]
        if settings.init_from and form != preset.fc_form:
            flag = f"--subsample-fc {given['subsample_fc']}"
            raise UserError(f"{flag}: the weights of {settings.init_from} are of the other form; leave it out")
        preset = dataclasses.replace(preset, fc_form=form)
    own = ("gray16", "classes_per_anchor")  # fields that flags set
    preset = dataclasses.replace(preset, **{name: given.get(name, getattr(preset, name)) for name in own})
    if "input" in given:
        preset = ssd_layers.for_input(preset, *given["input"])
    if "anchors" not in given:
        return preset
    changed = anchor_advisor.read_anchors(given["anchors"], preset)
    if settings.init_from:
        own = config.find_model(settings.init_from).description.preset.anchors_per_cell
        if changed.anchors_per_cell != own:
            raise UserError(
                f"--anchors {given['anchors']}: has {changed.anchors_per_cell} as numbers of anchors a cell, but "
                f"{settings.init_from} has {own}; leave one of the two flags out"
            )
    return changed


def _named_preset(given, settings):
    """--preset, with the width and input of --init-from's weights if that is given; without --preset that run's own."""
    if not settings.init_from:
        preset = ssd_utils.get_preset(given.get("preset", config.RECIPES["default"]["preset"]))
        scale = 1.0 if settings.vgg_weights else SCRATCH_INPUT_SCALE
        return dataclasses.replace(preset, width=given.get("width", 1.0), input_scale=scale)
    source = config.find_model(settings.init_from)
    if source.exported:
        raise UserError(
            f"--init-from {settings.init_from}: an exported model cannot be trained; give the run it was exported from"
        )
    own = source.description.preset
    if "width" in given and given["width"] != own.width:
        raise UserError(f"--width {given['width']:g}: {settings.init_from} has width {own.width:g}; leave --width out")
    if "preset" not in given:
        return own
    kept = {
        name: getattr(own, name)
        for name in ("width", "input_scale", "mean", "channel_order", "gray16", "fc_form", "classes_per_anchor")
    }
    return dataclasses.replace(ssd_utils.get_preset(given["preset"]), **kept)


def _class_names(given, settings):
    if "classes" in given:
        return class_lists.parse_classes(given["classes"])
    if settings.init_from:
        return config.find_model(settings.init_from).description.class_names
    return sources.class_names(settings.data, settings.train, settings.source)


def _check(settings, writes):
    """Refuse combinations of flags that make no sense."""
    if settings.valid and settings.valid_share:
        raise UserError("--valid-share: divides --train, and --valid names other pictures; leave one of the two out")
    if writes and settings.events and glob.glob(os.path.join(glob.escape(settings.events), "events.out.tfevents.*")):
        raise UserError(f"--events {settings.events}: has the records of another training; choose another folder")
    if settings.patience is not None and not (settings.valid or settings.valid_share):
        raise UserError("--patience: needs --valid or --valid-share, which gives the mean AP")


def _check_layers(layers, preset):
    """Refuse a layer or group of --freeze that matches nothing: it would freeze nothing."""
    names = ssd_layers.variable_names(preset)
    for layer in layers:
        if not any(ssd_layers.in_layer(name, layer) for name in names):
            known = ", ".join(dict.fromkeys(re.sub(r"(^conv\d+|^head_.*)_.*|/.*", r"\1", name) for name in names))
            raise UserError(f"--freeze {layer}: {preset.name} has no such layer; it has {known}, or parts like conv4_3")


def _check_classes(settings, class_names):
    """Refuse wrong names in the flags that name classes."""
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
        raise UserError(
            f"--resume: {flags.run} holds imported weights, not a training; "
            f"start a new run with --init-from {flags.run}"
        )
    stored = {
        **vars(settings),
        "preset": ssd_layers.square_name(description.preset),
        "input": description.preset.input_wh,
        "width": description.preset.width,
        "gray16": description.preset.gray16,
        "subsample_fc": next(choice for choice, form in FC_FORMS.items() if form == description.preset.fc_form),
        "classes_per_anchor": description.preset.classes_per_anchor,
        "classes": description.class_names,
    }
    given = {name: value for name, value in vars(flags).items() if name in stored}
    if "classes" in given:
        given["classes"] = class_lists.parse_classes(given["classes"])
    if given.get("vgg_weights"):
        given["vgg_weights"] = _resumed_weights(given["vgg_weights"])
    if stored["init_from"]:  # older versions stored it as it was given
        stored["init_from"] = _whole_path(stored["init_from"])
    if given.get("precision") == "auto":  # the run's start replaced it by a number type
        del given["precision"]
    for name, value in given.items():
        if name not in config.RESUMABLE and value != stored[name]:
            first = f"the run was started with {_shown(stored[name], name)}"
            raise UserError(f"{_flag(name)} {_shown(value, name)}: {first}; leave it out to resume")
    for name, value in _with_recipe(vars(flags), bool(stored["init_from"])).items():
        if name in stored and name not in flags and value != stored[name]:
            difference = f"sets {_flag(name)} {_shown(value)}, but the run has {_shown(stored[name])}"
            raise UserError(f"--recipe {flags.recipe}: {difference}; leave --recipe out to resume")
    if "anchors" in flags and anchor_advisor.read_anchors(flags.anchors, description.preset) != description.preset:
        raise UserError(f"--anchors {flags.anchors}: the run was started with other anchors; leave it out to resume")
    changes = {name: given[name] for name in config.RESUMABLE if name in given}
    return description, dataclasses.replace(settings, **changes)


def _whole_path(run):
    """--init-from as it is stored: absolute, for a resume from another folder, unless that makes it a pattern."""
    whole = os.path.abspath(run)
    return run if config.is_pattern(whole) else whole


def _resumed_weights(choice):
    """--vgg-weights as `_vgg_weights` stores it."""
    return {"none": None, "auto": "auto"}.get(choice, os.path.abspath(weight_files.file_of(choice)))


def _comma_list(text):
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pair_list(text):
    """'A=B, C=D', or a file with A=B on each line -> ('A=B', 'C=D'), without spaces around the names."""
    if os.path.isfile(text):
        pairs = [line.strip() for line in files.read_text(text).splitlines() if line.strip()]
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
    if text in config.CHOICES["augmentation"]:
        return text
    if not os.path.isfile(text):
        names = ", ".join(config.CHOICES["augmentation"])
        raise argparse.ArgumentTypeError(f"{text!r} is neither one of {names} nor a JSON file")
    return augmentation_file.read(text)


def _rate_list(text):
    return tuple(cli.positive_float(part) for part in _comma_list(text))


def _step_list(text):
    try:
        steps = tuple(int(part) for part in _comma_list(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 80000,100000") from None
    if not steps or sorted(set(steps)) != list(steps) or steps[0] < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of steps in rising order")
    return steps


def parse(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    """The flags that were given, and only those: an absent one takes its default, or the run's value on --resume.

    Paths of data and runs are made absolute. Raises UserError for a wrong flag.
    """
    parser = cli.ArgumentParser(
        usage="%(prog)s --data DIR --train SPLITS --run DIR [flags]\n       %(prog)s --run DIR --resume",
        description=description,
        argument_default=argparse.SUPPRESS,
        epilog="A first run on your own pictures:\n"
        "  python train.py --data mydata --train train --valid val --classes cat,dog --run runs/mine \\\n"
        "      --freeze conv1,conv2 --precision auto --epochs 40",
        rest="What --recipe sets:\n  " + "\n  ".join(_recipe_table()),
    )
    for title, add_flags in (
        ("what it reads", _add_data_flags),
        ("what it writes, and how long it trains", _add_run_flags),
        ("the weights it starts from", _add_weight_flags),
        ("the network and its anchors", _add_model_flags),
        ("all settings of a training at once", _add_recipe_flag),
        ("the pictures of an epoch", _add_sampling_flags),
        ("how it updates the weights", _add_optimization_flags),
        ("how large the steps are", _add_rate_flags),
        ("the loss", _add_loss_flags),
        ("how it computes", _add_machine_flags),
    ):
        add_flags(parser.add_argument_group(title))
    flags = parser.parse_args(argv)
    if "data" in flags:
        flags.data = os.path.abspath(flags.data)
    if "cache_dir" in flags:
        flags.cache_dir = os.path.abspath(flags.cache_dir)
    if "events" in flags:
        flags.events = os.path.abspath(flags.events)
    if "init_from" in flags:
        flags.init_from = _first_run(flags.init_from)
    return flags


def _first_run(name):
    """--init-from as it is stored: the path of a run, also of a published detector, which is fetched if need be."""
    try:
        source = pretrained.fetched(config.find_model(name))
    except UserError as error:
        raise UserError(f"--init-from {error}") from None
    if source.run and not name.startswith(source.run):  # a published detector, perhaps with @last
        name = source.run + "".join(name.partition("@")[1:])
    return _whole_path(name)


def _add(group, flag, text, rare=False, **options):
    """Add a flag with a help text, which ends with the default of its setting unless it names a default itself.

    rare: only --help-all shows it.
    """
    default = getattr(config.DEFAULTS, flag[2:].replace("-", "_"), None)
    if "(default: " not in text and default not in (None, "", ()) and default is not False:
        text = f"{text} (default: {_shown(default)})"
    action = group.add_argument(flag, help=text, **options)
    if rare:
        cli.rare(action)


def _add_data_flags(group):
    _add(
        group,
        "--data",
        "data set: a VOCdevkit with VOC2007, VOC2012, …, one folder in VOC layout, or a data set in another format "
        "that docs/formats.md lists (required, but not with --resume)",
        metavar="DIR",
    )
    within = group.add_argument("--within-data", action="store_true", default=False, help=sources.WITHIN_HELP)
    cli.rare(within)
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
        "where the data set has no split for --valid: keep this share of the pictures of --train, such as 0.2, for "
        "validation, the same ones for every --seed; the run remembers them (default: none)",
        type=cli.inner_fraction,
        metavar="X",
    )
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
        choices=config.CHOICES["other_classes"],
    )
    _add(
        group,
        "--difficult",
        "objects marked difficult: use trains on them, as the original does; ignore drops them",
        choices=config.CHOICES["difficult"],
        rare=True,
    )
    _add(
        group,
        "--missing-annotations",
        "pictures without an annotation file, in formats with one for each picture: error stops, background takes them "
        "as pictures without objects",
        choices=config.CHOICES["missing_annotations"],
        rare=True,
    )


def _add_sampling_flags(group):
    _add(
        group,
        "--limit",
        "use at most N pictures of --train and N of --valid (default: all)",
        type=cli.positive_int,
        metavar="N",
    )
    _add(
        group,
        "--repeat",
        "show each picture N times an epoch, so that few pictures still make a long epoch",
        type=cli.positive_int,
        metavar="N",
        rare=True,
    )
    _add(
        group,
        "--augmentation",
        "random changes of pictures: full (the original's), article (full, but cut objects keep their whole boxes), "
        "light (mirroring, brightness, contrast: for few pictures of large objects), none, or a JSON file of numbers",
        type=_augmentation,
        metavar=f"{'|'.join(config.CHOICES['augmentation'])}|FILE",
    )

    _add(
        group,
        "--show-batch",
        "do not train, but write a contact sheet of the first pictures as they are trained on, DIR/batch.jpg, with "
        "their objects and the anchors that match them",
        type=cli.output_folder,
        metavar="DIR",
        rare=True,
    )


def _add_recipe_flag(group):
    _add(
        group,
        "--recipe",
        "train.py's own settings, the article's or the original's, where no flag of their own is given; --help-all "
        "lists them. Their presets hold unless --init-from brings its own (default: default)",
        choices=tuple(config.RECIPES),
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
        "input of the network in pixels in place of the preset's, each side a multiple of 32, such as 512x288 for "
        "pictures of 16:9, which a square input squeezes. Anchors keep their share of the area "
        "(default: that of --preset)",
        type=cli.width_x_height,
        metavar="WIDTHxHEIGHT",
        rare=True,
    )
    _add(
        group,
        "--anchors",
        "sizes and ratios of anchors in place of the preset's: a file that check_dataset.py --anchors writes",
        type=cli.existing_file,
        metavar="FILE",
        rare=True,
    )
    _add(
        group,
        "--width",
        "factor on all channel counts, at most 1; 0.25 trains from scratch in minutes "
        "(default: that of --init-from, else 1)",
        type=cli.positive_fraction,
        metavar="X",
    )

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
        "what detections an anchor may give: one for each class (all, the original's), or one of its best class (best, "
        "the article's). The run keeps it for infer.py (default: that of --init-from, else that of --preset)",
        choices=ssd_utils.CLASSES_PER_ANCHOR,
        rare=True,
    )
    _add(
        group,
        "--gray16",
        "how pictures with 16 bits a sample, as of thermal cameras, become 8: full takes the upper 8 bits; stretch "
        "spreads what each picture has over all gray levels; LOW-HIGH, such as 2000-4040, spreads these values. The "
        "run keeps it for infer.py (default: that of --init-from, else full)",
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
        "classes of --init-from that get another name here, such as car=vehicle, or a file with one such pair a line",
        type=_pair_list,
        metavar="OLD=NEW,…|FILE",
        rare=True,
    )
    _add(
        group,
        "--initializer",
        "random values of layers without given weights: lsuv, He's scaled by the first pictures so that the outputs of "
        "all layers start at one size; he; xavier, the original's",
        choices=config.CHOICES["initializer"],
        rare=True,
    )
    _add(
        group,
        "--freeze",
        "layers that stay as they are, such as conv1,conv2 or conv4_3,fc6: general features are kept and a step takes "
        "less time (default: none)",
        type=_comma_list,
        metavar="LAYERS",
    )


def _add_loss_flags(group):
    _add(
        group,
        "--matching",
        "anchors that learn an object: all with an IoU above 0.5; bipartite adds the best anchor of each object, "
        "threshold, the article's, does not",
        choices=config.CHOICES["matching"],
        rare=True,
    )
    _add(
        group,
        "--negative-ratio",
        "hard negatives for each positive anchor",
        type=cli.positive_int,
        metavar="N",
        rare=True,
    )
    _add(
        group,
        "--unmatched",
        "pictures of which no anchor matches an object once they are augmented, which teach nothing: keep them, "
        f"or redraw the augmentation up to {training_data.REDRAWS} times, as the article does",
        choices=config.CHOICES["unmatched"],
        rare=True,
    )
    _add(
        group,
        "--normalize",
        "what the loss is divided by: the matched anchors of all images of a step (batch, the original's), or those of "
        "each image, so that each image counts alike (image, the article's)",
        choices=config.CHOICES["normalize"],
        rare=True,
    )
    _add(
        group,
        "--class-weights",
        "factor on the confidence loss of a class's objects; auto makes rare classes count more: "
        "sum(n) / (sum(sqrt(n)) sqrt(n)) for n objects of a class in --train, at most 10, on average 1 "
        "(default: 1 for all). Also a file with NAME=X on each line, for names with commas",
        type=_class_weights,
        metavar="auto|NAME=X,…|FILE",
        rare=True,
    )


def _add_optimization_flags(group):
    _add(
        group,
        "--batch-size",
        "images in memory at once",
        type=cli.positive_int,
        metavar="N",
    )
    _add(
        group,
        "--accumulate",
        "batches for one optimizer step; 4 gives the original's 32 images in the memory of 8",
        type=cli.positive_int,
        metavar="N",
    )
    _add_optimizer_flags(group)


def _add_optimizer_flags(group):
    _add(
        group,
        "--optimizer",
        "adamw is Adam with decay apart from the gradient; adam is the article's, momentum the original's",
        choices=config.CHOICES["optimizer"],
        rare=True,
    )
    _add(
        group,
        "--adam-epsilon",
        "the article's is 0.1, with which a short training learns far less",
        type=cli.positive_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--momentum",
        "share of the last update that --optimizer momentum keeps in the next",
        type=cli.inner_fraction,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--momentum-form",
        "what --optimizer momentum sums up: gradients (tensorflow), or gradients times the learning rate, so that "
        "another rate acts on later gradients alone (caffe)",
        choices=config.CHOICES["momentum_form"],
        rare=True,
    )
    _add(
        group,
        "--clip-norm",
        "largest norm of the gradient, against an early NaN; 0 for no limit",
        type=cli.non_negative_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--weight-decay",
        "decay of weights; biases are not decayed "
        f"(default: {config.DEFAULTS.weight_decay:g}; 0.0005 with adam or momentum, which add it to the gradient)",
        type=cli.non_negative_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--ema",
        "also keep a moving average of the weights, of which each step keeps the share X, such as 0.999. Validation, "
        "infer.py and export_model.py use the average; training continues from the weights themselves (default: none)",
        type=cli.inner_fraction,
        metavar="X",
        rare=True,
    )


def _add_rate_flags(group):
    _add(
        group,
        "--learning-rate",
        "rate before --schedule lowers it "
        f"(default: {config.DEFAULTS.learning_rate:g}; 0.001 with momentum or the article's epsilon)",
        type=cli.positive_float,
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
        choices=config.CHOICES["schedule"],
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
        type=cli.non_negative_int,
        metavar="N",
        rare=True,
    )
    _add_multiplier_flags(group)


def _add_multiplier_flags(group):
    _add(
        group,
        "--bias-lr-multiplier",
        "factor on the learning rate of biases; the original's is 2",
        type=cli.positive_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--vgg-lr-multiplier",
        "factor on the learning rate of VGG-16's convolutions, conv1_1 to conv5_3, which start from trained weights; "
        "0.1 lets the new layers learn faster than these",
        type=cli.positive_float,
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
        f"continue the run from its last checkpoint; of the other flags only {_flag_list(config.RESUMABLE)} may change",
        action="store_true",
        default=False,
    )
    _add(group, "--epochs", "passes over the pictures of --train", type=cli.positive_int, metavar="N")
    _add(
        group,
        "--max-steps",
        "end after N optimizer steps, even if --epochs are not done (default: no limit)",
        type=cli.positive_int,
        metavar="N",
    )
    _add_record_flags(group)


def _add_record_flags(group):
    _add(
        group,
        "--valid-every",
        "epochs from one validation to the next",
        type=cli.positive_int,
        metavar="EPOCHS",
        rare=True,
    )
    _add(
        group,
        "--score-train",
        "at each validation, also score N pictures of --train, the same ones every time: train_voc07 in metrics.csv, "
        "and some of them in TensorBoard. Far above that of --valid, the training learns its pictures by heart",
        type=cli.non_negative_int,
        metavar="N",
        rare=True,
    )
    _add(
        group,
        "--events",
        "folder of TensorBoard's records, empty or new; may hold folders of other runs (default: events in the run)",
        type=cli.output_folder,
        metavar="DIR",
        rare=True,
    )
    _add(
        group,
        "--patience",
        "stop after this many epochs without a better mean AP; needs --valid or --valid-share (default: never)",
        type=cli.positive_int,
        metavar="EPOCHS",
    )
    _add(
        group,
        "--keep-every",
        "keep the checkpoint of each N-th epoch beside the last and the best; RUN@epoch-40 and RUN@12000, an epoch and "
        "a step, name one wherever a MODEL is asked for (default: keep none)",
        type=cli.positive_int,
        metavar="N",
        rare=True,
    )
    _add(
        group,
        "--save-minutes",
        "minutes between checkpoints within an epoch; each epoch ends with one too",
        type=cli.positive_float,
        metavar="X",
        rare=True,
    )


def _add_machine_flags(group):
    _add(
        group,
        "--precision",
        "number type of the computation; weights are always float32. auto takes the fastest that the hardware has",
        choices=config.CHOICES["precision"],
    )
    xla = group.add_argument(
        "--xla",
        choices=("auto", *config.XLA_FORMS),
        default="auto",
        help="what XLA compiles of the training step before the first one, which makes a GPU faster: nothing (off), "
        "the optimizer's update (seconds), what TensorFlow chooses (on, a minute or so at the first start), everything "
        "(whole, likewise). auto is on for long trainings on a GPU, else off; may change on --resume (default: auto)",
    )
    cli.rare(xla)
    _add_device_flags(group)
    _add(
        group,
        "--workers",
        "processes that prepare batches; 0 prepares them between the steps "
        f"(default: the cores less two, at least 2 and at most {worker_processes.MOST_WORKERS})",
        type=cli.non_negative_int,
        metavar="N",
    )
    _add(
        group,
        "--cache",
        "keep decoded pictures, so that each is decoded once: ram in memory, disk in files that later trainings use "
        "too. The batches are the same",
        choices=config.CHOICES["cache"],
        rare=True,
    )
    _add(
        group,
        "--cache-gb",
        "most gigabytes that the cache takes; pictures beyond are decoded each time "
        f"(default: half of the free memory; {caching.DISK_GB} on disk, together with other trainings)",
        type=cli.positive_float,
        metavar="X",
        rare=True,
    )
    _add(
        group,
        "--cache-dir",
        f"folder of --cache disk (default: pictures in ${files.CACHE_VARIABLE} or ~/.cache/ssd-tensorflow)",
        type=cli.output_folder,
        metavar="DIR",
        rare=True,
    )
    _add(group, "--seed", "seed of all random numbers", type=cli.non_negative_int, metavar="N")
    _add(
        group,
        "--deterministic",
        "the same numbers in every execution, where TensorFlow can",
        action="store_true",
        rare=True,
    )


def _add_device_flags(group):
    devices = group.add_argument(
        "--devices",
        type=cli.positive_int,
        default=None,
        metavar="N",
        help="train with N processes on this machine, each on a GPU of its own or a share of the cores. A batch is "
        "divided among them, and the weights become those of one process. 1: alone, whatever TF_CONFIG or Slurm say, "
        "which name the processes of several machines (docs/scale.md). May change on --resume (default: what these "
        "say, else 1)",
    )
    restarts = group.add_argument(
        "--restarts",
        type=cli.non_negative_int,
        default=0,
        metavar="N",
        help="with several processes: when one was killed, or its machine or network failed, start all again from the "
        "last checkpoint, up to N times (default: 0)",
    )
    for flag in (devices, restarts):
        cli.rare(flag)
    _add(
        group,
        "--wire",
        "number type in which several processes send each other gradients; bfloat16 takes half the time on a slow "
        "network, and rounds",
        choices=config.CHOICES["wire"],
        rare=True,
    )


def _shown(value, name=""):
    """A setting as its flag takes it; 'none' if it has no value."""
    if isinstance(value, transforms.Augmentation):
        return "FILE"
    if value is None or value == ():
        return "none"
    if name == "input":
        return "{}x{}".format(*value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _recipe_table():
    """The lines of a table: what each recipe sets."""
    rows = [("", *config.RECIPES)]
    for name in config.RECIPES["default"]:
        rows.append((_flag(name), *(_shown(values[name]) for values in config.RECIPES.values())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _flag(name):
    """'max_steps' -> '--max-steps'."""
    return "--" + name.replace("_", "-")


def _flag_list(names):
    """('max_steps', 'workers') -> '--max-steps and --workers'."""
    *first, last = map(_flag, names)
    return f"{', '.join(first)} and {last}"
