"""Data sets in the layout of YOLO -> lists of samples (https://docs.ultralytics.com/datasets/detect/).

    DATA/data.yaml        path: . | train: images/train | val: images/val | names: [cat, dog] or {0: cat, 1: dog}
    .../images/train/ID.jpg
    .../labels/train/ID.txt        a line for each object: class cx cy width height, fractions of the picture

DATA is the YAML file or a folder with one; SPLIT is a key in it, such as 'train' or 'val'. `path` is relative to the
YAML file's folder. A split is a folder (with all folders in it, sorted by name), a text file with a picture per line,
or a list of these; of a path on another computer the longest end that exists counts. The labels of a picture are in the
folder `labels` next to its `images`, or next to the picture; a picture without a label file has no objects. A line with
the corners of a polygon gives the box around it. EXIF orientation is applied, as YOLO does.

Without a YAML file (labelImg, Label Studio, CVAT, Darknet) the classes are those of classes.txt, obj.names or
notes.json, and the splits those of `folders.Layout`.
"""

import collections
import functools
import math
import os
import pathlib
import re

import yaml

from formats import annotations, class_lists, fixed_copy, folders, listing, per_picture
from media import images
from structures import UserError
from system import cli, files, folder_tree, schema, wording

SUFFIXES = (".yaml", ".yml")
LARGEST_YAML, MOST_PARTS, LONGEST_PATH = 500_000, 10_000, 4096  # characters; folders of a split; characters of a path
LARGEST = 2.0  # fractions may lie a little outside 0..1; numbers beyond this must be pixels
KEYS = ("path", "names", "nc", "kpt_shape", "flip_idx", "download")  # of a YAML file that are no splits
LEVELS = 3  # above a folder where the names of its classes are looked for
HOW_TO_NAME = (
    "write classes.txt with one name per line, or data.yaml with the four lines 'path: .', 'train: images/train', "
    "'val: images/val', 'names: [cat, dog]'"
)
NAMES = (
    "obj.names",
    "classes.txt",
    "predefined_classes.txt",
    "_darknet.labels",
    "notes.json",
)  # files with the names of classes


def fits(data):
    """Whether a path looks like a data set of this layout."""
    data = pathlib.Path(data)
    if data.is_file():
        return data.suffix.lower() in SUFFIXES
    return bool(_descriptions(data)) or folders.Layout(data, KIND).exists


def split_names(data):
    """The splits of a data set, sorted."""
    if not _has_yaml(data):
        return folders.Layout(data, KIND).names
    path, description = _read_yaml(data)
    keys, root = sorted(_split_keys(description)), _root(path, description)
    return [key for key in keys if _exists(root, description[key])] or keys


def _exists(root, parts):
    """Whether something of a split exists: Roboflow's YAML file names a test split also where there is none."""
    return any(_place(root, part).exists() for part in ([parts] if isinstance(parts, str) else parts))


def _split_keys(description):
    """The keys of a YAML file that are splits: those with usual names, and those that are called like their folder."""
    named = ((key, value) for key, value in description.items() if value and key not in KEYS)
    return {key for key, value in named if folders.is_split_name(key) or _is_own(key, value)}


def _is_read(key, value):
    """Whether a key of a YAML file decides what is read: also the number of a class. Others, as an author, do not."""
    return key in KEYS[:2] or key.isdecimal() or folders.is_split_name(key) or _is_own(key, value)


def _is_own(key, value):
    """Whether a key names its folder of pictures, as in 'night: images/night'."""
    return isinstance(value, str) and re.fullmatch(r"(.*/)?images/(.*/)?" + re.escape(key), value) is not None


def class_names(data, splits):
    """The classes, a tuple in the order of their numbers, without a background that has no objects. Raises UserError.

    `numbered_names` has all.
    """
    names, background = numbered_names(data), []
    for number, name in enumerate(names):
        if class_lists.is_background(name) and not annotations.count_names(find(data, splits), reader(data))[name]:
            cli.warn_once(f"--data {data}: class {number}, {name!r}, has no objects and is left out")
            background.append(name)
    return class_lists.names_of_data([name for name in names if name not in background], data, splits)


