"""Data sets in CSV tables -> lists of samples.

    DATA/SPLIT.csv, DATA/SPLIT.tsv      a line for each object: image,xmin,ymin,xmax,ymax,class
    DATA/SPLIT/_annotations.csv         the same (Roboflow)
    DATA/data/SPLIT.csv                 the same; in folders of FOLDERS, with pictures beside them

DATA may also be a .csv file; SPLIT then only helps to find the pictures. `image` is relative to the table's folder, or
to SPLIT, images/SPLIT or images in it or, if it has no pictures, beside it; of a path with other folders the longest
end that exists counts. `train` of train_labels.csv may be a folder too. Commas,
semicolons, tabs or bars separate the cells. A first line with these column names (also filename, x1, y1, x2, y2, label,
and others in SYNONYMS) may change their order and add other columns: width and height, the size of the picture that the
boxes were drawn on; difficult, iscrowd and truncated, 1 or true where they are set; area. Without it the order is the
one above, that of makesense.ai or that of AutoML. Edges are continuous, in pixels: the leftmost column of pixels goes
from 0 to 1, so xmin and ymin are one less than in VOC, xmax and ymax the same. A table whose boxes all lie between 0
and 1, as those of Open Images and AutoML, holds fractions of the pictures, also if all are whole numbers. A line with
only an image is a picture without objects, one that begins with # a comment. EXIF orientation is applied, as labeling
tools do, unless the stated size is the stored one.
"""

import collections
import csv
import io
import os
import pathlib
import re
from typing import NamedTuple

from formats import annotations, class_lists, fixed_copy, folders, listing, open_images
from structures import UserError
from system import cli, files, folder_tree, wording

format_name = "a CSV table"
ROBOFLOW = "_annotations.csv"
COLUMNS = ("image", "xmin", "ymin", "xmax", "ymax", "class")
# With x, y, width and height of the box instead of its edges; "image_width" is the width of the picture
SIDES = ("image", "x", "y", "box_width", "box_height", "class")
SIZE = ("image_width", "image_height")
FLAGS = ("difficult", "iscrowd", "truncated")
SYNONYMS = {
    "filename": "image",
    "file": "image",
    "file_name": "image",
    "path": "image",
    "filepath": "image",
    "file_path": "image",
    "img_path": "image",
    "img": "image",
    "image_file": "image",
    "image_filename": "image",
    "image_path": "image",
    "image_name": "image",
    "imageid": "image",
    "image_id": "image",
    "x1": "xmin",
    "y1": "ymin",
    "x2": "xmax",
    "y2": "ymax",
    "x_min": "xmin",
    "y_min": "ymin",
    "x_max": "xmax",
    "y_max": "ymax",
    "left": "xmin",
    "top": "ymin",
    "right": "xmax",
    "bottom": "ymax",
    "bbox_xmin": "xmin",
    "bbox_ymin": "ymin",
    "bbox_xmax": "xmax",
    "bbox_ymax": "ymax",
    "bbox_x": "x",
    "bbox_y": "y",
    "bbox_width": "box_width",
    "bbox_height": "box_height",
    "w": "box_width",
    "h": "box_height",
    "label": "class",
    "class_name": "class",
    "classname": "class",
    "label_name": "class",
    "labelname": "class",
    "category": "class",
    "category_name": "class",
    "isgroupof": "iscrowd",
    "istruncated": "truncated",
    "img_width": "image_width",
    "img_height": "image_height",
}
# Tables without a first line of names: how many cells, and the column of each
MAKESENSE = ("class", "x", "y", "box_width", "box_height", "image", "image_width", "image_height")
AUTOML = ("set", "image", "class", "xmin", "ymin", "", "", "xmax", "ymax", "", "")
OPEN_IMAGES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}  # which its header has
AUTOML_SETS = ("TRAIN", "VALIDATION", "VALIDATE", "TEST", "UNASSIGNED")
SPLIT_COLUMNS = {"split", "set", "subset", "usage"}
DELIMITERS = (",", ";", "\t", "|")
SUFFIXES = (".csv", ".tsv")
FOLDERS = (*folders.ANNOTATIONS, "data", "csv")  # of tables beside a folder of pictures, in lower case


class Entry(NamedTuple):
    """One picture of a split.

    id: see `annotations.with_ids`.
    image_path: the picture.
    where: file and line that name it first, for messages.
    objects: list of Written.
    stated: (width, height) as the table states them, or (None, None); None if it has no columns for them.
    fractions: whether the boxes of its table are fractions of their pictures.
    """

    id: str
    image_path: str
    where: str
    objects: list
    stated: tuple | None
    fractions: bool = False


