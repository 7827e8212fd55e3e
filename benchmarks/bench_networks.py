"""Benchmarks of the network and the training step."""

from bench_harness import duel
from bench_paths import ROOT  # noqa: F401, lets the next line find the project

from kernels import cpu

BFLOAT16, FLOAT32 = "bfloat16 autocast, channels_last", "float32, channels_last"
# If the CPU is slow in bfloat16, so is the peer, up to ten times, which would be no fair comparison
BEST = BFLOAT16 if cpu.bfloat16_is_faster() else FLOAT32
TRAINING_SETTINGS = tuple(
    setting
    for setting in (
        f"{BFLOAT16}, fused Adam",
        BFLOAT16,
        "bfloat16 autocast, fused Adam",
        f"{FLOAT32}, fused Adam",
        "float32, fused Adam",
    )
    if cpu.bfloat16_is_faster() or "bfloat16" not in setting
)


def _network(preset, setting, target, batch=8):
    """A benchmark: images per second of the network alone."""

    def benchmark(name, settings):
        size = {"preset": preset, "batch": settings.choose(batch, batch, 1)}
        ours = {**size, **settings.slim()}
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
    """One training step of all layers, with loss and Adam."""
    batch = settings.choose(8, 8, 1)
    yield duel(
        name,
        ("bench_ours.py", "training_step", {"batch": batch, **settings.slim()}),
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
