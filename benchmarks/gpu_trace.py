"""What one training step spends its time on, by TensorFlow's own tracer."""

import collections
import pathlib

import gpu_stages
import tensorflow.compat.v1 as tf
from tensorflow.python.client import timeline

TOP = 20  # operations in the table


def trace(folder, precision, batch, width):
    """Trace one step after three others; write FOLDER/step.json for chrome://tracing.

    Returns {"file", "device", "total_ms", "top", "host"}. top: rows of operation, milliseconds, calls of the device,
    the slowest kinds first; host: likewise what the CPU did beside it.
    """
    with gpu_stages.training(precision, batch, width) as opened:
        for _ in range(3):
            opened.run()
        fetches, feeds = gpu_stages.recorded(opened)
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        opened.session.run(fetches, feeds, options=options, run_metadata=metadata)
    path = pathlib.Path(folder, "step.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(timeline.Timeline(metadata.step_stats).generate_chrome_trace_format())
    device, spent, host = _by_kind(metadata.step_stats)
    rows = _rows(spent)
    total = round(sum(row[1] for row in rows), 3)
    return {"file": str(path), "device": device, "total_ms": total, "top": rows[:TOP], "host": _rows(host)[:TOP]}


def _rows(spent):
    """{kind of operation: list of microseconds} -> rows of kind, milliseconds, calls, the slowest first."""
    rows = [[kind, round(sum(times) / 1000, 3), len(times)] for kind, times in spent.items()]
    return sorted(rows, key=lambda row: -row[1])


def _by_kind(step_stats):
    """(name of the device that counts, {kind of operation: list of microseconds} of it, the same of the CPU beside it).

    A GPU's own streams count where the tracer saw them (it needs CUDA's CUPTI), else the device with the most work.
    """
    spent: dict[str, dict] = {}
    for device in step_stats.dev_stats:
        kinds = collections.defaultdict(list)
        for node in device.node_stats:
            kinds[_kind(node)].append(node.op_end_rel_micros - node.op_start_rel_micros)
        spent[device.device] = kinds
    streams = [name for name in spent if "stream:all" in name]
    chosen = streams or spent
    name = max(chosen, key=lambda device: sum(map(sum, spent[device].values())))
    host = next((kinds for other, kinds in spent.items() if other.endswith("CPU:0") and other != name), {})
    return name, spent[name], host


def _kind(node):
    """The operation's type from a label such as `name = Conv2D(a, b)`, or the name of its GPU kernel."""
    label = node.timeline_label
    if " = " in label:
        return label.split(" = ", 1)[1].split("(", 1)[0]
    return label.split("@@")[-1] or node.node_name