class _Columns(NamedTuple):
    """Where the columns of a table are.

    at: {name: position}.
    named: whether the first line names them.
    in_fractions: whether such a table holds fractions by definition, so that there is no need to say it.
    """

    at: dict
    named: bool
    in_fractions: bool = False

    @property
    def edges(self):
        """The names of the four columns with the box: edges, or else x, y, width and height."""
        return (COLUMNS if set(COLUMNS) <= self.at.keys() else SIDES)[1:5]


class _Row(NamedTuple):
    """A line of a table: where it is, the image as written, the Written or None, the stated size or None.

    name: the class as written; a line may have one, such as 'No finding', and no object.
    columns: of the table.
    """

    where: str
    image: str
    object: annotations.Written | None
    stated: tuple | None
    name: str
    columns: _Columns


def fits(data):
    """Whether a path looks like a data set in this format."""
    data = pathlib.Path(data)
    if data.is_file():
        return data.suffix.lower() in SUFFIXES
    return any(map(is_table, _own_paths(data).values()))


def fits_below(data):
    """Whether a path that is no data set in any format has one in this format in a folder of FOLDERS."""
    return os.path.isdir(data) and any(map(is_table, _paths_below(pathlib.Path(data)).values()))


def parts(data):
    """The names of the folders that hold the splits of a data set; [] if it does itself."""
    return listing.parts(data, _split_paths)


def split_names(data):
    """The splits of a data set, sorted; of a file, the one."""
    data = pathlib.Path(data)
    return [data.stem] if data.is_file() else sorted(_tables(data))


def class_names(data, splits):
    """The classes of the objects in some splits, a tuple in alphabetical order. Raises UserError if there are none."""
    names = sorted({one.name for entry in find(data, splits) for one in entry.objects})
    return class_lists.names_of_data(names, data, splits)


def load(data, splits, class_names, **options):
    """The samples of some splits. DATA and SPLITS are described above; options: as for source_pascal_voc.load.

    Pictures come in the order of their first lines. Raises UserError that names file and line for anything missing or
    malformed, ImageError for a picture whose header cannot be read.
    """
    return annotations.make_samples(find(data, splits), _read, class_names, format_name=format_name, **options)


def _read(entry):
    """The Annotated of an Entry."""
    return annotations.Annotated(entry.objects, entry.stated, entry.fractions)


def survey(data, names):
    """The listing.Split of each of some splits."""
    return listing.of_split_files(data, names, find, _find_files)


def reader(data):
    """Callable, Entry -> annotations.Annotated."""
    return _read


def find(data, splits, check=True):
    """The Entry of each picture of some splits, in the order of `load`; opens no picture. Raises UserError.

    check: refuse pictures that are missing or listed twice.
    """
    entries = []
    for path, split in _find_files(data, splits):
        found, without_box = {}, []  # {image as written: Entry}; where a class has no box
        others = {other for other in split_names(data) if other != split}
        finder = folders.Finder(_picture_folders(path, split), others, check)
        for row in _rows(path):
            if row.image not in found:
                image_path = finder.find(row.image, row.where)
                found[row.image] = Entry("", image_path, row.where, [], row.stated)
            if row.object is not None:
                found[row.image].objects.append(row.object)
            elif row.name:
                without_box.append(row.where)
        _name_codes(data, path, found)
        if not found:
            raise UserError(f"{path}: the table is empty; choose another split or list pictures in it")
        _warn_of_lines_without_box(path, without_box)
        fractions = _in_fractions(path, row.columns, found.values())
        entries += (entry._replace(fractions=fractions) for entry in found.values())
    return annotations.with_ids(entries, os.fspath(data), check)


def _name_codes(data, path, found):
    """Put the names of classes in the place of Open Images' codes. found: {image: Entry}, whose objects change."""
    if not any(open_images.is_code(one.name) for entry in found.values() for one in entry.objects):
        return
    name_of = open_images.names(_home(data))
    for entry in found.values():
        entry.objects[:] = [one._replace(name=name_of.get(one.name, one.name)) for one in entry.objects]
    left = {one.name for entry in found.values() for one in entry.objects if open_images.is_code(one.name)}
    if left:
        cli.warn_once(
            f"{path}: {min(left)} is a code of Open Images; add {open_images.TABLE}, which names it, to --data"
        )


def _home(data):
    """The folder of a data set."""
    return data if os.path.isdir(data) else os.path.dirname(os.path.abspath(data))


