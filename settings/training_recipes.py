"""What train.py --recipe sets: the defaults, the article's settings and the original's."""

from typing import Any

from settings.training_settings import DEFAULTS, TRAINED_FACTOR
from tiling import tiles as tiling

# The article's and the original's settings say everything, so that they stay when a default changes. Sources: github
# ljanyst/ssd-tensorflow at commit 6e2523c, which the article describes (its README advises 150 to 200 epochs), and
# ssd_pascal.py of weiliu89/caffe. Neither warms up or clips the gradient. The article's code redraws pictures since
# its commit c292e6c of 2018
_ARTICLE: dict[str, Any] = {
    "preset": "vgg300-article",
    "augmentation": "article",
    "tiles": None,
    "overlap": tiling.OVERLAP,  # not used
    "initializer": "xavier",
    "freeze": (),
    "normalize": "image",
    "matching": "threshold",
    "unmatched": "redraw",
    "negative_ratio": 3,
    "class_weights": None,
    "batch_size": 8,
    "accumulate": 1,
    "optimizer": "adam",
    "adam_epsilon": 0.1,
    "momentum": 0.9,
    "momentum_form": DEFAULTS.momentum_form,  # not used
    "clip_norm": 0.0,
    "weight_decay": 5e-4,
    "ema": None,
    "learning_rate": 1e-3,
    "schedule": "exponential",
    "schedule_steps": DEFAULTS.schedule_steps,  # not used
    "schedule_rates": (),
    "warmup_steps": 0,
    "bias_lr_multiplier": 1.0,
    "vgg_lr_multiplier": 1.0,
    "epochs": 200,
    "max_steps": None,
}
_ORIGINAL: dict[str, Any] = {
    **_ARTICLE,
    "preset": "vgg300",
    "augmentation": "full",
    "normalize": "batch",
    "matching": "bipartite",
    "unmatched": "keep",
    "accumulate": 4,
    "optimizer": "momentum",
    "momentum_form": "caffe",
    "adam_epsilon": DEFAULTS.adam_epsilon,  # not used
    "schedule": "step",
    "schedule_steps": (80000, 100000),
    "bias_lr_multiplier": 2.0,
    "epochs": 120000,  # the steps end it, even where an epoch is one step
    "max_steps": 120000,
}
# What train.py --recipe sets: the preset's name, and fields of TrainingSettings
RECIPES: dict[str, dict[str, Any]] = {
    "default": {
        "preset": "vgg300",
        **{name: getattr(DEFAULTS, name) for name in _ARTICLE if name != "preset"},
        "vgg_lr_multiplier": TRAINED_FACTOR,  # 1 without VGG-16's weights
    },
    "article": _ARTICLE,
    "original": _ORIGINAL,
}
