"""What a run directory holds, to compare runs with each other."""

import csv

import tensorflow.compat.v1 as tf

import config
from training import summaries


def metrics(run):
    """The rows of metrics.csv without its timing columns."""
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k not in summaries.TIMING_COLUMNS} for row in csv.DictReader(file)]


def weights(run):
    """{variable: array} of the last checkpoint."""
    reader = tf.train.load_checkpoint(config.checkpoint_prefix(str(run), "last"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