def numbered_names(data):
    """The names of all classes, a tuple in the order of class numbers. Raises UserError."""
    if _has_yaml(data):
        return _yaml_names(*_read_yaml(data))
    return _listed_names(pathlib.Path(data))


def load(data, splits, class_names, **options):
    """The samples of some splits. DATA and SPLITS are described above; options: as for source_pascal_voc.load.

    Raises UserError that names file and line for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """
    entries = find(data, splits)
    if not any(os.path.isfile(entry.annotation_path) for entry in entries):
        where = _yaml_path(data) if _has_yaml(data) else f"--data {data}"
        first = entries[0].annotation_path
        raise UserError(f"{where}: no picture of {splits} has labels; the first file would be {first}")
    return annotations.make_samples(entries, reader(data), class_names, **options)


def find(data, splits):
    """The Entry of each picture of some splits, in the order of `load`; opens no picture. Raises UserError."""
    if not _has_yaml(data):
        return annotations.find_entries(data, splits, KIND)
    path, description = _read_yaml(data)
    root, entries = _root(path, description), []
    for split in map(str.strip, splits.split(",")):
        entries += _yaml_entries(path, root, description, split)
    return annotations.with_ids(entries, os.path.normpath(root))


def _yaml_entries(path, root, description, split, check=True):
    """The Entry of each picture of a split of a YAML file, without ids."""
    labels = _Labels()
    entries = [
        annotations.Entry("", image_path, where, labels.path(image_path))
        for where, image_path in _pictures(path, root, description, split, check)
    ]
    labels.say_unused(entries)
    return entries


def parts(data):
    """The names of the folders that hold the splits of a data set; [] if it does itself."""
    return [] if _has_yaml(data) else folders.Layout(data, KIND).parts


def whole(data):
    """The folder of a data set of which a folder has only the labels; None for any other."""
    return None if _has_yaml(data) else per_picture.whole(data, KIND)


def named_above(folder):
    """The nearest folder above one without names of classes that is a data set and has them; None if there is none."""
    folder = pathlib.Path(folder)
    if _has_yaml(folder) or _named_files(folder):
        return None
    above = pathlib.Path(os.path.abspath(folder)).parents[:LEVELS]
    named = (one for one in above if _descriptions(one) or any((one / name).is_file() for name in NAMES))
    return next((one for one in named if fits(one)), None)


def survey(data, names):
    """The listing.Split of each of some splits."""
    if not _has_yaml(data):
        return per_picture.survey(data, names, KIND)
    path, description = _read_yaml(data)
    root = _root(path, description)
    return [
        listing.of_entries(name, os.path.normpath(root), _yaml_entries(path, root, description, name, False), path)
        for name in names
    ]


def reader(data):
    """Callable, Entry -> annotations.Annotated."""
    has_keypoints = _has_yaml(data) and "kpt_shape" in _read_yaml(data)[1]
    return functools.partial(_annotated, numbered_names(data), has_keypoints)  # which a worker process can be sent


def _looks(path):
    """Whether a text file holds labels, by its first line."""
    first = next((line for line in files.split_lines(folders.beginning(path)) if line.strip()), "").split()
    right = len(first) == 5 or (len(first) >= 7 and len(first) % 2)
    return bool(right and first[0].isdecimal() and annotations.numbers(first))


KIND = folders.Kind(".txt", _looks)


def _has_yaml(data):
    """Whether DATA is a YAML file or has one."""
    data = pathlib.Path(data)
    return data.is_file() or bool(_descriptions(data))


def _listed_names(folder):
    """The names of classes of a folder without a YAML file."""
    paths = _named_files(folder)
    if not paths:
        home = named_above(folder)
        remedy = f"do you mean {home}, which has them?" if home else HOW_TO_NAME
        raise UserError(f"--data {folder}: labels in YOLO's format, but no names of classes; {remedy}")
    if paths[0].suffix == ".json":
        categories = files.read_json(paths[0]).get("categories")
        names = [one.get("name") for one in categories] if isinstance(categories, list) else []
    else:
        names = [line.strip() for line in files.split_lines(files.read_text(paths[0]).strip())]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"{paths[0]}: not a list of class names; write one name per line, in the order of class numbers"
        )
    return tuple(names)


