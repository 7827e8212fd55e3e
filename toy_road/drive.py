"""A drive through the toy town as a video: traffic, people and lights move, and the camera brakes at the end."""

import dataclasses
import functools
import json
import math
import pathlib

import cv2
import numpy as np
import tqdm

from media.video import VideoWriter
from system import atomic, files, write_errors
from toy_road import drawing, models, scenes, town
from toy_road.drawing import Camera, Thing
from tracking import mot_file


@dataclasses.dataclass(frozen=True)
class Mover:
    """A thing that moves in a drive.

    speed, drift: m/s along and across the road.
    after, until: the seconds between which it moves.
    stride: function phase -> mesh of a walking thing, or None.
    """

    thing: Thing
    speed: float = 0.0
    drift: float = 0.0
    after: float = 0.0
    until: float = math.inf
    stride: object = None

    def at(self, time, camera_z):
        """The Thing at a time in seconds, seen from a camera that has driven camera_z meters."""
        moving = min(max(time, self.after), self.until) - self.after
        mesh = self.thing.mesh
        if self.stride:
            mesh = self.stride(int(moving * 1.5 * models.WALKING_PHASES) % models.WALKING_PHASES)
        z = self.thing.z + self.speed * moving - camera_z
        return dataclasses.replace(self.thing, mesh=mesh, x=self.thing.x + self.drift * moving, z=z)


# The drive: past a light that turns green at CROSSINGS[0], then to a stop before one that turns red at CROSSINGS[1].
CROSSINGS = (34.0, 82.0)
SPEED, BRAKING_AT, STANDING_AT = 9.0, 6.0, 9.5


def camera_z(time):
    """How far the camera has driven, in meters, at a time in seconds: at constant speed, then braking to a stop."""
    braked = min(max(time - BRAKING_AT, 0.0), STANDING_AT - BRAKING_AT)
    return SPEED * (min(time, BRAKING_AT) + braked - braked**2 / 2 / (STANDING_AT - BRAKING_AT))


def _light_state(crossing, time):
    if crossing == 0:
        return ("red",) if time < 0.8 else ("red", "amber") if time < 1.6 else ("green",)
    return ("green",) if time < 5.0 else ("amber",) if time < 6.2 else ("red",)


def _drive_movers(rng):
    """The drive's traffic: a car ahead, one that overtakes, a slow bus, oncoming and crossing vehicles, people."""
    up, across = math.pi, math.pi / 2
    second = CROSSINGS[1]
    movers = [
        Mover(town.car(rng, "hatchback", x=0, z=14), 11.0),
        Mover(town.car(rng, "sedan", x=-town.LANE, z=-9), 15.0),
        Mover(town.bus(rng, x=town.LANE, z=26), 3.6, until=10.0),
        Mover(town.bus(rng, x=-2 * town.LANE, z=125, yaw=up), -8.0),
        Mover(town.car(rng, x=-2 * town.LANE, z=second + 17, yaw=up, kind="offroad"), 0, after=99),
        Mover(town.car(rng, x=-28, z=second + 5.4, yaw=across), 0, 8.5, after=5.4),
        Mover(town.car(rng, x=-40, z=second + 5.4, yaw=across), 0, 8.5, after=5.4),
        Mover(town.bus(rng, x=36, z=second + 9, yaw=-across), 0, -7.5, after=4.6),
    ]
    movers += [Mover(town.car(rng, x=-2 * town.LANE, z=z, yaw=up), -10.0) for z in (38, 62, 98)]
    starts = ((CROSSINGS[0] + 1.2, 1.0, 1.7, 0.0), (second + 0.8, -9.5, 1.8, 6.2), (second + 1.9, 5.8, -1.5, 6.4))
    for z, x, drift, after in starts:
        person = town.pedestrian(rng, models.walker(0), x=x, z=z, mirror=drift < 0)
        movers.append(Mover(person, 0, drift, after, stride=models.walker))
    for z in np.arange(9, second + 20, 9):
        back = bool(rng.random() < 0.5)
        x = town.pick(rng, (-2.5 * town.LANE - 1.4, 1.5 * town.LANE + 1.4)) + rng.uniform(-0.6, 0.6)
        person = town.pedestrian(rng, models.stander(0, back), x=x, z=z)
        movers.append(Mover(person, 1.2 if back else -1.2, stride=functools.partial(models.stander, back=back)))
    return movers


