"""The toy road as a camera sees it: perspective, painter's order, visible masks, light and weather.

World coordinates are meters: x to the right of the camera, y up from the ground, z forward from the camera. A `Thing`
is a mesh (polygons with named color slots, see toy_road/models.py) with a place and a palette. `sightings` finds, front
to back, the visible pixels of each thing; `paint` draws them, back to front.
"""

import dataclasses
import functools
import itertools
import math
from typing import NamedTuple

import cv2
import numpy as np

WIDTH, HEIGHT = 480, 360
NEAR = 0.8  # meters: everything nearer is cut off
SHIFT = 4  # fractional bits of polygon corners
# Meters: on the ground, haze changes at these distances
BANDS = (2.2, 3.2, 4.5, 6.5, 9.0, 12.5, 18.0, 26.0, 40.0, 70.0, 260.0)


class Shine(NamedTuple):
    """The color of a lamp, which does not depend on daylight.

    red, green, blue: 0 to 255.
    reach: radius of its halo in meters.
    """

    red: int
    green: int
    blue: int
    reach: float = 0.0


@dataclasses.dataclass(frozen=True)
class Camera:
    """A level pinhole camera.

    focal: focal length in pixels of a picture of WIDTH x HEIGHT.
    height: meters above the ground.
    horizon: y of the horizon in such pixels.
    center: x of the optical axis in such pixels.
    bend: the road's curvature in 1/m.
    detail: how many pixels of this camera's picture are as wide as one of those; a whole number.
    """

    focal: float = 430.0
    height: float = 1.4
    horizon: float = 165.0
    center: float = WIDTH / 2
    bend: float = 0.0
    detail: int = 1

    @property
    def size(self):
        """(width, height) of the picture in pixels."""
        return WIDTH * self.detail, HEIGHT * self.detail

    @property
    def nearest(self):
        """Meters from where on ground is drawn: a little before what the lowest row shows, but at most 2."""
        return min(2.0, 0.9 * self.focal * self.height / (HEIGHT - self.horizon))

    def project(self, points):
        """[N,3] meters -> [N,2] pixels (continuous: the first pixel covers 0 to 1). Every z must be positive."""
        x, y, z = points[:, 0], points[:, 1], points[:, 2]
        scale = self.focal / z
        bent = x + self.bend / 2 * z * z
        return np.stack([self.center + bent * scale, self.horizon + (self.height - y) * scale], axis=1) * self.detail


@dataclasses.dataclass(frozen=True)
class Light:
    """The light at a time of day.

    ambient: factor of each channel for lit surfaces, 0 to 1.
    sky_top, sky_low: colors (r, g, b) of the sky, at the top of the image and at the horizon.
    haze: the color (r, g, b) that everything takes on with distance.
    haze_depth: meters at which haze has replaced two thirds of a color.
    glow: strength of halos, 0 to 1.
    """

    ambient: tuple
    sky_top: tuple
    sky_low: tuple
    haze: tuple
    haze_depth: float = 220.0
    glow: float = 0.0

    def haze_at(self, z):
        """The share of a color that haze has replaced at depth z, 0 to 1."""
        return 1 - math.exp(-max(z, 0.0) / self.haze_depth)

    def tint(self, color, shade, haze):
        """The (r, g, b) that the camera records for a surface color or a Shine.

        shade: factor of brightness of the surface.
        haze: as from `haze_at`.
        """
        red, green, blue = color[:3]
        if isinstance(color, Shine):
            dim = 1 - haze / 2
            return red * dim, green * dim, blue * dim
        keep = shade * (1 - haze)
        (ra, ga, ba), (rh, gh, bh) = self.ambient, self.haze
        red, green, blue = red * ra * keep + rh * haze, green * ga * keep + gh * haze, blue * ba * keep + bh * haze
        return min(red, 255.0), min(green, 255.0), min(blue, 255.0)


LIGHTS = {
    "day": Light((1.0, 1.0, 1.0), (84, 146, 222), (206, 228, 246), (204, 222, 236)),
    "dusk": Light((0.86, 0.66, 0.58), (72, 62, 128), (252, 164, 92), (226, 156, 112), glow=0.6),
    "night": Light((0.36, 0.38, 0.50), (8, 10, 34), (38, 42, 78), (30, 34, 62), glow=1.0),
    "rain": Light((0.72, 0.75, 0.79), (124, 134, 146), (176, 184, 190), (166, 174, 182), 90.0, glow=0.5),
    "fog": Light((0.88, 0.89, 0.90), (188, 194, 198), (206, 210, 212), (206, 210, 212), 38.0, glow=0.4),
}


