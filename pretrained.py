"""Import a published SSD: convert the weight file of another program into a run directory.

The file may come from Caffe (the original), torchvision, mmdetection, ssd.pytorch, lufficc/SSD or ssd_keras; which one
is detected automatically. The run keeps the anchors, the input's mean and channel order, and the detection rules of
that program.

`ssd300-coco` as MODEL of the other programs needs no import: they fetch that detector themselves.
Use the run with infer.py, export_model.py and process_video.py, or train it further with train.py --init-from.
The weights of a bare VGG-16 are not a detector: start a training from them with train.py --vgg-weights.
"""

import system.environment  # noqa: F401

import argparse
import os
import shutil
from collections.abc import Callable, Sequence

import numpy as np

import config
import source_pascal_voc
import ssd_layers
from formats import class_lists
from ssd_utils import SSDPreset
from structures import UserError
from system import atomic, cli, own_folders, tensorflow_loading, wording
from system.argument_parser import ArgumentParser
from system.argument_types import existing_file
from system.wording import plural
from weights import download, layouts, published, weight_files

EXAMPLES = """examples:
  the original SSD300, trained on Pascal VOC:
    python pretrained.py VGG_VOC0712_SSD_300x300_iter_120000.caffemodel --run runs/ssd300
  an SSD512 trained on COCO, with its 80 class names in coco.txt:
    python pretrained.py ssd512_coco.caffemodel --classes coco.txt --preset vgg512-coco --run runs/ssd512
then:
    python infer.py runs/ssd300 photos/ --output found/
"""


def main(argv: Sequence[str] | None = None) -> None:
    """The program; `--help` lists its flags."""
    flags = _parse(argv)
    class_names = class_lists.parse_classes(flags.classes) if flags.classes else source_pascal_voc.CLASSES
    config.check_new(flags.run)
    print(import_weights(flags.weights, class_names, flags.run, flags.layout, flags.preset))
    print(
        "infer.py computes with it in float32, for the scores of its own code; the other programs do with --precision "
        "float32"
    )
    detect = cli.command("infer.py", flags.run, "PHOTOS", "--output", f"{flags.run}_found")
    print(f"{flags.run} is ready; try: {detect} (PHOTOS: your pictures or folders)")


def import_weights(
    path: str, class_names: Sequence[str], run: str, layout_name: str | None = None, anchors: str | None = None
) -> str:
    """Convert the weight file of a detector into a new run directory. Returns what to know of it, a line or two.

    class_names: in the order of the weights, without background; layout_name: None to detect it; anchors: as in
    layouts.ssd_preset. Raises UserError.
    """
    arrays = weight_files.read(path)
    layout = layouts.LAYOUTS[layout_name] if layout_name else layouts.recognize(path, arrays)
    preset = _ssd_preset(path, layout, arrays, class_names, anchors)
    tensorflow_loading.import_tensorflow()
    shapes = network_shapes(preset, len(class_names))
    variables, dropped = layouts.to_variables(path, layout, arrays, shapes)
    _write_run(run, config.ModelDescription(preset, tuple(class_names)), variables)
    classes = plural(len(class_names), "class")
    line = f"{path}: {layout.name}, input {preset.input_size}, {classes}{_dropped_note(dropped)}"
    return line + _anchors_note(layout, preset, len(class_names), anchors)


def _anchors_note(layout, preset, num_classes, anchors):
    """A line on the anchors of a layout whose code has VOC's or COCO's, unless the user chose; else ""."""
    if anchors or not layout.anchors_by_classes:
        return ""
    of_voc = num_classes == layouts.VOC_CLASSES
    return (
        f"\nanchors: {'VOC' if of_voc else 'COCO'}'s, as its own code has for {plural(num_classes, 'class')}; if it "
        f"was trained with {'COCO' if of_voc else 'VOC'}'s, import it with --preset {preset.base}{'-coco' * of_voc}"
    )


def fetched(model: config.ModelSource, check_stop: Callable[[], None] = lambda: None) -> config.ModelSource:
    """The model, after a published detector that is not there yet is downloaded and imported into the cache folder.

    check_stop: called many times a second during the download; may raise to end it. Raises UserError if the file cannot
    be had: the message says where to put it.
    """
    if not model.to_fetch:
        return model
    assert model.run  # where to
    path = download.fetch(model.to_fetch.file, check_stop)
    try:
        os.makedirs(os.path.dirname(model.run), exist_ok=True)
        with atomic.pending_folder(model.run) as folder:
            print(import_weights(path, model.to_fetch.class_names, folder))
    except OSError as error:
        if not config.is_run(model.run):  # which another process may have imported meanwhile
            raise UserError(
                f"{model.name}: {model.run} cannot be written ({wording.reason(error)}); "
                f"set {own_folders.CACHE_VARIABLE} to another folder"
            ) from None
    return config.find_model(model.name)


def _weight_file(text):
    """The argument WEIGHTS: a file, and not the name of a detector, which other programs take as it is."""
    if text in published.DETECTORS and not os.path.exists(text):
        detect = cli.command("infer.py", text, "PICTURES")
        raise argparse.ArgumentTypeError(f"{text!r} needs no import, it is a MODEL of the other programs: {detect}")
    return existing_file(text)


