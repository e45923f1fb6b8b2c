"""How the C library hands memory back, set for a process that replays."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_KEPT_BYTES = 1 << 30
_LARGE_BYTES = 32 << 20  # the most that glibc takes


def keep_freed_memory() -> bool:
    """Have glibc keep memory that was freed, instead of giving it back to the system each time.

    A replay makes and drops arrays of a few hundred kilobytes for every row group. By itself glibc gives each of them
    back, and the system clears the next one page by page, which takes a tenth of the whole. It is a setting of the
    process: it holds up to 1 GB that it has used before, and uses no more than it would have. Other C libraries are
    left as they are.

    Returns:
        Whether it was set.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = ((_MMAP_THRESHOLD, _LARGE_BYTES), (_TRIM_THRESHOLD, _KEPT_BYTES))
    done = [mallopt(ctypes.c_int(what), ctypes.c_int(size)) for what, size in kept]
    return done == [1, 1]