@dataclasses.dataclass(eq=False)
class Thing:
    """One thing in the world.

    mesh: a models.Mesh.
    x, z, y: meters.
    yaw: radians; 0 faces away from the camera, positive turns to the right.
    scale: factor of its size.
    mirror: whether left and right are swapped.
    palette: {slot: (r, g, b) or Shine}.
    label: class index, or None for scenery.
    id: the same in all frames of a drive, from 1; 0 in single pictures.
    """

    mesh: object
    x: float
    z: float
    y: float = 0.0
    yaw: float = 0.0
    scale: float = 1.0
    mirror: bool = False
    palette: dict = dataclasses.field(default_factory=dict)
    label: int | None = None
    id: int = 0

    def corners(self):
        """The mesh's vertices in the world, float64 [V,3]."""
        points = self.mesh.vertices * self.scale
        if self.mirror:
            points = points * (-1, 1, 1)
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        x, y, z = points.T
        return np.stack([x * c + z * s + self.x, y + self.y, z * c - x * s + self.z], axis=1)

    def footprint(self):
        """(xmin, xmax, zmin, zmax) on the ground, at least 0.1 m deep."""
        (x, _, z), (width, _, length) = self.mesh.middle * self.scale, self.mesh.half * self.scale
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        if self.mirror:
            x = -x
        x, z = self.x + x * c + z * s, self.z + z * c - x * s
        w, d = width * abs(c) + length * abs(s), max(0.05, length * abs(c) + width * abs(s))
        return x - w, x + w, z - d, z + d


@dataclasses.dataclass(eq=False)
class Sight:
    """A thing in the picture.

    camera: that sees it.
    polygons: (corners int32 [K,2] in 1/2**SHIFT pixels, slot, shade, outline), back to front.
    full_box: (x0, y0, x1, y1) of the silhouette in pixels, before the image's edges cut it.
    box: the same within the image, whole pixels.
    mask: uint8 [y1-y0,x1-x0], the silhouette within box, 0 or 1.
    visible: the part of mask that nothing nearer hides.
    """

    thing: Thing
    camera: Camera
    polygons: list
    full_box: tuple
    box: tuple
    mask: np.ndarray
    visible: np.ndarray

    @property
    def occluded(self):
        """The share of the silhouette within the image that nearer things hide, 0 to 1."""
        return 1 - cv2.countNonZero(self.visible) / cv2.countNonZero(self.mask)

    @property
    def visible_box(self):
        """(x0, y0, x1, y1) around the visible pixels, whole pixels with x1 and y1 exclusive.

        Slivers less than three pixels thick that show between nearer things do not widen it: nobody sees them.
        """
        core = cv2.dilate(cv2.erode(self.visible, np.ones((3, 3), np.uint8)), np.ones((5, 5), np.uint8))
        solid = cv2.bitwise_and(core, self.visible)
        x, y, w, h = cv2.boundingRect(solid if cv2.countNonZero(solid) else self.visible)
        x, y = x + self.box[0], y + self.box[1]
        return x, y, x + w, y + h


def _clipped(points):
    """The part of a polygon [K,3] that lies at z >= NEAR; it may be empty."""
    kept = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[2] >= NEAR:
            kept.append(a)
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
    return np.array(kept).reshape(-1, 3)


def _fixed(camera, pixels):
    """Continuous pixels -> OpenCV's fixed point, in which whole numbers are centers of pixels."""
    limit = 4000 * camera.detail
    return np.round((np.clip(pixels, -limit, limit) - 0.5) * 2**SHIFT).astype(np.int32)


def _facing(mesh, pixels):
    """bool [P]: which polygons show their outside, from the pixels of their corners [V,2]."""
    if mesh.two_sided:
        return np.ones(len(mesh.starts), bool)
    a, b, c = (pixels[mesh.starts + corner] for corner in range(3))
    u, v = b - a, c - b
    return u[:, 0] * v[:, 1] < u[:, 1] * v[:, 0]


