"""Memory of a training step on the CPU: used again instead of returned after every step.

The C library hands large freed blocks back to the system, which gives them out again filled with
zeros, page by page. A training step frees and asks for the same hundreds of megabytes each time; a
third of its time went there.
"""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of the two settings in glibc's ``malloc.h``."""

_KEPT_BYTES = 1 << 30


@functools.cache
def keep_freed_memory() -> bool:
    """Have this process keep freed blocks up to 1 GiB; say whether the C library can."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        # Only glibc has it: elsewhere memory is managed as usual.
        return False
    return all(mallopt(setting, _KEPT_BYTES) for setting in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
