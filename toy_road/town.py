"""What is in the toy town: the street, vehicles, people, traffic lights, houses and trees, all chosen at random."""

import dataclasses
import math

import numpy as np

from toy_road import models
from toy_road.drawing import Shine, Thing

CLASSES = ("car", "bus", "pedestrian", "traffic_light")
CAR, BUS, PEDESTRIAN, TRAFFIC_LIGHT = range(len(CLASSES))
LANE = 3.3  # meters wide
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
LEAVES = ((64, 128, 58), (86, 142, 52), (48, 104, 66), (156, 138, 44), (190, 110, 48))


@dataclasses.dataclass(frozen=True)
class Street:
    """The shape of the road.

    left, right: lanes beside the camera's.
    oncoming: how many of the leftmost lanes have oncoming traffic.
    crossings: ((z, whether a street crosses there), …) of the crosswalks.
    town: "city", "suburb" or "country".
    asphalt, sidewalk, grass: colors (r, g, b).
    """

    left: int
    right: int
    oncoming: int
    crossings: tuple
    town: str
    asphalt: tuple
    sidewalk: tuple
    grass: tuple

    @property
    def edges(self):
        """x of the road's left and right curb, in meters."""
        return -LANE * (self.left + 0.5), LANE * (self.right + 0.5)


def pick(rng, options):
    """One of some options, drawn by rng."""
    return options[int(rng.integers(len(options)))]


def draw_street(rng):
    """A random Street."""
    crossings = ()
    if rng.random() < 0.8:
        crossings = ((rng.uniform(8.5, 16), rng.random() < 0.65),)
    gray = rng.uniform(72, 98)
    return Street(
        left=int(rng.integers(1, 3)),
        right=int(rng.integers(0, 2)),
        oncoming=1,
        crossings=crossings,
        town=pick(rng, ("city", "city", "suburb", "country")),
        asphalt=(gray, gray, gray + 5),
        sidewalk=pick(rng, ((168, 164, 158), (176, 160, 146), (150, 152, 156))),
        grass=pick(rng, ((104, 146, 74), (126, 150, 80), (88, 128, 70), (170, 160, 104))),
    )


def car(rng, kind=None, lit=False, **place):
    """A car as a Thing, with the lamps on or off."""
    palette = {
        "paint": pick(rng, CAR_PAINTS),
        "glass": (58, 72, 90),
        "tire": (34, 34, 36),
        "hub": (150, 152, 156),
        "head": Shine(255, 250, 222, 1.5) if lit else (236, 238, 230),
        "tail": Shine(255, 36, 30, 0.8) if lit else (176, 20, 26),
        "plate": (238, 236, 214),
        "trim": (46, 48, 52),
        "shadow": (40, 42, 46),
    }
    kind = kind or pick(rng, ("sedan", "sedan", "hatchback", "hatchback", "offroad", "van"))
    return Thing(models.car(kind), palette=palette, label=CAR, scale=rng.uniform(0.95, 1.05), **place)


