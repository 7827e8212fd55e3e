"""Pictures of the toy road, as a dashcam sees it, with the exact boxes of their objects.

A picture depends on (seed, split, index) only, so train and test never share a picture, and a data set can be drawn
again bit for bit. A box bounds the pixels of its object that are visible in the image, as VOC annotates. An object is
marked `occluded` if nearer things hide more than 5% of its silhouette, and `truncated` if the image's edge cuts it.
Objects that are too small, too hidden or too truncated to be judged are neither drawn nor annotated; in a drive, where
things come and go, they are drawn and marked `difficult`.
"""

import dataclasses

import cv2
import numpy as np

from toy_road import drawing, town
from toy_road.drawing import HEIGHT, WIDTH, Camera, Light, Shine

SPLITS = ("train", "test")
# Limits that let a person and a 300-pixel detector recognize an object: shares of its silhouette, and pixels
MAX_OCCLUDED = 0.55
MIN_INSIDE = 0.5
MIN_WIDTH, MIN_HEIGHT = 25, 29
MAX_ASPECT = 3.0  # of the box's sides on the square that SSD warps a picture to, or their inverse
OCCLUDED = 0.05  # the VOC annotation guideline's limit
WHITE, YELLOW, CURB = (226, 226, 220), (232, 190, 60), (196, 194, 188)


