"""Interlaced pictures: rows of two moments, each restored by itself.

A camera that interlaces takes the odd rows later than the even ones. Where something moves, the rows together show a
comb, which no detector and no restorer has learned, and a change made to both moments at once would weave them into
one. So each picture makes its journey as two, one for each moment, in full height: its own rows as they are, and
between them the mean of the rows above and below. Afterwards only its own rows are taken from each.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from vidrestore.frame import Frame, RestoredFrame
from vidrestore.layout import Plane


class FieldPairs:
    """Takes interlaced frames apart before the journey, and puts them together after it; others pass through.

    Chroma rows belong to the moments in turns, as luma rows do (ITU-T H.262, 6.1.1.8). Their siting within a field (a
    quarter row off the frame's) is not looked at.
    """

    def __init__(self) -> None:
        self.num_interlaced = 0
        """Frames taken apart so far."""
        self._whole: deque[Frame] = deque()
        """The frames on their journey, in order."""

    def split(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Frames in the order of time -> the same, interlaced ones as two: the second lies halfway to the next frame.

        To say halfway, all ticks are half as long, and indices twice as large.
        """
        coming = iter(frames)
        frame, step = next(coming, None), 1
        while frame is not None:
            self._whole.append(frame)
            if not frame.fields:
                yield replace(frame, index=2 * frame.index, pts=2 * frame.pts, time_base=frame.time_base / 2)
                frame = next(coming, None)
                continue
            self.num_interlaced += 1
            following = next(coming, None)
            step = following.pts - frame.pts if following is not None else step
            for moment, first_row in enumerate(_first_rows(frame)):
                yield replace(
                    frame,
                    index=2 * frame.index + moment,
                    pts=2 * frame.pts + moment * step,
                    time_base=frame.time_base / 2,
                    planes=tuple(_one_moment(plane, first_row) for plane in frame.planes),
                    fields="",
                )
            frame = following

    def woven(self, restored: Iterable[RestoredFrame]) -> Iterator[RestoredFrame]:
        """What `split` gave, restored -> whole frames again, with the faces of both moments, which say of which."""
        coming = iter(restored)
        for first in coming:
            whole = self._whole.popleft()
            moments = [_of_moment(1, first), _of_moment(2, next(coming))] if whole.fields else [first]
            faces = tuple(face for moment in moments for face in moment.faces)
            skipped = tuple(face for moment in moments for face in moment.skipped)
            frame = whole
            if faces and whole.fields:
                frame = replace(whole, planes=_weave(whole, moments))
            elif faces:
                frame = replace(whole, planes=first.frame.planes)
            yield RestoredFrame(frame, whole, faces, skipped)


def _of_moment(moment: int, done: RestoredFrame) -> RestoredFrame:
    faces = tuple(replace(face, moment=moment) for face in done.faces)
    return replace(done, faces=faces, skipped=tuple(replace(face, moment=moment) for face in done.skipped))


def _first_rows(frame: Frame) -> tuple[int, int]:
    """The first row of each moment."""
    return (0, 1) if frame.fields == "top first" else (1, 0)


def _one_moment(plane: Plane, first_row: int) -> Plane:
    """(h, w): every second row from `first_row` on as it is, the others from their neighbours."""
    own = plane[first_row::2]
    if not len(own):
        return plane
    moment = plane.copy()
    above = np.concatenate([own[:1], own]) if first_row else own  # of the rows to fill: the moment's row before each
    below = own if first_row else np.concatenate([own[1:], own[-1:]])
    missing = moment[1 - first_row :: 2]
    count = len(missing)
    if len(below) < count:  # the last row of all has nothing below it
        below = np.concatenate([below, own[-1:]])
    # The mean without a wider type: what both have, and half of what they differ in.
    missing[...] = (above[:count] & below[:count]) + ((above[:count] ^ below[:count]) >> 1)
    return moment


def _weave(whole: Frame, moments: list[RestoredFrame]) -> tuple[Plane, ...]:
    """Copies of the whole frame's planes with each moment's own rows."""
    planes = tuple(plane.copy() for plane in whole.planes)
    for moment, first_row in zip(moments, _first_rows(whole), strict=True):
        for plane, restored in zip(planes, moment.frame.planes, strict=True):
            plane[first_row::2] = restored[first_row::2]
    return planes