def drive_frames(seed, frames, rate=25.0, detail=1, focal=Camera.focal):
    """Yield (image uint8 RGB [H,W,3], list of RoadObject) of a drive, which depends on the seed only.

    The objects have identities: each is the same thing in all frames.

    frames: how many.
    rate: frames per second.
    detail: H is that many times HEIGHT and W that many times WIDTH.
    focal: of the Camera; less is a wider angle, in which all is smaller.
    """
    rng = np.random.default_rng([seed, 9])
    street = town.Street(
        2, 1, 1, tuple((z, True) for z in CROSSINGS), "city", (84, 84, 90), (168, 164, 158), (104, 146, 74)
    )
    movers = _drive_movers(rng)
    still = town.scenery(rng, street, lit=False, end=190)
    lights = [
        (crossing, town.light_with_pole(rng, street, z - 0.6, (), where))
        for crossing, z in enumerate(CROSSINGS)
        for where in ("left", "right", "above")
    ]
    still += [pole for _, (_, pole) in lights]
    heads = [(crossing, head) for crossing, (head, _) in lights]
    backdrop, hood = scenes.draw_backdrop(rng, Camera.horizon), town.pick(rng, town.CAR_PAINTS)
    for frame in range(frames):
        time = frame / rate
        z = camera_z(time)
        things = [dataclasses.replace(mover.at(time, z), id=key) for key, mover in enumerate(movers, start=1)]
        things += [dataclasses.replace(thing, z=thing.z - z) for thing in still]
        for key, (crossing, head) in enumerate(heads, start=len(movers) + 1):
            place = {"x": head.x, "y": head.y, "z": head.z - z, "scale": head.scale}
            light = town.traffic_light(_light_state(crossing, time), **place)
            things.append(dataclasses.replace(light, id=key))
        camera = Camera(horizon=Camera.horizon + 0.7 * math.sin(time * 9), focal=focal, detail=detail)
        things = [thing for thing in things if thing.z < 90]
        scene = scenes.Scene(scenes.Conditions(), drawing.LIGHTS["day"], camera, street, things, backdrop, hood, z)
        image, sights = scenes.render(scene, lambda sight: True, np.random.default_rng([seed, 9, frame]))
        seen = [s for s in sights if s.thing.label is not None and cv2.countNonZero(s.visible)]
        yield image, [scenes.road_object(sight) for sight in seen]


def write_drive(path, seed=0, frames=250, rate=25.0, detail=1, focal=Camera.focal):
    """Write a drive through the toy town as a video, and its ground truth next to it as FILE.truth.json.

    frames, rate, detail, focal: as of `drive_frames`.

    The JSON holds class_names, width, height, rate and frames: [{"objects": [{"id", "class", "box" (continuous pixel
    edges as in RoadObject), "occluded", "truncated", "difficult"}]}]. FILE.gt.txt has the same in MOT's format, in
    which difficult objects do not count, and FILE.labels.txt its classes.
    Returns the path of the JSON. Raises UserError if a file cannot be written.
    """
    path = pathlib.Path(path)
    truth_path = path.with_suffix(".truth.json")
    try:
        atomic.make_folders(path.parent)
    except OSError as error:
        raise write_errors.unwritable(path.parent, error) from None
    truth, tracks = [], []
    width, height = Camera(detail=detail).size
    with VideoWriter(str(path), width, height, rate) as writer:
        drawn = drive_frames(seed, frames, rate, detail, focal)
        for image, objects in tqdm.tqdm(drawn, "driving", frames, unit="frames"):
            writer.write(image)
            truth.append({"objects": [_plain(item) for item in objects]})
            columns = ([getattr(item, name) for item in objects] for name in ("id", "label", "box_px", "difficult"))
            ids, labels, boxes_px, difficult = columns
            tracks.append(mot_file.objects(ids, labels, boxes_px, [not one for one in difficult]))
    facts = {"class_names": town.CLASSES, "width": width, "height": height, "rate": rate, "frames": truth}
    files.write(truth_path, json.dumps(facts) + "\n")
    mot_file.write(str(path.with_suffix(".gt.txt")), tracks, town.CLASSES)
    return truth_path


def _plain(item):
    """A RoadObject as a dict for JSON."""
    return {
        "id": item.id,
        "class": town.CLASSES[item.label],
        "box": item.box_px,
        "occluded": round(item.occluded, 3),
        "truncated": bool(item.truncated),
        "difficult": bool(item.difficult),
    }