def _named_files(folder):
    """The files with the names of classes of a folder without a YAML file, the one that counts first."""
    places = [folder, folder / "labels", *(folder / name for name in folder_tree.visible_folders(folder))]
    return [place / name for place in places for name in NAMES if (place / name).is_file()]


def _descriptions(folder):
    """The YAML files of a folder that name classes."""
    paths = (folder / name for suffix in SUFFIXES for name in folder_tree.visible(folder, suffix))
    found = sorted(path for path in paths if path.is_file())
    return [path for path in found if re.search(r"^[\"']?names[\"']?\s*:", folders.beginning(path), re.MULTILINE)]


def _yaml_path(data):
    """The YAML file of DATA. Raises UserError if there is none or several."""
    data = pathlib.Path(data)
    if data.is_file():
        return data
    found = _descriptions(data)
    if not found:
        raise UserError(f"--data {data}: there is no .yaml file with 'names' in it")
    if len(found) > 1 and data / "data.yaml" not in found:
        raise UserError(f"--data {data}: it has {found[0].name} and {found[1].name}; give the file")
    return data / "data.yaml" if data / "data.yaml" in found else found[0]


class _Loader(yaml.BaseLoader):
    """Makes texts, lists and mappings only: a class may be called 'no' or '1', and no code can run.

    A few aliases (*name) of lists of aliases make billions of entries, so there may be none.
    """

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, *name; write out what it stands for")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        found = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            content = self.construct_object(value, deep=True)
            if _is_read(key.value, content) and found.setdefault(key.value, content) != content:
                line = key.start_mark.line + 1  # the last one would replace the others
                raise yaml.YAMLError(f"line {line}: {key.value!r} is there twice, with different content")
        return super().construct_mapping(node, deep)


def _parse_yaml(path, loader):
    """The content of a YAML file. Raises UserError for one that is damaged or takes too long to read."""
    text = files.read_text(path)
    if len(text) > LARGEST_YAML:
        raise UserError(
            f"{path}: has {len(text):,} characters, more than {LARGEST_YAML:,}; leave out what is not needed"
        )
    try:
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a date that there is not
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())}); correct the file") from None


def _read_yaml(data):
    """(path of the YAML file of DATA, its mapping). Raises UserError."""
    path = _yaml_path(data)
    content = _parse_yaml(path, _Loader)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a mapping; 'train', 'val' and 'names' are needed")
    for key in ("path", *_split_keys(content)):
        value = content.get(key) or ""
        if wrong := schema.mismatch(value, str | list[str], {}, schema.Limits(length=(0, MOST_PARTS)), key):
            raise UserError(f"{path}: {wrong}; correct the file")
        for part in [value] if isinstance(value, str) else value:
            if len(part) > LONGEST_PATH or any(len(os.fsencode(name)) > 255 for name in part.split("/")):
                raise UserError(f"{path}: {key!r} has {wording.shorten(part)}, longer than any path; correct the file")
    return path, content


def _yaml_names(path, description):
    """The class names of the YAML file at `path`, a tuple in the order of class numbers."""
    names = description.get("names")
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(
            f"{path}: 'names' is neither a list of names nor a mapping of numbers to names; write 'names: [cat, dog]'"
        )
    names = {number: name.strip() for number, name in names.items()}
    in_order = [names.get(str(number)) for number in range(len(names))]
    if None in in_order:
        raise UserError(f"{path}: 'names' has no {in_order.index(None)}; number the {len(names)} classes from 0")
    counts = collections.Counter(in_order)
    if repeated := next((name for name in in_order if counts[name] > 1), None):
        raise UserError(f"{path}: {repeated!r} is listed twice in 'names'; remove or rename one")
    return tuple(in_order)