def _project_clipped(camera, mesh, points):
    """(polygons as in Sight, their pixels [N,2]) of a thing that reaches behind the near plane."""
    polygons, pixels = [], [np.zeros((0, 2))]
    for a, b, slot, shade, outline in zip(mesh.starts, mesh.stops, mesh.slots, mesh.shades, mesh.outlines, strict=True):
        piece = _clipped(points[a:b])
        if len(piece) < 3:
            continue
        piece = camera.project(piece)
        (ux, uy), (vx, vy) = piece[1] - piece[0], piece[2] - piece[1]
        if mesh.two_sided or ux * vy < uy * vx:
            polygons.append((_fixed(camera, piece), slot, shade, outline))
            pixels.append(piece if outline else piece[:0])
    return polygons, np.concatenate(pixels)


def _project_whole(camera, mesh, points):
    """The same for a thing that is entirely in front of the near plane."""
    pixels = camera.project(points)
    fixed = _fixed(camera, pixels)
    polygons = [
        (fixed[mesh.starts[i] : mesh.stops[i]], mesh.slots[i], mesh.shades[i], mesh.outlines[i])
        for i in np.flatnonzero(_facing(mesh, pixels))
    ]
    return polygons, pixels[mesh.outline_vertices]


def see(camera, thing):
    """Project a thing -> a Sight, still visible in full, or None if it is outside the picture."""
    points = thing.corners()
    project = _project_whole if points[:, 2].min() >= NEAR else _project_clipped
    polygons, outline = project(camera, thing.mesh, points)
    if not len(outline):
        return None
    full_box = (*outline.min(axis=0).tolist(), *outline.max(axis=0).tolist())
    x0, y0 = max(0, int(full_box[0]) - 1), max(0, int(full_box[1]) - 1)
    width, height = camera.size
    x1, y1 = min(width, int(full_box[2]) + 2), min(height, int(full_box[3]) + 2)
    if x1 <= x0 or y1 <= y0:
        return None
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    offset = np.array([x0, y0], np.int32) << SHIFT
    for corners, _, _, is_outline in polygons:
        if is_outline:
            cv2.fillConvexPoly(mask, corners - offset, 1, cv2.LINE_8, SHIFT)
    if not cv2.countNonZero(mask):
        return None
    return Sight(thing, camera, polygons, full_box, (x0, y0, x1, y1), mask, mask)


def front_to_back(things):
    """Things in an order in which none can hide an earlier one.

    Two footprints that do not overlap are separated by a plane across or along the road, and the one on the camera's
    side of it cannot be hidden by the other. Overlapping ones are ordered by depth.
    """
    if not things:
        return []
    footprints = np.array([thing.footprint() for thing in things])
    by_depth = np.argsort(footprints[:, 2], kind="stable")
    things = [things[i] for i in by_depth]
    x0, x1, z0, z1 = footprints[by_depth].T
    nearer = z1[:, None] <= z0[None, :]
    inner_right = (x1[:, None] <= x0[None, :]) & (x0[None, :] > 0)
    inner_left = (x0[:, None] >= x1[None, :]) & (x1[None, :] < 0)
    before = nearer | inner_right | inner_left
    blocked = before.T & ~before
    order, left = [], np.ones(len(things), bool)
    for _ in things:
        free = left & ~(blocked & left[None, :]).any(axis=1)
        pick = int(np.argmax(free if free.any() else left))
        order.append(things[pick])
        left[pick] = False
    return order


def sightings(camera, things, accept, cover=None):
    """Sights of the things that are drawn, nearest first, each with its visible mask.

    accept: function Sight -> bool, called when its visible part is known: whether the thing is drawn.
    cover: uint8 [H,W], 1 where the camera's own car hides the world.
    """
    taken = np.zeros(camera.size[::-1], np.uint8) if cover is None else cover.copy()
    kept = []
    for thing in front_to_back(things):
        sight = see(camera, thing)
        if sight is None:
            continue
        x0, y0, x1, y1 = sight.box
        behind = taken[y0:y1, x0:x1]
        sight.visible = cv2.subtract(sight.mask, behind)
        if not accept(sight):
            continue
        cv2.bitwise_or(behind, sight.mask, dst=behind)
        kept.append(sight)
    return kept


