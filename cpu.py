"""What the CPU can multiply at once, which decides compute types and kernels. Imports nothing."""

import functools


@functools.cache
def flags():
    """Names of the CPU's instruction sets as Linux lists them ("avx2", "avx512_bf16", …); elsewhere none."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return frozenset(next((line.split() for line in file if line.startswith("flags")), ()))
    except OSError:  # not Linux
        return frozenset()


def multiplies_bfloat16():
    """Whether bfloat16 is faster than float32 here (AVX512-BF16 or AMX), not just emulated."""
    return bool(flags() & {"avx512_bf16", "amx_bf16"})
