"""The weights that a training starts from: the arrays of --vgg-weights or --init-from."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

import config
import detector
import pretrained
from settings.training_settings import TrainingSettings
from weights import class_transfer, download


def read(
    settings: TrainingSettings,
    description: config.ModelDescription,
    shapes: Mapping[str, Sequence[int]],
    check_stop: Callable[[], None],
) -> dict[str, np.ndarray]:
    """The given arrays by variable name; prints which layers start from random values.

    shapes: of the network's variables, by name; check_stop: called during a download, may raise to end it. A variable
    that has no array of its shape is left out. Raises UserError for a file or run that cannot be read.
    """
    if settings.init_from:
        origin, arrays = settings.init_from, _of_run(settings, description)
    elif settings.vgg_weights:
        origin = settings.vgg_weights
        if origin == "auto":
            origin = download.fetch(download.VGG16, check_stop)
        arrays = pretrained.read_vgg(origin, description.preset)
    else:
        return {}
    taken = [name for name in sorted(shapes) if name in arrays and arrays[name].shape == tuple(shapes[name])]
    fresh = sorted({name.split("/")[0] for name in shapes.keys() - set(taken)})
    print(f"{origin}: {len(taken)} arrays taken; initialized at random: {', '.join(fresh) or 'none'}")
    return {name: arrays[name] for name in taken}


def _of_run(settings, description):
    """The arrays of --init-from by variable name, their heads converted to the classes of this training."""
    source = config.find_model(settings.init_from)
    old_names = source.description.class_names
    sources = class_transfer.find_sources(old_names, description.class_names, settings.map_classes)
    print(f"{settings.init_from}: {class_transfer.describe(old_names, description.class_names, sources)}")
    return class_transfer.move_heads(detector.read_current(source)[1], len(old_names), sources)