def _in_fractions(path, columns, entries):
    """Whether a table holds fractions of the pictures instead of pixels; warns if only its numbers show it."""
    boxes = [one.edges_px for entry in entries for one in entry.objects]
    found = annotations.all_fractions(boxes)
    if found and not columns.in_fractions:
        cli.warn_once(f"{path}: its boxes are taken as fractions of their pictures, since all lie between 0 and 1")
    return found


def _warn_of_lines_without_box(path, wheres):
    """Say once that lines with a class have no box, as VinBigData writes them for pictures without objects."""
    if wheres:
        cli.warn_once(
            f"{path}: {wording.plural(len(wheres), 'line')} with a class but no box, read as pictures without "
            f"objects; the first is {wheres[0]}"
        )


def _find_files(data, splits):
    """[(table, split)] of DATA and SPLITS."""
    return annotations.find_split_files(pathlib.Path(data), splits, _split_paths, "{}.csv")


def _split_paths(folder):
    """{split: path} of the tables of a folder, or of one in it."""
    found = _own_paths(folder)
    return found if any(map(is_table, found.values())) else _paths_below(folder) or found


def _paths_below(folder):
    """{split: path} of the tables of all folders in a folder that are called as in FOLDERS and have some."""
    found: dict[str, pathlib.Path] = {}
    for place in _folders_below(folder):
        own = _own_paths(place)
        found |= {split: own[split] for split in own if split not in found or not is_table(found[split])}
    return found


def _folders_below(folder):
    """The folders with tables in a folder that are called as in FOLDERS."""
    named = (folder / name for name in folder_tree.visible_folders(folder) if name.lower() in FOLDERS)
    return [place for place in named if any(map(is_table, _own_paths(place).values()))]


def _own_paths(folder):
    """{split: path} of the tables of a folder itself, and of Roboflow's below it."""
    below = (name for name in folder_tree.visible_folders(folder) if (folder / name / ROBOFLOW).is_file())
    found = {name: folder / name / ROBOFLOW for name in below}
    own = [name for suffix in reversed(SUFFIXES) for name in folder_tree.visible(folder, suffix)]
    return {**found, **{name[:-4]: folder / name for name in own}}


def _tables(folder):
    """The `_split_paths` of a folder without other tables, such as a list of classes, each of which is named once."""
    found = _split_paths(folder)
    right = {split: path for split, path in found.items() if is_table(path)}
    if not right:
        return found
    for path in (path for split, path in found.items() if split not in right and not open_images.is_description(path)):
        first = wording.shorten(first_line(folders.beginning(path)))
        cli.warn_once(
            f"{path}: left out, since its first line {first} is not {','.join(COLUMNS)!r} or names of columns"
        )
    _warn_of_repeated_splits(folder, right)
    return right


def _warn_of_repeated_splits(folder, found):
    """Say once that a table below is not used, since another folder has one of its name. found: {split: path}."""
    if any(map(is_table, _own_paths(folder).values())):
        return
    for place in _folders_below(folder):
        for split, path in _own_paths(place).items():
            if found.get(split, path) != path and is_table(path):
                cli.warn_once(f"{path}: left out, since the split {split} is in {found[split]}")


def _first_row(path):
    """The cells of the first line of a table. Raises csv.Error."""
    text = folders.beginning(path)
    rows = _reader([first_line(text)], _delimiter(text))
    return _plain_cells(next(rows, []), rows.dialect.delimiter)


def is_table(path):
    """Whether the first line of a file looks like this format: its column names, or an object."""
    try:
        row = _first_row(path)
        columns = _columns(row)
        return columns.named or _parse(path, row, columns).object is not None
    except (UserError, csv.Error):
        return False


def columns_lacking(path):
    """'image and no class': what the first line of a file that is no table does not name; "" if it names hardly any."""
    try:
        return _lacking(_first_row(path))
    except csv.Error:
        return ""


def _picture_folders(path, split):
    """Where the pictures of a table may be, the most likely first; the last one holds the others."""
    base = path.parent
    found = [base, base / split, base / "images" / split, base / "images"]
    found += folders.of_split([base, base / "images"], split)
    return [*found, *([base] if folders.holds_pictures(base) else _folders_beside(base, split))]


def _folders_beside(base, split):
    """Where the pictures of a table in a folder without pictures may be, as above."""
    home = base.resolve().parent if base.name in ("", "..") else base.parent
    below = {name.lower(): home / name for name in folder_tree.visible_folders(home)}
    named = [below[name] for name in folders.PICTURES if name in below and folders.holds_pictures(below[name])][:1]
    places = [home, *named]
    return [*(place / split for place in places), *folders.of_split(places, split), home, *(named or [base])]


