"""Whether a file of ONNX, OpenVINO or TensorFlow Lite runs, found out in a process of its own.

The libraries that run these files are written in C++. A damaged file can end the process with them, or hang or fill
it; so it is opened, and run on a black picture, in a process with limits first. Files that ran are noted by their
content in the cache folder, and those that export_model.py writes, so that each is tried once on a machine.
"""

import contextlib
import importlib.metadata
import os
import sys

import numpy as np

import config
from exports import file_metadata
from structures import UserError
from system import cli, files, limited

COMMAND = (sys.executable, "-m", "exports.file_probe")  # run in the project's folder
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tensorflow"}  # modules, by format
SECONDS = 120  # TensorFlow alone takes 16 on a busy machine with a slow disk
MEMORY, TIMES_FILE = 1_500_000_000, 4  # bytes that running may take, and more by times the files' size
REFUSED = 3  # exit code of a process that printed why


def check(name: str, path: str) -> None:
    """Raise UserError, one line, unless a file opens and runs. name: its format, a key of ENGINES."""
    mark = _mark(name, path)
    if os.path.exists(mark):
        return
    absolute = os.path.abspath(path)
    memory = MEMORY + TIMES_FILE * sum(map(os.path.getsize, _parts(name, path)))
    try:
        code, said = limited.call([*COMMAND, name, absolute], cli.ROOT, SECONDS, memory)
    except limited.Ended as ended:
        what = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tflite": "TensorFlow Lite"}[name]
        raise UserError(f"{path}: damaged ({what} {ended} on it); export the model again") from None
    if code == REFUSED:
        raise UserError(said.strip().replace(absolute, path))
    if code:
        raise UserError(f"{path}: cannot be run (exit code {code} of {' '.join(COMMAND)} {name} {absolute})")
    _note(mark)


def note(name: str, path: str) -> None:
    """Remember a file that this program itself wrote."""
    if name in ENGINES:
        _note(_mark(name, path))


def _note(mark):
    with contextlib.suppress(files.UnwritableFile):  # then it is tried again
        files.write(mark, b"", durable=False)


def _mark(name, path):
    """The file in the cache folder that says that a file ran. Raises UserError if it cannot be read."""
    try:
        found = b"".join(files.digest(part) for part in _parts(name, path)).hex()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({files.reason(error)})") from None
    return os.path.join(files.cache_folder(), "ran", f"{name}-{_version(ENGINES[name])}-{found}")


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
    cli.import_tensorflow()
    from exports import tflite_file

    return tflite_file.TFLiteFile(path)


def _run(name, path):
    """Open a file and run it on black pictures. Raises UserError if it fails, or gives what it should not."""
    opened = _open(name, path)
    description = config.ModelDescription.from_json(opened.metadata)
    batch = opened.metadata["batch"] or 1
    try:
        values = opened.run(np.zeros((batch, *description.preset.image_shape), np.uint8))
    except Exception as error:  # each library has its own
        raise UserError(f"{path}: damaged ({files.reason(error)}); export the model again") from None
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