def _parse(argv):
    parser = ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
    )
    endings = ", ".join(weight_files.READERS)
    ssd = [name for name, layout in layouts.LAYOUTS.items() if layout.is_ssd]
    reads = parser.add_argument_group("what it reads")
    reads.add_argument("weights", metavar="WEIGHTS", type=_weight_file, help=f"the weight file: {endings}")
    reads.add_argument(
        "--layout",
        choices=tuple(layouts.LAYOUTS),
        metavar="NAME",
        help=f"how the file names its arrays: {', '.join(ssd)} (default: detected automatically)",
    )
    reads.add_argument(
        "--classes",
        metavar="LIST",
        help="the class names in the order of the weights, without background: separated by commas, or a file with "
        "one name per line (default: the 20 classes of Pascal VOC)",
    )
    reads.add_argument(
        "--preset",
        choices=layouts.ANCHOR_PRESETS,
        help="the preset whose anchors the model was trained with; a -coco preset if it was trained on COCO (default: "
        "VOC's anchors; COCO's for files of mmdetection and ssd.pytorch that do not have 20 classes; torchvision's own "
        "for its files)",
    )
    writes = parser.add_argument_group("what it writes")
    writes.add_argument(
        "--run", type=config.run_folder, required=True, metavar="DIR", help="the run directory to create"
    )
    return parser.parse_args(argv)


def _ssd_preset(path, layout, arrays, class_names, anchors):
    """The preset of an SSD file. Raises UserError if it is no SSD or its heads do not fit the class names."""
    if not layout.is_ssd:
        raise UserError(
            f"{path}: a bare VGG-16 ({layout.name}), not a detector; train one with train.py --vgg-weights {path}"
        )
    preset = layouts.ssd_preset(layout, arrays, len(class_names), anchors)
    found = layouts.count_classes(path, layout, arrays, preset)
    if found != len(class_names):
        raise UserError(
            f"--classes: {plural(len(class_names), 'name')}, but {path} has {plural(found, 'class')} "
            "without background; give one name for each, in the order of the weights"
        )
    if found == 80 and not (anchors or layout.has_own_anchors or layout.anchors_by_classes):
        cli.warn(
            f"{path} has 80 classes, as COCO has; if it was trained on COCO, import it with "
            f"--preset {preset.base}-coco, or its boxes will be wrong"
        )
    return preset


def _dropped_note(dropped):
    return f"; not needed: {', '.join(dropped)}" if dropped else ""


def network_shapes(preset: SSDPreset, num_classes: int) -> dict[str, tuple[int, ...]]:
    """{variable: shape} of the network for a preset. num_classes: without background."""
    import tensorflow.compat.v1 as tf

    import ssd_vgg  # imported here, since it loads TensorFlow: the program checks its flags first

    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, *preset.image_shape])
        ssd_vgg.build(images, preset, num_classes, portable=True)
        return {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}


def _write_run(run, description, variables):
    """Create a run directory with one checkpoint, or nothing if it cannot be written completely."""
    import tensorflow.compat.v1 as tf

    import runs

    runs.create(run, description, None)
    try:
        # The GPU is hidden, since TensorFlow would take all of its memory only to copy arrays
        with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
            created = {name: tf.get_variable(name, initializer=tf.zeros(v.shape)) for name, v in variables.items()}
            # The values are fed in place of the zeros: as constants they could exceed a graph's limit of 2 GB
            values = {created[name].initializer.inputs[1]: value for name, value in variables.items()}
            session.run([variable.initializer for variable in created.values()], values)
            runs.Checkpoints(run).save(session, runs.TrainingState())
    except BaseException:
        shutil.rmtree(run, ignore_errors=True)
        raise


def read_vgg(path: str, preset: SSDPreset) -> dict[str, np.ndarray]:
    """A VGG-16 file of any known layout -> dict of arrays by variable name, for the input that the preset describes.

    fc6 and fc7 are subsampled, or left out if the file has none. Files for inputs of 0..255 minus a mean keep their
    biases although the preset's mean is rounded, as in the original. Raises UserError if the file does not fit.
    """
    arrays = weight_files.read(path)
    layout = layouts.recognize(path, arrays)
    if layout.is_ssd:
        raise UserError(
            f"--vgg-weights {path}: a whole SSD; import it with pretrained.py and give the run to --init-from"
        )
    variables, dropped = layouts.to_variables(path, layout, arrays, vgg_shapes(preset))
    print(f"{path}: {layout.name}{_dropped_note(dropped)}")
    if layout.imagenet_statistics and not layouts.is_features_only(layout, arrays):
        _fold_statistics(variables, preset)
    if layout.channel_order != preset.channel_order:
        variables["conv1_1/weights"] = np.ascontiguousarray(variables["conv1_1/weights"][:, :, ::-1])
    variables["conv1_1/weights"] = variables["conv1_1/weights"] / np.float32(preset.input_scale)
    return variables


def _fold_statistics(variables, preset):
    """Change conv1_1 (RGB) to take x - preset.mean instead of (x / 255 - mean) / std.

    Exact except for the outermost pixels: the zeros of their padding now mean the preset's mean, which differs from
    the other by at most 0.73 of 255.
    """
    mean = 255 * np.array(layouts.TORCHVISION_MEAN)
    weights = variables["conv1_1/weights"] / (255 * np.array(layouts.TORCHVISION_STD))[:, None]  # [3,3,RGB,64]
    shift = np.einsum("hwco,c->o", weights, np.array(preset.mean) - mean)
    variables["conv1_1/weights"] = weights.astype(np.float32)
    variables["conv1_1/biases"] = (variables["conv1_1/biases"] + shift).astype(np.float32)


def vgg_shapes(preset: SSDPreset) -> dict[str, tuple[int, ...]]:
    """{variable: shape} of VGG-16's layers in the network for a preset."""
    names = ssd_layers.VGG_LAYERS
    return {name: shape for name, shape in network_shapes(preset, 1).items() if name.split("/")[0] in names}


if __name__ == "__main__":
    cli.run(main)
