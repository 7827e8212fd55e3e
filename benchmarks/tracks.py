"""Compare the association of process_video.py --track with ByteTrack's, on ground-truth boxes instead of a network's.

The boxes of each frame are those of the truth: 20% are dropped, the edges of the others moved by 5% of the box's sides,
a fifth gets a low score. All sides follow the same boxes, as one class at 30 frames/s, and are scored by HOTA, MOTA and
IDF1 against the truth:

ours                    tracking/tracker.py as process_video.py has it, with the boxes that it carries through gaps
ours, detected          the same without these boxes
ours, ByteTrack's       the same with ByteTrack's own numbers
ByteTrack               its paper and its authors' code, frame by frame (tests/oracles_tracking.py)
trackers                the ByteTrackTracker of that package, if it is installed: pip install trackers
"""

import bench_environment  # noqa: F401

import importlib.metadata
import statistics
import time

import bench_paths  # noqa: F401, lets the next lines find the project and its tests
import numpy as np

import moving_boxes
from moving_boxes import BYTETRACK
from system import cli, wording
from system.argument_parser import ArgumentParser
from system.argument_types import positive_int
from tracking import metrics, mot_file
from tracking.following import hold
from tracking.tracker import Settings, Tracker, held_back

RATE = 30  # frames/s, for which ByteTrack's numbers are
SCORES = ("hota", "mota", "idf1")


def main(argv=None):
    flags = _parse(argv)
    sides = {"ours": _shown, "ours, detected": _ours(Settings()), "ours, ByteTrack's": _ours(BYTETRACK)}
    sides["ByteTrack"] = moving_boxes.followed_by_bytetrack
    try:
        import trackers  # noqa: F401

        sides[f"trackers {importlib.metadata.version('trackers')}"] = _package
    except ImportError:
        print("trackers: left out, it is not installed; pip install trackers")
    found = {name: [] for name in sides}
    for path in flags.truth:
        truth = _truth(path)
        for seed in range(flags.seeds):
            rng = np.random.default_rng(seed)
            detections = [moving_boxes.detected(rng, one) for one in truth]
            for name, follow in sides.items():
                start = time.perf_counter()
                tracks = follow(detections)
                seconds = time.perf_counter() - start
                scores = metrics.score(dict(enumerate(truth)), tracks, ["object"], None)
                found[name].append({**scores, "frames_per_second": len(truth) / seconds})
    rows = [[name, *_cells(values)] for name, values in found.items()]
    print(wording.table(["side", "HOTA", "MOTA", "IDF1", "changes of identity", "frames/s"], rows))


def _cells(values):
    """The means of a side's figures."""
    mean = {key: statistics.mean(one[key] for one in values) for key in (*SCORES, "id_switches", "frames_per_second")}
    return [*(f"{mean[key]:.4f}" for key in SCORES), f"{mean['id_switches']:.1f}", f"{mean['frames_per_second']:,.0f}"]


def _truth(path):
    """[Objects] of each frame of a gt.txt as one class; frames in between have none. Raises UserError."""
    frames = mot_file.read(path).frames
    return moving_boxes.as_one_class([frames.get(index, metrics.NONE) for index in range(max(frames) + 1)])


def _shown(detections):
    tracker = Tracker()
    frames = ((None, tracker.update(index / RATE, one)) for index, one in enumerate(detections))
    shown = (sightings for _, sightings in held_back(frames, hold(RATE, 1), guess=False))
    return [moving_boxes.tracked([(one.track.id, one.box) for one in sightings]) for sightings in shown]


def _ours(settings):
    def follow(detections):
        return moving_boxes.followed(Tracker(settings), np.arange(len(detections)) / RATE, detections)

    return follow


def _package(detections):
    """With the numbers of ByteTrack's authors where the package has them."""
    import supervision
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(
        frame_rate=RATE,
        high_conf_det_threshold=BYTETRACK.high,
        track_activation_threshold=BYTETRACK.high + BYTETRACK.start_above,
    )
    tracks = []
    for one in detections:
        given = supervision.Detections(one.boxes_px, confidence=one.scores, class_id=one.labels)
        seen = tracker.update(given)
        pairs = zip(seen.tracker_id.tolist(), seen.xyxy, strict=True)
        tracks.append(moving_boxes.tracked([(key, box) for key, box in pairs if key >= 0]))
    return tracks


def _parse(argv):
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "truth", nargs="+", metavar="GT", help="gt.txt of a video, such as runs/demo/data/drive.gt.txt of the demo"
    )
    parser.add_argument("--seeds", type=positive_int, default=5, metavar="N", help="trials for each video")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
