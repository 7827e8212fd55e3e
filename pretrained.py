"""Weight files -> named arrays for the network's variables."""

import numpy as np

import ssd_vgg
from structures import UserError


def read_vgg(path, preset):
    """A VGG-16 .npz (`conv1_1/weights` HWIO for BGR input minus the mean, `conv1_1/biases`, …) -> dict of arrays.

    fc6 and fc7 are taken if the file has them in the subsampled form (3×3×512×1024, 1×1×1024×1024). conv1_1 is
    turned to the channel order of the preset. Raises UserError if the file is damaged or does not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError:
        raise UserError(f"--vgg-weights {path}: no such file") from None
    except Exception as error:  # zip, zlib and npy each have their own exceptions for damage
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"--vgg-weights {path}: not a readable .npz ({reason})") from None
    expected = vgg_shapes()
    unknown = sorted(set(arrays) - set(expected))
    missing = sorted(name for name in set(expected) - set(arrays) if name.startswith("conv"))
    wrong = [
        f"{name} {array.shape} {array.dtype}"
        for name, array in arrays.items()
        if name in expected and (array.shape != expected[name] or array.dtype.kind not in "fiu")
    ]
    for what, names in (("lacks", missing), ("has unknown arrays", unknown), ("has wrongly shaped", wrong)):
        if names:
            raise UserError(f"--vgg-weights {path}: {what} {', '.join(names)}; a VGG-16 .npz is needed")
    if preset.channel_order == "RGB":
        arrays["conv1_1/weights"] = arrays["conv1_1/weights"][:, :, ::-1]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def vgg_shapes():
    """Shapes of the base's variables at full width, by name."""
    shapes, inputs = {}, 3
    for group, depth, channels in ssd_vgg.VGG_GROUPS:
        for index in range(1, depth + 1):
            shapes[f"{group}_{index}/weights"] = (3, 3, inputs, channels)
            shapes[f"{group}_{index}/biases"] = (channels,)
            inputs = channels
    shapes.update({"fc6/weights": (3, 3, 512, 1024), "fc6/biases": (1024,)})
    shapes.update({"fc7/weights": (1, 1, 1024, 1024), "fc7/biases": (1024,)})
    return shapes
