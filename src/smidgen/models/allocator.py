"""Freed memory stays with the process, so that no training step pays for fresh pages again."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


@cache
def keep_freed_memory() -> None:
    """Tell glibc not to give large blocks back to the system; elsewhere, nothing happens.

    Every step frees and takes the same hundreds of megabytes (activations, gradients, logits). By default each such
    block is mapped anew, and touching its pages costs more than the arithmetic on them: zeroing a 154 MB gradient
    takes 42 ms on fresh pages, 2 ms on used ones. The process keeps its peak size for as long as it lives.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
