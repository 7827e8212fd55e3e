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
from dataset_check import anchor_advisor
from formats import class_lists
from settings.training_recipes import RECIPES
from settings.training_settings import RESUMABLE, TrainingSettings, usual_decay, usual_multiplier, usual_rate
from structures import UserError
from system import cli
from system.argument_parser import ArgumentParser
from system.argument_types import output_file
from system.wording import plural
from training.flag_groups import FC_FORMS, add_all, flag_of, shown
from weights import class_transfer, weight_files

# Pretrained features expect 0..255. From scratch, this brings the input to about unit variance
SCRATCH_INPUT_SCALE = 1 / 60
DEPENDENT = ("learning_rate", "weight_decay", "vgg_lr_multiplier")  # settings whose defaults follow others: see _usual


def read(flags: argparse.Namespace, writes: bool = True) -> tuple[config.ModelDescription, TrainingSettings]:
    """Flags of `parse` -> (ModelDescription, TrainingSettings) of a new or resumed run.

    Checks everything that can be checked without reading pictures. writes: False in a process that writes nothing, and
    so does not look at what the one that writes may have begun. Raises UserError that names the flag.
    """
    if "show_batch" in flags and flags.find_rate:
        raise UserError("--show-batch and --find-rate: give only one of the two")
    if flags.find_rate:
        if flags.resume:
            raise UserError("--find-rate: tests the flags of a new run; leave --resume out")
        for path in rate_files(flags.run):
            _check_rate_file(path)
    description, settings = _resume_config(flags) if flags.resume else _new_config(flags, writes)
    _check_readable(flags.run, description, settings)
    _check_cache(flags, settings)
    if settings.bucket_mb and flags.xla == "whole":
        raise UserError("--bucket-mb: with --xla whole all gradients come at once; leave one of the two out")
    _check_effect(flags, settings)
    return description, settings


def _check_readable(run, description, settings):
    """Refuse flags with which config.json would be one that no program reads: the whole training would be lost."""
    try:
        config.ModelDescription.from_json(description.to_json())
        TrainingSettings.from_json(settings.to_json())
    except ValueError as error:
        raise UserError(
            f"--run {run}: its {config.CONFIG} could not be read again ({error}); correct the flag that sets this"
        ) from None


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
    if "overlap" in flags and not settings.tiles:
        raise UserError("--overlap: needs --tiles")
    if "schedule_steps" in flags and settings.schedule != "step":
        raise UserError(f"--schedule-steps: needs --schedule step, and the schedule is {settings.schedule}")
    if "adam_epsilon" in flags and settings.optimizer == "momentum":
        raise UserError("--adam-epsilon: needs --optimizer adamw or adam; momentum has no epsilon")
    for name in ("momentum", "momentum_form"):
        if name in flags and settings.optimizer != "momentum":
            raise UserError(f"{flag_of(name)}: needs --optimizer momentum, and the optimizer is {settings.optimizer}")


def rate_files(run: str) -> tuple[str, str]:
    """(plot, curve): what --find-rate writes, beside the run, which a training can then create."""
    return f"{os.path.normpath(run)}-rate.png", f"{os.path.normpath(run)}-rate.json"


def _check_rate_file(path):
    try:
        output_file(path)
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
    names = {field.name for field in dataclasses.fields(TrainingSettings)}
    settings = TrainingSettings(**{name: value for name, value in given.items() if name in names})
    settings = dataclasses.replace(settings, vgg_weights=_vgg_weights(given, settings))
    usual = {name: value for name, value in _usual(settings).items() if name not in given}
    if settings.schedule_rates:
        usual["learning_rate"] = _first_rate(flags, settings)
    settings = dataclasses.replace(settings, **usual)
    description = config.ModelDescription(_preset(given, settings), _class_names(given, settings))
    _check(settings, writes)
    _check_layers(settings.freeze, description.preset)
    _check_classes(settings, description.class_names)
    return description, settings


