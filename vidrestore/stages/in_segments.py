"""In segments: restore frames in groups that do not depend on one another, so that any of them can be left out.

What a frame becomes depends on the frames before it by what `steady.py` averages. So each segment is restored by
itself, with the last frames of the one before it as a warm-up whose results are dropped.
"""

import itertools
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing

from vidrestore.face import PlacedFace
from vidrestore.frame import FrameFaces, RestoredFrame

WARM_UP: Mapping[str, int] = {"off": 0, "light": 8, "strong": 24}
"""Frames, by the words of --temporal. Of what was averaged before the warm-up, (2/3)^8 = 4 % and (6/7)^24 = 2.5 % are
left in the average at its end."""

Placed = FrameFaces[PlacedFace]


def restored_in_segments(
    placed: Iterable[Placed],
    restore: Callable[[Iterator[Placed]], Generator[RestoredFrame, None, None]],
    *,
    segment_of: Callable[[Placed], int],
    finished: Collection[int],
    warm_up_frames: int,
) -> Iterator[RestoredFrame]:
    """Every frame, in order; those of `finished` segments as they are.

    `segment_of` is the number of a frame's segment, which never falls from frame to frame.
    """
    before: deque[Placed] = deque(maxlen=warm_up_frames)
    for number, frames in itertools.groupby(placed, segment_of):
        if number in finished:
            for found in frames:
                before.append(found)
                yield RestoredFrame(found.frame, found.frame, (), ())
            continue
        warm_up = deque(before)
        num_warm_up = len(warm_up)
        with closing(restore(_with_warm_up(warm_up, frames, before))) as restored:
            yield from itertools.islice(restored, num_warm_up, None)


def _with_warm_up(warm_up: deque[Placed], frames: Iterable[Placed], before: deque[Placed]) -> Iterator[Placed]:
    """First the frames of the warm-up, then the segment's own, which become the next one's."""
    while warm_up:
        yield warm_up.popleft()
    for found in frames:
        before.append(found)
        yield found