def _rows(path):
    """Yield the _Row of each line."""
    text = files.read_text(path)
    reader = _reader(io.StringIO(text, newline=""), _delimiter(text))
    columns = None
    try:
        for row in reader:
            row = _plain_cells(row, reader.dialect.delimiter)
            if not any(row) or row[0].startswith("#"):
                continue
            if columns is None:
                columns = _columns(row)
                if columns.named:
                    _warn_of_splits(path, columns)
                    continue
            yield _parse(f"{path}, line {reader.line_num}", row, columns)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error}); correct the line") from None


def _warn_of_splits(path, columns):
    """Say once that a column which divides a table is not used."""
    if found := SPLIT_COLUMNS & columns.at.keys():
        cli.warn_once(
            f"{path}: its column {min(found)!r} is not used, all lines are one split; make one table for each split"
        )


def _plain_cells(row, delimiter):
    """The cells of a line without spaces around them, and with points for the decimal commas of Excel in Europe."""
    cells = [cell.strip() for cell in row]
    if delimiter == ",":
        return cells
    return [re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in cells]


def _reader(lines, delimiter):
    """A csv.reader; spaces before a quoted cell are none of it."""
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _delimiter(text):
    """What separates the cells: the one of DELIMITERS that the first line has most often, outside of quotes."""
    unquoted = "".join(first_line(text).split('"')[::2])
    return max(DELIMITERS, key=unquoted.count)


def first_line(text):
    """The first line that is neither blank nor a comment."""
    return next((line for line in files.split_lines(text) if line.strip() and not line.startswith("#")), "")


def _columns(row):
    """The _Columns of a table with this first line."""
    at = _header(row)
    if at is not None:
        return _Columns(at, True, {cell.lower() for cell in row} >= OPEN_IMAGES)
    order = _unnamed(row)
    return _Columns({name: position for position, name in enumerate(order) if name}, False, order == AUTOML)


def _header(row):
    """{column: position} of a line of column names; None for any other line."""
    at = _positions(row)
    return at if set(COLUMNS) <= at.keys() or set(SIDES) <= at.keys() else None


def _lacking(row):
    """'image and no class': the columns that a first line of names lacks; "" if it names less than half of them."""
    at = _positions(row)
    fewest = min(([name for name in form if name not in at] for form in (COLUMNS, SIDES)), key=len)
    return " and no ".join(fewest) if 2 * len(fewest) <= len(COLUMNS) else ""


def _positions(row):
    """{column: position} of all cells of a line, as if they were names of columns."""
    plain = [re.sub(r"[\s.-]+", "_", cell.lower()) for cell in row]
    names = [SYNONYMS.get(cell, cell) for cell in plain]
    at = {name: position for position, name in reversed(list(enumerate(names)))}
    if set(COLUMNS) <= at.keys():  # then width and height are the picture's
        at |= {f"image_{side}": at[side] for side in ("width", "height") if side in at and f"image_{side}" not in at}
    else:
        at |= {f"box_{side}": at[side] for side in ("width", "height") if side in at and f"box_{side}" not in at}
    return at


def _unnamed(row):
    """The columns of a table without column names, in order; `row`: its first line."""
    if len(row) >= len(AUTOML) - 2 and row[0].upper() in AUTOML_SETS:
        return AUTOML
    if len(row) == len(MAKESENSE) and annotations.numbers(row[1:5]) and annotations.numbers(row[6:]):
        return MAKESENSE
    return COLUMNS


def _parse(where, row, columns):
    """One line -> _Row. columns: _Columns."""

    def cell(name):
        return row[columns.at[name]] if columns.at[name] < len(row) else ""

    image, name = cell("image"), cell("class")
    corners = [cell(column) for column in columns.edges]
    stated = None
    if set(SIZE) <= columns.at.keys():
        sides = [annotations.numbers([cell(side)]) for side in SIZE]
        stated = tuple(round(side[0]) if side and side[0] >= 1 else None for side in sides)
    if "\n" in image:
        raise UserError(f"{where}: {wording.shorten(image)} spans several lines; close its quotation marks")
    if not image:
        raise UserError(f"{where}: the image is missing; correct the line")
    if not any(corners):
        return _Row(where, image, None, stated, name, columns)
    edges = annotations.numbers(corners)
    if not name or edges is None:
        raise UserError(f"{where}: {_wrong(row, columns, corners)}")
    if columns.edges == SIDES[1:5]:
        edges = [edges[0], edges[1], edges[0] + edges[2], edges[1] + edges[3]]
    flags = {flag: flag in columns.at and _is_set(cell(flag)) for flag in FLAGS}
    area = annotations.numbers([cell("area")]) if "area" in columns.at else None
    one = annotations.Written(name, tuple(edges), where, flags["difficult"] or flags["iscrowd"], flags["iscrowd"])
    one = one._replace(area=area and area[0], truncated=flags["truncated"])
    return _Row(where, image, one, stated, name, columns)