def _root(path, description):
    """The folder that the splits of the YAML file at `path` are relative to."""
    root = path.parent / str(description.get("path") or ".").replace("\\", "/")
    if root.is_dir():
        return root
    # Ultralytics' `path` is often one on another computer, or relative to its own folder of data sets
    parts, keys = folders.plain_path(str(description.get("path"))).split("/"), _split_keys(description)
    for place in (path.parent, *(path.parent.joinpath(*parts[start:]) for start in range(len(parts)))):
        if any(_exists(place, description[key]) for key in keys):
            return place
    raise UserError(f"{path}: 'path' means {root}: no such folder, and {path.parent} has no split of it; correct it")


def _place(root, part):
    """The folder or list that a YAML file means: as written, else the longest end of it that exists below `root`.

    Also with its last two folders swapped: train/images for images/train.
    """
    written = root / str(part).replace("\\", "/")
    if written.exists():
        return written
    parts = folders.plain_path(str(part)).split("/")
    for start in range(len(parts)):
        end = parts[start:]
        tried = [end, [*end[:-2], end[-1], end[-2]]] if len(end) > 1 else [end]
        for one in tried:
            # `images` alone would be the pictures of all splits
            if root.joinpath(*one).exists() and (len(one) > 1 or one[0].lower() not in folders.PICTURES):
                return root.joinpath(*one)
    return written


def _pictures(yaml_path, root, description, split, check):
    """Yield (where it is listed, picture) of a split. check: refuse pictures that are missing."""
    keys = _split_keys(description)
    parts = description.get(split) or description.get(folders.synonym(split, keys))
    if not parts:
        raise UserError(f"{yaml_path}: {annotations.no_split(split, keys)}")
    empty = True
    for part in [parts] if isinstance(parts, str) else parts:
        place = _place(root, part)
        for where, picture in _listed(place, root, check) if place.is_file() else _in_folder(yaml_path, split, place):
            yield where, picture
            empty = False
    if empty:
        raise UserError(f"{yaml_path}: the split {split!r} is empty; choose another one or add pictures to it")


def _in_folder(yaml_path, split, folder):
    """Yield (where, picture) for a folder and the folders in it."""
    if not folder.is_dir():
        raise UserError(f"{yaml_path}: {split!r} means {folder}: no such folder or file; correct it")
    if folder.resolve() in pathlib.Path(yaml_path).resolve().parents[2:]:  # the whole disk, perhaps: hours
        raise UserError(f"{yaml_path}: {split!r} means {folder}, in which the data set itself is; name a folder in it")
    unread = []
    for parent, names in folder_tree.walk(folder):
        for name in names:
            if name.lower().endswith(images.SUFFIXES):
                yield str(yaml_path), os.path.join(parent, name)
            elif name.lower().endswith(images.UNREAD_SUFFIXES):
                unread.append(os.path.join(parent, name))
    if unread:
        left_out = wording.plural(len(unread), "picture")
        cli.warn_once(f"{left_out} in {folder} left out: {unread[0]}{images.unread_suffix(unread[0])}")


def _listed(path, root, check):
    """Yield (where, picture) for a text file. Relative paths, also those with './', are relative to its folder."""
    finder = folders.Finder([path.parent, root], check=check)
    for number, line in files.read_lines(path):
        where = f"{path}, line {number}"
        yield where, os.path.normpath(finder.find(line.replace("\\", "/"), where))


