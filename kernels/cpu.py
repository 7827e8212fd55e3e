"""What the CPU can multiply at once, which decides compute types and kernels. Imports nothing."""

import functools


@functools.cache
def _fields():
    """{field: text} of the first processor in Linux's /proc/cpuinfo; elsewhere empty."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            first = file.read().split("\n\n")[0]
    except OSError:  # not Linux
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): text.strip() for name, _, text in pairs}


def flags():
    """Names of the CPU's instruction sets as Linux lists them ("avx2", "avx512_bf16", …); elsewhere none."""
    return frozenset(_fields().get("flags", "").split())


def bfloat16_is_faster():
    """Whether the network is faster in bfloat16 than in float32 here.

    With AMX it is. With AVX512-BF16 alone it is on AMD's cores, where SSD300 ran twice as fast; Intel's multiply
    bfloat16 at half the rate of float32, and an Emerald Rapids whose host hides AMX did 2.7 images/s against 5.1. Both
    before `winograd.py`, which made float32 about 1.5 times as fast: on AMD bfloat16 still leads by those figures.
    """
    by_vector = "avx512_bf16" in flags() and _fields().get("vendor_id") == "AuthenticAMD"
    return by_vector or "amx_bf16" in flags()
