"""The flags of process_video.py, and those of each video where it is called with several."""

import argparse
import os
from collections.abc import Sequence
from fractions import Fraction

import config
from film import page
from film.output import NONE
from media import video, visualization
from scoring import score_threshold
from settings.computation import PRECISIONS
from structures import UserError
from system import file_names, files, wording
from system.argument_parser import ArgumentParser, rare
from system.argument_types import (
    existing_file,
    non_negative_float,
    output_file,
    output_folder,
    output_json,
    positive_float,
    positive_int,
)
from tiling import flags as tile_flags
from tiling import tiles
from tracking import following, mot_file, places

# What is written beside each video, as a file, or in a folder where OUTPUT is one: {flag: suffix}
FILES = {"json": ".json", "csv": ".csv", "timeline": ".png"}
FOLDERS = ("track_crops", "events")  # ... and what is written into a folder for each video
RATES = (0.0001, 1000)  # frames per second that a folder of pictures may have: a picture every few hours is a video too


def videos(flags: argparse.Namespace) -> list[argparse.Namespace]:
    """The flags of each video: its `input`, `output` and `json`, beside all others. Raises UserError."""
    tiles.choose(flags.tiles, flags.tile_size, flags.overlap)  # refuses both
    flags.places = places.named(
        [*(flags.line or ()), *(zone for path in flags.zone or () for zone in places.read_zones(path))]
    )
    if flags.csv and not flags.places:
        raise UserError(f"--csv {flags.csv}: counts at lines and zones; give --line or --zone")
    asked = (flags.track_crops, flags.score_tracks, flags.places, flags.timeline, flags.blur, flags.events)
    flags.track = bool(flags.track or any(asked))
    flags.truth = following.read_truth(flags.score_tracks) if flags.score_tracks else None
    single = len(flags.inputs) == 1 and (flags.output == NONE or flags.output.lower().endswith(".mp4"))
    if single:
        for what, suffix in FILES.items():
            if (path := getattr(flags, what)) and _is_folder(path):
                better = os.path.join(path, f"{wording.stem(flags.output)}{suffix}")
                raise UserError(f"--{what} {path}: is a folder, but OUTPUT is one video; give a file, such as {better}")
        source = flags.inputs[0]
        is_path = source and not video.is_camera(source)
        if is_path and not os.path.exists(source) and os.path.exists(flags.output):
            raise UserError(f"{source}: no such file; INPUT comes before OUTPUT, and OUTPUT {flags.output} exists")
        return [argparse.Namespace(**{**vars(flags), **_input(source)})]
    if flags.output == NONE or flags.output.lower().endswith(".mp4"):
        raise UserError(f"OUTPUT {flags.output}: is one video, but there are {len(flags.inputs)} inputs; give a folder")
    if flags.truth:
        raise UserError(f"--score-tracks {flags.score_tracks}: scores one video; give one INPUT and OUTPUT.mp4")
    if flags.serve:
        raise UserError("--serve: shows one video; give one INPUT and OUTPUT.mp4")
    _check_folder("OUTPUT", flags.output)
    for name in FILES:
        if getattr(flags, name):
            _check_folder(f"--{name}", getattr(flags, name))
    names = _names(flags)
    return [_of_one(flags, source, name) for source, name in zip(flags.inputs, names, strict=True)]


def _names(flags):
    """The name of each video's files, without a suffix."""
    cameras = [source for source in flags.inputs if video.is_camera(source)]
    if cameras:
        if len(cameras) < len(flags.inputs):
            name = video.without_password(cameras[0])
            raise UserError(f"{name}: a camera or stream runs until Ctrl-C; process videos in another call")
        return file_names.safe_names(_place(source) for source in cameras)
    names = dict[str, str]()
    for source in flags.inputs:
        if not os.path.exists(source):
            raise UserError(f"{source}: no such file or folder")
        name = wording.stem(os.path.normpath(source))
        if name in names:
            other = f"{names[name]} in {flags.output}"
            raise UserError(f"{source}: would have the same name as {other}; process it in another call")
        names[name] = source
    return list(names)


def _place(source):
    """What a camera's files are called: its number, its device, or its address without scheme, user and password."""
    address = video.without_password(source).partition("://")[2]
    return address or f"camera_{os.path.basename(source)}"


def _input(source):
    """The flags that say what a video is read from. input_name: for messages and files that others read."""
    return {"input": source, "input_name": video.without_password(source)}


def _of_one(flags, source, name):
    """The flags of one video of several."""
    written = {
        what: os.path.join(getattr(flags, what), f"{name}{suffix}") if getattr(flags, what) else None
        for what, suffix in FILES.items()
    }
    folders = {what: os.path.join(folder, name) if (folder := getattr(flags, what)) else None for what in FOLDERS}
    output = os.path.join(flags.output, f"{name}.mp4")
    return argparse.Namespace(**{**vars(flags), **_input(source), "output": output, **folders, **written})


