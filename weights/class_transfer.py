"""The confidence heads of one class list made from those of another, for fine-tuning.

A feature map's confidence head has weights [3,3,channels,shapes·K] and biases [shapes·K], K = 1 + classes: for each
anchor shape a row (an output channel) for background and then one for each class. Everything else knows no classes.
"""

import math

import ssd_layers
from structures import UserError
from system import wording

# What new classes start with, all together, of background's score. An object of a class not known yet is background to
# the old detector; so a new class has a copy of background's row with a lower bias, and background's own bias falls by
# what they take: log(e^z) = log((1 - s) e^z + s e^z). The sum under softmax stays, and with it every score of the old
# classes, in any picture, to float32's rounding: their AP is kept. (Logits near 0, as in a fresh head, would take a
# large share wherever the old ones are unsure, and another one in each place.) Any share would do for that; this one
# lies below the 0.01 from which detections are reported, so that new classes add none before they have learnt. It is no
# handicap: cross-entropy's gradient at an object is p - 1, at its largest for a small p. (A third shape beside two, 60
# steps: mean AP 0.94, with rows as in a fresh head 0.95, with 1e-7 in place of 0.005 only 0.87.)
NEW_CLASSES_SHARE = 0.005


def find_sources(old_names, new_names, pairs=()):
    """Which old class each new one continues: a tuple of old labels, None for a class without.

    A class continues that of the same name, or the one that `pairs` (texts OLD=NEW) says; an old class may be continued
    by several. Raises UserError for a name that is in neither list, and for a new class that would continue two.
    """
    source_of, mapped = {}, {pair.partition("=")[0] for pair in pairs}
    for pair in pairs:
        old, _, new = pair.partition("=")
        _check_known(pair, old, old_names, "the run of --init-from has")
        _check_known(pair, new, new_names, "--classes has")
        if (other := source_of.setdefault(new, old)) != old:
            raise UserError(f"--map-classes {pair}: {other!r} becomes {new!r} already; a class can continue only one")
    for name in new_names:
        if name in old_names and source_of.setdefault(name, name) != name and name not in mapped:
            raise UserError(
                f"--map-classes {source_of[name]}={name}: the run of --init-from knows {name!r} itself; leave that "
                f"pair out, or say what becomes of the old {name!r}"
            )
    return tuple(old_names.index(source_of[name]) if name in source_of else None for name in new_names)


def _check_known(pair, name, names, owner):
    if name not in names:
        hint = wording.nearest_hint(name, names)
        raise UserError(f"--map-classes {pair}: {name!r} is unknown{hint}; {owner} {', '.join(names)} (OLD=NEW)")


def move_heads(arrays, num_old, sources):
    """A network's arrays by variable name, of num_old classes -> those for the new class list.

    sources: of `find_sources`. Rows of continued classes and of background are copied; a new class has its part of
    background's NEW_CLASSES_SHARE. If no class is continued there is nothing to keep, and the confidence heads are
    left out, to start afresh.
    """
    if all(source is None for source in sources):
        return {name: array for name, array in arrays.items() if not ssd_layers.is_confidence(name)}
    return {
        name: _move_rows(array, num_old, sources, name.endswith("/biases")) if ssd_layers.is_confidence(name) else array
        for name, array in arrays.items()
    }


def _move_rows(array, num_old, sources, is_bias):
    """[...,shapes·(1+num_old)] -> [...,shapes·(1+len(sources))]."""
    rows = array.reshape(*array.shape[:-1], -1, 1 + num_old)  # [...,shapes,1+num_old]
    taken = rows[..., [0, *(0 if source is None else 1 + source for source in sources)]]
    if is_bias and None in sources:
        taken[..., 0] += math.log1p(-NEW_CLASSES_SHARE)
        new = [1 + label for label, source in enumerate(sources) if source is None]
        taken[..., new] += math.log(NEW_CLASSES_SHARE / len(new))
    return taken.reshape(*array.shape[:-1], -1)


def describe(old_names, new_names, sources):
    """What becomes of the classes, for people: 'classes kept: cat; car as vehicle; new: bus; left out: cow'."""
    if all(source is None for source in sources):
        return "no class in common: the confidence heads start afresh"
    olds = [None if source is None else old_names[source] for source in sources]
    pairs = list(zip(olds, new_names, strict=True))
    parts = {
        "classes kept": [new for old, new in pairs if old == new],
        "copied": [f"{old} as {new}" for old, new in pairs if old not in (None, new)],
        "new": [new for old, new in pairs if old is None],
        "left out": [name for label, name in enumerate(old_names) if label not in sources],
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)
