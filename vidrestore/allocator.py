"""How the process handles memory that it has freed."""

import ctypes
import sys

MALLOPT_TRIM_THRESHOLD, MALLOPT_MMAP_MAX, MALLOPT_ARENA_MAX = -1, -4, -8
"""Parameters of glibc's mallopt (malloc.h)."""


def keep_freed_memory() -> None:
    """Let glibc hand freed memory out again, in this whole process, instead of giving it back to the system.

    A network on the CPU allocates and frees tens of MB per layer; by default each comes as fresh pages that the kernel
    must clear first. Call it before any thread is started: threads that have an arena of their own keep it. Where the C
    library is another, it does nothing. `tests/bench/README.md` has the gain.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        mallopt(MALLOPT_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(MALLOPT_MMAP_MAX, 0)
        mallopt(MALLOPT_ARENA_MAX, 1)