@dataclasses.dataclass(frozen=True)
class RoadObject:
    """One annotated object.

    label: index into town.CLASSES.
    box_px: int (xmin, ymin, xmax, ymax), continuous edges of whole pixels.
    occluded: share of its silhouette that nearer things hide, 0 to 1.
    truncated: whether the image's edge cuts it.
    difficult: whether it is too small, too hidden or too truncated to be judged; only in drives.
    id: the same in all frames of a drive, from 1; 0 in single pictures.
    """

    label: int
    box_px: tuple
    occluded: float
    truncated: bool
    difficult: bool = False
    id: int = 0


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Weather and camera.

    time: a key of drawing.LIGHTS.
    blur: "", "motion" or "focus".
    blur_size: pixels.
    blur_angle: radians.
    gain: factor of brightness.
    noise: 1 = 8 gray levels.
    """

    time: str = "day"
    rain: bool = False
    blur: str = ""
    blur_size: float = 0.0
    blur_angle: float = 0.0
    gain: float = 1.0
    noise: float = 0.3

    @property
    def name(self):
        """What is most particular of them: rain, motion blur, focus blur, or the time."""
        return "rain" if self.rain else f"{self.blur} blur" if self.blur else self.time


@dataclasses.dataclass
class Scene:
    """All that one picture shows.

    things: list of Thing.
    backdrop: what is at infinity, as from `draw_backdrop`.
    hood: (r, g, b) of the camera's own car, or None if it does not show.
    z: how far the camera has driven, in meters, for what repeats along the road.
    """

    conditions: Conditions
    light: Light
    camera: Camera
    street: town.Street
    things: list
    backdrop: dict
    hood: tuple | None
    z: float = 0.0


# Each block of 20 pictures has exactly these, shuffled, so that the share of adverse conditions is fixed
_DECK = (
    [("day", False, "")] * 9
    + [("dusk", False, "")] * 3
    + [("fog", False, "")] * 2
    + [("night", False, ""), ("night", False, ""), ("rain", True, ""), ("rain", True, "")]
    + [("day", False, "motion"), ("day", False, "focus")]
)


def draw_conditions(seed, split, index):
    """The Conditions of a picture; each block of 20 pictures has those of a fixed deck."""
    order = np.random.default_rng([seed, SPLITS.index(split), index // len(_DECK), 1]).permutation(len(_DECK))
    time, rain, blur = _DECK[order[index % len(_DECK)]]
    rng = np.random.default_rng([seed, SPLITS.index(split), index, 2])
    if rain and rng.random() < 0.3:
        time = "night"
    size = rng.uniform(4, 7) if blur == "motion" else rng.uniform(1.0, 1.7)
    angle = rng.normal(0, 0.25)
    return Conditions(time, rain, blur, size, angle, rng.uniform(0.82, 1.18), rng.uniform(0.1, 0.6))


def draw_backdrop(rng, horizon):
    """What is at infinity: sun or moon, clouds, stars, hills, a skyline; a dict of positions in pixels."""
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
        color = {"day": (255, 246, 196), "dusk": (255, 206, 120), "night": (232, 232, 216)}[time]
        if time == "dusk":
            y = scene.camera.horizon - 26
        cv2.circle(image, (int(x * 16), int(y * 16)), 15 * 16, color, -1, cv2.LINE_AA, 4)
        drawing.add_halos(image, [(x, y, 60, Shine(*color))], 0.5, wet=False)
    if time != "fog":
        cloud = {"day": (248, 250, 252), "dusk": (214, 140, 130), "night": (34, 36, 62)}.get(time, (150, 158, 166))
        for x, y, size in backdrop["clouds"]:
            for dx, dy, part in ((-0.9, 0.15, 0.6), (0, -0.1, 0.9), (0.8, 0.05, 0.7), (1.5, 0.25, 0.4)):
                center = (int((x + dx * size) * 16), int((y + dy * size) * 16))
                axes = (int(size * part * 16), int(size * part * 9))
                cv2.ellipse(image, center, axes, 0, 0, 360, cloud, -1, cv2.LINE_AA, 4)
    _draw_horizon(image, scene)


def _draw_horizon(image, scene):
    light, horizon = scene.light, scene.camera.horizon
    for ridge, haze in zip(scene.backdrop["hills"], (0.62, 0.45), strict=True):
        color = light.tint((92, 122, 96), 0.9, haze)
        edge = np.concatenate([ridge, [(WIDTH + 10, horizon + 2), (-10, horizon + 2)]])
        cv2.fillPoly(image, [np.round(edge * 16).astype(np.int32)], color, cv2.LINE_AA, 4)
    if scene.street.town == "city":
        for x, height, width in scene.backdrop["towers"]:
            color = light.tint((120, 126, 142), 0.8, 0.5)
            cv2.rectangle(image, (int(x), int(horizon - height)), (int(x + width), int(horizon + 2)), color, -1)


def _markings(street, camera_z):
    """The white patches (x0, x1, z0, z1) of the ground: dashes, crosswalks and stop lines."""
    left, right = street.edges
    white = []
    for line in range(1, street.left + street.right + 1):
        x = left + line * town.LANE - 0.07
        if line != street.oncoming:
            white += [(x, x + 0.14, z, z + 3) for z in np.arange(-camera_z % 6.0 - 6.0, 70, 6.0)]
    for at, _ in street.crossings:
        z = at - camera_z
        white += [(x, x + 0.55, z, z + 2.6) for x in np.arange(left + 0.35, right - 0.5, 1.0)]
        white.append((left + street.oncoming * town.LANE, right, z - 1.1, z - 0.7))
    return white


def _draw_street(image, scene):
    street, place = scene.street, (image, scene.camera, scene.light)
    left, right = street.edges
    asphalt = tuple(c * (0.72 if scene.conditions.rain else 1.0) for c in street.asphalt)
    for x in (left - 2.6, right):
        drawing.draw_ribbon(*place, x, x + 2.6, street.sidewalk)
    drawing.draw_ribbon(*place, left, right, asphalt)
    for x in (left - 0.2, right):
        drawing.draw_ribbon(*place, x, x + 0.2, CURB)
    for x in (left + 0.18, right - 0.3):
        drawing.draw_ribbon(*place, x, x + 0.12, WHITE)
    middle = left + street.oncoming * town.LANE
    for x in (middle - 0.18, middle + 0.06):
        drawing.draw_ribbon(*place, x, x + 0.12, YELLOW)
    side_streets = [(-70, 70, z - scene.z + 3.2, z - scene.z + 11.2) for z, crosses in street.crossings if crosses]
    drawing.draw_patches(*place, side_streets, asphalt)
    drawing.draw_patches(*place, _markings(street, scene.z), WHITE)


_HOOD = np.array(
    [(0, 360), (0, 347), (70, 339), (160, 333), (240, 331), (320, 333), (410, 339), (480, 347), (480, 360)]
)


def render(scene, accept, rng):
    """Draw a scene -> (image uint8 RGB [H,W,3], Sights, nearest first).

    accept: as in drawing.sightings.
    rng: for noise and rain.
    """
    camera, light, conditions = scene.camera, scene.light, scene.conditions
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    drawing.draw_sky(image, camera, light)
    _draw_backdrop(image, scene)
    drawing.draw_ground(image, camera, light, scene.street.grass)
    if camera.detail > 1:  # what is far away or all of one color shows no more of it
        image = cv2.resize(image, camera.size)
    _draw_street(image, scene)
    cover, hood = np.zeros(camera.size[::-1], np.uint8), _HOOD * camera.detail
    if scene.hood:
        cv2.fillConvexPoly(cover, hood, 1)
    sights = drawing.sightings(camera, scene.things, accept, cover)
    halos = [halo for sight in reversed(sights) for halo in drawing.paint(image, sight, light)]
    if conditions.time == "night":
        image = drawing.add_headlights(image)
    if light.glow:
        drawing.add_halos(image, halos, light.glow, conditions.rain)
    if conditions.rain:
        image = drawing.add_rain(image, rng)
    if scene.hood:
        cv2.fillConvexPoly(image, hood, light.tint(scene.hood, 0.8, 0.05), cv2.LINE_AA)
    if conditions.blur == "motion":
        image = drawing.motion_blur(image, int(conditions.blur_size * camera.detail) | 1, conditions.blur_angle)
    elif conditions.blur == "focus":
        image = cv2.GaussianBlur(image, (0, 0), conditions.blur_size * camera.detail)
    return drawing.expose(image, conditions.gain, conditions.noise, rng), sights


def fair(sight):
    """Whether the object of a Sight can be judged: it is large enough, not too hidden and not too truncated."""
    fx0, fy0, fx1, fy1 = sight.full_box
    x0, y0, x1, y1 = sight.box
    if (x1 - x0) * (y1 - y0) < MIN_INSIDE * (fx1 - fx0) * (fy1 - fy0) or sight.occluded > MAX_OCCLUDED:
        return False
    x0, y0, x1, y1 = sight.visible_box
    width, height = (x1 - x0) / sight.camera.detail, (y1 - y0) / sight.camera.detail
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return False
    return 1 / MAX_ASPECT <= width / height * HEIGHT / WIDTH <= MAX_ASPECT


def road_object(sight):
    """The RoadObject of a Sight that has a label."""
    (x0, y0, x1, y1), (width, height) = sight.full_box, sight.camera.size
    truncated = x0 < -0.5 or y0 < -0.5 or x1 > width + 0.5 or y1 > height + 0.5
    return RoadObject(sight.thing.label, sight.visible_box, sight.occluded, truncated, not fair(sight), sight.thing.id)


def make_scene(seed, index, split):
    """(Scene, generator of its noise) of one picture; arguments as of `generate_scene`."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    conditions = draw_conditions(seed, split, index)
    light = drawing.LIGHTS[conditions.time]
    lit = light.glow > 0
    camera = Camera(
        focal=rng.uniform(415, 450),
        height=rng.uniform(1.3, 1.6),
        horizon=rng.uniform(150, 180),
        center=WIDTH / 2 + rng.uniform(-15, 15),
        bend=rng.normal(0, 0.0012),
    )
    street = town.draw_street(rng)
    things = town.actors(rng, street, lit) + town.scenery(rng, street, lit)
    hood = town.pick(rng, town.CAR_PAINTS) if rng.random() < 0.5 else None
    backdrop = draw_backdrop(rng, camera.horizon)
    return Scene(conditions, light, camera, street, things, backdrop, hood, rng.uniform(0, 6)), rng


def generate_scene(seed, index, split):
    """Draw picture `index` of a split ("train" or "test").

    Returns (image uint8 RGB [HEIGHT,WIDTH,3], list of RoadObject, nearest first), which depend on the arguments only.
    """
    scene, rng = make_scene(seed, index, split)
    image, sights = render(scene, lambda sight: sight.thing.label is None or fair(sight), rng)
    return image, [road_object(sight) for sight in sights if sight.thing.label is not None]
