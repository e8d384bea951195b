"""Look: which frames the detector is shown, so that most need not be.

Frames are held back anyway, so it is decided with hindsight. The detector looks at every n-th frame. Where the looks
around a gap saw the same faces and these move evenly, the frames between hold no news: the tracker's smoother knows the
way, and they are passed over. Elsewhere (a face came, went or changed its speed) another look halves the gap, as often
as it takes, down to every frame. So a face that any look saw is found in its first frame and let go in its last one,
and a fast head is followed as closely as its motion asks. But a visit that lies wholly between two looks is never seen,
and such a face is left as it was: of `every` - 1 frames at most, and shorter than `MAX_UNSEEN_S`; with every 4th frame
at 25 frames per second, three frames. `tests/bench/detect_every.py` compares the tracks with those of every frame.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np

from vidrestore.face import Detection, box_size_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.models.spec import FaceDetector
from vidrestore.stages.cuts import CutsAhead
from vidrestore.stages.detect import detect_faces
from vidrestore.stages.matching import matches
from vidrestore.stages.motion import rms
from vidrestore.stages.track import MAX_HELD_FRAMES

MAX_UNSEEN_S = 0.2
"""Longest time between looks. With it and every 4th frame the tracks of six clips and seven paths are 0.8 to 1.9 % of
the eye distance away from those of looking at every frame, and there are the same faces in the same frames. Every 5th:
up to 1.8 %. With 0.25 s and every 6th: up to 2.2 %, and short visits are missed."""
MAX_BEND = 0.025
"""How far the middle one of three looks may lie off the straight line between the others (root mean square over the
coordinates of the landmarks, in face sizes). Looking at every 4th frame: with 0.02, 0.025, 0.03 and 0.04 a fast shake
is looked at in 86, 77, 68 and 50 % of its frames and 0.7, 1.0, 1.1 and 1.4 % of the eye distance off, a man who walks
in an old film 1.5, 1.5, 1.8 and 3.2 %; a calm head is looked at in 27 % with each of them."""
DOUBTFUL_SCORE = 0.7
"""A face that the detector is less sure of may be missed in the next frame: around it every frame is looked at."""

Look = FrameFaces[Detection]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What is remembered of a look: all but the picture, which others may long have let go."""

    pts: int
    time_base: Fraction
    """Seconds per tick."""
    faces: tuple[Detection, ...]


def look_for_faces(
    frames: Iterable[Frame], detector: FaceDetector, cuts: CutsAhead, *, every: int, rotation_deg: int = 0
) -> Iterator[Look | Frame]:
    """Every frame, in order: with its faces, or bare where the detector was not asked.

    A bare frame has the faces of the look before it, which are those of the look after it. At most `every` - 1 frames
    in a row are bare: with 1, none. The first and the last frame of a shot never are. At most MAX_HELD_FRAMES wait.
    For `rotation_deg` see `detect_faces`. Raises ValueError unless `every` is from 1 to MAX_HELD_FRAMES.
    """
    if not 1 <= every <= MAX_HELD_FRAMES:
        raise ValueError(f"every is {every}; it must be from 1 to {MAX_HELD_FRAMES}")
    shot = Shot(detector, every=every, rotation_deg=rotation_deg)
    for frame in frames:
        if cuts.is_cut(frame):
            yield from shot.finish()
            shot = Shot(detector, every=every, rotation_deg=rotation_deg)
        yield from shot.push(frame)
    yield from shot.finish()


