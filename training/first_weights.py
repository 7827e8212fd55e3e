"""What a training starts from: the arrays of --vgg-weights or --init-from, and a line that says what was taken."""

import config
import detector
import pretrained
from weights import class_transfer, vgg_download


def read(settings, description, variables, check_stop):
    """The (variable, array) pairs to set before the first step; prints what starts otherwise.

    variables: the network's; those whose shape differs keep their random start. check_stop: called during a download;
    may raise to end it.
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
    print(f"{origin}: {len(taken)} arrays taken; initialised at random: {', '.join(fresh) or 'none'}")
    return [(by_name[name], arrays[name]) for name in taken]


def _of_run(settings, description):
    """The arrays of --init-from by variable name, with heads for this training's classes."""
    source = config.find_model(settings.init_from)
    old_names = source.description.class_names
    sources = class_transfer.find_sources(old_names, description.class_names, settings.map_classes)
    print(f"{settings.init_from}: {class_transfer.describe(old_names, description.class_names, sources)}")
    return class_transfer.move_heads(detector.read_weights(source.checkpoint), len(old_names), sources)