def _wrong(row, columns, corners):
    """What is wrong with a line, and the remedy, for a message. corners: its cells of the box."""
    shown = wording.shorten(",".join(row))
    if not columns.named and (names := _lacking(row)):
        return f"{shown} names no {names}; rename the columns that hold these, or add them"
    if not columns.named:
        return f"{shown} is not {','.join(COLUMNS)!r}; correct the line, or name the columns in line 1"
    wrong = [name for name, cell in zip(columns.edges, corners, strict=True) if annotations.numbers([cell]) is None]
    return f"{shown} has no {'number for ' + wrong[0] if wrong else 'class'}; correct the line"


def _is_set(text):
    """Whether the cell of a flag says yes: also 1.0, as pandas writes a column of numbers with blanks."""
    return text.lower() in ("true", "yes") or annotations.numbers([text]) == [1]


def write_fixed(copy):
    """Write the tables of a fixed_copy.FixedCopy: the lines of the pictures that stay, in their columns."""
    for path in open_images.descriptions(_home(copy.data)):
        copy.keep(path)
    for split in copy.splits:
        path = split.listed.where
        text = files.read_text(path)
        output, delimiter = io.StringIO(), _delimiter(text)
        writer = csv.writer(output, delimiter=delimiter, lineterminator="\n")
        kept_at, kept = {one.listed.entry.where: one for one in split.pictures}, {}
        at, columns = collections.Counter(), None
        reader = _reader(io.StringIO(text, newline=""), delimiter)
        for row in reader:
            cells, where = _plain_cells(row, delimiter), f"{path}, line {reader.line_num}"
            if not any(cells) or cells[0].startswith("#"):
                continue
            if columns is None:
                columns = _columns(cells)
                if columns.named:
                    writer.writerow(row)
                    continue
            parsed = _parse(where, cells, columns)
            one = kept.setdefault(parsed.image, kept_at.get(where))  # the first line of a picture decides
            if one is not None:
                index = at[parsed.image]
                at[parsed.image] += parsed.object is not None
                writer.writerows(_edited(row, columns, one, index if parsed.object else None, parsed.object))
        copy.write(path, output.getvalue())


def _edited(row, columns, kept, index, written):
    """The lines that take the place of one: a line, or none.

    index: of the object in its picture; written: the object; both are None if the line has none.
    A picture that loses its last object keeps a line of its own.
    """
    row += [""] * (1 + max(columns.at.values()) - len(row))  # a line may end after its picture
    if kept.image_path != kept.listed.image_path:
        row[columns.at["image"]] = os.path.splitext(row[columns.at["image"]])[0] + kept.suffix
    if kept.edit is None:
        return [row]
    box = fixed_copy.KEEP if index is None else kept.edit.boxes[index]
    if box is None:
        if index or any(other is not None for other in kept.edit.boxes):
            return []
        for name in (*columns.edges, "class"):
            row[columns.at[name]] = ""
    elif box != fixed_copy.KEEP:
        for name, value in zip(columns.edges, _values(box, columns, kept), strict=True):
            row[columns.at[name]] = value
    if kept.edit.scale and set(SIZE) <= columns.at.keys():
        for name, value in zip(SIZE, kept.edit.size, strict=True):
            row[columns.at[name]] = str(value)
    if kept.edit.scale and written is not None and written.area is not None:
        x, y = kept.edit.scale
        row[columns.at["area"]] = wording.number(written.area * x * y)
    return [row]


def _values(box, columns, kept):
    """The four cells of a corrected box, in the units and columns of its table."""
    in_fractions = kept.listed.entry.fractions
    x, y = kept.edit.size if in_fractions else (1, 1)
    xmin, ymin, xmax, ymax = box[0] / x, box[1] / y, box[2] / x, box[3] / y
    values = (xmin, ymin, xmax, ymax) if columns.edges == COLUMNS[1:5] else (xmin, ymin, xmax - xmin, ymax - ymin)
    return [wording.number(value, 8 if in_fractions else 3) for value in values]
