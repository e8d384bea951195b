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


def give_back_freed_memory() -> None:
    """Give the system all whole pages that are free, between others too: once in a while, so that what is kept does not
    grow over hours by the gaps that pieces of many sizes leave. 10 ms."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if malloc_trim is not None:
        malloc_trim(0)
