"""Where the files of a data set are: pictures, annotations and lists, found by their places and by the names given.

Exports of one format differ in their folders. This module knows the usual ones, for every format that has a file of
annotations for each picture (`Layout`), and finds a picture or an annotation by whatever name a list, a table or a
JSON file gives it (`Index`): with or without folders and suffix, with backslashes, with a path on another computer.
"""

import functools
import itertools
import os
import pathlib
import re
import unicodedata
import urllib.parse
from collections.abc import Callable
from typing import NamedTuple

from media import images
from structures import UserError
from system import cli, files, folder_tree, wording

# Names of folders, in lower case
ANNOTATIONS = (
    "annotations",
    "annotation",
    "labels",
    "label",
    "label_2",
    "xmls",
    "xml",
    "ann",
    "anno",
    "annos",
    "json",
    "jsons",
    "bbox",
    "bboxes",
    "obj_train_data",
)
PICTURES = (
    "jpegimages",
    "images",
    "image",
    "image_2",
    "imgs",
    "img",
    "data",
    "pictures",
    "photos",
    "pics",
    "frames",
    "pngimages",
    "jpg",
    "jpegs",
    "png",
    "rgb",
    "obj_train_data",
)
LISTS = ("ImageSets/Main", "ImageSets", "")
# Names that mean the same split; a list beside the pictures and a folder of pictures are splits if named so
SYNONYMS = (("train", "training"), ("val", "valid", "validation", "dev"), ("test", "testing"))
SPLIT_NAMES = {"trainval", "default", *itertools.chain(*SYNONYMS)}
PARTS = {*ANNOTATIONS, *PICTURES, "main", "imagesets"}  # of a data set
ALL = "all"  # the split of a folder that names none
UNLISTED = "unlisted"  # the split of the annotated pictures that are on no list, as a third of VOC2012's
SUBSET = re.compile(r"obj_\w+_data")  # a folder of CVAT's export for Darknet, which has one for each split
YEAR = re.compile(r"VOC(\w+)")  # a folder of a VOCdevkit
OF_CLASS = re.compile(r"\s+(-1|0|1)$")  # what follows an id in Pascal VOC's lists of one class
NO_PICTURES = (".xml", ".json", ".txt", ".csv", ".yaml", ".yml")  # suffixes of what may lie beside a missing picture
SNIFFED_BYTES = 65536
FILES_TRIED = 20  # in which annotations of a kind are looked for


def synonym(name, known):
    """`name` if it is known, else the one known split that means the same ('val' for 'valid' or 'Val'), else None."""
    if name in known:
        return name
    prefix, colon, word = name.rpartition(":")
    same = next((group for group in SYNONYMS if word.lower() in group), ())
    same = same or (word.lower(),)
    start = prefix + colon
    found = [other for other in known if other.startswith(start) and other[len(start) :].lower() in same]
    return found[0] if len(found) == 1 else None


def is_split_name(name):
    """Whether a file, folder or key of that name is a split without more said: 'train', also CVAT's 'Train'."""
    return name.lower() in SPLIT_NAMES


def above(path):
    """Yield the folders above a path as long as it is called like a part of a data set, the nearest first."""
    path = os.path.abspath(path)
    while os.path.basename(path).lower() in PARTS | SPLIT_NAMES:
        path = os.path.dirname(path)
        yield path


def of_split(places, split):
    """The folders in some places that the name of a split means too: 'test' or 'testing' for 'test_labels'."""
    words = [word for word in re.split(r"[^a-z]+", split.lower()) if word in SPLIT_NAMES]
    if len(words) != 1:
        return []
    named = [(place, synonym(words[0], folder_tree.visible_folders(place))) for place in places]
    return [place / name for place, name in named if name not in (None, split)]