class _Labels:
    """Finds the label files of pictures, whatever the capitals of their folders and suffixes are."""

    def __init__(self):
        self._indices = {}  # {(home, name): Index} of folders `labels` and, if they are needed, of `images` beside them
        self._beside = {}  # {folder of pictures: as of `_texts`}

    def path(self, image_path):
        """Where the labels of a picture are, or would be if there were any."""
        stem = os.path.splitext(image_path)[0]
        parts, apart = stem.split(os.sep), stem + ".txt"
        at = next((at for at in range(len(parts) - 2, -1, -1) if parts[at].lower() == "images"), None)
        if at is not None:
            home, tail = os.sep.join([*parts[:at], ""]), os.sep.join(parts[at + 1 :])
            index = self._index(home, "labels", (".txt",))
            found = index.same(tail)
            if found == tail or (found is not None and not self._is_of_another(home, found)):
                return index.path_of[found]
            apart = os.path.join(index.folder, tail + ".txt")
        folder, name = os.path.split(stem)
        exact, alike = self._texts(folder)
        return exact.get(name) or alike.get(folders.plain(name), apart)

    def _is_of_another(self, home, key):
        """Whether labels that a picture nearly names are those of another, as a.txt beside A.jpg and a.jpg."""
        return key in self._index(home, "images", images.SUFFIXES).path_of

    def _texts(self, folder):
        """({name without suffix: path} of a folder's text files; the same by plain name of those without a picture)."""
        if folder not in self._beside:
            exact, alike = {}, {}
            for stem, names in folders.names_by_stem(folder or os.curdir).items():
                for name in (name for name in names if name.lower().endswith(".txt")):
                    exact[stem] = os.path.join(folder, name)
                if stem in exact and not any(name.lower().endswith(images.SUFFIXES) for name in names):
                    alike[folders.plain(stem)] = exact[stem]
            self._beside[folder] = exact, alike
        return self._beside[folder]

    def say_unused(self, entries):
        """Say where pictures have no labels and labels beside theirs no picture: one of both may have another name.

        entries: the Entry of each picture that `path` was asked for.
        """
        found = {path: (home, key) for (home, _), index in self._indices.items() for key, path in index.path_of.items()}
        expected = {entry.annotation_path for entry in entries}
        missing = {path for path in expected - found.keys() if not os.path.isfile(path)}
        if not missing:
            return
        places = {os.path.dirname(path) for path in expected}
        unused = sorted(path for path in found.keys() - expected if os.path.dirname(path) in places)
        unused = [path for path in unused if not self._has_picture(*found[path]) and KIND.looks(path)]
        if unused:
            fit = "fits" if len(unused) == 1 else "fit"
            cli.warn_once(
                f"{wording.plural(len(missing), 'picture')} without labels, taken as background, while "
                f"{wording.plural(len(unused), 'file')} of labels beside theirs {fit} no picture; the first are "
                f"{min(missing)} (missing) and {unused[0]}"
            )

    def _has_picture(self, home, key):
        """Whether a file of labels has a picture, which perhaps is not listed. home, key: of its Index."""
        return self._index(home, "images", images.SUFFIXES).same(key) is not None

    def _index(self, home, name, suffixes):
        """The Index of the folder `name`, also with capitals, in a folder. home: "" for the current one."""
        if (home, name) not in self._indices:
            named = [other for other in folder_tree.visible_folders(home or os.curdir) if other.lower() == name]
            folder = os.path.join(home, name if name in named or not named else named[0])
            self._indices[home, name] = folders.Index(folder, suffixes)
        return self._indices[home, name]


def _annotated(names, has_keypoints, entry):
    """The Annotated of an Entry. names: of all classes, by number; has_keypoints: whether they follow the boxes."""
    return annotations.Annotated(_written(entry.annotation_path, names, has_keypoints), None, fractions=True)


def _written(path, names, has_keypoints):
    """The objects of a label file, a list of Written with fractions; [] if there is no such file."""
    if not os.path.isfile(path):
        return []
    written = []
    for number, line in files.read_lines(path):
        where = f"{path}, line {number}"
        label, values = _parse_line(where, line)
        values = values[:4] if has_keypoints else values
        if label >= len(names):
            raise UserError(
                f"{where}: class {label} is not in the list of classes, which has 0 to {len(names) - 1}; correct one"
            )
        if len(values) == 4:
            cx, cy, width, height = values
            edges = cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
        else:
            edges = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
        shape = "box" if len(values) == 4 else "polygon"
        written.append(annotations.Written(names[label], edges, where, shape=shape))
    return written


