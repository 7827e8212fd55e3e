"""Where code that was compiled for this machine is kept for the next start, and the flags that say so."""

import contextlib
import glob
import hashlib
import importlib.metadata
import os

from system import files, own_folders

# Earlier versions may not know the flag of XLA's trials, and end at a flag that they do not know
TRIALS_ARE_KEPT_SINCE = (2, 21)
# Code that a GPU's driver compiled, for cards that are newer than TensorFlow. The driver's own limit is 1 GiB or less
DRIVERS_CACHE_BYTES = 4 << 30


def keep_drivers() -> None:
    """Let the driver of a GPU keep all that it compiles."""
    os.environ.setdefault("CUDA_CACHE_MAXSIZE", str(DRIVERS_CACHE_BYTES))


def allow_on_cpu() -> None:
    """Let XLA choose what it compiles on CPUs too, where a session asks for it."""
    _add_flag("TF_XLA_FLAGS", "--tf_xla_cpu_global_jit")


def keep() -> None:
    """Let XLA find what an earlier process has compiled here, and keep what is new, once TensorFlow is loaded.

    Raises OSError if nothing can be kept.
    """
    folder = os.path.join(own_folders.cache_folder(), "xla", _name())
    if any(map(str.isspace, folder)):
        return  # flags end at a space, so there is no way to name such a folder
    trials = os.path.join(folder, "trials")
    os.makedirs(trials, exist_ok=True)
    files.check_folder_writable(folder)
    _remove_damaged(folder)
    _add_flag("TF_XLA_FLAGS", f"--tf_xla_persistent_cache_directory={folder}")
    if tensorflow_version() >= TRIALS_ARE_KEPT_SINCE:
        _add_flag("XLA_FLAGS", f"--xla_gpu_per_fusion_autotune_cache_dir={trials}")


def _add_flag(variable, flag):
    """Add a flag to an environment variable unless it is there already, perhaps with another value."""
    given = os.environ.get(variable, "").split()
    if flag.partition("=")[0] not in {other.partition("=")[0] for other in given}:
        os.environ[variable] = " ".join([*given, flag])


def _name():
    """A name for TensorFlow's version with this machine: TensorFlow asks for neither when it loads compiled code."""
    facts = [_read("/proc/cpuinfo").partition("\n\n")[0].partition("flags")[2].partition("\n")[0]]
    cards = sorted(_read(path) for path in glob.glob("/proc/driver/nvidia/gpus/*/information"))
    facts += [line for card in cards for line in card.splitlines() if line.startswith("Model")]
    facts += [_read("/proc/driver/nvidia/version"), os.environ.get("CUDA_VISIBLE_DEVICES", "")]
    facts += [_installed(name) for name in ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")]
    return f"{_installed('tensorflow')}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _installed(package):
    """The version of a package; "unknown" if its name is another one here."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def tensorflow_version() -> tuple[int, ...]:
    """(2, 21) for TensorFlow 2.21.0; () where it is not known."""
    return tuple(int(part) for part in _installed("tensorflow").split(".")[:2] if part.isdigit())


def _remove_damaged(folder):
    """Remove incomplete files of compiled code, at which TensorFlow would fail."""
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):  # another process removed or renamed it
            if entry.is_file() and not _is_complete(entry.path):
                os.remove(entry.path)


def _is_complete(path):
    """Whether a file holds a whole message of protocol buffers. A killed process leaves the last field cut."""
    from google.protobuf import empty_pb2, message  # TensorFlow's; only a program that loads it has to load this too

    with open(path, "rb") as file:
        content = file.read()
    try:
        empty_pb2.Empty.FromString(content)  # it knows none of the fields and goes through all
    except message.DecodeError:
        return False
    return bool(content)
