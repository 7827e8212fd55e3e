"""Import the weights of a published SSD: a weight file of another program becomes a run directory.

The run carries the anchors, the input's mean and order and the rules of detection of its origin, and works with
infer.py, export_model.py, process_video.py and `train.py --init-from`. Weights of a bare VGG-16 are for
`train.py --vgg-weights`.
"""

import argparse
import shutil
from collections.abc import Sequence

import numpy as np

import config
import source_pascal_voc
import ssd_layers
from formats import class_lists
from ssd_utils import SSDPreset
from structures import UserError
from system import cli
from weights import layouts, weight_files


def main(argv: Sequence[str] | None = None) -> None:
    flags = _parse(argv)
    class_names = class_lists.parse_classes(flags.classes) if flags.classes else source_pascal_voc.CLASSES
    config.check_new(flags.run, remedy="choose another name")
    arrays = weight_files.read(flags.weights)
    layout = layouts.LAYOUTS.get(flags.layout) or layouts.recognise(flags.weights, arrays)
    preset = _ssd_preset(flags, layout, arrays, class_names)
    cli.import_tensorflow()
    shapes = network_shapes(preset, len(class_names))
    variables, dropped = layouts.to_variables(flags.weights, layout, arrays, shapes)
    _write_run(flags.run, config.ModelDescription(preset, class_names), variables)
    print(f"{flags.weights}: {layout.name}, input {preset.input_size}, {len(class_names)} classes{_told(dropped)}")
    print(f"{flags.run} is ready; try: python infer.py {flags.run} IMAGES --output DIR")


def _parse(argv):
    parser = cli.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python pretrained.py VGG_VOC0712_SSD_300x300_iter_120000.caffemodel --run runs/ssd300",
    )
    endings = ", ".join(weight_files.READERS)
    parser.add_argument("weights", metavar="WEIGHTS", type=cli.existing_file, help=f"a file that ends in {endings}")
    parser.add_argument(
        "--layout",
        choices=tuple(layouts.LAYOUTS),
        help="who wrote the file (default: recognised by the names in it)",
    )
    parser.add_argument(
        "--classes",
        metavar="LIST",
        help="names in the order of the weights, without background: with commas, or a file with one a line "
        "(default: VOC's 20)",
    )
    parser.add_argument(
        "--preset",
        choices=layouts.ANCHOR_PRESETS,
        help="the anchors it was trained with, if not VOC's (torchvision's are known); -coco for a model of COCO",
    )
    parser.add_argument(
        "--run", type=config.run_folder, required=True, metavar="DIR", help="the run directory to write"
    )
    return parser.parse_args(argv)


def _ssd_preset(flags, layout, arrays, class_names):
    """The preset of an SSD file whose heads fit the class names. Raises UserError."""
    if not layout.is_ssd:
        raise UserError(
            f"{flags.weights}: a bare VGG-16 ({layout.name}), no detector; "
            f"train one with train.py --vgg-weights {flags.weights}"
        )
    preset = layouts.ssd_preset(layout, arrays, len(class_names), flags.preset)
    found = layouts.count_classes(flags.weights, layout, arrays, preset)
    if found != len(class_names):
        raise UserError(
            f"--classes: {len(class_names)} names, but {flags.weights} has {found} classes beside background; "
            "give one name for each, in its order"
        )
    if found == 80 and not flags.preset and not layout.has_own_anchors:
        cli.warn(
            f"{flags.weights} has 80 classes, as COCO; if it was trained on COCO, its anchors need "
            f"--preset {preset.base}-coco"
        )
    return preset


def _told(dropped):
    return f"; not needed: {', '.join(dropped)}" if dropped else ""


def network_shapes(preset: SSDPreset, num_classes: int) -> dict[str, tuple[int, ...]]:
    """{variable: shape} of the network."""
    import tensorflow.compat.v1 as tf

    import ssd_vgg  # as a program, this room knows its flags to be good before TensorFlow loads

    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, preset.input_size, preset.input_size, 3])
        ssd_vgg.build(images, preset, num_classes, portable=True)
        return {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}


def _write_run(run, description, variables):
    """A run directory with one checkpoint, or nothing if it cannot be written whole."""
    import tensorflow.compat.v1 as tf

    import runs

    runs.create(run, description, None)
    try:
        # On a GPU it would take all of the card's memory, to copy arrays
        with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
            created = {name: tf.get_variable(name, initializer=tf.zeros(v.shape)) for name, v in variables.items()}
            # Fed in place of the zeros: as constants they would meet the graph's limit of 2 GB
            values = {created[name].initializer.inputs[1]: value for name, value in variables.items()}
            session.run([variable.initializer for variable in created.values()], values)
            runs.Checkpoints(run).save(session, runs.TrainingState())
    except BaseException:
        shutil.rmtree(run, ignore_errors=True)
        raise


def read_vgg(path: str, preset: SSDPreset) -> dict[str, np.ndarray]:
    """A VGG-16 file of any known layout -> dict of arrays by variable name, for the input that the preset describes.

    fc6 and fc7 come subsampled; they are left out if the file has none. Arrays of files that expect 0..255 minus a mean
    keep their biases although the preset's mean is rounded, as the original does. Raises UserError if it does not fit.
    """
    arrays = weight_files.read(path)
    layout = layouts.recognise(path, arrays)
    if layout.is_ssd:
        raise UserError(f"--vgg-weights {path}: a whole SSD; import it with pretrained.py, give the run to --init-from")
    variables, dropped = layouts.to_variables(path, layout, arrays, vgg_shapes(preset))
    print(f"{path}: {layout.name}{_told(dropped)}")
    if layout.imagenet_statistics and not layouts.is_features_only(layout, arrays):
        _fold_statistics(variables, preset)
    if layout.channel_order != preset.channel_order:
        variables["conv1_1/weights"] = np.ascontiguousarray(variables["conv1_1/weights"][:, :, ::-1])
    variables["conv1_1/weights"] = variables["conv1_1/weights"] / np.float32(preset.input_scale)
    return variables


def _fold_statistics(variables, preset):
    """Have conv1_1 (RGB) take x - preset.mean instead of (x / 255 - mean) / std.

    Exact but for the outermost pixels: their padding stands for the preset's mean then, at most 0.73 of 255 from the
    other.
    """
    mean = 255 * np.array(layouts.TORCHVISION_MEAN)
    weights = variables["conv1_1/weights"] / (255 * np.array(layouts.TORCHVISION_STD))[:, None]  # [3,3,RGB,64]
    shift = np.einsum("hwco,c->o", weights, np.array(preset.mean) - mean)
    variables["conv1_1/weights"] = weights.astype(np.float32)
    variables["conv1_1/biases"] = (variables["conv1_1/biases"] + shift).astype(np.float32)


def vgg_shapes(preset: SSDPreset) -> dict[str, tuple[int, ...]]:
    """{variable: shape} of the base."""
    names = ssd_layers.VGG_LAYERS
    return {name: shape for name, shape in network_shapes(preset, 1).items() if name.split("/")[0] in names}


if __name__ == "__main__":
    cli.run(main)
