"""The meshes of the toy road: cars, buses, pedestrians, lights, houses and trees of flat polygons.

Meters; x to the right, y up, z forward, the origin on the ground below the middle of the thing; a vehicle's nose
points to +z. A model is built once and cached: a scene gives it a place, a heading and a palette, which maps the
slot names used here to colors.
"""

import functools

import numpy as np

SHADES = {"rear": 0.95, "front": 0.95, "left": 0.72, "right": 0.82, "top": 1.12}

# Length, half width, sill, waistline, roof, and where the cabin starts and ends at the waistline and at the roof.
CARS = {
    "sedan": (4.4, 0.92, 0.28, 0.94, 1.50, (-1.75, 1.15), (-1.15, 0.35)),
    "hatchback": (3.9, 0.90, 0.28, 0.96, 1.56, (-1.90, 1.05), (-1.60, 0.35)),
    "offroad": (4.5, 1.00, 0.38, 1.10, 1.85, (-2.20, 1.15), (-2.00, 0.65)),
    "van": (4.7, 1.00, 0.32, 1.12, 2.02, (-2.33, 1.75), (-2.28, 1.05)),
}
WALKING_PHASES = 8


class Mesh:
    """Convex polygons in painter's order.

    two_sided: whether it is visible from behind too.
    vertices: float64 [V,3].
    starts, stops: int [P], each polygon's slice of the vertices, counterclockwise as seen from outside.
    slots: [P], the name of each polygon's color.
    shades: [P], its brightness.
    outlines: [P], whether it belongs to the silhouette; details inside a face and shadows do not.
    outline_vertices: the indices of the silhouette's vertices.
    middle, half: [3], center and half the size of the bounding box of the silhouette's vertices.
    """

    def __init__(self, two_sided=False):
        self.two_sided = two_sided
        self.slots, self.shades, self.outlines = [], [], []
        self._points, self._sizes = [], []

    def add(self, points, slot, shade=1.0, outline=True):
        """Add a convex polygon of (x, y, z) points."""
        self._points.extend(points)
        self._sizes.append(len(points))
        self.slots.append(slot)
        self.shades.append(shade)
        self.outlines.append(outline)

    def inlay(self, corners, slot, u0, v0, u1, v1, shade=1.0):
        """Add a rectangle on a four-cornered face, from (u0, v0) to (u1, v1) in fractions of its sides."""
        (ax, ay, az), (bx, by, bz), (cx, cy, cz), (dx, dy, dz) = corners
        points = []
        for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1)):
            a, b, c, d = (1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v
            x, y = ax * a + bx * b + cx * c + dx * d, ay * a + by * b + cy * c + dy * d
            points.append((x, y, az * a + bz * b + cz * c + dz * d))
        self.add(points, slot, shade, outline=False)

    def flat_disc(self, x, y, radius, slot, shade=1.0, outline=True, arc=(0, 360), corners=12):
        """Add a disc (or a segment of one) that faces the camera, at z = 0."""
        angles = np.radians(np.linspace(*arc, corners, endpoint=arc != (0, 360)))
        self.add([(x + radius * np.cos(a), y + radius * np.sin(a), 0.0) for a in angles], slot, shade, outline)

    def flat_box(self, x0, y0, x1, y1, slot, shade=1.0, outline=True):
        """Add a rectangle that faces the camera, at z = 0."""
        self.add([(x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0)], slot, shade, outline)

    def limb(self, start, end, width, slot, shade=1.0):
        """Add a bar of a width between two (x, y) points, facing the camera, at z = 0."""
        (ax, ay), (bx, by) = start, end
        length = np.hypot(bx - ax, by - ay)
        nx, ny = (by - ay) / length * width / 2, (ax - bx) / length * width / 2
        corners = ((ax - nx, ay - ny), (ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny))
        self.add([(x, y, 0.0) for x, y in corners], slot, shade)

    def frozen(self):
        """Convert the lists to arrays and return the mesh; nothing may be added afterward."""
        self.vertices = np.array(self._points, np.float64)
        self.stops = np.cumsum(self._sizes)
        self.starts = self.stops - self._sizes
        self.outline_vertices = np.flatnonzero(np.repeat(self.outlines, self._sizes))
        solid = self.vertices[self.outline_vertices]
        low, high = solid.min(axis=0), solid.max(axis=0)
        self.middle, self.half = (low + high) / 2, (high - low) / 2
        return self


def _faces(bottom, top):
    """Five faces of a solid between two level rectangles, each (half width, z rear, z front, y)."""
    (w0, r0, f0, y0), (w1, r1, f1, y1) = bottom, top
    return {
        "front": [(w0, y0, f0), (-w0, y0, f0), (-w1, y1, f1), (w1, y1, f1)],
        "rear": [(-w0, y0, r0), (w0, y0, r0), (w1, y1, r1), (-w1, y1, r1)],
        "right": [(w0, y0, r0), (w0, y0, f0), (w1, y1, f1), (w1, y1, r1)],
        "left": [(-w0, y0, f0), (-w0, y0, r0), (-w1, y1, r1), (-w1, y1, f1)],
        "top": [(-w1, y1, r1), (w1, y1, r1), (w1, y1, f1), (-w1, y1, f1)],
    }


def _add_faces(mesh, faces, slot):
    for name, corners in faces.items():
        mesh.add(corners, slot, SHADES[name])


def _add_shadow(mesh, half_width, half_length):
    w, h = half_width + 0.12, half_length + 0.15
    corners = [(-w, 0.01, h / 2 - h), (-w / 2, 0.01, -h), (w / 2, 0.01, -h), (w, 0.01, -h / 2)]
    corners += [(w, 0.01, h / 2), (w / 2, 0.01, h), (-w / 2, 0.01, h), (-w, 0.01, h / 2)]
    mesh.add(corners, "shadow", outline=False)


def _add_tires(mesh, half_width, half_length):
    """Tires and the dark underside as seen from behind and from the front."""
    for z, side in ((-half_length + 0.3, 1), (half_length - 0.3, -1)):
        for x in (-half_width + 0.05, half_width - 0.3):
            ends = [(x, z), (x + 0.25, z)][::side]
            (xa, _), (xb, _) = ends
            mesh.add([(xa, 0, z), (xb, 0, z), (xb, 0.5, z), (xa, 0.5, z)], "tire")
        w = side * (half_width - 0.1)
        mesh.add([(-w, 0.16, z), (w, 0.16, z), (w, 0.5, z), (-w, 0.5, z)], "tire", 0.8)


def _add_wheels(mesh, half_width, places, radius):
    for side in (-1, 1):
        x = side * (half_width + 0.02)
        for z in places:
            for r, slot in ((radius, "tire"), (radius * 0.55, "hub")):
                angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
                circle = [(x, radius + r * np.sin(a), z + side * r * np.cos(a)) for a in angles]
                mesh.add(circle, slot, outline=slot == "tire")


@functools.cache
def car(kind):
    """A car of one of the kinds in CARS. Slots: paint, glass, tire, hub, head, tail, plate, trim, shadow."""
    length, w, sill, waist, roof, (rear0, front0), (rear1, front1) = CARS[kind]
    mesh, h = Mesh(), length / 2
    body = _faces((w, -h, h, sill), (w - 0.04, -h + 0.05, h - 0.12, waist))
    cabin = _faces((w - 0.06, rear0, front0, waist), (w - 0.2, rear1, front1, roof))
    _add_shadow(mesh, w, h)
    _add_tires(mesh, w, h)
    _add_faces(mesh, body, "paint")
    mesh.inlay(body["rear"], "trim", 0, 0, 1, 0.24)
    mesh.inlay(body["rear"], "plate", 0.36, 0.34, 0.64, 0.56)
    mesh.inlay(body["front"], "trim", 0, 0, 1, 0.2)
    mesh.inlay(body["front"], "trim", 0.27, 0.4, 0.73, 0.72)
    mesh.inlay(body["front"], "plate", 0.39, 0.1, 0.61, 0.3)
    for u in (0.03, 0.78):
        mesh.inlay(body["rear"], "tail", u, 0.56, u + 0.19, 0.86)
        mesh.inlay(body["front"], "head", u, 0.46, u + 0.19, 0.8)
    for side in ("left", "right"):
        mesh.inlay(body[side], "trim", 0, 0, 1, 0.14)
        for u in (0.34, 0.54, 0.74):
            mesh.inlay(body[side], "paint", u, 0.15, u + 0.008, 0.97, 0.5)
    _add_wheels(mesh, w, (-length * 0.31, length * 0.31), 0.36)
    _add_faces(mesh, cabin, "paint")
    mesh.inlay(cabin["rear"], "glass", 0.1, 0.16, 0.9, 0.86)
    mesh.inlay(cabin["front"], "glass", 0.06, 0.1, 0.94, 0.88)
    for side in ("left", "right"):
        mesh.inlay(cabin[side], "glass", 0.09, 0.12, 0.47, 0.84)
        mesh.inlay(cabin[side], "glass", 0.52, 0.12, 0.91, 0.84)
    return mesh.frozen()


@functools.cache
def bus():
    """A city bus. Slots: those of `car`, stripe, and sign, the lit destination."""
    mesh, w, h = Mesh(), 1.28, 4.3
    body = _faces((w, -h, h, 0.34), (w - 0.03, -h + 0.03, h - 0.1, 3.1))
    _add_shadow(mesh, w, h)
    _add_tires(mesh, w, h)
    _add_faces(mesh, body, "paint")
    for name in ("rear", "front", "left", "right"):
        mesh.inlay(body[name], "stripe", 0, 0.26, 1, 0.37, SHADES[name])
        mesh.inlay(body[name], "trim", 0, 0, 1, 0.06)
    mesh.inlay(body["rear"], "glass", 0.12, 0.55, 0.88, 0.84)
    mesh.inlay(body["rear"], "trim", 0.25, 0.1, 0.75, 0.22)
    mesh.inlay(body["rear"], "plate", 0.42, 0.4, 0.58, 0.46)
    mesh.inlay(body["front"], "glass", 0.05, 0.4, 0.95, 0.82)
    mesh.inlay(body["front"], "trim", 0.495, 0.4, 0.505, 0.82)
    mesh.inlay(body["front"], "sign", 0.2, 0.86, 0.8, 0.96)
    mesh.inlay(body["front"], "plate", 0.42, 0.08, 0.58, 0.14)
    for u in (0.04, 0.84):
        mesh.inlay(body["rear"], "tail", u, 0.1, u + 0.12, 0.24)
        mesh.inlay(body["front"], "head", u, 0.1, u + 0.12, 0.21)
    for name in ("left", "right"):
        for u in np.arange(6) * 0.155 + 0.04:
            mesh.inlay(body[name], "glass", u, 0.48, u + 0.125, 0.84)
    for u in (0.5, 0.9):
        mesh.inlay(body["right"], "glass", u - 0.045, 0.08, u + 0.045, 0.84, 0.8)
    _add_wheels(mesh, w, (-2.7, 2.7), 0.48)
    return mesh.frozen()


@functools.cache
def walker(phase):
    """A pedestrian from the side, walking to the right; phase: 0 to WALKING_PHASES - 1, within a double step.

    Slots: skin, hair, shirt, trousers, shoe, eye.
    """
    mesh = Mesh(two_sided=True)
    swing = np.sin((phase + 0.5) * 2 * np.pi / WALKING_PHASES)
    mesh.limb((0, 1.28), (0.42 * swing, 0.86), 0.13, "shirt", 0.7)
    for stride, shade in ((-swing, 0.75), (swing, 1.0)):
        foot = 0.4 * stride
        mesh.limb((0, 0.86), (foot, 0.1), 0.2, "trousers", shade)
        mesh.flat_box(foot - 0.09, 0, foot + 0.2, 0.12, "shoe", shade)
    torso = [(-0.2, 0.74), (0.2, 0.74), (0.25, 1.24), (0.15, 1.38), (-0.15, 1.38), (-0.25, 1.24)]
    mesh.add([(x, y, 0.0) for x, y in torso], "shirt", 0.92)
    mesh.flat_box(-0.06, 1.34, 0.08, 1.44, "skin", 0.85)
    mesh.flat_disc(0.03, 1.58, 0.18, "skin")
    mesh.flat_disc(-0.01, 1.6, 0.185, "hair", arc=(60, 235))
    mesh.flat_disc(0.13, 1.59, 0.025, "eye", outline=False, corners=6)
    hand = (-0.42 * swing, 0.86)
    mesh.limb((0, 1.3), hand, 0.14, "shirt")
    mesh.flat_disc(*hand, 0.075, "skin", corners=8)
    return mesh.frozen()


@functools.cache
def stander(phase, back):
    """A pedestrian who walks toward the camera, or away from it with `back`. phase and slots as of `walker`."""
    mesh = Mesh(two_sided=True)
    lift = np.sin((phase + 0.5) * 2 * np.pi / WALKING_PHASES)
    for side in (-1, 1):
        foot = max(0.0, side * lift) * 0.12
        mesh.limb((side * 0.11, 0.86), (side * 0.15, foot + 0.1), 0.2, "trousers", 1.0 if side > 0 else 0.85)
        mesh.flat_box(side * 0.15 - 0.11, foot, side * 0.15 + 0.11, foot + 0.12, "shoe")
        hand = (side * 0.37, 0.84 - side * lift * 0.1)
        mesh.limb((side * 0.25, 1.3), hand, 0.14, "shirt", 0.8)
        mesh.flat_disc(*hand, 0.075, "skin", corners=8)
    torso = [(-0.22, 0.74), (0.22, 0.74), (0.3, 1.28), (0.17, 1.4), (-0.17, 1.4), (-0.3, 1.28)]
    mesh.add([(x, y, 0.0) for x, y in torso], "shirt")
    mesh.flat_box(-0.07, 1.36, 0.07, 1.44, "skin", 0.85)
    mesh.flat_disc(0, 1.58, 0.18, "hair" if back else "skin")
    if not back:
        mesh.flat_disc(0, 1.6, 0.185, "hair", arc=(20, 160))
        for x in (-0.07, 0.07):
            mesh.flat_disc(x, 1.57, 0.025, "eye", outline=False, corners=6)
    return mesh.frozen()


@functools.cache
def light_head():
    """The three-lamp head of a traffic light, its lower edge at y = 0.

    Slots: board, rim, hood, and one for each lamp: red, amber, green.
    """
    mesh, w, height = Mesh(two_sided=True), 0.48, 1.84
    rim = [(-w, 0.1), (-w + 0.1, 0), (w - 0.1, 0), (w, 0.1)]
    rim += [(x, height - y) for x, y in rim[::-1]]
    mesh.add([(x, y, 0.0) for x, y in rim], "rim")
    mesh.flat_box(-w + 0.07, 0.07, w - 0.07, height - 0.07, "board", outline=False)
    for row, slot in enumerate(("green", "amber", "red")):
        y = 0.34 + row * 0.58
        mesh.flat_disc(0, y + 0.03, 0.28, "hood", outline=False, arc=(0, 180))
        mesh.flat_disc(0, y, 0.235, slot, outline=False)
    return mesh.frozen()


@functools.cache
def light_pole(height, arm):
    """The pole of a traffic light; its arm (meters, negative to the left) carries the head. Slot: pole."""
    mesh = Mesh(two_sided=True)
    mesh.flat_box(-0.09, 0, 0.09, height, "pole")
    mesh.flat_box(-0.16, 0, 0.16, 0.5, "pole", 0.8)
    if arm:
        mesh.limb((0, height - 0.1), (arm, height - 0.1), 0.14, "pole")
    return mesh.frozen()


@functools.cache
def street_lamp(side):
    """A street lamp whose arm reaches to one side (-1 left, 1 right). Slots: pole, lamp."""
    mesh = Mesh(two_sided=True)
    mesh.flat_box(-0.07, 0, 0.07, 5.4, "pole")
    mesh.limb((0, 5.35), (side * 1.4, 5.6), 0.1, "pole")
    mesh.flat_box(side * 1.4 - 0.3, 5.45, side * 1.4 + 0.3, 5.62, "lamp")
    return mesh.frozen()


@functools.cache
def tree(kind):
    """A tree: "round", "tall" or "fir". Slots: trunk, leaf."""
    mesh = Mesh(two_sided=True)
    mesh.limb((0, 0), (0.03, 2.4), 0.3, "trunk")
    if kind == "fir":
        for y, w, shade in ((0.9, 1.5, 0.7), (2.0, 1.2, 0.85), (3.1, 0.9, 1.0), (4.1, 0.55, 1.12)):
            mesh.add([(-w, y, 0.0), (w, y, 0.0), (0, y + 1.9, 0.0)], "leaf", shade)
        return mesh.frozen()
    stretch = 1.5 if kind == "tall" else 1.0
    crown = ((-0.6, 2.6, 0.95, 0.72), (0.65, 2.7, 0.95, 0.78), (0, 3.3, 1.2, 0.9), (-0.35, 3.7, 0.75, 1.05))
    for x, y, radius, shade in (*crown, (0.3, 3.5, 0.5, 1.15)):
        mesh.flat_disc(x, 2.2 + (y - 2.2) * stretch, radius, "leaf", shade)
    return mesh.frozen()


@functools.cache
def house(pattern, half_width, half_length, height, gabled):
    """A house whose stories are 2.6 m high; `pattern` (an integer) chooses which windows are lit.

    Slots: wall, roof, glass, lit, door, trim.
    """
    mesh, w, h = Mesh(), half_width, half_length
    walls = _faces((w, -h, h, 0), (w, -h, h, height))
    if gabled:
        ridge, eave = height + 1.9, height - 0.1
        mesh.add([(-w, height, -h), (w, height, -h), (0, ridge, -h)], "wall", 0.9)
        for s in (-1, 1):
            ends = [(s * (w + 0.3), eave, -s * (h + 0.3)), (s * (w + 0.3), eave, s * (h + 0.3))]
            mesh.add([*ends, (0, ridge, s * (h + 0.3)), (0, ridge, -s * (h + 0.3))], "roof", 0.85 + 0.1 * s)
    for name, corners in walls.items():
        mesh.add(corners, "wall" if name != "top" else "roof", SHADES[name])
    rows = max(1, int(height // 2.6))
    wide, long = max(2, int(w / 1.1)), max(2, int(h / 1.2))
    for name, columns in (("rear", wide), ("left", long), ("right", long)):
        for row in range(rows):
            for column in range(columns):
                pattern = pattern * 1103515245 + 12345 & 0x7FFFFFFF
                u, v = (column + 0.24) / columns, (row + 0.32) / rows
                door = row == 0 and column == columns // 2
                slot = "door" if door else "lit" if pattern >> 16 & 1 else "glass"
                low = 0.0 if door else v
                mesh.inlay(walls[name], slot, u, low, u + 0.52 / columns, v + 0.46 / rows, SHADES[name])
        mesh.inlay(walls[name], "trim", 0, 0.965, 1, 1)
    return mesh.frozen()
