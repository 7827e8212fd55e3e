"""What train.py says of its pictures before it trains: what is likely to spoil the result."""

import collections
import functools
import os
import re

import numpy as np

import ssd_utils
from dataset_check import anchor_advisor, checks
from media import images
from system import files, wording
from tiling import views

FEW_CLASSES = 20  # that are listed with their counts
SHORT_NAME = 4  # names below this length are too alike by nature: car, cat


def class_line(samples, class_names):
    """'objects of 2 classes: dog (31), cat (12)', the most frequent first."""
    counts = _counts(samples, class_names)
    shown = sorted(counts.items(), key=lambda item: -item[1])
    return f"objects of {wording.plural(len(counts), 'class')}: " + checks.some(
        [f"{name} ({count})" for name, count in shown], FEW_CLASSES
    )


def _counts(samples, class_names):
    labels = np.concatenate([sample.labels for sample in samples])
    return {name: int((labels == label).sum()) for label, name in enumerate(class_names)}


def notes(samples, valid, description, settings):
    """All that the user should know before training, a list of lines, empty for clean data.

    samples, valid: lists of Sample for training and for validation.
    description: config.ModelDescription; settings: TrainingSettings.
    """
    return [
        *quick_notes(samples, valid, description.class_names, description.preset, settings.cut),
        *_valid_notes(valid, settings),
        *_name_notes(description.class_names),
        *_copy_notes(samples, valid),
        *_level_notes(samples, description.preset),
    ]


def _valid_notes(valid, settings):
    """A line if nothing in the validation pictures can be scored."""
    if not valid or any((~sample.difficult).any() for sample in valid):
        return []
    count = sum(len(sample.boxes) for sample in valid)
    why = f"all of its {wording.plural(count, 'object')} are difficult" if count else "it has no object of the classes"
    patience = ", and --patience does not count" if settings.patience else ""
    return [f"--valid {settings.valid}: {why}, so there is no mean AP and no best checkpoint{patience}"]


def _name_notes(class_names):
    """A line if class names are alike, as after a typing error."""
    pairs = [f"{one!r} and {two!r}" for one, two in alike(class_names)]
    if not pairs:
        return []
    return [f"class names that differ by case, spaces or one letter: {checks.some(pairs, 3)}; one class or two?"]


def alike(names):
    """Pairs of names that differ only by case, spaces and signs, or by one letter."""
    shared = collections.defaultdict(list)  # names that are equal without one of their letters
    for name in names:
        plain = wording.plain(name)
        for variant in {plain, *(plain[:at] + plain[at + 1 :] for at in range(len(plain)))}:
            shared[variant].append(name)
    pairs = {(one, two) for group in shared.values() for at, one in enumerate(group) for two in group[at + 1 :]}
    return sorted(pair for pair in pairs if _are_alike(*map(wording.plain, pair)))


def _are_alike(one, two):
    if one == two:
        return True
    if min(len(one), len(two)) < SHORT_NAME or re.sub(r"\d", "", one) == re.sub(r"\d", "", two):
        return False  # lane 1 and lane 2 are two classes
    if len(one) == len(two):
        return sum(a != b for a, b in zip(one, two, strict=True)) == 1
    short, long = sorted((one, two), key=len)
    return len(long) == len(short) + 1 and any(long[:at] + long[at + 1 :] == short for at in range(len(long)))


def _copy_notes(samples, valid):
    """A line if a file in both sets of pictures has the same bytes under two names."""
    ours, theirs = {one.image_path for one in samples}, {one.image_path for one in valid}
    pairs = same_files(sorted(ours - theirs), sorted(theirs - ours))
    if not pairs:
        return []
    one, two = pairs[0]
    return [
        f"{wording.plural(len(pairs), 'picture')} of --train also in --valid under another name; the first is {one}, "
        f"the same as {two}"
    ]


def same_files(paths, others):
    """[(path, other)] for each of `paths` whose bytes are those of one of `others`; opens only files of one size."""
    sizes = collections.defaultdict(list)
    for path in others:
        sizes[_size(path)].append(path)
    digest, found = functools.cache(_digest), []
    for path in paths:
        for other in sizes.get(_size(path), ()):
            if digest(path) is not None and digest(path) == digest(other):
                found.append((path, other))
                break
    return found


def _size(path):
    try:
        return os.path.getsize(path)
    except OSError:
        return None


def _digest(path):
    """The digest of a file, None if it cannot be read."""
    try:
        return files.digest(path)
    except OSError:
        return None


def _level_notes(samples, preset):
    """A line if 16-bit pictures among the first ones lose their contrast."""
    if preset.gray16 != images.FULL:
        return []
    note = images.note_on_levels(one.image_path for one in samples)
    return [f"{note}; --gray16 stretch spreads them"] if note else []


def quick_notes(samples, valid, class_names, preset, cut=None):
    """What the user should know before training, a list of lines, empty for clean data. Opens no file.

    samples, valid: lists of Sample for training and for validation.
    class_names: of their labels.
    preset: whose anchors will be trained.
    cut: the tiling.tiles.Cut of the training, None for whole pictures.
    """
    notes = []
    shared = {sample.image_path for sample in samples} & {sample.image_path for sample in valid}
    if shared:
        both = wording.plural(len(shared), "picture")
        notes.append(f"{both} in both --train and --valid; the first is {min(shared)}")
    boxes = np.concatenate([_largest(sample, cut) for sample in samples])
    labels = np.concatenate([sample.labels for sample in samples])
    counts = _counts(samples, class_names)
    if rare := [f"{name} ({count})" for name, count in counts.items() if not count or checks.is_rare(count, counts)]:
        notes.append("few objects to learn from: " + checks.some(rare))
    without = sum(not len(sample.boxes) for sample in samples)
    if without > len(samples) / 2:
        notes.append(f"{without} of {len(samples)} pictures have no objects; they add little to training")
    tiny = int((anchor_advisor.sides_px(preset, boxes) < checks.TINY).sum())
    if tiny > len(boxes) / 20:
        where = " even in tiles" if cut else ""
        notes.append(
            f"{tiny} of {len(boxes)} objects are below {checks.TINY} pixels at the input size{where}, too small to "
            "detect"
        )
    notes += _quick_matchable(preset, boxes, labels, class_names)
    return notes


def _largest(sample, cut):
    """The boxes of a sample where the training shows them largest, as fractions of the picture or of a tile."""
    return views.largest(cut, (sample.width, sample.height), sample.boxes) if cut else sample.boxes


def _quick_matchable(preset, boxes, labels, class_names):
    """A list of one line if the anchors match less than half of all objects, or of some classes; otherwise empty."""
    table = anchor_advisor.matchable(preset, boxes, labels, class_names)
    low = [
        f"{name} {hits / total:.0%}"
        for name, sizes in table.items()
        for hits, total in [sizes[anchor_advisor.ALL]]
        if total >= checks.RARE and hits < total / 2
    ]
    if not low:
        return []
    return [
        f"anchors overlap few objects by IoU {ssd_utils.MATCH_IOU:g}: {checks.some(low)}; "
        "write better ones with check_dataset.py --anchors FILE, then train with --anchors FILE"
    ]