def _usual(settings):
    """The DEPENDENT settings' defaults, by the optimizer and the first weights."""
    optimizer, epsilon = settings.optimizer, settings.adam_epsilon
    return {
        "learning_rate": usual_rate(optimizer, epsilon),
        "weight_decay": usual_decay(optimizer),
        "vgg_lr_multiplier": usual_multiplier(optimizer, epsilon, settings.vgg_weights),
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
            f"--schedule-rates {shown(rates)}: {plural(len(rates), 'rate')} for {plural(len(steps), 'step')} in "
            f"--schedule-steps {shown(steps)}; give one rate more than steps, the first for the start"
        )
    return rates[0]


def _with_recipe(given, has_first_run):
    """The given flags, {name: value}, and what --recipe sets beside them.

    has_first_run: whether the training starts from a run, whose anchors its weights need.
    """
    if "recipe" not in given:
        return dict(given)
    filled = {**RECIPES[given["recipe"]], **given}
    if has_first_run and "preset" not in given:
        del filled["preset"]
    if given["recipe"] == "default":  # whose other flags decide these
        filled = {name: value for name, value in filled.items() if name in given or name not in DEPENDENT}
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
                f"--anchors {given['anchors']}: has the anchors per cell {changed.anchors_per_cell}, but "
                f"{settings.init_from} has {own}; leave one of the two flags out"
            )
    return changed


def _named_preset(given, settings):
    """--preset, with the width and input of --init-from's weights if that is given; without --preset that run's own."""
    if not settings.init_from:
        preset = ssd_utils.get_preset(given.get("preset", RECIPES["default"]["preset"]))
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
    if given.get("precision") == "auto":  # the run's start replaced it by a data type
        del given["precision"]
    for name, value in given.items():
        if name not in RESUMABLE and value != stored[name]:
            first = f"the run was started with {shown(stored[name], name)}"
            raise UserError(f"{flag_of(name)} {shown(value, name)}: {first}; leave it out to resume")
    recipe = _with_recipe(vars(flags), bool(stored["init_from"]))
    if recipe.get("recipe") == "default":
        recipe = {**_usual(settings), **recipe}
    for name, value in recipe.items():
        if name in stored and name not in flags and value != stored[name]:
            difference = f"sets {flag_of(name)} {shown(value, name)}, but the run has {shown(stored[name], name)}"
            raise UserError(f"--recipe {flags.recipe}: {difference}; leave --recipe out to resume")
    if "anchors" in flags and anchor_advisor.read_anchors(flags.anchors, description.preset) != description.preset:
        raise UserError(f"--anchors {flags.anchors}: the run was started with other anchors; leave it out to resume")
    changes = {name: given[name] for name in RESUMABLE if name in given}
    return description, dataclasses.replace(settings, **changes)


def _whole_path(run):
    """--init-from as it is stored: absolute, for a resume from another folder, unless that makes it a pattern."""
    whole = os.path.abspath(run)
    return run if config.is_pattern(whole) else whole


def _resumed_weights(choice):
    """--vgg-weights as `_vgg_weights` stores it."""
    return {"none": None, "auto": "auto"}.get(choice, os.path.abspath(weight_files.file_of(choice)))


def parse(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    """The flags that were given, and only those: an absent one takes its default, or the run's value on --resume.

    Paths of data and runs are made absolute. Raises UserError for a wrong flag.
    """
    parser = ArgumentParser(
        usage="%(prog)s --data DIR --run DIR [--train SPLITS] [flags]\n       %(prog)s --run DIR --resume",
        description=description,
        argument_default=argparse.SUPPRESS,
        epilog="A first run on your own pictures:\n"
        "  python train.py --data mydata --train train --valid val --classes cat,dog --run runs/mine \\\n"
        "      --freeze conv1,conv2 --precision auto --epochs 40",
        rest="What --recipe sets:\n  " + "\n  ".join(_recipe_table()),
    )
    add_all(parser)
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


def _recipe_table():
    """The lines of a table: what each recipe sets."""
    rows = [("", *RECIPES)]
    for name in RECIPES["default"]:
        rows.append((flag_of(name), *(shown(values[name], name) for values in RECIPES.values())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
