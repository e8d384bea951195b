"""FFmpeg's log, read for a moment: some things it says nowhere else."""

import contextlib
from collections.abc import Iterator

import av.logging

QUIET = -8
"""FFmpeg's AV_LOG_QUIET."""


@contextlib.contextmanager
def logged_lines(level: int) -> Iterator[list[tuple[int, str, str]]]:
    """The list fills with (level, name, text) of what this thread makes FFmpeg log inside the block, up to that level
    of `av.logging`. Let nothing in the block wait for another thread of FFmpeg's."""
    before = av.logging.get_level()
    av.logging.set_level(level)
    try:
        with av.logging.Capture() as lines:  # of this thread only
            yield lines
    finally:
        _log_again(before)


def _log_again(level: int | None) -> None:
    """Let PyAV (18) log as before.

    Before is usually None, nothing. Told so, it prints a traceback where another thread has something to log just then;
    and with any level it takes Python's lock for each error of FFmpeg's threads, which may be waited for under that
    lock. So FFmpeg's own logging takes over, and is told to be quiet.
    """
    if level is not None and level != av.logging.PANIC:  # which is what this leaves
        av.logging.set_level(level)
        return
    av.logging.set_libav_level(QUIET)
    av.logging.set_level(av.logging.PANIC)
    av.logging.restore_default_callback()
