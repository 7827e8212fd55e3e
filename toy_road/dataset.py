"""The embedded data set: a road in a toy town, seen from a dashcam, written in Pascal VOC layout.

Every picture is drawn from (seed, split, index) alone, so train and test never share one and a data set can be made
again bit for bit. Boxes are exact: things are drawn nearest last, and a box is the bounding box of the pixels of its
thing that remain visible inside the image, as VOC annotates. An object is marked `occluded` when nearer things hide
more than 5% of its silhouette and `truncated` when the image's edge cuts it. What is too small, too hidden or too
much cut off to be judged fairly is neither drawn nor annotated; in a drive, where things come and go, it is drawn
and marked `difficult`.
"""

import concurrent.futures
import dataclasses
import functools
import json
import math
import multiprocessing
import os
import pathlib
import shutil

import cv2
import numpy as np
import tqdm

from structures import UserError
from system import files, worker_processes
from toy_road import drawing, models
from toy_road.drawing import HEIGHT, WIDTH, Camera, Light, Shine, Thing

CLASSES = ("car", "bus", "pedestrian", "traffic_light")
CAR, BUS, PEDESTRIAN, TRAFFIC_LIGHT = range(len(CLASSES))
SPLITS = ("train", "test")
VERSION = 1  # goes up when the same seed gives other pictures
MANIFEST = "toy_road.json"
JPEG_QUALITY = 88
LANE = 3.3  # metres

# What a picture may hold, so that a person and a 300-pixel detector can tell it: shares of the silhouette, pixels.
MAX_OCCLUDED = 0.55
MIN_INSIDE = 0.5
MIN_WIDTH, MIN_HEIGHT = 25, 29
MAX_ASPECT = 3.0  # of the box on the square that SSD warps a picture to, either way round
OCCLUDED = 0.05  # the VOC annotation guideline's limit

CAR_PAINTS = (
    (196, 30, 36),
    (32, 74, 158),
    (238, 238, 234),
    (38, 40, 46),
    (150, 156, 164),
    (226, 170, 28),
    (30, 118, 72),
    (104, 34, 92),
    (228, 108, 30),
    (92, 170, 206),
    (122, 82, 52),
    (240, 206, 196),
    (86, 96, 60),
)
BUS_PAINTS = (
    ((232, 188, 30), (40, 60, 120)),
    ((190, 34, 40), (244, 240, 230)),
    ((40, 130, 90), (240, 230, 120)),
    ((240, 240, 236), (210, 60, 50)),
    ((52, 110, 190), (250, 250, 250)),
    ((236, 130, 40), (250, 240, 220)),
)
SKINS = ((246, 208, 178), (222, 170, 130), (176, 120, 82), (112, 74, 52))
HAIRS = ((40, 30, 26), (96, 62, 36), (206, 168, 96), (150, 150, 152), (140, 58, 30))
CLOTHES = (
    (210, 40, 60),
    (40, 90, 190),
    (250, 200, 40),
    (30, 140, 90),
    (240, 240, 240),
    (150, 60, 150),
    (240, 130, 40),
    (60, 60, 70),
    (110, 190, 210),
)
WALLS = (
    (206, 178, 148),
    (186, 110, 88),
    (222, 214, 196),
    (150, 158, 170),
    (216, 190, 120),
    (170, 196, 190),
    (196, 150, 160),
)
ROOFS = ((140, 66, 52), (92, 92, 102), (110, 80, 64), (70, 84, 96))
WHITE, YELLOW, KERB = (226, 226, 220), (232, 190, 60), (196, 194, 188)
LEAVES = ((64, 128, 58), (86, 142, 52), (48, 104, 66), (156, 138, 44), (190, 110, 48))


@dataclasses.dataclass(frozen=True)
class RoadObject:
    """One annotated object. label: index into CLASSES; box_px: int (xmin, ymin, xmax, ymax), continuous edges of
    whole pixels; occluded: the share of its silhouette hidden by nearer things; truncated: cut by the image's edge;
    difficult: only in drives, too small, hidden or cut off to be judged."""

    label: int
    box_px: tuple
    occluded: float
    truncated: bool
    difficult: bool = False


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Weather and camera. time: a key of drawing.LIGHTS; rain; blur: "", "motion" or "focus"; blur_size: pixels;
    blur_angle: radians; gain: exposure; noise: 1 = 8 grey values."""

    time: str = "day"
    rain: bool = False
    blur: str = ""
    blur_size: float = 0.0
    blur_angle: float = 0.0
    gain: float = 1.0
    noise: float = 0.3

    @property
    def adverse(self):
        """Night, rain or blur."""
        return self.time == "night" or self.rain or bool(self.blur)


@dataclasses.dataclass(frozen=True)
class Street:
    """The shape of the road. left, right: lanes beside the camera's; oncoming: how many of the leftmost come
    nearer; crossings: ((z, whether a street crosses), …) of zebra crossings; colours of asphalt, pavement, grass."""

    left: int
    right: int
    oncoming: int
    crossings: tuple
    town: str
    asphalt: tuple
    pavement: tuple
    grass: tuple

    @property
    def edges(self):
        """x of the road's left and right kerb."""
        return -LANE * (self.left + 0.5), LANE * (self.right + 0.5)


