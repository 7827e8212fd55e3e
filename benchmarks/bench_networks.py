"""Benchmarks of the network and the training step."""

from bench_harness import duel

BEST = "bfloat16 autocast, channels_last"
FLOAT32 = "float32, channels_last"
TRAINING_SETTINGS = (
    "bfloat16 autocast, channels_last, fused Adam",
    "bfloat16 autocast, channels_last",
    "bfloat16 autocast, fused Adam",
    "float32, channels_last, fused Adam",
)


def _network(preset, setting, target, batch=8):
    """A benchmark: images/s of the network alone."""

    def benchmark(name, settings):
        size = {"preset": preset, "batch": settings.choose(batch, batch, 1)}
        ours = {**size, **settings.choose({}, {}, {"width": 0.03})}
        yield duel(
            name,
            ("bench_ours.py", "network", ours),
            ("bench_torch.py", "network", {**size, "setting": setting}),
            settings=settings,
            rounds=settings.choose(15, 5, 1),
            target=target,
            what=f"uint8 images to scores and offsets, batch {size['batch']}, 20 classes and background",
        )

    return benchmark


def training_step(name, settings):
    """One training step, all layers trained, loss and Adam inside."""
    batch = settings.choose(8, 8, 1)
    yield duel(
        name,
        ("bench_ours.py", "training_step", {"batch": batch, **settings.choose({}, {}, {"width": 0.03})}),
        ("bench_torch.py", "training_step", {"batch": batch, "settings": _tried(settings)}),
        settings=settings,
        rounds=settings.choose(11, 4, 1),
        target=1.1,
        what=f"forward, loss, backward, Adam; all layers trained, batch {batch}",
    )


def _tried(settings):
    return settings.choose(TRAINING_SETTINGS, TRAINING_SETTINGS[:1], TRAINING_SETTINGS[:1])


BENCHMARKS = {
    "training-step": training_step,
    "network-300": _network("vgg300", BEST, 1.4),
    "network-300-float32": _network("vgg300", FLOAT32, 2.6),
    "network-512": _network("vgg512", BEST, None),
    "network-512-float32": _network("vgg512", FLOAT32, None),
}
