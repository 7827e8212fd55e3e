"""Make confidence heads for one class list from those for another, for fine-tuning.

A feature map's confidence head has weights [3,3,channels,shapes·K] and biases [shapes·K], K = 1 + classes: for each
anchor shape a row (an output channel) for background, then one for each class. No other layer depends on the classes.
"""

import math

import ssd_layers
from structures import UserError
from system import wording

# The share of background's score that all new classes together start with. To the old detector an object of a new class
# is background, so a new class starts with a copy of background's row and a lower bias, and background's own bias is
# lowered to match: e^z = (1 - s) e^z + s e^z. The sum under softmax does not change, and so no score of an old class
# does, in any picture, up to float32's rounding: the old classes keep their AP. (Logits near 0, as in a new head, would
# take a large share wherever the old classes have low scores, and a different one in each place.) Any share has this
# property. This one is below 0.01, the score from which detections are reported, so that new classes report nothing
# before they have learned. It does not slow learning: the gradient of cross-entropy at an object is p - 1, largest for
# a small p. (A third shape added to two, 60 steps: mean AP 0.94; 0.95 with new rows; only 0.87 with a share of 1e-7.)
NEW_CLASSES_SHARE = 0.005


def find_sources(old_names, new_names, pairs=()):
    """Which old class each new class continues: a tuple of old labels, None for a new class that continues none.

    A class continues the old class of the same name, or the one given in `pairs` (texts OLD=NEW). Several new classes
    may continue the same old class. Raises UserError for a name in `pairs` that is not in its list, and for a new class
    that would continue two old ones.
    """
    split = {pair: _split(pair, old_names, new_names) for pair in pairs}
    source_of, mapped = {}, {old for old, _ in split.values()}
    for pair, (old, new) in split.items():
        _check_known(pair, old, old_names, "the run of --init-from has")
        _check_known(pair, new, new_names, "--classes has")
        if (other := source_of.setdefault(new, old)) != old:
            raise UserError(f"--map-classes {pair}: {other!r} already becomes {new!r}; a class can continue only one")
    for name in new_names:
        if name in old_names and source_of.setdefault(name, name) != name and name not in mapped:
            raise UserError(
                f"--map-classes {source_of[name]}={name}: the run of --init-from has its own {name!r}; leave that "
                f"pair out, or map the old {name!r} to another class"
            )
    return tuple(old_names.index(source_of[name]) if name in source_of else None for name in new_names)


def _split(pair, old_names, new_names):
    """'OLD=NEW' -> (OLD, NEW); names may hold = themselves."""
    parts = pair.split("=")
    halves = [("=".join(parts[:at]), "=".join(parts[at:])) for at in range(1, len(parts))]
    known = [(old, new) for old, new in halves if old in old_names and new in new_names]
    return (known or halves)[0]


def _check_known(pair, name, names, owner):
    if name not in names:
        hint = wording.nearest_hint(name, names)
        raise UserError(f"--map-classes {pair}: {name!r} is unknown{hint}; {owner} {', '.join(names)} (give OLD=NEW)")


def move_heads(arrays, num_old, sources):
    """A network's arrays by variable name, for num_old classes -> the arrays for the new class list.

    sources: of `find_sources`. The rows of continued classes and of background are copied; each new class gets its part
    of NEW_CLASSES_SHARE. If no class is continued, the confidence heads are left out, to start at random.
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
    """What becomes of the classes, one line: 'classes kept: cat; copied: car as van; new: bus; left out: cow'."""
    if all(source is None for source in sources):
        return "no class in common: the confidence heads start at random"
    olds = [None if source is None else old_names[source] for source in sources]
    pairs = list(zip(olds, new_names, strict=True))
    parts = {
        "classes kept": [new for old, new in pairs if old == new],
        "copied": [f"{old} as {new}" for old, new in pairs if old not in (None, new)],
        "new": [new for old, new in pairs if old is None],
        "left out": [name for label, name in enumerate(old_names) if label not in sources],
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)