@dataclasses.dataclass
class Scene:
    """All that one picture shows. backdrop: what stands still at infinity (see _draw_backdrop); bonnet: (r, g, b)
    of the camera's own car or None; z: how far the camera has come, for whatever repeats along the road."""

    conditions: Conditions
    light: Light
    camera: Camera
    street: Street
    things: list
    backdrop: dict
    bonnet: tuple | None
    z: float = 0.0


def _pick(rng, options):
    return options[int(rng.integers(len(options)))]


# One block of 20 pictures has exactly these, shuffled: the share of adverse conditions must not depend on luck.
_DECK = (
    [("day", False, "")] * 9
    + [("dusk", False, "")] * 3
    + [("fog", False, "")] * 2
    + [("night", False, ""), ("night", False, ""), ("rain", True, ""), ("rain", True, "")]
    + [("day", False, "motion"), ("day", False, "focus")]
)


def draw_conditions(seed, split, index):
    """The Conditions of a picture; each 20 successive pictures share out a fixed deck."""
    order = np.random.default_rng([seed, SPLITS.index(split), index // len(_DECK), 1]).permutation(len(_DECK))
    time, rain, blur = _DECK[order[index % len(_DECK)]]
    rng = np.random.default_rng([seed, SPLITS.index(split), index, 2])
    if rain and rng.random() < 0.3:
        time = "night"
    size = rng.uniform(4, 7) if blur == "motion" else rng.uniform(1.0, 1.7)
    angle = rng.normal(0, 0.25)
    return Conditions(time, rain, blur, size, angle, rng.uniform(0.82, 1.18), rng.uniform(0.1, 0.6))


def draw_street(rng):
    crossings = ()
    if rng.random() < 0.8:
        crossings = ((rng.uniform(8.5, 16), rng.random() < 0.65),)
    grey = rng.uniform(72, 98)
    return Street(
        left=int(rng.integers(1, 3)),
        right=int(rng.integers(0, 2)),
        oncoming=1,
        crossings=crossings,
        town=_pick(rng, ("city", "city", "suburb", "country")),
        asphalt=(grey, grey, grey + 5),
        pavement=_pick(rng, ((168, 164, 158), (176, 160, 146), (150, 152, 156))),
        grass=_pick(rng, ((104, 146, 74), (126, 150, 80), (88, 128, 70), (170, 160, 104))),
    )


def car(rng, kind=None, lit=False, **place):
    """A car as a Thing, with the lamps on or off."""
    palette = {
        "paint": _pick(rng, CAR_PAINTS),
        "glass": (58, 72, 90),
        "tyre": (34, 34, 36),
        "hub": (150, 152, 156),
        "head": Shine(255, 250, 222, 1.5) if lit else (236, 238, 230),
        "tail": Shine(255, 36, 30, 0.8) if lit else (176, 20, 26),
        "plate": (238, 236, 214),
        "trim": (46, 48, 52),
        "shadow": (40, 42, 46),
    }
    kind = kind or _pick(rng, ("saloon", "saloon", "hatchback", "hatchback", "offroad", "van"))
    return Thing(models.car(kind), palette=palette, label=CAR, scale=rng.uniform(0.95, 1.05), **place)


def bus(rng, lit=False, **place):
    """A bus as a Thing, with the lamps on or off."""
    paint, stripe = _pick(rng, BUS_PAINTS)
    palette = {
        "paint": paint,
        "stripe": stripe,
        "glass": Shine(236, 216, 150) if lit else (52, 66, 84),
        "tyre": (34, 34, 36),
        "hub": (130, 132, 136),
        "sign": Shine(255, 170, 40),
        "plate": (238, 236, 214),
        "head": Shine(255, 250, 222, 1.5) if lit else (236, 238, 230),
        "tail": Shine(255, 36, 30, 0.8) if lit else (176, 20, 26),
        "trim": (44, 46, 50),
        "shadow": (40, 42, 46),
    }
    return Thing(models.bus(), palette=palette, label=BUS, scale=rng.uniform(0.95, 1.05), **place)


def pedestrian(rng, mesh, **place):
    """A pedestrian as a Thing, of any of the walking meshes."""
    palette = {
        "skin": _pick(rng, SKINS),
        "hair": _pick(rng, HAIRS),
        "shirt": _pick(rng, CLOTHES),
        "trousers": _pick(rng, CLOTHES),
        "shoe": (50, 44, 44),
        "eye": (30, 26, 26),
    }
    return Thing(mesh, palette=palette, label=PEDESTRIAN, scale=rng.uniform(0.98, 1.14), **place)


def traffic_light(state, **place):
    """A traffic light's head as a Thing; state: the lit lamps out of "red", "amber", "green"."""
    lamps = {"red": (255, 48, 40), "amber": (255, 186, 40), "green": (64, 255, 130)}
    palette = {"board": (30, 31, 34), "rim": (236, 196, 40), "hood": (14, 15, 17), "pole": (92, 96, 100)}
    for slot, colour in lamps.items():
        palette[slot] = Shine(*colour, 1.3) if slot in state else tuple(c // 5 + 14 for c in colour)
    return Thing(models.light_head(), palette=palette, label=TRAFFIC_LIGHT, **place)


def light_with_pole(rng, street, z, state, where):
    """[head, pole]: a traffic light at z, on the "left" or "right" pavement or "above" the road."""
    left, right = street.edges
    scale = rng.uniform(0.95, 1.15)
    pole = {"pole": (92, 96, 100)}
    if where == "above":
        x, height, foot = rng.uniform(-LANE * 0.8, LANE * 0.2), 5.6, right + 0.7
        mast = Thing(models.light_pole(height, round(x - foot, 2)), foot, z + 0.1, palette=pole)
        return [traffic_light(state, x=x, y=height - 1.3 * scale, z=z, scale=scale), mast]
    foot = left - 0.6 if where == "left" else right + 0.6
    height = rng.uniform(2.2, 2.5)
    mast = Thing(models.light_pole(round(height + 0.5, 1), 0), foot, z + 0.1, palette=pole)
    return [traffic_light(state, x=foot, y=height, z=z, scale=scale), mast]


def _vehicle(rng, kind, **place):
    return (car if kind == CAR else bus)(rng, **place)


def _lane_vehicle(rng, street, kind, lit):
    lane = int(rng.integers(-street.left, street.right + 1))
    nearest = rng.uniform(6.5, 22.5) if kind == CAR else rng.uniform(8, 24)
    yaw = rng.normal(0, 0.04) + (math.pi if lane < -street.left + street.oncoming else 0)
    length = 4.4 if kind == CAR else 8.6
    return _vehicle(rng, kind, lit=lit, x=lane * LANE + rng.normal(0, 0.15), z=nearest + length / 2, yaw=yaw)


def _crossing_vehicle(rng, crossing, kind, lit):
    """A vehicle on the street that crosses: traffic keeps to the right, so the nearer lane drives to the right."""
    far = rng.random() < 0.5
    z = crossing + (9.0 if far else 5.4)
    turn = -math.pi / 2 if far else math.pi / 2
    return _vehicle(rng, kind, lit=lit, x=rng.uniform(-7, 7), z=z, yaw=turn + rng.normal(0, 0.05))


def _somebody(rng, street):
    """A pedestrian on a zebra crossing or a pavement."""
    phase, mirror = int(rng.integers(models.WALKING_PHASES)), bool(rng.random() < 0.5)
    left, right = street.edges
    if street.crossings and rng.random() < 0.65:
        x, z = rng.uniform(left, right), street.crossings[0][0] + rng.uniform(0.2, 2.4)
        return pedestrian(rng, models.walker(phase), x=x, z=z, mirror=mirror)
    x = left - rng.uniform(0.5, 2.2) if rng.random() < 0.5 else right + rng.uniform(0.5, 2.2)
    mesh = models.stander(phase, bool(rng.random() < 0.5)) if rng.random() < 0.7 else models.walker(phase)
    return pedestrian(rng, mesh, x=x, z=rng.uniform(7, 16.5), mirror=mirror)


def _lights(rng, street):
    """Two or three traffic lights of a crossing, with their poles: a list of [head, pole]."""
    z = street.crossings[0][0] - 0.6
    state = _pick(rng, (("red",), ("red",), ("green",), ("green",), ("amber",), ("red", "amber")))
    places = ["right", "above", "left"]
    rng.shuffle(places)
    return [light_with_pole(rng, street, z, state, where) for where in places[: int(rng.integers(1, 4))]]


def _apart(thing, others, gap=0.35):
    """Whether a thing's footprint keeps clear of the others'."""
    x0, x1, z0, z1 = thing.footprint()
    for other in others:
        a0, a1, b0, b1 = other.footprint()
        if x0 - gap < a1 and a0 < x1 + gap and z0 - gap < b1 and b0 < z1 + gap:
            return False
    return True


def _actors(rng, street, lit):
    """Vehicles, people and lights that do not stand in one another."""
    overhead = [thing for pair in _lights(rng, street) for thing in pair] if street.crossings else []
    actors = []
    wanted = int(rng.integers(4, 10))
    for _ in range(wanted):
        kind = int(rng.choice([CAR, BUS, PEDESTRIAN], p=[0.46, 0.19, 0.35]))
        for _ in range(4):
            if kind == PEDESTRIAN:
                candidate = _somebody(rng, street)
            elif street.crossings and street.crossings[0][1] and rng.random() < 0.3:
                candidate = _crossing_vehicle(rng, street.crossings[0][0], kind, lit)
            else:
                candidate = _lane_vehicle(rng, street, kind, lit)
            if _apart(candidate, actors):
                actors.append(candidate)
                break
    return overhead + actors


def _house(rng, town, side, edge, z, lit):
    wide, long = rng.uniform(3.2, 5), rng.uniform(3.0, 4.6)
    storeys = int(rng.integers(2, 6)) if town == "city" else int(rng.integers(1, 3))
    mesh = models.house(int(rng.integers(4)), round(wide), round(long), 2.6 * storeys + 0.4, town != "city")
    palette = {
        "wall": _pick(rng, WALLS),
        "roof": _pick(rng, ROOFS),
        "glass": (84, 102, 124),
        "door": (96, 62, 46),
        "lit": Shine(255, 214, 130) if lit else (112, 132, 150),
        "trim": (120, 112, 104),
    }
    setback = rng.uniform(2.8, 3.4) if town == "city" else rng.uniform(4.5, 8)
    return Thing(mesh, edge + side * (setback + round(wide)), z + long, palette=palette)


def _tree(rng, x, z):
    palette = {"trunk": (92, 66, 46), "leaf": _pick(rng, LEAVES)}
    mesh = models.tree(_pick(rng, ("round", "round", "tall", "fir")))
    return Thing(mesh, x, z, scale=rng.uniform(0.75, 1.25), palette=palette)


def scenery(rng, street, lit, start=3.0, end=85.0):
    """Houses, trees and street lamps on both sides from `start` to `end` metres, clear of crossing streets."""
    things = []
    lamp = Shine(255, 226, 160, 2.6) if lit else (206, 206, 196)
    for side, edge in zip((-1, 1), street.edges, strict=True):
        z = start + rng.uniform(0, 8)
        while z < end:
            if any(street_crosses and at - 8 < z < at + 13 for at, street_crosses in street.crossings):
                z += 4
            elif street.town != "country" and rng.random() < 0.75:
                things.append(_house(rng, street.town, side, edge, z, lit))
                z += rng.uniform(9, 11)
            else:
                things.append(_tree(rng, edge + side * rng.uniform(3.2, 9), z))
                z += rng.uniform(2.5, 5)
        for z in np.arange(start + rng.uniform(4, 12), end, 17):
            if not any(at - 2 < z < at + 12 for at, _ in street.crossings):
                palette = {"pole": (84, 88, 92), "lamp": lamp}
                things.append(Thing(models.street_lamp(-side), edge + side * 0.45, z, palette=palette))
    return things


def draw_backdrop(rng, horizon):
    """What stands at infinity: sun or moon, clouds, stars, hills, a skyline; all in pixels."""
    x = np.linspace(-10, WIDTH + 10, 9)
    hills = [horizon - rng.uniform(6, low) * rng.random(9) - 3 for low in (46, 24)]
    return {
        "sun": (rng.uniform(60, WIDTH - 60), rng.uniform(24, horizon * 0.55)),
        "clouds": rng.uniform((0, 14, 14), (WIDTH, horizon * 0.6, 30), (int(rng.integers(2, 6)), 3)),
        "stars": rng.uniform((0, 0), (WIDTH, horizon * 0.8), (40, 2)).astype(int),
        "hills": [np.stack([x, y], axis=1) for y in hills],
        "towers": rng.uniform((0, 8, 12), (WIDTH, 40, 34), (14, 3)),
    }


def _draw_backdrop(image, scene):
    backdrop, time = scene.backdrop, scene.conditions.time
    if time == "night":
        for x, y in backdrop["stars"]:
            image[y, x] = 190
    if time in ("day", "dusk", "night"):
        x, y = backdrop["sun"]
        colour = {"day": (255, 246, 196), "dusk": (255, 206, 120), "night": (232, 232, 216)}[time]
        if time == "dusk":
            y = scene.camera.horizon - 26
        cv2.circle(image, (int(x * 16), int(y * 16)), 15 * 16, colour, -1, cv2.LINE_AA, 4)
        drawing.add_halos(image, [(x, y, 60, Shine(*colour))], 0.5, wet=False)
    if time != "fog":
        cloud = {"day": (248, 250, 252), "dusk": (214, 140, 130), "night": (34, 36, 62)}.get(time, (150, 158, 166))
        for x, y, size in backdrop["clouds"]:
            for dx, dy, part in ((-0.9, 0.15, 0.6), (0, -0.1, 0.9), (0.8, 0.05, 0.7), (1.5, 0.25, 0.4)):
                centre = (int((x + dx * size) * 16), int((y + dy * size) * 16))
                axes = (int(size * part * 16), int(size * part * 9))
                cv2.ellipse(image, centre, axes, 0, 0, 360, cloud, -1, cv2.LINE_AA, 4)
    _draw_horizon(image, scene)


def _draw_horizon(image, scene):
    light, horizon = scene.light, scene.camera.horizon
    for ridge, haze in zip(scene.backdrop["hills"], (0.62, 0.45), strict=True):
        colour = light.tint((92, 122, 96), 0.9, haze)
        edge = np.concatenate([ridge, [(WIDTH + 10, horizon + 2), (-10, horizon + 2)]])
        cv2.fillPoly(image, [np.round(edge * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    if scene.street.town == "city":
        for x, height, width in scene.backdrop["towers"]:
            colour = light.tint((120, 126, 142), 0.8, 0.5)
            cv2.rectangle(image, (int(x), int(horizon - height)), (int(x + width), int(horizon + 2)), colour, -1)


def _markings(street, camera_z):
    """Patches of the ground (x0, x1, z0, z1) that are white: dashes, zebra crossings and stop lines."""
    left, right = street.edges
    white = []
    for line in range(1, street.left + street.right + 1):
        x = left + line * LANE - 0.07
        if line != street.oncoming:
            white += [(x, x + 0.14, z, z + 3) for z in np.arange(-camera_z % 6.0 - 6.0, 70, 6.0)]
    for at, _ in street.crossings:
        z = at - camera_z
        white += [(x, x + 0.55, z, z + 2.6) for x in np.arange(left + 0.35, right - 0.5, 1.0)]
        white.append((left + street.oncoming * LANE, right, z - 1.1, z - 0.7))
    return white


def _draw_street(image, scene):
    street, place = scene.street, (image, scene.camera, scene.light)
    left, right = street.edges
    asphalt = tuple(c * (0.72 if scene.conditions.rain else 1.0) for c in street.asphalt)
    for x in (left - 2.6, right):
        drawing.draw_ribbon(*place, x, x + 2.6, street.pavement)
    drawing.draw_ribbon(*place, left, right, asphalt)
    for x in (left - 0.2, right):
        drawing.draw_ribbon(*place, x, x + 0.2, KERB)
    for x in (left + 0.18, right - 0.3):
        drawing.draw_ribbon(*place, x, x + 0.12, WHITE)
    middle = left + street.oncoming * LANE
    for x in (middle - 0.18, middle + 0.06):
        drawing.draw_ribbon(*place, x, x + 0.12, YELLOW)
    side_streets = [(-70, 70, z - scene.z + 3.2, z - scene.z + 11.2) for z, crosses in street.crossings if crosses]
    drawing.draw_patches(*place, side_streets, asphalt)
    drawing.draw_patches(*place, _markings(street, scene.z), WHITE)


_BONNET = np.array(
    [(0, 360), (0, 347), (70, 339), (160, 333), (240, 331), (320, 333), (410, 339), (480, 347), (480, 360)]
)


def render(scene, accept, rng):
    """(image uint8 RGB [H,W,3], Sights nearest first) of a scene; accept as in drawing.sightings."""
    camera, light, conditions = scene.camera, scene.light, scene.conditions
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    drawing.draw_sky(image, camera, light)
    _draw_backdrop(image, scene)
    drawing.draw_ground(image, camera, light, scene.street.grass)
    _draw_street(image, scene)
    cover = np.zeros((HEIGHT, WIDTH), np.uint8)
    if scene.bonnet:
        cv2.fillConvexPoly(cover, _BONNET, 1)
    sights = drawing.sightings(camera, scene.things, accept, cover)
    halos = [halo for sight in reversed(sights) for halo in drawing.paint(image, sight, light)]
    if conditions.time == "night":
        image = drawing.add_headlights(image)
    if light.glow:
        drawing.add_halos(image, halos, light.glow, conditions.rain)
    if conditions.rain:
        image = drawing.add_rain(image, rng)
    if scene.bonnet:
        cv2.fillConvexPoly(image, _BONNET, light.tint(scene.bonnet, 0.8, 0.05), cv2.LINE_AA)
    if conditions.blur == "motion":
        image = drawing.motion_blur(image, int(conditions.blur_size) | 1, conditions.blur_angle)
    elif conditions.blur == "focus":
        image = cv2.GaussianBlur(image, (0, 0), conditions.blur_size)
    return drawing.expose(image, conditions.gain, conditions.noise, rng), sights


def fair(sight):
    """Whether an object is visible enough to be asked for: large enough, not too hidden, not too far cut off."""
    fx0, fy0, fx1, fy1 = sight.full_box
    x0, y0, x1, y1 = sight.box
    if (x1 - x0) * (y1 - y0) < MIN_INSIDE * (fx1 - fx0) * (fy1 - fy0) or sight.occluded > MAX_OCCLUDED:
        return False
    x0, y0, x1, y1 = sight.visible_box
    width, height = x1 - x0, y1 - y0
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return False
    return 1 / MAX_ASPECT <= width / height * HEIGHT / WIDTH <= MAX_ASPECT


def road_object(sight):
    """The RoadObject of a labelled Sight."""
    x0, y0, x1, y1 = sight.full_box
    truncated = x0 < -0.5 or y0 < -0.5 or x1 > WIDTH + 0.5 or y1 > HEIGHT + 0.5
    return RoadObject(sight.thing.label, sight.visible_box, sight.occluded, truncated, not fair(sight))


def make_scene(seed, index, split):
    """(Scene, rng for its noise) of one picture."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    conditions = draw_conditions(seed, split, index)
    light = drawing.LIGHTS[conditions.time]
    lit = light.glow > 0
    camera = Camera(
        focal=rng.uniform(415, 450),
        height=rng.uniform(1.3, 1.6),
        horizon=rng.uniform(150, 180),
        centre=WIDTH / 2 + rng.uniform(-15, 15),
        bend=rng.normal(0, 0.0012),
    )
    street = draw_street(rng)
    things = _actors(rng, street, lit) + scenery(rng, street, lit)
    bonnet = _pick(rng, CAR_PAINTS) if rng.random() < 0.5 else None
    backdrop = draw_backdrop(rng, camera.horizon)
    return Scene(conditions, light, camera, street, things, backdrop, bonnet, rng.uniform(0, 6)), rng


def generate_scene(seed, index, split):
    """Draw picture `index` of a split ("train" or "test").

    Returns (image uint8 RGB [HEIGHT,WIDTH,3], list of RoadObject, nearest first): the same for the same arguments.
    """
    scene, rng = make_scene(seed, index, split)
    image, sights = render(scene, lambda sight: sight.thing.label is None or fair(sight), rng)
    return image, [road_object(sight) for sight in sights if sight.thing.label is not None]


def _annotation(name, objects):
    """The VOC XML of a picture; VOC pixels are 1-based and inclusive."""
    lines = [
        "<annotation>",
        "<folder>VOC2007</folder>",
        f"<filename>{name}.jpg</filename>",
        "<source><database>toy road</database></source>",
        f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>",
        "<segmented>0</segmented>",
    ]
    for item in objects:
        x0, y0, x1, y1 = item.box_px
        lines.append(
            f"<object><name>{CLASSES[item.label]}</name><pose>Unspecified</pose>"
            f"<truncated>{item.truncated:d}</truncated><occluded>{item.occluded > OCCLUDED:d}</occluded>"
            f"<difficult>{item.difficult:d}</difficult><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


def _name(split, index):
    return f"{split}_{index:06d}"


def _write_pictures(root, seed, split, indices):
    """Write the pictures and annotations of some indices under root/VOC2007; return how many."""
    cv2.setNumThreads(1)
    for index in indices:
        image, objects = generate_scene(seed, index, split)
        name = _name(split, index)
        _, jpeg = cv2.imencode(".jpg", image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        (root / "VOC2007" / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg.tobytes())
        (root / "VOC2007" / "Annotations" / f"{name}.xml").write_text(_annotation(name, objects))
    return len(indices)


def _write_all(root, seed, counts, workers):
    chunks = [
        (root, seed, split, range(start, min(start + 16, count)))
        for split, count in counts.items()
        for start in range(0, count, 16)
    ]
    with tqdm.tqdm(total=sum(counts.values()), desc="drawing the toy road", unit="images") as bar:
        if workers == 0:
            for chunk in chunks:
                bar.update(_write_pictures(*chunk))
            return
        context = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(workers, context, worker_processes.follow_parent)
        try:
            with worker_processes.interrupts_held():
                futures = [pool.submit(_write_pictures, *chunk) for chunk in chunks]
            for future in concurrent.futures.as_completed(futures):
                bar.update(future.result())
        except concurrent.futures.process.BrokenProcessPool:
            raise UserError("--workers: a worker process died; try --workers 0, or free some memory") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _is_written(target, manifest):
    """Whether the target already holds the data set of a manifest; UserError if it holds anything else."""
    if not target.exists():
        return False
    if not target.is_dir():
        raise UserError(f"--output {target}: is a file; name a folder")
    if not any(target.iterdir()):
        if os.path.ismount(target):  # which the finished folder could not replace
            raise UserError(f"--output {target}: is a mount; name a folder in it, such as {target / 'road'}")
        return False
    try:
        found = json.loads((target / MANIFEST).read_text())
    except (OSError, ValueError):
        raise UserError(f"--output {target}: is not empty and no toy road; name another folder") from None
    if found != manifest:
        raise UserError(f"--output {target}: holds another toy road ({MANIFEST} differs); name another folder")
    return True


def _fresh_partial(target):
    """The folder's name while it is being written; what a killed run left there is removed."""
    partial = target.with_name(target.name + ".partial")
    if (partial / MANIFEST).is_file():
        shutil.rmtree(partial)
    if partial.exists():
        raise UserError(f"--output {target}: {partial} is in the way; move it or name another folder")
    return partial


def _cores():
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_dataset(directory, train=4000, test=400, seed=0, workers=None):
    """Write a VOCdevkit folder: VOC2007 with the splits train (also called trainval) and test, and classes.txt.

    Used as `--data DIR --classes DIR/classes.txt --train 2007:train --valid 2007:test`. workers: processes; None =
    one per core, 0 = this one. The folder appears under its name only when it is complete. A folder that already
    holds the very same data set is left as it is.
    Returns whether it was written. Raises UserError if the folder holds anything else.
    """
    target = pathlib.Path(os.path.realpath(directory))  # a link stays one
    counts = {"train": train, "test": test}
    manifest = {"version": VERSION, "seed": seed, **counts, "classes": list(CLASSES)}
    if _is_written(target, manifest):
        return False
    partial = _fresh_partial(target)
    try:
        partial.mkdir(parents=True)
        (partial / MANIFEST).write_text(json.dumps(manifest) + "\n")
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (partial / "VOC2007" / part).mkdir(parents=True)
        for split, count in (*counts.items(), ("trainval", train)):
            names = "".join(f"{_name(split.removesuffix('val'), index)}\n" for index in range(count))
            (partial / "VOC2007" / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
        (partial / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
        _write_all(partial, seed, counts, _cores() if workers is None else workers)
        files.publish(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


@dataclasses.dataclass(frozen=True)
class Mover:
    """A thing of a drive. speed, drift: m/s along and across the road; after, until: the seconds between which it
    moves; stride: its walking mesh by phase, or None."""

    thing: Thing
    speed: float = 0.0
    drift: float = 0.0
    after: float = 0.0
    until: float = math.inf
    stride: object = None

    def at(self, time, camera_z):
        """The thing at a time in seconds, seen from a camera that has come camera_z metres."""
        gone = min(max(time, self.after), self.until) - self.after
        mesh = self.thing.mesh
        if self.stride:
            mesh = self.stride(int(gone * 1.5 * models.WALKING_PHASES) % models.WALKING_PHASES)
        z = self.thing.z + self.speed * gone - camera_z
        return dataclasses.replace(self.thing, mesh=mesh, x=self.thing.x + self.drift * gone, z=z)


# The drive: past a light that turns green at CROSSINGS[0], then to a stop before one that turns red at CROSSINGS[1].
CROSSINGS = (34.0, 82.0)
SPEED, BRAKING_AT, STANDING_AT = 9.0, 6.0, 9.5


def _camera_z(time):
    """How far the camera has come, in metres: cruising, then braking evenly to a stop."""
    braked = min(max(time - BRAKING_AT, 0.0), STANDING_AT - BRAKING_AT)
    return SPEED * (min(time, BRAKING_AT) + braked - braked**2 / 2 / (STANDING_AT - BRAKING_AT))


def _light_state(crossing, time):
    if crossing == 0:
        return ("red",) if time < 0.8 else ("red", "amber") if time < 1.6 else ("green",)
    return ("green",) if time < 5.0 else ("amber",) if time < 6.2 else ("red",)


def _drive_movers(rng):
    """Traffic of the drive: a car ahead, one overtaking, a slow bus, oncoming and crossing vehicles, people."""
    up, across = math.pi, math.pi / 2
    second = CROSSINGS[1]
    movers = [
        Mover(car(rng, "hatchback", x=0, z=14), 11.0),
        Mover(car(rng, "saloon", x=-LANE, z=-9), 15.0),
        Mover(bus(rng, x=LANE, z=26), 3.6, until=10.0),
        Mover(bus(rng, x=-2 * LANE, z=125, yaw=up), -8.0),
        Mover(car(rng, x=-2 * LANE, z=second + 17, yaw=up, kind="offroad"), 0, after=99),
        Mover(car(rng, x=-28, z=second + 5.4, yaw=across), 0, 8.5, after=5.4),
        Mover(car(rng, x=-40, z=second + 5.4, yaw=across), 0, 8.5, after=5.4),
        Mover(bus(rng, x=36, z=second + 9, yaw=-across), 0, -7.5, after=4.6),
    ]
    movers += [Mover(car(rng, x=-2 * LANE, z=z, yaw=up), -10.0) for z in (38, 62, 98)]
    starts = ((CROSSINGS[0] + 1.2, 1.0, 1.7, 0.0), (second + 0.8, -9.5, 1.8, 6.2), (second + 1.9, 5.8, -1.5, 6.4))
    for z, x, drift, after in starts:
        person = pedestrian(rng, models.walker(0), x=x, z=z, mirror=drift < 0)
        movers.append(Mover(person, 0, drift, after, stride=models.walker))
    for z in np.arange(9, second + 20, 9):
        back = bool(rng.random() < 0.5)
        x = _pick(rng, (-2.5 * LANE - 1.4, 1.5 * LANE + 1.4)) + rng.uniform(-0.6, 0.6)
        person = pedestrian(rng, models.stander(0, back), x=x, z=z)
        movers.append(Mover(person, 1.2 if back else -1.2, stride=functools.partial(models.stander, back=back)))
    return movers


def drive_frames(seed, frames, rate=25.0):
    """Yield (image uint8 RGB [HEIGHT,WIDTH,3], list of RoadObject) of a drive, the same for the same seed."""
    rng = np.random.default_rng([seed, 9])
    street = Street(2, 1, 1, tuple((z, True) for z in CROSSINGS), "city", (84, 84, 90), (168, 164, 158), (104, 146, 74))
    movers = _drive_movers(rng)
    still = scenery(rng, street, lit=False, end=190)
    lights = [
        (crossing, light_with_pole(rng, street, z - 0.6, (), where))
        for crossing, z in enumerate(CROSSINGS)
        for where in ("left", "right", "above")
    ]
    still += [pole for _, (_, pole) in lights]
    heads = [(crossing, head) for crossing, (head, _) in lights]
    backdrop, bonnet = draw_backdrop(rng, 165), _pick(rng, CAR_PAINTS)
    for frame in range(frames):
        time = frame / rate
        z = _camera_z(time)
        things = [mover.at(time, z) for mover in movers]
        things += [dataclasses.replace(thing, z=thing.z - z) for thing in still]
        for crossing, head in heads:
            place = {"x": head.x, "y": head.y, "z": head.z - z, "scale": head.scale}
            things.append(traffic_light(_light_state(crossing, time), **place))
        camera = Camera(horizon=165 + 0.7 * math.sin(time * 9))
        things = [thing for thing in things if thing.z < 90]
        scene = Scene(Conditions(), drawing.LIGHTS["day"], camera, street, things, backdrop, bonnet, z)
        image, sights = render(scene, lambda sight: True, np.random.default_rng([seed, 9, frame]))
        seen = [s for s in sights if s.thing.label is not None and cv2.countNonZero(s.visible)]
        yield image, [road_object(sight) for sight in seen]


def write_drive(path, seed=0, frames=250, rate=25.0):
    """Write a drive through the toy town as a video, and its ground truth beside it as FILE.truth.json.

    The JSON: class_names, width, height, rate, frames: [{"objects": [{"class", "box" (continuous pixel edges as in
    RoadObject), "occluded", "truncated", "difficult"}]}]. Returns the path of the JSON.
    """
    from media.video import VideoWriter  # here, so that drawing processes do not load the encoder

    path = pathlib.Path(path)
    truth_path = path.with_suffix(".truth.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = []
    with VideoWriter(str(path), WIDTH, HEIGHT, rate) as writer:
        for image, objects in tqdm.tqdm(drive_frames(seed, frames, rate), "driving", frames, unit="frames"):
            writer.write(image)
            truth.append({"objects": [_plain(item) for item in objects]})
    facts = {"class_names": CLASSES, "width": WIDTH, "height": HEIGHT, "rate": rate, "frames": truth}
    files.write(truth_path, json.dumps(facts) + "\n")
    return truth_path


def _plain(item):
    """A RoadObject as JSON knows it."""
    return {
        "class": CLASSES[item.label],
        "box": item.box_px,
        "occluded": round(item.occluded, 3),
        "truncated": bool(item.truncated),
        "difficult": bool(item.difficult),
    }