class Index:
    """The files of a folder and those below it that have certain suffixes, by id: the path below it without suffix.

    Of several files with one id it has the one whose suffix comes first.
    """

    def __init__(self, folder, suffixes):
        """suffixes: in lower case, the most likely first."""
        self.folder = os.fspath(folder)
        self.path_of = {}  # {id: path}
        self.passed_over = []  # paths of the files whose id another one has
        self._found = {}  # {name: ids}: names that repeat in many folders are looked for many times
        self.suffixes, best = tuple(suffixes), {}
        ranks = {suffix: rank for rank, suffix in enumerate(suffixes)}
        for parent, names in folder_tree.walk(folder):
            below = os.path.relpath(parent, folder)
            prefix = "" if below == "." else f"{below}/"
            for name in names:
                stem, suffix = os.path.splitext(name)
                rank, key = ranks.get(suffix.lower()), prefix + stem
                if rank is None:
                    continue
                path = os.path.join(parent, name)
                if key in best:
                    self.passed_over.append(path if best[key] <= rank else self.path_of[key])
                if rank < best.get(key, len(ranks)):
                    best[key], self.path_of[key] = rank, path

    @functools.cached_property
    def _by_stem(self):
        """{stem as `plain` has it: ids}."""
        found = {}
        for key in self.path_of:
            found.setdefault(plain(key.rpartition("/")[2]), []).append(key)
        return found

    def find(self, name):
        """The ids that a name may mean, a list: the exact one, or those that share the longest end of its path.

        None beside the folder that the name gives, if that has other files: there the one that is meant is missing.
        name: an id, or a path with suffix, as a list or annotation gives it; perhaps with %20 for a space, as in an
            address.
        """
        if name in self.path_of:
            return [name]
        if name not in self._found:
            found = self._find_path(plain_path(name))
            if not found and "%" in name:
                found = self._find_path(plain_path(urllib.parse.unquote(name)))
            self._found[name] = found
        return self._found[name]

    def same(self, key):
        """The id that is `key`, perhaps with other capitals or in another form of Unicode; None if there is none."""
        return key if key in self.path_of else self._by_plain.get(plain(key))

    @functools.cached_property
    def _by_plain(self):
        return {plain(key): key for key in self.path_of}

    def _find_path(self, path):
        """The ids that a relative path may mean, a list."""
        parts = self._without_suffix(path).split("/")
        for start in range(len(parts)):
            if (tail := "/".join(parts[start:])) in self.path_of and not self._is_beside(tail, parts):
                return [tail]
        alike = self._by_stem.get(plain(parts[-1]), [])
        shared = [_shared_end(plain(key).split("/"), list(map(plain, parts))) for key in alike]
        found = [key for key, length in zip(alike, shared, strict=True) if length == max(shared)]
        return [key for key in found if not self._is_beside(key, parts)]

    def _is_beside(self, key, parts):
        """Whether the folder of a path would be beside that of an id, and has files. parts: of the path."""
        own, parts = plain(key).split("/"), list(map(plain, parts))
        shared = _shared_end(own, parts)
        if shared == len(parts):
            return False
        named = own[: max(0, len(own) - shared - 1)] + parts[len(parts) - shared - 1 : -1]
        return "/".join(named) in self._plain_folders

    @functools.cached_property
    def has_folders(self):
        """Whether some of the files are in folders below."""
        return any("/" in key for key in self.path_of)

    @functools.cached_property
    def _plain_folders(self):
        """The folders that have files, as `plain` has them."""
        return {plain(key).rpartition("/")[0] for key in self.path_of}

    def _without_suffix(self, name):
        stem, suffix = os.path.splitext(name)
        return stem if suffix.lower() in (*self.suffixes, *images.SUFFIXES) else name


def plain(name):
    """A name in lower case and in one form of Unicode: a Mac writes ö as two letters, o and a mark."""
    return unicodedata.normalize("NFC", name).lower()