class Shot:
    """The frames of one shot that are still to be decided on, in gaps; a gap's last frame is looked at in any case."""

    def __init__(self, detector: FaceDetector, *, every: int, rotation_deg: int) -> None:
        self._detector = detector
        self._rotation_deg = rotation_deg
        self._every = every
        self._max_gaps = max(1, min(detector.batch_images, MAX_HELD_FRAMES // every))
        """So many gaps are decided on together, to fill a batch."""
        self._gaps: list[list[Frame]] = []
        self._growing: list[Frame] = []
        """The gap that has not found its end."""
        self._seen: dict[int, Sight] = {}
        """The newest looks that were decided on, by number of the frame: -1 is the last frame, -2 the one before it."""

    def push(self, frame: Frame) -> Iterator[Look | Frame]:
        """Take the next frame in; yield those that are now decided on."""
        if self._growing and seconds_between(self._newest_end(), frame) > MAX_UNSEEN_S:
            yield from self._end_gap()
        is_first = not self._seen and not self._gaps
        self._growing.append(frame)
        if is_first or len(self._growing) == self._every:
            yield from self._end_gap()

    def finish(self) -> Iterator[Look | Frame]:
        """The shot ends here; yield what is left."""
        if self._growing:
            yield from self._end_gap()
        if self._gaps:
            yield from handed_on(self._decided())

    def _newest_end(self) -> Frame | Sight:
        return self._gaps[-1][-1] if self._gaps else self._seen[-1]

    def _end_gap(self) -> Iterator[Look | Frame]:
        self._gaps.append(self._growing)
        self._growing = []
        if len(self._gaps) == self._max_gaps:
            yield from handed_on(self._decided())

    def _decided(self) -> deque[Look | Frame]:
        """Look at the ends of all gaps, and then into those that may hold news."""
        frames = [frame for gap in self._gaps for frame in gap]
        ends = [length - 1 for length in accumulate(len(gap) for gap in self._gaps)]
        self._gaps = []
        looks = self._look(frames, ends)
        seen = self._seen | sights(looks)
        for begin, end in pairwise([-1, *ends]):
            # A gap is judged by itself and what is before it, so that it does not matter how many are decided together.
            known = {number: sight for number, sight in seen.items() if begin - self._every <= number <= end}
            while wanted := wanted_looks(known, begin):
                new = self._look(frames, wanted)
                looks |= new
                known |= sights(new)
            seen |= known
        # As much of the past as `holds_news` asks for: as far back as a gap can be wide.
        newest = len(frames) - 1
        self._seen = {number - newest - 1: sight for number, sight in seen.items() if newest - number <= self._every}
        return deque(looks.get(number, frame) for number, frame in enumerate(frames))

    def _look(self, frames: list[Frame], numbers: list[int]) -> dict[int, Look]:
        shown = (frames[number] for number in numbers)
        batch_frames = self._detector.batch_images
        looks = detect_faces(shown, self._detector, batch_frames=batch_frames, rotation_deg=self._rotation_deg)
        return dict(zip(numbers, looks, strict=True))


def handed_on(decided: deque[Look | Frame]) -> Iterator[Look | Frame]:
    """Each in turn, and let go."""
    while decided:
        yield decided.popleft()


def sights(looks: dict[int, Look]) -> dict[int, Sight]:
    return {number: Sight(look.frame.pts, look.frame.time_base, look.faces) for number, look in looks.items()}


def wanted_looks(looks: dict[int, Sight], first: int) -> list[int]:
    """From looks by number of the frame: the middle of each gap after the look `first` that may hold news."""
    return [
        (begin + end) // 2
        for begin, end in pairwise(sorted(looks))
        if begin >= first and end - begin > 1 and holds_news(looks, begin, end)
    ]


def holds_news(looks: dict[int, Sight], begin: int, end: int) -> bool:
    """Whether the frames between two looks may hold other things than these and the looks further out let expect.

    Further out means as far away as the gap is wide, or as far as was looked: from nearer, the bend of a path cannot be
    told from the trembling of the detector. Nothing is known after the newest look, nor before the first of a shot.
    """
    width = end - begin
    before = max((number for number in looks if number <= begin - width), default=min(looks))
    after = min((number for number in looks if number >= end + width), default=max(looks))
    three_looks = []
    if before < begin:
        three_looks.append((before, begin, end))
    if after > end:
        three_looks.append((begin, end, after))
    return not three_looks or not all(move_evenly(looks[a], looks[b], looks[c]) for a, b, c in three_looks)


def move_evenly(before: Sight, middle: Sight, after: Sight) -> bool:
    """Whether three looks surely saw the same faces, the middle one where the way between the others has them."""
    if any(face.score < DOUBTFUL_SCORE for look in (before, middle, after) for face in look.faces):
        return False
    if not len(before.faces) == len(middle.faces) == len(after.faces):
        return False
    whole_s = seconds_between(before, after)
    part = seconds_between(before, middle) / whole_s if whole_s > 0 else 0.5
    then, later = same_faces(middle, before), same_faces(middle, after)
    return len(then) == len(later) == len(middle.faces) and all(
        bend(then[number], face, later[number], part) <= MAX_BEND for number, face in enumerate(middle.faces)
    )


def same_faces(look: Sight, other: Sight) -> dict[int, Detection]:
    """Number of a face in `look` -> the same face in `other`, for faces that are in both."""
    boxes_xyxy_px = np.array([face.box_xyxy_px for face in look.faces], np.float32).reshape(-1, 4)
    return {number: other.faces[partner] for number, partner in matches(boxes_xyxy_px, other.faces)}


def bend(before: Detection, face: Detection, after: Detection, part: float) -> float:
    """How far a face lies off the line between two sightings, of which it has gone `part`; in face sizes."""
    expected_px = (1 - part) * before.landmarks_px.astype(np.float64) + part * after.landmarks_px
    return rms(face.landmarks_px.astype(np.float64) - expected_px) / float(box_size_px(face.box_xyxy_px))


def seconds_between(first: Frame | Sight, second: Frame | Sight) -> float:
    return max(float((second.pts - first.pts) * second.time_base), 0.0)