def _parse_line(where, line):
    """'class cx cy width height', or a class and the corners of a polygon -> (class number, list of fractions)."""
    first, *rest = line.split()
    try:
        label, values = float(first), [float(text) for text in rest]
    except ValueError:
        label, values = -1, []
    if label < 0 or not label.is_integer() or (len(values) != 4 and (len(values) < 6 or len(values) % 2)):
        shown = wording.shorten(line.strip())
        raise UserError(f"{where}: {shown} is not 'class cx cy width height'{_line_hint(first, rest)}; correct it")
    if not all(math.isfinite(value) and abs(value) <= LARGEST for value in values):
        raise UserError(
            f"{where}: {wording.shorten(line.strip())} must contain fractions of the picture; if these are pixels, "
            "divide x by its width and y by its height"
        )
    return int(label), values


def _line_hint(first, rest):
    """What is probably wrong with a line of labels, for a message; "" if nobody knows."""
    if "," in first and annotations.numbers("".join((first, *rest)).split(",")):
        return ": spaces separate the numbers, not commas"
    if annotations.numbers([word.replace(",", ".") for word in (first, *rest)]) and any("," in word for word in rest):
        return ": write points for the decimal commas"
    if annotations.numbers(rest) and annotations.numbers([first]) is None:
        return f", since {wording.shorten(first)} is a name where the number of a class belongs"
    if annotations.numbers(rest) and len(rest) == 5:
        return ": the fifth number, a confidence or an angle, does not belong there"
    if annotations.numbers(rest[:7]) and len(rest) == 9 and not annotations.numbers(rest):
        return ": it may be one of DOTA, with corners in pixels and then a name"
    return ""


def write_fixed(copy):
    """Write the labels, lists and names of a fixed_copy.FixedCopy."""
    fixed_copy.write_files(copy, _edited)
    if _has_yaml(copy.data):
        _write_yaml(copy)
        return
    fixed_copy.write_lists(copy)
    for path in _named_files(pathlib.Path(copy.data))[:1]:
        copy.keep(path)


def _edited(content, path, edit):
    """The text of a label file after an Edit; a polygon whose box changes becomes a box."""
    boxes, lines = iter(edit.boxes), []
    for line in map(str.strip, files.split_lines(files.decode(content))):
        if not line or line.startswith("#"):
            continue
        box = next(boxes)
        if box == fixed_copy.KEEP:
            lines.append(line)
        elif box is not None:
            values = fractions(box, *edit.size)
            lines.append(" ".join([line.split()[0], *(wording.number(value, 8) for value in values)]))
    return "".join(f"{line}\n" for line in lines)


def fractions(edges_px, width, height):
    """(xmin, ymin, xmax, ymax) in pixels -> (center x, center y, width, height) in fractions of a picture."""
    xmin, ymin, xmax, ymax = edges_px
    return (xmin + xmax) / 2 / width, (ymin + ymax) / 2 / height, (xmax - xmin) / width, (ymax - ymin) / height


def _write_yaml(copy):
    """Write the YAML file of a copy, whose paths lead into the copy, and its lists of pictures."""
    path, description = _read_yaml(copy.data)
    root = _root(path, description)
    content = _parse_yaml(path, yaml.SafeLoader)
    names = description["names"]  # as text: SafeLoader makes False of a class 'no'
    content["names"] = names if isinstance(names, list) else {int(number): name for number, name in names.items()}
    home = os.path.dirname(copy.place(path))
    content["path"] = os.path.relpath(copy.place(root), home)
    for split in copy.splits:
        key = split.listed.name if description.get(split.listed.name) else folders.synonym(split.listed.name, content)
        written = description[key]
        places = [_place(root, part) for part in ([written] if isinstance(written, str) else written)]
        content[key] = [os.path.relpath(copy.place(place), copy.place(root)) for place in places]
        for place in places:
            if place.is_file():
                own = {os.path.normpath(picture) for _, picture in _listed(place, root, False)}
                pictures = [copy.place(one.image_path) for one in split.pictures if one.listed.place in own]
                folder = os.path.dirname(copy.place(place))
                copy.write(place, "".join(f"./{os.path.relpath(picture, folder)}\n" for picture in pictures))
    for key in _split_keys(description) - {split.listed.name for split in copy.splits}:
        if not any(folders.synonym(split.listed.name, [key]) for split in copy.splits):
            del content[key]  # a split that was not checked is not in the copy
    copy.write(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
