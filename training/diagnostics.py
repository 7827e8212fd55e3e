"""What the steps of a training tell: values for TensorBoard, and warnings that name the flag to change."""

import numpy as np

import ssd_layers
from ssd_utils import SSDPreset
from training.probes import Reading


def values(reading: Reading, class_targets: np.ndarray, preset: SSDPreset) -> dict[str, float]:
    """{tag: value} of one update.

    class_targets: int32 [N,A] of a batch, 0 for background.
    """
    found = {"gradient/norm": reading.gradient_norm}
    if reading.updates:
        found["gradient/clipped"] = reading.clipped / reading.updates
    found.update({f"weight_norm/{layer}": norm for layer, norm in reading.weight_norms.items()})
    found.update({f"update_norm/{layer}": norm for layer, norm in reading.update_norms.items()})
    found.update({f"update_ratio/{layer}": ratio for layer, ratio in update_ratios(reading).items()})
    for layer, gradient in reading.bias_gradients.items():
        found[f"silent_units/{layer}"] = float(np.mean(gradient == 0))
    found.update({f"positives/{name}": share for name, share in positive_shares(class_targets, preset).items()})
    return found


def update_ratios(reading: Reading) -> dict[str, float]:
    """{layer: norm of its update / norm of its weights}."""
    return {layer: moved / max(reading.weight_norms[layer], 1e-30) for layer, moved in reading.update_norms.items()}


def positive_shares(class_targets: np.ndarray, preset: SSDPreset) -> dict[str, float]:
    """{feature map: its share of the positives}; empty if there are none."""
    counts = [side * side * shapes for side, shapes in zip(preset.feature_maps, preset.anchors_per_cell, strict=True)]
    positives = np.add.reduceat(np.count_nonzero(class_targets, axis=0), np.cumsum([0, *counts[:-1]]))
    total = positives.sum()
    return dict(zip(ssd_layers.feature_names(preset), (positives / total).tolist(), strict=True)) if total else {}
