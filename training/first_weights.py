"""The weights that a training starts from: the arrays of --vgg-weights or --init-from."""

from collections.abc import Callable, Iterable

import config
import detector
import pretrained
from weights import class_transfer, vgg_download


def read(
    settings: config.TrainingSettings,
    description: config.ModelDescription,
    variables: Iterable,
    check_stop: Callable[[], None],
) -> list[tuple]:
    """The (variable, array) pairs to set before the first step; prints which layers start from random values.

    variables: the network's; check_stop: called during a download, may raise to end it. A variable that has no array
    of its shape keeps its random values. Raises UserError for a file or run that cannot be read.
    """
    if settings.init_from:
        origin, arrays = settings.init_from, _of_run(settings, description)
    elif settings.vgg_weights:
        origin = settings.vgg_weights
        if origin == "auto":
            origin = vgg_download.fetch(check_stop=check_stop)
        arrays = pretrained.read_vgg(origin, description.preset)
    else:
        return []
    by_name = {v.op.name: v for v in variables}
    taken = [name for name in sorted(by_name) if name in arrays and arrays[name].shape == tuple(by_name[name].shape)]
    fresh = sorted({name.split("/")[0] for name in by_name.keys() - set(taken)})
    print(f"{origin}: {len(taken)} arrays taken; initialized at random: {', '.join(fresh) or 'none'}")
    return [(by_name[name], arrays[name]) for name in taken]


def _of_run(settings, description):
    """The arrays of --init-from by variable name, their heads converted to the classes of this training."""
    source = config.find_model(settings.init_from)
    old_names = source.description.class_names
    sources = class_transfer.find_sources(old_names, description.class_names, settings.map_classes)
    print(f"{settings.init_from}: {class_transfer.describe(old_names, description.class_names, sources)}")
    return class_transfer.move_heads(detector.read_weights(source.checkpoint), len(old_names), sources)