def _check_folder(name, path):
    """Raise UserError unless a path is a folder that can be written to; made if it is missing."""
    try:
        os.makedirs(output_folder(path), exist_ok=True)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{name}: {error}") from None


def check_tiles(flags: argparse.Namespace, size: tuple[int, int]) -> None:
    """Raise UserError if a video whose frames have this (width, height) would be cut into too many tiles."""
    if cut := tiles.choose(flags.tiles, flags.tile_size, flags.overlap):
        try:
            cut.edges_px(size)
        except UserError as error:
            raise UserError(f"{flags.input_name}: {error}") from None


def check_outputs(videos: Sequence[argparse.Namespace]) -> None:
    """Raise UserError if a file that is written is also read or another output, or cannot be written.

    Also if OUTPUT is a video of another program: in *.mp4 on two recordings it is the second.

    videos: the flags of all videos of a call. What is incomplete has a name of its own, which must be free too.
    """
    taken = {os.path.realpath(path): name for one in videos for name, path in _read(one) if os.path.exists(path)}
    for one in videos:
        for name, path in (("OUTPUT", one.output), *((f"--{what}", getattr(one, what)) for what in FILES)):
            if path in (None, NONE):
                continue
            if other := taken.get(os.path.realpath(path)):
                raise UserError(f"{name} {path}: is the same file as {other}; give another file")
            if name == "OUTPUT" and video.is_of_others(path):
                raise UserError(
                    f"OUTPUT {path}: is not replaced, since process_video.py did not write that video; give another "
                    "name (for several inputs a folder), or remove it"
                )
            taken[os.path.realpath(path)] = name
            if name in ("OUTPUT", "--json"):
                _take_unfinished(name, path, taken)
            files.check_writable(path)


def _read(flags):
    """(flag or argument, path) of each file that a video is read from or that a flag names; not all need exist."""
    yield from (("INPUT", flags.input), ("MODEL", flags.model))
    yield from (("--zone", path) for path in flags.zone or ())
    if flags.score_tracks:
        yield from (
            ("--score-tracks", flags.score_tracks),
            ("the labels of --score-tracks", mot_file.labels_path(flags.score_tracks)),
        )
    if flags.threshold:
        yield "--threshold", flags.threshold.text


def _take_unfinished(name, path, taken):
    """Add the name that a file has until it is complete to those that are taken. Raises UserError if it is."""
    unfinished = video.unfinished_name(path)
    if other := taken.get(os.path.realpath(unfinished)):
        raise UserError(f"{name} {path}: is written as {unfinished} first, which is also {other}; give another name")
    taken[os.path.realpath(unfinished)] = name


def _is_folder(text):
    """Whether a path is that of a folder, or of one to be made: NAME/."""
    return os.path.isdir(text) or text.endswith(os.sep)


def _mp4_or_folder(text):
    suffix = os.path.splitext(text)[1]
    if text == NONE:
        return text
    if suffix.lower() == ".mp4":
        return output_file(text)
    if suffix and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(
            f"{text!r}: videos are written as MP4; give a name that ends in .mp4, or a folder as NAME/"
        )
    return output_folder(text)


def _rate(text):
    rate, (lowest, highest) = positive_float(text), RATES
    if not lowest <= rate <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {lowest} to {highest}")
    return Fraction(rate).limit_denominator(100_000)  # which is as exact as videos are written


def _json_or_folder(text):
    return output_folder(text) if _is_folder(text) else output_json(text)


def _png_or_folder(text):
    suffix = os.path.splitext(text)[1]
    if suffix and suffix.lower() != ".png" and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r}: is drawn as PNG; give a name in .png, or a folder as NAME/")
    return _file_or_folder(text)


def _file_or_folder(text):
    return output_folder(text) if _is_folder(text) else output_file(text)


