"""The CPU's instruction sets, by which data types and kernels are chosen."""

import functools


@functools.cache
def _fields():
    """{field: text} of the first processor in Linux's /proc/cpuinfo; empty on other systems."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            first = file.read().split("\n\n")[0]
    except OSError:  # not Linux
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): text.strip() for name, _, text in pairs}


def flags():
    """Names of the CPU's instruction sets as Linux lists them ("avx2", "avx512_bf16", …); empty on other systems."""
    return frozenset(_fields().get("flags", "").split())


def bfloat16_is_faster():
    """Whether the network is faster in bfloat16 than in float32 on this CPU.

    It is with AMX, and with AVX512-BF16 alone on AMD's CPUs, where SSD300 ran twice as fast. Intel's CPUs without AMX
    multiply bfloat16 at half the rate of float32: an Emerald Rapids without AMX ran 2.7 images/s, against 5.1
    in float32. All this was measured before `winograd.py`, which made float32 about 1.5 times as fast; so bfloat16 is
    still faster on AMD.
    """
    by_vector = "avx512_bf16" in flags() and _fields().get("vendor_id") == "AuthenticAMD"
    return by_vector or "amx_bf16" in flags()
