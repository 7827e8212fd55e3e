"""What the C libraries that decode pictures print to stderr: kept off the terminal, or collected.

libjpeg, libpng and libtiff print warnings about damaged or unusual files through C's `stderr`, fill in what is missing
and report no error. Only that stream is replaced while they run; what Python prints meanwhile, also in other threads,
appears. Other C libraries than glibc keep the stream in read-only memory: there nothing is replaced.
"""

import contextlib
import ctypes
import functools
import os
import platform
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_depth = 0  # threads that decode
_before = None  # the stream before the first of them
_collecting = False


@functools.cache
def _library():
    """(C library, its variable `stderr`, a stream into nothing), or None if the stream cannot be replaced."""
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    library.fopen.argtypes = ctypes.c_char_p, ctypes.c_char_p
    library.fclose.argtypes = (ctypes.c_void_p,)
    return library, ctypes.c_void_p.in_dll(library, "stderr"), library.fopen(os.devnull.encode(), b"w")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Context in which the decoders print nothing, unless their messages are collected."""
    global _depth, _before
    found = _library()
    if found is None or _collecting:
        yield
        return
    _, variable, nothing = found
    with _lock:
        if _depth == 0:
            _before, variable.value = variable.value, nothing
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                variable.value = _before


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Context that gives a list; after it, the list has the lines that the decoders printed. For one thread only."""
    global _collecting
    lines: list[str] = []
    found = _library()
    if found is None:
        yield lines
        return
    library, variable, _ = found
    held = os.memfd_create("decoder messages")
    stream = library.fopen(f"/proc/self/fd/{held}".encode(), b"w")
    before, variable.value, _collecting = variable.value, stream, True
    try:
        yield lines
    finally:
        variable.value, _collecting = before, False
        library.fclose(stream)
        lines += os.read(held, 65536).decode("utf-8", "replace").splitlines()
        os.close(held)