def _shared_end(one, two):
    """How many parts two paths have in common at their ends."""
    pairs = zip(reversed(one), reversed(two), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def plain_path(name):
    """A path or address as annotations give it, as a relative path: slashes, no drive, server or query."""
    name = name.strip().replace("\\", "/")
    if "://" in name or "/?d=" in name:  # gs://bucket/a.jpg; Label Studio's /data/local-files/?d=folder/a%20b.jpg
        name = urllib.parse.unquote(name.rpartition("?d=")[2] if "?d=" in name else name.split("?")[0])
        name = name.partition("://")[2] or name
    parts = [part for part in name.split("/") if part not in ("", ".", "..") and not part.endswith(":")]
    return "/".join(parts)


class Finder:
    """Finds the pictures that a table or a JSON file names, in the folders where they usually are."""

    def __init__(self, folders, other_splits=(), check=True):
        """folders: paths, the most likely first; names are also looked for below the last one.

        other_splits: pictures in folders of these names are not meant.
        check: whether a missing picture is an error; without it, it is where it would be first looked for.
        """
        self._folders = [os.fspath(folder) for folder in folders]
        self._others = set(other_splits)
        self._listings, self._check = {}, check

    def find(self, name, where):
        """The path of a picture. where: the file and entry that names it.

        Raises UserError if there is none, or several fit equally well.
        """
        inner, base = os.path.split(name)
        for folder in self._folders:
            if base in self._listing(os.path.join(folder, inner) if inner else folder):
                return os.path.join(folder, name)
        found = self._index.find(name)
        found = [key for key in found if not self._others & set(key.split("/")[:-1])]
        if len(found) == 1:
            return self._as_named(self._index.path_of[found[0]], name)
        if found:
            raise UserError(f"{where}: {name} may be {found[0]} or {found[1]} in {self._index.folder}; give its folder")
        expected = os.path.join(self._folders[0], name)
        if self._check:
            others = [self._unread.path_of[key] for key in self._unread.find(name)]
            require_picture(expected, where, others=others, index=self._index)
        return expected

    def _as_named(self, path, name):
        """The picture beside `path` that differs from it in having the suffix of a name; `path` if there is none."""
        suffix, beside = os.path.splitext(plain_path(name))[1], self._listing(os.path.dirname(path))
        if suffix.lower() not in images.SUFFIXES:
            return path
        named = (os.path.splitext(path)[0] + one for one in (suffix, suffix.lower()))
        return next((one for one in named if os.path.basename(one) in beside), path)

    @functools.cached_property
    def _index(self):
        return Index(self._folders[-1], images.SUFFIXES)

    @functools.cached_property
    def _unread(self):
        """The pictures of kinds that are not read."""
        return Index(self._folders[-1], images.UNREAD_SUFFIXES)

    def _listing(self, folder):
        """The names of the files in a folder: os.path.isfile without asking the disk for each of a hundred thousand."""
        if folder not in self._listings:
            try:
                with os.scandir(folder) as entries:
                    self._listings[folder] = {entry.name for entry in entries if entry.is_file()}
            except OSError:
                self._listings[folder] = set()
        return self._listings[folder]


def require_picture(path, where, remedy="remove the entry", others=(), index=None):
    """Raise UserError if a picture that `where` (file and entry) names does not exist.

    others: paths of files that may be this picture, of kinds that are not read. index: the Index of all pictures.
    """
    if os.path.isfile(path):
        return
    hint = unread_hint(path, others) or f"; add the file or {remedy}"
    if index is not None and not index.path_of and hint.startswith(";"):
        hint = (
            f", and none at all in {index.folder}: add them, or export again with pictures, which some tools leave out"
        )
    raise UserError(f"{where}: {path}: no such picture{hint}")


def unread_hint(path, others=(), listing=None):
    """The end of a message about a picture that does not exist if there is a file like it of an unread kind, else "".

    others: paths of more files that may be this picture; listing: as `names_by_stem` has its folder, if that is known.
    """
    folder, name = os.path.split(path)
    beside = (names_by_stem(folder) if listing is None else listing).get(os.path.splitext(name)[0], [])
    beside = [name for name in beside if not name.lower().endswith((*images.SUFFIXES, *NO_PICTURES))]
    beside += map(os.path.basename, others)
    return f", only {beside[0]}{images.unread_suffix(beside[0])}" if beside else ""


def names_by_stem(folder):
    """{name without suffix: names} of what is in a folder."""
    found = {}
    for name in folder_tree.visible(folder):
        found.setdefault(os.path.splitext(name)[0], []).append(name)
    return found


class Kind(NamedTuple):
    """Annotations that have a file for each picture.

    suffix: of their files, in lower case.
    looks: callable, path -> whether a file with that suffix is one.
    parts: folders that together are such a data set even if all annotations are missing or damaged.
    """

    suffix: str
    looks: Callable
    parts: tuple = ()


def _partners(key, own, others):
    """The keys of the Index `others` that a key of the Index `own` means: an annotation's pictures, or the reverse.

    key: also of a picture that is missing, as it is listed.
    One in another folder only if it does not fit another key of `own` better: names may repeat in each folder. Where
    either side has no folders, a file is for all that have its name.
    """
    same = others.same(key)
    if same is not None and (same == key or same not in own.path_of):  # a.xml is not that of A.jpg where a.jpg is
        return [same]
    found = [other for other in others.find(key) if other != same]
    if not (own.has_folders and others.has_folders):
        return found
    return [other for other in found if key in (own.find(other) or [key])]


class Split(NamedTuple):
    """The pictures of one split.

    name: of the split.
    home: the folder with the pictures and annotations.
    where: the list, or the folder if there is no list, for messages.
    list_path: the list, or where it would be if several lists of single classes make this split; None without lists.
    ids: keys of `pictures`, in order; ids that name no picture are as listed. They may repeat.
    pictures, annotations: the Index of each.
    """

    name: str
    home: str
    where: str
    list_path: str | None
    ids: list
    pictures: Index
    annotations: Index

    def annotation_path(self, image_id):
        """The annotation of a picture, or where it would be if there were one."""
        found = _partners(image_id, self.pictures, self.annotations)
        if len(found) == 1:
            return self.annotations.path_of[found[0]]
        if len(found) > 1:
            raise UserError(
                f"{self.where}: the annotation of {image_id} may be {found[0]} or {found[1]} in "
                f"{self.annotations.folder}; put it into the same folders as its picture"
            )
        return os.path.join(self.annotations.folder, image_id + self.annotations.suffixes[0])


class _Home:
    """A folder with pictures, an annotation file for each, and perhaps lists."""

    def __init__(self, folder, annotations, pictures, kind):
        self.folder, self._kind = folder, kind
        self._annotations_folder, self._pictures_folder = annotations, pictures

    @functools.cached_property
    def pictures(self):
        return Index(self._pictures_folder, images.SUFFIXES)

    @functools.cached_property
    def annotations(self):
        return Index(self._annotations_folder, (self._kind.suffix,))

    @functools.cached_property
    def lists(self):
        """{split: paths of its lists}. VoTT's lists of single classes make one split if it has no list of its own."""
        paths = {}
        for folder in (self.folder / name for name in LISTS):
            names = [name for name in folder_tree.visible(folder) if name.lower().endswith(".txt")]
            if folder == self.folder:
                names = [name for name in names if is_split_name(os.path.splitext(name)[0])]
            if names:
                paths = {os.path.splitext(name)[0]: folder / name for name in names}
                break
        merged = {}
        for name in self._of_classes(paths):
            split = name.rpartition("_")[2]
            if split not in paths:
                merged[split] = (*merged.get(split, ()), paths[name])
        return {name: (path,) for name, path in paths.items()} | merged

    @functools.cached_property
    def names(self):
        """Its splits, without Pascal VOC's lists of single classes, such as car_train."""
        return [name for name in self.lists if name not in self._class_lists] or self.parts or [ALL]

    @functools.cached_property
    def _class_lists(self):
        """The names in `lists` of Pascal VOC's lists of single classes."""
        return self._of_classes({name: paths[0] for name, paths in self.lists.items()})

    def _of_classes(self, paths):
        """The names of lists that are of one class and split. paths: {name: path} of all lists."""
        words = {name: name.rpartition("_")[2] for name in paths if "_" in name}
        named = [name for name, split in words.items() if split in paths or is_split_name(split)]
        return {name for name in named if self._is_of_class(paths[name])}

    def _is_of_class(self, path):
        """Whether a list has -1, 0 or 1 after each id, or is empty. Names of pictures may end so too: 'photo 1'."""
        lines = [line for _, line in self._lines(path)]
        tried = lines[:FILES_TRIED]  # of which one may be missing; a data set may have a million such lines
        return all(map(OF_CLASS.search, lines)) and not any(map(self.pictures.find, tried))

    @functools.cached_property
    def parts(self):
        """The folders in it that are splits: names of the first folders of its ids, if all are names of splits."""
        for index in (self.pictures, self.annotations):
            first = {key.partition("/")[0] if "/" in key else "" for key in index.path_of}
            if first and all(map(is_split_name, first)):
                return sorted(first)
        return []

    def split(self, name, prefix=""):
        """The Split `name` of this folder. prefix: of names of its splits, such as '2007:'."""
        shown = prefix + name
        if name in self.lists:
            paths = self.lists[name]
            ids = list(dict.fromkeys(self._listed(paths))) if len(paths) > 1 else self._listed(paths)
            if name in self._class_lists:
                ids = self._of_one_class(paths[0], ids)
            own = str(paths[0].with_name(f"{name}.txt"))
            return Split(shown, str(self.folder), str(paths[0]), own, ids, self.pictures, self.annotations)
        if name == UNLISTED and self.lists:
            return Split(shown, str(self.folder), shown, None, self._unlisted(), self.pictures, self.annotations)
        below = f"{name}/" if name in self.parts else ""
        ids = {key for key in self.pictures.path_of if key.startswith(below)}
        for key, path in self.annotations.path_of.items():
            of_split = key.startswith(below)
            if of_split and not _partners(key, self.annotations, self.pictures) and self._kind.looks(path):
                ids.add(key)
        where = os.path.join(self._pictures_folder, below)
        return Split(shown, str(self.folder), where, None, sorted(ids), self.pictures, self.annotations)

    def _unlisted(self):
        """The sorted ids of pictures with an annotation that no list has."""
        listed = {key for paths in self.lists.values() for key in self._listed(paths)}
        left = (key for key in self.pictures.path_of if key not in listed)
        return sorted(key for key in left if _partners(key, self.pictures, self.annotations))

    def _of_one_class(self, path, ids):
        """Those of some ids, which a list of one class has, whose pictures show it. Says how many do not.

        1 follows the id of a picture with the class, 0 if all its objects are difficult, -1 if there are none.
        """
        shown = [image_id for image_id, (_, line) in zip(ids, self._lines(path), strict=True) if line[-2:] != "-1"]
        if len(shown) < len(ids):
            pictures = wording.plural(len(ids) - len(shown), "picture")
            cli.warn_once(
                f"{path}: a list of one class; {pictures} without it, marked -1, left out (unmarked, all count)"
            )
        return shown

    def _listed(self, paths):
        """The ids in some lists. An id may contain spaces: a line that is a picture's name is taken whole."""
        found = []
        for path in paths:
            for _, line in self._lines(path):
                name, keys = line, self.pictures.find(line)
                if not keys:
                    name = OF_CLASS.sub("", line)
                    keys = self.pictures.find(name)
                if not keys and line.lower().endswith(self._kind.suffix):  # PaddleDetection names both files
                    starts = (line[:at] for at, letter in enumerate(line) if letter == " ")
                    keys = next(filter(None, map(self.pictures.find, starts)), [])
                if len(keys) > 1:
                    raise UserError(f"{path}: {name} may be {keys[0]} or {keys[1]}; list it with its folder")
                if keys:
                    self._refuse_passed_over(path, name, self.pictures.path_of[keys[0]])
                found.append(keys[0] if keys else name)
        return found

    @functools.cached_property
    def _passed_over(self):
        return set(self.pictures.passed_over)

    def _refuse_passed_over(self, path, name, taken):
        """Raise UserError if a list names a.png, and a.jpg beside it would be taken: both have one id."""
        if os.path.splitext(taken)[0] + os.path.splitext(plain_path(name))[1] in self._passed_over:
            raise UserError(
                f"{path}: {name}: {os.path.basename(taken)} beside it has the same name but for the suffix, and both "
                "would share their annotations; rename or remove one"
            )

    def _lines(self, path):
        """The lines of a list; one that begins with # is a comment unless a picture is called so."""
        lines = enumerate(map(str.strip, files.split_lines(files.read_text(path))), start=1)
        return [one for one in lines if one[1] and (one[1][0] != "#" or one[1] in self.pictures.path_of)]


class Layout:
    """The splits of a data set that has a file of annotations for each picture.

    Its folders may be VOC2007, VOC2012, … (splits '2007:train'), one folder with lists, a folder for each split, a
    folder for each split within those of pictures and annotations, or files side by side without splits ('all').
    """

    def __init__(self, data, kind):
        """data: a folder; kind: the Kind of its annotations."""
        self._homes = {}  # {prefix: home}
        self._undivided = {}  # {split: home} of folders that are a split each
        self.parts = []  # names of the folders that hold the splits; [] if `data` does itself
        data = pathlib.Path(data)
        own = _find_home(data, kind)
        if own is not None:
            self._homes[""] = own
            return
        for name in folder_tree.visible_folders(data):
            home = _find_home(data / name, kind)
            if home is None:
                continue
            self.parts.append(name)
            year = YEAR.fullmatch(name)
            if year:
                self._homes[f"{year[1]}:"] = home
            elif home.lists:
                self._homes[f"{name}:"] = home
            else:
                self._undivided[name] = home

    @functools.cached_property
    def _place_of(self):
        """{split: (home, its name there, prefix)}; lists all files, which the `parts` do not need."""
        found = {split: (home, ALL, None) for split, home in self._undivided.items()}
        for prefix, home in self._homes.items():
            found |= {prefix + name: (home, name, prefix) for name in home.names}
        return found

    @property
    def exists(self):
        """Whether there is such a data set, which then has a split."""
        return bool(self._homes or self._undivided)

    @property
    def names(self):
        """The splits, sorted."""
        return sorted(self._place_of)

    def split(self, name):
        """The Split that a name of `names` or its synonym means; None if there is none."""
        prefix, colon, own = name.rpartition(":")
        home = self._homes.get(prefix + colon)
        # Also a list of one class, and what is on no list, which `names` do not have
        if home is not None and (own in home.lists or (own == UNLISTED and home.lists)):
            return home.split(own, prefix + colon)
        known = synonym(name, self._place_of)
        if known is None:
            return None
        home, own, prefix = self._place_of[known]
        return home.split(own, prefix) if prefix is not None else home.split(own)._replace(name=known)


def _find_home(folder, kind):
    """The _Home that a folder is, or None."""
    below = {name.lower(): folder / name for name in folder_tree.visible_folders(folder)}
    if sum(SUBSET.fullmatch(name) is not None for name in below) > 1 and _holds(folder, kind):
        return _Home(folder, folder, folder, kind)
    whole = kind.parts and all((folder / part).is_dir() for part in kind.parts)
    named = [below[name] for name in ANNOTATIONS if name in below]
    annotations = folder / kind.parts[0] if whole else next((one for one in named if _holds(one, kind)), None)
    if annotations is None and _holds(folder, kind, deep=False):
        annotations = folder
    if annotations is None and (pair := _pair(below.values(), kind)):
        return _Home(folder, *pair, kind)
    if annotations is None:
        # Darknet's lists name pictures in any folder
        listed = any(is_split_name(os.path.splitext(name)[0]) for name in folder_tree.visible(folder, ".txt"))
        return _Home(folder, folder, folder, kind) if listed and _holds(folder, kind) else None
    if whole:
        return _Home(folder, annotations, folder / kind.parts[1], kind)
    pictures = next((below[name] for name in PICTURES if name in below and holds_pictures(below[name])), None)
    beside = annotations if holds_pictures(annotations) else folder
    return _Home(folder, annotations, pictures or beside, kind)


def _pair(below, kind):
    """(folder of annotations, folder of pictures) if that is what two folders of unusual names are; otherwise None."""
    kinds = [(_holds(one, kind), holds_pictures(one), one) for one in below if not is_split_name(one.name)]
    annotations = [one for has, has_pictures, one in kinds if has and not has_pictures]
    pictures = [one for has, has_pictures, one in kinds if has_pictures and not has]
    return (*annotations, *pictures) if len(annotations) == len(pictures) == 1 else None


def _holds(folder, kind, deep=True):
    """Whether a folder (deep: or one below it) has an annotation file of a kind; looks into few of its files."""
    listed = folder_tree.walk(folder) if deep else [(folder, folder_tree.visible(folder, kind.suffix))]
    named = (os.path.join(parent, name) for parent, names in listed for name in names)
    paths = (path for path in named if path.lower().endswith(kind.suffix))
    return any(kind.looks(path) for path in itertools.islice(paths, FILES_TRIED) if os.path.isfile(path))


def holds_pictures(folder):
    """Whether a folder or one below it has a picture."""
    return any(name.lower().endswith(images.SUFFIXES) for _, names in folder_tree.walk(folder) for name in names)


def ending(path):
    """The last 64 KB of a text file; "" if it cannot be read."""
    try:
        with files.open_regular(path) as file:
            file.seek(max(0, os.path.getsize(path) - SNIFFED_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def beginning(path):
    """The first 64 KB of a text file, for a look at its format; "" if it cannot be read. UTF-16 needs its mark."""
    try:
        with files.open_regular(path) as file:
            content = file.read(SNIFFED_BYTES)
    except OSError:
        return ""
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if wide else "utf-8-sig", "replace")
