"""--cache: open the cache of decoded pictures, and say what it takes."""

import contextlib
import os
from collections.abc import Iterator, Sequence

import ssd_utils
import training_data
from media import images, picture_cache
from settings.training_settings import TrainingSettings
from structures import Sample, UserError
from system import array_folder, memory, own_folders, shared_arrays, wording
from system.wording import plural

DISK_GB = 50  # of all trainings together, without --cache-gb
GB = 1e9


@contextlib.contextmanager
def opened(
    samples: Sequence[Sample], preset: ssd_utils.SSDPreset, settings: TrainingSettings, neighbors: int = 1
) -> Iterator[picture_cache.PictureCache | None]:
    """Context manager: the PictureCache of a training, open until the block ends; None with --cache none.

    neighbors: processes on this machine that train together, and share --cache-gb.
    Prints one line on what it may take. Raises UserError if the folder of --cache disk cannot be written.
    """
    if settings.cache == "none":
        yield None
        return
    pictures, needed = training_data.cached_bytes(samples, preset, settings)
    if settings.cache == "ram":
        try:
            store, told = _in_memory(settings, pictures, needed, neighbors)
        except OSError as error:  # of the limit on the size of files, which holds for shared memory too
            raise UserError(
                f"--cache ram: {wording.reason(error)} (ulimit -f); raise it, or use --cache disk"
            ) from None
    else:
        store, told = _on_disk(settings, pictures, needed, preset, neighbors)
    print(
        f"--cache {settings.cache}: {plural(len(pictures), 'picture')} can take up to {shown(sum(needed.values()))} "
        f"decoded; {told}"
    )
    cache = picture_cache.PictureCache(pictures, list(needed), store, preset.gray16)
    with contextlib.closing(cache):
        yield cache


def _in_memory(settings, pictures, needed, neighbors):
    """(store, what to say)."""
    limit = (int(settings.cache_gb * GB) if settings.cache_gb else memory.available() // 2) // neighbors
    limits = shared_arrays.share_out(needed.values(), limit)
    told = "all are kept in memory"
    if sum(limits) < sum(needed.values()):
        reason = "--cache-gb" if settings.cache_gb else "half of the free memory"
        told = f"{shown(limit)} ({reason}) are kept in memory, the rest is decoded each time"
    return shared_arrays.MemoryStore(len(pictures), limits), told


def _on_disk(settings, pictures, needed, preset, neighbors):
    """(store, what to say)."""
    folder = settings.cache_dir or os.path.join(own_folders.cache_folder(), "pictures")
    # Other versions and other networks use the same folder, so a name has all that decides the pixels
    sides = preset.input_wh if preset.input_height else preset.input_wh[:1]
    sizes = {training_data.RESIZED: f" to {'x'.join(map(str, sides))}"}
    kinds = [f"{kind}{sizes.get(kind, '')} of {preset.gray16} by {images.decoders()}" for kind in needed]
    names = array_folder.Names(folder, [f"{os.path.abspath(one.path)}\0{one.exif}" for one in pictures], kinds)
    signatures = (picture_cache.signature(one.path) for one in pictures)
    limit = int((settings.cache_gb or DISK_GB) * GB)
    got = array_folder.reserve(limit, names, list(needed.values()), signatures, neighbors)
    written = min(got.granted * neighbors, max(limit - got.present, 0))
    told = f"{shown(got.present)} are in {folder}, up to {shown(written)} are written there"
    if got.present + written < sum(needed.values()):
        told += ", the rest is decoded each time (--cache-gb, free disk space and other trainings limit it)"
    return got.store, told


def shown(size: int) -> str:
    """A number of bytes for a message."""
    return f"{size / GB:.2f} GB" if size >= GB else f"{1000 * size / GB:.2f} MB"