def paint(image, sight, light):
    """Draw a sight into the image -> its halos [(x, y, radius in pixels, Shine)]."""
    thing = sight.thing
    haze, detail = light.haze_at(thing.z), sight.camera.detail
    colors, halos = {}, []
    for corners, slot, shade, _ in sight.polygons:
        key = slot, shade
        if key not in colors:
            colors[key] = light.tint(thing.palette[slot], shade, haze)
        cv2.fillConvexPoly(image, corners, colors[key], cv2.LINE_AA, SHIFT)
        color = thing.palette[slot]
        if light.glow and isinstance(color, Shine) and color.reach:
            x, y = corners.mean(axis=0) / 2**SHIFT
            column, row = int(x) - sight.box[0], int(y) - sight.box[1]
            height, width = sight.visible.shape
            if 0 <= row < height and 0 <= column < width and sight.visible[row, column]:
                halos.append((x, y, color.reach * Camera.focal * detail / max(thing.z, 2.0), color))
    return halos


@functools.cache
def _fading_disc(size):
    """float32 [size,size,1], 1 in the center, falling to 0 at the rim."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    distance = np.sqrt(axis[:, None] ** 2 + axis**2)
    return (np.clip(1 - distance, 0, 1) ** 2).astype(np.float32)[:, :, None]


@functools.lru_cache(maxsize=2048)
def _halo(size, color):
    return (_fading_disc(size) * np.array(color, np.float32)).astype(np.uint8)


def _add_patch(image, patch, x, y):
    """Add a uint8 patch to the image with its upper left corner at (x, y), cut at the image's edges."""
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(image.shape[1], x + patch.shape[1]), min(image.shape[0], y + patch.shape[0])
    if x1 > x0 and y1 > y0:
        target = image[y0:y1, x0:x1]
        cv2.add(target, patch[y0 - y : y1 - y, x0 - x : x1 - x], dst=target)


def _detail(image):
    """That of the camera which an image is of."""
    return len(image) // HEIGHT