def parse(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """The flags of a call. argv: None for the command line's. Raises UserError."""
    parser = ArgumentParser(rest="docs/video.md has examples.", description=description)
    _input_flags(parser.add_argument_group("what it reads").add_argument)
    _detection_flags(parser.add_argument_group("how it detects").add_argument)
    _output_flags(parser.add_argument_group("what it writes").add_argument)
    _look_flags(parser.add_argument_group("what it shows").add_argument)
    _tracking_flags(parser.add_argument_group("how it follows objects").add_argument)
    _counting_flags(parser.add_argument_group("what it counts").add_argument)
    _live_flags(parser.add_argument_group("what others see meanwhile").add_argument)
    return parser.parse_args(argv)


def _input_flags(add):
    add("model", metavar="MODEL", help=config.MODEL_HELP)
    add(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="video files, folders of numbered pictures, or cameras by number (0) or address (rtsp://…); cameras share "
        "the network's batches",
    )
    add(
        "--stream",
        type=positive_int,
        default=1,
        metavar="N",
        help="which video stream of a file that has several, such as a dashcam's front and rear camera",
    )
    add(
        "--within-data",
        action="store_true",
        help="refuse playlists (.m3u8, ffconcat and the like), which open files other than INPUT",
    )
    add("--rate", type=_rate, default="25", metavar="X", help="frames per second of folders of pictures")
    add(
        "--live",
        action="store_true",
        help="for a camera or stream: always take the newest frame and drop those that arrived while the network was "
        "busy, so that the picture is never late (default: all frames)",
    )
    rare(
        add(
            "--patience",
            type=non_negative_float,
            default="300",
            metavar="S",
            help="seconds to keep trying a camera or stream that drops out",
        )
    )
    add("--max-frames", type=positive_int, metavar="N", help="stop after N frames (default: all)")


def _detection_flags(add):
    add(
        "--threshold",
        type=score_threshold.parse,
        metavar="X",
        help=f"show detections that score above X: {score_threshold.HELP} (default: {visualization.SHOW_THRESHOLD})",
    )
    add("--classes", metavar="NAMES", help="show only these classes, separated by commas (default: all)")
    add(
        "--every",
        type=positive_int,
        default=1,
        metavar="N",
        help="run the network on every Nth frame only, and keep its boxes in between; with --track they keep moving",
    )
    add(
        "--batch-size",
        type=positive_int,
        metavar="N",
        help="frames or tiles that the network processes at once; for cameras, 1 frame of each (default: 8, on a GPU "
        "32)",
    )
    tile_flags.add_to(add, rare_overlap=True)
    add("--precision", choices=PRECISIONS, default="auto", help="data type of the network")


def _output_flags(add):
    add(
        "output",
        metavar="OUTPUT",
        type=_mp4_or_folder,
        help="the video to write, in .mp4, or a folder for INPUT.mp4 of each; existing files are replaced, but no "
        "videos that other programs wrote; - for none",
    )
    add(
        "--json",
        type=_json_or_folder,
        metavar="FILE",
        help="write the detections of every frame and the speed of every stage to FILE, or into a folder if OUTPUT is "
        "one",
    )


def _live_flags(add):
    add(
        "--serve",
        type=_address,
        metavar="PORT",
        help="show the picture, rates and counts on a web page, with classes to tick, at this port of this machine; "
        "HOST:PORT also lets in others who have the token that is printed (default: none)",
    )
    add(
        "--events",
        type=output_folder,
        metavar="DIR",
        help="when a class appears, add a line of JSON to DIR/events.jsonl and record a clip there that begins 3 "
        "seconds earlier (implies --track; default: none)",
    )


def _address(text):
    try:
        return page.parse_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not PORT or HOST:PORT, with a port from 0 to 65535") from None


def _look_flags(add):
    add("--legend", action="store_true", help="show the time, the speed and the count of each class")
    add(
        "--blur",
        metavar="NAMES",
        help="make objects of these classes unrecognizable, also in --track-crops: every detection that scores above "
        "0.2, and the gaps in tracks. What the detector misses stays visible (implies --track; default: none)",
    )


def _counting_flags(add):
    add(
        "--line",
        action="append",
        type=places.parse_line,
        metavar="X1,Y1,X2,Y2",
        help="count the tracks that cross a line, by class: 'in' is from its left to its right, seen from X1,Y1. In "
        "pixels or fractions of the picture; NAME=X1,… names it; can be repeated (implies --track; default: none)",
    )
    add(
        "--zone",
        action="append",
        type=existing_file,
        metavar="FILE",
        help='count the tracks that enter and leave the zones of a JSON file, {"NAME": [[x, y], …], …} or labelme\'s, '
        "and how long they stay; can be repeated (implies --track; default: none)",
    )
    add(
        "--csv",
        type=_file_or_folder,
        metavar="FILE",
        help="write the counts of --line and --zone to a table (default: none)",
    )
    add(
        "--timeline",
        type=_png_or_folder,
        metavar="FILE.png",
        help="draw a chart of when each track was visible (implies --track; default: none)",
    )


def _tracking_flags(add):
    add(
        "--track",
        action="store_true",
        help="give each object an identity, drawn with a trail of its last second: ByteTrack, which also uses scores "
        "above 0.2; boxes are smoothed and carried through gaps of up to half a second",
    )
    rare(
        add(
            "--track-crops",
            type=output_folder,
            metavar="DIR",
            help="write the picture of each track with the best score to DIR/ID.jpg; with several videos, into a "
            "folder for each (implies --track; default: none)",
        )
    )
    rare(
        add(
            "--score-tracks",
            type=existing_file,
            metavar="gt.txt",
            help="score the tracks against a ground truth in MOT format: HOTA, MOTA, IDF1 (implies --track; default: "
            "none)",
        )
    )
