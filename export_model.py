"""Write a trained model as one frozen TensorFlow graph: weights, decoding, suppression and class names inside.

The file needs nothing but TensorFlow to run. Input `image_input:0`, uint8 [N,S,S,3] RGB, already resized;
outputs `detections/boxes:0`, `detections/scores:0`, `detections/classes:0`, `detections/count:0` and the raw
`result/result:0`; `metadata/json:0` tells class names, preset and thresholds.
"""

import argparse
import os
from collections.abc import Sequence

import config
from structures import UserError
from system import cli, files


def main(argv: Sequence[str] | None = None) -> None:
    flags = _parse(argv)
    source = config.find_model(flags.model)
    if not source.checkpoint:
        raise UserError(f"{flags.model}: is an exported graph already; give the run directory")
    cli.import_tensorflow()
    import detector  # every flag and path is known to be good before TensorFlow loads

    graph = detector.build_model_graph(source, flags.precision, flags.threshold, portable=True)
    files.write(flags.output, graph.as_graph_def().SerializeToString())
    size = os.path.getsize(flags.output) / 1e6
    values = detector.metadata(graph)  # with the precision that "auto" chose here
    print(
        f"{flags.output}: {size:.1f} MB, {values['precision']}, {len(values['class_names'])} classes, "
        f"scores above {flags.threshold:g}; checkpoint {checkpoint_size(source.checkpoint) / 1e6:.1f} MB"
    )


def checkpoint_size(checkpoint: str) -> int:
    """Bytes of a checkpoint's files, weights and optimizer. checkpoint: its prefix, `…/model`."""
    folder = os.path.dirname(checkpoint)
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.name.startswith("model"))


def _parse(argv):
    parser = cli.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a run directory: its best checkpoint, or RUN@last")
    add("--output", required=True, type=cli.output_file, metavar="FILE.pb", help="the file to write")
    add("--format", choices=("frozen",), default="frozen", help="a frozen GraphDef")
    add(
        "--precision",
        choices=config.PRECISIONS,
        default="float32",
        help="of computation and stored weights; the narrow ones halve the file (default: float32, which every "
        "machine computes)",
    )
    add("--threshold", type=cli.fraction, default=0.01, metavar="X", help="lowest score it reports (default: 0.01)")
    flags = parser.parse_args(argv)
    if not flags.output.endswith(".pb"):
        raise UserError(f"--output {flags.output}: end the name in .pb, by which the other programs know it")
    return flags


if __name__ == "__main__":
    cli.run(main)
