"""Export a trained model as one frozen TensorFlow graph: weights, box decoding, suppression and class names.

The file runs with TensorFlow alone, in any language that has it; infer.py and process_video.py read it too.
For N pictures of S × S pixels (S is 300 or 512, the preset's size) its tensors are:

  image_input:0         uint8 [N,S,S,3], RGB: the input, already resized
  detections/boxes:0    float32 [N,K,4], (xmin, ymin, xmax, ymax) as fractions of the picture
  detections/scores:0   float32 [N,K], best first
  detections/classes:0  int32 [N,K], indices into the class names
  detections/count:0    int32 [N], how many of the K rows are detections
  result/result:0       float32 [N,anchors,1+classes+4], the network's scores (background first) and box offsets
  metadata/json:0       a string: class names, preset, threshold (and thresholds, where classes differ) and precision
"""

import system.environment  # noqa: F401

import argparse
import os
from collections.abc import Sequence

import config
from scoring import score_threshold
from structures import UserError
from system import cli, files
from system.wording import per_class, plural

DEFAULT_THRESHOLD = 0.01
OUTPUTS = {
    **{name: f"detections/{name}" for name in ("boxes", "scores", "classes", "count")},
    "result": "result/result",
}


def main(argv: Sequence[str] | None = None) -> None:
    flags = _parse(argv)
    source = config.find_model(flags.model)
    if not source.checkpoint:
        raise UserError(f"{flags.model}: is already an exported graph; give the run directory")
    assert source.class_names  # of a run
    threshold = score_threshold.resolve(flags.threshold, source, DEFAULT_THRESHOLD)
    cli.import_tensorflow()
    import detector  # imported here, since it loads TensorFlow: flags and paths are checked first

    graph = detector.build_model_graph(source, flags.precision, threshold, portable=True)
    definition = detector.only_outputs(graph, [OUTPUTS[name] for name in flags.outputs])
    files.write(flags.output, definition.SerializeToString())
    size = os.path.getsize(flags.output) / 1e6
    values = detector.metadata(graph)  # with the precision that "auto" chose here
    checkpoint = checkpoint_size(source.checkpoint) / 1e6
    print(
        f"{flags.output}: {size:.1f} MB, {values['precision']}, {plural(len(values['class_names']), 'class')}, "
        f"scores above {per_class(threshold, source.class_names)}; checkpoint {checkpoint:.1f} MB"
    )


def checkpoint_size(checkpoint: str) -> int:
    """Bytes of a checkpoint's files, weights and optimizer. checkpoint: its prefix, `…/model`."""
    folder = os.path.dirname(checkpoint)
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.name.startswith("model"))


def _outputs(text):
    names = tuple(part.strip() for part in text.split(","))
    if wrong := [name for name in names if name not in OUTPUTS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not one of {', '.join(OUTPUTS)}")
    return names


def _parse(argv):
    parser = cli.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python export_model.py runs/street --output street.pb --precision bfloat16",
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a run directory, for its best checkpoint; RUN@last for its last, RUN@epoch-40 for a kept one",
    )
    add(
        "--output",
        required=True,
        type=cli.output_file,
        metavar="FILE.pb",
        help="the file to write; its name ends in .pb",
    )
    add("--format", choices=("frozen",), default="frozen", help="frozen: a GraphDef whose weights are constants")
    add(
        "--precision",
        choices=config.PRECISIONS,
        default="float32",
        help="number type of the computation and the stored weights: float16 and bfloat16 halve the file, auto takes "
        "the type that is fastest on this machine (default: float32, which runs on every machine)",
    )
    add(
        "--threshold",
        type=score_threshold.parse,
        metavar="X",
        help=f"the graph reports detections that score above X: {score_threshold.HELP}. Programs that read the file "
        f"can raise this but not lower it (default: {DEFAULT_THRESHOLD})",
    )
    add(
        "--outputs",
        type=_outputs,
        default=tuple(OUTPUTS),
        metavar="LIST",
        help=f"the outputs that the graph has, of {', '.join(OUTPUTS)}; what only the others need is left out, and the "
        "programs here need all of them (default: all)",
    )
    flags = parser.parse_args(argv)
    if not flags.output.endswith(".pb"):
        raise UserError(f"--output {flags.output}: the name must end in .pb, by which the other programs recognize it")
    return flags


if __name__ == "__main__":
    cli.run(main)