def bus(rng, lit=False, **place):
    """A bus as a Thing, with the lamps on or off."""
    paint, stripe = pick(rng, BUS_PAINTS)
    palette = {
        "paint": paint,
        "stripe": stripe,
        "glass": Shine(236, 216, 150) if lit else (52, 66, 84),
        "tire": (34, 34, 36),
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
    """A pedestrian as a Thing. mesh: a walker or a stander of models."""
    palette = {
        "skin": pick(rng, SKINS),
        "hair": pick(rng, HAIRS),
        "shirt": pick(rng, CLOTHES),
        "trousers": pick(rng, CLOTHES),
        "shoe": (50, 44, 44),
        "eye": (30, 26, 26),
    }
    return Thing(mesh, palette=palette, label=PEDESTRIAN, scale=rng.uniform(0.98, 1.14), **place)


def traffic_light(state, **place):
    """A traffic light's head as a Thing. state: the lamps that are lit, of "red", "amber", "green"."""
    lamps = {"red": (255, 48, 40), "amber": (255, 186, 40), "green": (64, 255, 130)}
    palette = {"board": (30, 31, 34), "rim": (236, 196, 40), "hood": (14, 15, 17), "pole": (92, 96, 100)}
    for slot, color in lamps.items():
        palette[slot] = Shine(*color, 1.3) if slot in state else tuple(c // 5 + 14 for c in color)
    return Thing(models.light_head(), palette=palette, label=TRAFFIC_LIGHT, **place)


def light_with_pole(rng, street, z, state, where):
    """[head, pole]: a traffic light at z, on the "left" or "right" sidewalk or "above" the road."""
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
    """A vehicle on the crossing street. Traffic keeps right, so in the nearer lane it drives to the right."""
    far = rng.random() < 0.5
    z = crossing + (9.0 if far else 5.4)
    turn = -math.pi / 2 if far else math.pi / 2
    return _vehicle(rng, kind, lit=lit, x=rng.uniform(-7, 7), z=z, yaw=turn + rng.normal(0, 0.05))


def _somebody(rng, street):
    """A pedestrian on a crosswalk or a sidewalk."""
    phase, mirror = int(rng.integers(models.WALKING_PHASES)), bool(rng.random() < 0.5)
    left, right = street.edges
    if street.crossings and rng.random() < 0.65:
        x, z = rng.uniform(left, right), street.crossings[0][0] + rng.uniform(0.2, 2.4)
        return pedestrian(rng, models.walker(phase), x=x, z=z, mirror=mirror)
    x = left - rng.uniform(0.5, 2.2) if rng.random() < 0.5 else right + rng.uniform(0.5, 2.2)
    mesh = models.stander(phase, bool(rng.random() < 0.5)) if rng.random() < 0.7 else models.walker(phase)
    return pedestrian(rng, mesh, x=x, z=rng.uniform(7, 16.5), mirror=mirror)


def _lights(rng, street):
    """One to three traffic lights of a crossing with their poles: a list of [head, pole]."""
    z = street.crossings[0][0] - 0.6
    state = pick(rng, (("red",), ("red",), ("green",), ("green",), ("amber",), ("red", "amber")))
    places = ["right", "above", "left"]
    rng.shuffle(places)
    return [light_with_pole(rng, street, z, state, where) for where in places[: int(rng.integers(1, 4))]]


def _apart(thing, others, gap=0.35):
    """Whether a thing's footprint is at least `gap` meters away from the others'."""
    x0, x1, z0, z1 = thing.footprint()
    for other in others:
        a0, a1, b0, b1 = other.footprint()
        if x0 - gap < a1 and a0 < x1 + gap and z0 - gap < b1 and b0 < z1 + gap:
            return False
    return True


def actors(rng, street, lit):
    """Random traffic lights, vehicles and people that do not overlap, as Things. lit: whether lamps are on."""
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
    stories = int(rng.integers(2, 6)) if town == "city" else int(rng.integers(1, 3))
    mesh = models.house(int(rng.integers(4)), round(wide), round(long), 2.6 * stories + 0.4, town != "city")
    palette = {
        "wall": pick(rng, WALLS),
        "roof": pick(rng, ROOFS),
        "glass": (84, 102, 124),
        "door": (96, 62, 46),
        "lit": Shine(255, 214, 130) if lit else (112, 132, 150),
        "trim": (120, 112, 104),
    }
    setback = rng.uniform(2.8, 3.4) if town == "city" else rng.uniform(4.5, 8)
    return Thing(mesh, edge + side * (setback + round(wide)), z + long, palette=palette)


def _tree(rng, x, z):
    palette = {"trunk": (92, 66, 46), "leaf": pick(rng, LEAVES)}
    mesh = models.tree(pick(rng, ("round", "round", "tall", "fir")))
    return Thing(mesh, x, z, scale=rng.uniform(0.75, 1.25), palette=palette)


def scenery(rng, street, lit, start=3.0, end=85.0):
    """Houses, trees and street lamps on both sides from `start` to `end` meters, but not in crossing streets."""
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