def add_halos(image, halos, strength, wet):
    """Add halos [(x, y, radius, Shine)]; on a wet road each is also reflected downward."""
    detail = _detail(image)
    for x, y, radius, color in halos:
        size = max(6 * detail, min(160 * detail, int(radius * 2))) // 2 * 2
        dimmed = tuple(round(c * strength * 0.55) for c in color[:3])
        _add_patch(image, _halo(size, dimmed), int(x) - size // 2, int(y) - size // 2)
        if wet:
            smear = _halo(size, tuple(round(c * strength * 0.3) for c in color[:3]))
            smear = cv2.resize(smear, (size // 2, size * 3))
            _add_patch(image, smear, int(x) - size // 4, int(y) + size // 3)


def draw_patches(image, camera, light, patches, color):
    """Draw rectangles of the ground, float [N,4] (x0, x1, z0, z1), in meters; what is too near is cut off."""
    x0, x1, z0, z1 = np.asarray(patches, np.float64).reshape(-1, 4).T
    z0, z1 = np.maximum(z0, camera.nearest), np.maximum(z1, camera.nearest)
    level = np.zeros_like(x0)
    corners = np.array([(x0, level, z0), (x1, level, z0), (x1, level, z1), (x0, level, z1)])  # [4,3,N]
    fixed = _fixed(camera, camera.project(corners.transpose(2, 0, 1).reshape(-1, 3))).reshape(-1, 4, 2)
    for corners, near, far in zip(fixed, z0.tolist(), z1.tolist(), strict=True):
        if near < far:
            shade = light.tint(color, 1.0, light.haze_at(near * 0.6 + far * 0.4))
            cv2.fillConvexPoly(image, corners, shade, cv2.LINE_AA, SHIFT)


def draw_ribbon(image, camera, light, x0, x1, color):
    """Draw a strip of ground between x0 and x1 from the camera to the horizon."""
    patches = [(x0, x1, z0, z1) for z0, z1 in itertools.pairwise((camera.nearest, *BANDS))]
    draw_patches(image, camera, light, patches, color)


def _fill_rows(image, colors):
    """Fill each row of the image with one of the colors [rows,3]."""
    cv2.resize(colors.astype(np.uint8)[:, None], (image.shape[1], image.shape[0]), image, 0, 0, cv2.INTER_NEAREST)


def draw_sky(image, camera, light):
    """Fill the rows above the horizon with the sky's gradient."""
    rows = int(np.ceil(camera.horizon)) + 1
    mix = np.linspace(0, 1, rows)[:, None] ** 1.4
    column = np.array(light.sky_top) * (1 - mix) + np.array(light.sky_low) * mix
    _fill_rows(image[:rows], column)


def draw_ground(image, camera, light, color):
    """Fill the rows below the horizon with a color that haze replaces with distance.

    image: of WIDTH x HEIGHT pixels.
    """
    rows = np.arange(int(np.ceil(camera.horizon)), HEIGHT)
    depth = camera.focal * camera.height / (rows - camera.horizon + 0.5)
    haze = 1 - np.exp(-depth / light.haze_depth)[:, None]
    column = np.array(color) * light.ambient * (1 - haze) + np.array(light.haze) * haze
    _fill_rows(image[rows[0] :], column)


@functools.cache
def _headlight_cone(detail):
    """float32 [H,W,3]: the factor by which the camera's own headlights brighten each pixel."""
    y, x = np.mgrid[: HEIGHT * detail, : WIDTH * detail].astype(np.float32) / np.float32(detail)
    reach = np.exp(-(((x - WIDTH / 2) / 190) ** 2) - ((y - 225) / 75) ** 2)
    return (1 + 1.15 * reach)[:, :, None].repeat(3, axis=2)


def add_headlights(image):
    """Brighten what the headlights of the camera's own car light at night."""
    return cv2.multiply(image, _headlight_cone(_detail(image)), dtype=cv2.CV_8U)


@functools.cache
def _noise_tiles(detail):
    """Two uint8 tiles larger than a frame: the positive and the negative part of Gaussian noise of 8 gray levels."""
    noise = np.random.default_rng(0).normal(0, 8, (HEIGHT * detail + 64, WIDTH * detail + 64, 3))
    return np.clip(noise, 0, 255).astype(np.uint8), np.clip(-noise, 0, 255).astype(np.uint8)


@functools.cache
def _rain_tile(slant, detail):
    """uint8, larger than a frame, of falling streaks, slanted by `slant` pixels times `detail`."""
    rng = np.random.default_rng(100 + slant)
    tile = np.zeros((HEIGHT + 64, WIDTH + 64), np.uint8)
    for _ in range(420):
        x, y, length = rng.uniform(0, WIDTH + 64), rng.uniform(-20, HEIGHT + 64), rng.uniform(8, 26)
        end = (int((x + slant * length / 20) * 16), int((y + length) * 16))
        cv2.line(tile, (int(x * 16), int(y * 16)), end, rng.uniform(30, 90), 1, cv2.LINE_AA, 4)
    return cv2.resize(cv2.merge([tile] * 3), None, fx=detail, fy=detail)


def _window(tile, image, rng):
    """A part of a tile, as large as the image."""
    y, x = rng.integers(0, 64, 2)
    return tile[y : y + image.shape[0], x : x + image.shape[1]]


def add_rain(image, rng):
    """Add falling rain."""
    slant = int(rng.integers(-2, 3)) * 4
    return cv2.add(image, _window(_rain_tile(slant, _detail(image)), image, rng))


def motion_blur(image, length, angle):
    """Blur along a line of `length` pixels (odd) at an angle in radians."""
    kernel = np.zeros((length, length), np.float32)
    half = length // 2
    dx, dy = np.cos(angle) * half, np.sin(angle) * half
    ends = [(round((half - dx) * 16), round((half - dy) * 16)), (round((half + dx) * 16), round((half + dy) * 16))]
    cv2.line(kernel, *ends, 1.0, 1, cv2.LINE_8, 4)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def expose(image, gain, noise, rng):
    """Scale brightness by gain and add sensor noise (0 = none, 1 = 8 gray levels)."""
    image = cv2.convertScaleAbs(image, alpha=gain)
    if noise <= 0:
        return image
    more, less = (_window(tile, image, rng) for tile in _noise_tiles(_detail(image)))
    return cv2.subtract(cv2.addWeighted(image, 1, more, noise, 0), cv2.convertScaleAbs(less, alpha=noise))
