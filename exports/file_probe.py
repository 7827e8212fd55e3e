"""Whether a file of ONNX, OpenVINO or TensorFlow Lite runs, found out in a process of its own.

The libraries that run these files are written in C++. A damaged file can end the process with them, or hang or fill
it; so it is opened, and run on a black picture, in a process with limits first. Files that ran are noted by their
content in the cache folder, and those that export_model.py writes, so that each is tried once on a machine. One that
goes beyond the limits is asked in the same way how many pictures it takes at a time, and gets what these need.
"""

import contextlib
import importlib.metadata
import math
import os
import sys

import numpy as np

import config
from exports import file_metadata
from structures import UserError
from system import files, limited, own_folders, tensorflow_loading, wording, write_errors
from system import memory as free_memory

COMMAND = (sys.executable, "-m", "exports.file_probe")  # run in the project's folder
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tensorflow"}  # modules, by format
SECONDS = 120  # TensorFlow alone takes 16 on a busy machine with a slow disk
MEMORY, TIMES_FILE = 1_500_000_000, 4  # bytes that running may take, and more by times the files' size
NEEDS = "--needs"  # of a process that only prints what a batch takes, and how long: two whole numbers
LONGEST = 3600  # seconds that a batch may take, whatever its size
REFUSED = 3  # exit code of a process that printed why


def check(name: str, path: str) -> None:
    """Raise UserError, one line, unless a file opens and runs. name: its format, a key of ENGINES."""
    mark = _mark(name, path)
    if os.path.exists(mark):
        return
    absolute = os.path.abspath(path)
    what = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tflite": "TensorFlow Lite"}[name]
    try:
        code, said = _call(name, absolute)
    except limited.BeyondLimits as ended:
        raise UserError(
            f"{path}: {what} {ended} on it, so it is not opened; export the model again with a smaller --batch, or "
            "open it where more is free"
        ) from None
    except limited.Ended as ended:
        raise UserError(f"{path}: damaged ({what} {ended} on it); export the model again") from None
    if code == REFUSED:
        raise UserError(said.strip().replace(absolute, path))
    if code:
        raise UserError(f"{path}: cannot be run (exit code {code} of {' '.join(COMMAND)} {name} {absolute})")
    _note(mark)


def _call(name, path):
    """Run a file in a process with limits -> (exit code, what it printed). Raises limited.Ended."""
    command = [*COMMAND, name, path]
    memory = MEMORY + TIMES_FILE * sum(map(os.path.getsize, _parts(name, path)))
    try:
        return limited.call(command, own_folders.ROOT, SECONDS, memory)
    except limited.BeyondLimits:
        bytes_more, seconds_more = _asked_needs([*command, NEEDS], memory)
        if not bytes_more:
            raise
    most = max(memory, free_memory.available())  # the file is a stranger's, and so is what it says of its batch
    return limited.call(command, own_folders.ROOT, SECONDS + seconds_more, min(memory + bytes_more, most))


def _asked_needs(command, memory):
    """What a process prints of `_needs`; (0, 0) if it says nothing of the kind."""
    with contextlib.suppress(limited.Ended, ValueError, IndexError):
        code, said = limited.call(command, own_folders.ROOT, SECONDS, memory)
        bytes_more, seconds_more = map(int, said.splitlines()[-1].split())
        if code == 0 and bytes_more > 0:
            return bytes_more, min(max(seconds_more, 0), LONGEST)
    return 0, 0


def _needs(metadata):
    """(bytes, seconds) that running a file takes for its batch, generously; (0, 0) for one picture at a time.

    The memory is that of the two largest maps, the input in three forms, and the outputs. Half of it was enough for
    TensorFlow Lite. A slow core does a picture of 300 × 300 pixels in 2 s at width 1.
    """
    batch = metadata["batch"] or 1
    if batch == 1:
        return 0, 0
    description = config.ModelDescription.from_json(metadata)
    preset = description.preset
    pixels = preset.image_shape[0] * preset.image_shape[1]
    numbers = pixels * (2 * 64 * preset.width + 9) + 3 * preset.num_anchors * (len(description.class_names) + 5)
    seconds = 2 * batch * pixels / 300**2 * max(preset.width**2, 0.05)
    return batch * math.ceil(2 * 4 * numbers), min(math.ceil(seconds), LONGEST)


def note(name: str, path: str) -> None:
    """Remember a file that this program itself wrote."""
    if name in ENGINES:
        _note(_mark(name, path))


def _note(mark):
    with contextlib.suppress(write_errors.UnwritableFile):  # then it is tried again
        files.write(mark, b"", durable=False)


def _mark(name, path):
    """The file in the cache folder that says that a file ran. Raises UserError if it cannot be read."""
    found = b"".join(_digest(part) for part in _parts(name, path)).hex()
    return os.path.join(own_folders.cache_folder(), "ran", f"{name}-{_version(ENGINES[name])}-{found}")


def _digest(path):
    """The hash of a file. Raises UserError if it cannot be read."""
    try:
        return files.digest(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; an OpenVINO model is NAME.xml and NAME.bin, side by side") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({wording.reason(error)})") from None


def _version(module):
    """The version of an engine, whose package may also be another that has its module, such as onnxruntime-gpu."""
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        package = min(importlib.metadata.packages_distributions()[module])  # takes a second, so it comes second
        return f"{package}-{importlib.metadata.version(package)}"


def _parts(name, path):
    """The files that a model lies in."""
    return [path, os.path.splitext(path)[0] + ".bin"] if name == "openvino" else [path]


def _open(name, path):
    """An `opened.Opened` file of a format. Each library is loaded only for its own files."""
    if name == "onnx":
        from exports import onnx_file

        return onnx_file.OnnxFile(path)
    if name == "openvino":
        from exports import openvino_file

        return openvino_file.OpenVinoFile(path)
    tensorflow_loading.import_tensorflow()
    from exports import tflite_file

    return tflite_file.TFLiteFile(path)


def _run(name, path, *asked):
    """Open a file and run it on black pictures. Raises UserError if it fails, or gives what it should not.

    asked: NEEDS, to print what that takes instead.
    """
    opened = _open(name, path)
    if asked:
        print(*_needs(opened.metadata), file=sys.__stdout__)  # `redirect_stdout` has the other
        return
    description = config.ModelDescription.from_json(opened.metadata)
    batch = opened.metadata["batch"] or 1
    try:
        values = opened.run(np.zeros((batch, *description.preset.image_shape), np.uint8))
    except Exception as error:  # each library has its own
        raise UserError(f"{path}: damaged ({wording.reason(error)}); export the model again") from None
    is_raw = opened.metadata["outputs"] == file_metadata.RAW
    kept = values["scores"].shape[1:2] if "scores" in values else ()
    anchors, columns = description.preset.num_anchors, 1 + len(description.class_names)
    wanted = {"boxes": (*kept, 4), "scores": kept, "classes": kept, "count": ()}
    for output, shape in ({"logits": (anchors, columns), "offsets": (anchors, 4)} if is_raw else wanted).items():
        if output not in values or values[output].shape != (batch, *shape):
            raise UserError(f"{path}: damaged (its output {output!r} is missing or of a wrong shape); export it again")


if __name__ == "__main__":
    try:
        with contextlib.redirect_stdout(sys.stderr):  # ONNX Runtime prints a banner to stdout before it raises
            _run(*sys.argv[1:])
    except UserError as error:
        print(error)
        sys.exit(REFUSED)
