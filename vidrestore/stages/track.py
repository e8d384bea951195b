"""Detections to tracks: who is who from frame to frame, and where exactly, smoothed in time.

Frames are held back by a lag, so that a face's place is judged from the frames after it as well as those before
(motion.py), and so that it is known what a lone detection or a gap was: a false alarm, a face missed for a moment, or
the end of a track. What the lag leaves open is decided for the face.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vidrestore.face import Detection, TrackedFace, box_size_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.stages.cuts import CutDetector
from vidrestore.stages.flow import Carried, carry_face
from vidrestore.stages.motion import FaceMotion

DEFAULT_LAG_S = 0.5
"""Smoothing gains nothing measurable from a longer one."""
MAX_HELD_FRAMES = 32
"""Bounds the memory at high frame rates: 0.5 s at 60 fps are 31 frames, 0.4 GB of 8-bit 4:2:0 at 4K. Others wait
in other stages: `MAX_WAIT_FRAMES` in `pipeline.py` has the sum."""
MAX_GAP_S = 0.5
"""A face unseen for longer has left; bridged until then if it comes back."""
FADE_S = 0.2
"""For so long a restoration comes up or goes down, so that no face changes from one frame to the next. At a cut all
does, and nothing fades."""
START_SCORE = 0.5
"""Only a detection at least so confident begins a track; any may continue one. The embedded detector gives faces of
24 px in 1920x1080 scores from 0.57 on; false alarms are for `CONFIRM_S` to sort out."""
SURE_SCORE = 0.95
"""A face seen in one frame only is believed from this score on."""
CONFIRM_S = 0.2
"""A less sure one must be seen again within this time."""
MAX_DISTANCE = 0.75
"""Furthest that a detection's centre may lie from where its track predicts it, in face sizes."""
MAX_SIZE_RATIO = 2.0
"""Most that a face may grow or shrink between sightings."""
SCORE_WEIGHT = 0.5
"""How much a detection's doubt (1 - score) counts in matching, against overlap and distance, each of weight 1."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldFrame:
    """A frame on its way through the lag."""

    number: int
    """Counts the frames pushed into the tracker."""
    found: FrameFaces[Detection]


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """What a track knows of one frame, beside its motion."""

    number: int
    """Of the held frame."""
    detection: Detection | None
    """None where the face was not found, or nobody looked."""
    is_there: bool
    """The face was found, or nobody looked and it was there in the frame before."""
    score: float
    """Of the newest detection up to this frame."""
    seconds_since_seen: float
    """0 where it is there."""
    age_s: float
    """Of the track."""


class Track:
    """One face over time, as far as its frames are held."""

    def __init__(self, number: int, detection: Detection, *, fades_in: bool) -> None:
        self.track_id: int | None = None
        """Given when the track is first seen by the next stage, so that false alarms use up no ids."""
        self.motion = FaceMotion(detection)
        self.sightings = deque([Sighting(number, detection, True, detection.score, 0.0, 0.0)])
        self.newest = self.sightings[-1]
        self.is_confirmed = detection.score >= SURE_SCORE
        self.has_ended = False
        self._strength = 0.0 if fades_in else 1.0
        """In the frame that was last given up."""
        self._taken_s = 0.0
        """Age in that frame."""

    def advance(self, number: int, step_s: float, carried: Carried | None, *, was_looked_at: bool) -> None:
        """Go on to the next frame. The face counts as not found there until `observe`, if anybody looked.

        In a frame that nobody looked at it is as it was in the frame before: there, or missing for longer.
        """
        self.motion.advance(step_s, carried)
        is_there = self.newest.is_there and not was_looked_at
        unseen_s = 0.0 if is_there else self.newest.seconds_since_seen + step_s
        self._add(Sighting(number, None, is_there, self.newest.score, unseen_s, self.newest.age_s + step_s))

    def observe(self, detection: Detection) -> None:
        """The face was found in the newest frame."""
        self.motion.observe(detection)
        self.sightings.pop()
        self._add(Sighting(self.newest.number, detection, True, detection.score, 0.0, self.newest.age_s))
        self.is_confirmed = True

    def end_if_lost(self) -> None:
        limit_s = MAX_GAP_S if self.is_confirmed else CONFIRM_S
        if self.newest.seconds_since_seen > limit_s:
            self.has_ended = True

    def take_oldest(self, new_id: int) -> TrackedFace | None:
        """Give up the oldest frame: the face in it, or None where it is not to be shown."""
        shown = self._shows_oldest()
        self._strength = self._strength_of_oldest()
        sighting = self.sightings.popleft()
        self._taken_s = sighting.age_s
        face = None
        if shown:
            if self.track_id is None:
                self.track_id = new_id
            box_xyxy_px, landmarks_px = self.motion.oldest()
            face = TrackedFace(
                track_id=self.track_id,
                box_xyxy_px=box_xyxy_px,
                landmarks_px=landmarks_px,
                score=sighting.score,
                detected_landmarks_px=None if sighting.detection is None else sighting.detection.landmarks_px,
                seconds_since_seen=sighting.seconds_since_seen,
                strength=self._strength,
            )
        self.motion.drop_oldest()
        return face

    def _shows_oldest(self) -> bool:
        is_false_alarm = self.has_ended and not self.is_confirmed and not self.newest.is_there
        if self.sightings[0].is_there:
            return not is_false_alarm
        found_again = any(sighting.is_there for sighting in self.sightings)
        return found_again or (self.is_confirmed and not self.has_ended)

    def _strength_of_oldest(self) -> float:
        oldest = self.sightings[0]
        last_seen_s = max((sighting.age_s for sighting in self.sightings if sighting.is_there), default=None)
        if last_seen_s is None:  # gone, as far as is known: never up again until it is found
            return max(min(self._strength, 1 - oldest.seconds_since_seen / FADE_S), 0.0)
        strength = min(self._strength + (oldest.age_s - self._taken_s) / FADE_S, 1.0)
        if not self.newest.is_there:
            strength = min(strength, (last_seen_s - oldest.age_s) / FADE_S)
        return strength

    def _add(self, sighting: Sighting) -> None:
        self.sightings.append(sighting)
        self.newest = sighting


class FaceTracker:
    """Follows the faces of one video. Every frame that goes in comes out once, in order, at most `lag_s` later.

    Tracks end at cuts: frames after a cut come out as if the video had begun there, but for the ids.
    """

    def __init__(self, *, lag_s: float = DEFAULT_LAG_S, is_cut: Callable[[Frame], bool] | None = None) -> None:
        """`lag_s`: seconds of the video's own clock, 0 or more; 0 is for live pictures and smooths from the past only.

        `is_cut` says of each frame, in order, whether a shot begins with it; without one the tracker looks itself.
        Raises ValueError for a negative lag.
        """
        if not lag_s >= 0:
            raise ValueError(f"lag_s is {lag_s}; it must be 0 or more")
        self._lag_s = lag_s
        self._is_cut = is_cut or CutDetector().is_cut
        self._held: deque[HeldFrame] = deque()
        self._tracks: list[Track] = []
        self._num_pushed = 0
        self._next_id = 1
        self._newest_frame: Frame | None = None

    def push(self, found: FrameFaces[Detection] | Frame) -> Iterator[FrameFaces[TrackedFace]]:
        """Take the next frame in; yield those that are now ready, oldest first. Exhaust it before the next push.

        A bare frame is one that was not looked at: every face is there, or missing, as in the frame before.
        """
        was_looked_at = not isinstance(found, Frame)
        if isinstance(found, Frame):
            found = FrameFaces(found, ())
        if self._is_cut(found.frame):
            yield from self.flush()
        before = self._newest_frame
        step_s = self._step_s(found.frame)
        number = self._num_pushed
        self._num_pushed += 1
        self._held.append(HeldFrame(number, found))

        following = [track for track in self._tracks if not track.has_ended]
        for track in following:
            carried = None
            # Where the face is not seen, flow would follow what hides it.
            if before is not None and track.newest.is_there:
                carried = carry_face(before, found.frame, track.motion.newest_box_xyxy_px)
            track.advance(number, step_s, carried, was_looked_at=was_looked_at)
        unmatched = set(range(len(found.faces)))
        for row, column in matches(newest_boxes(following), found.faces):
            following[row].observe(found.faces[column])
            unmatched.remove(column)
        for track in following:
            track.end_if_lost()
        for column in sorted(unmatched):
            if found.faces[column].score >= START_SCORE:
                self._tracks.append(Track(number, found.faces[column], fades_in=before is not None))

        while self._oldest_is_due():
            yield self._release_oldest()

    def flush(self) -> Iterator[FrameFaces[TrackedFace]]:
        """End all tracks and yield every held frame."""
        for track in self._tracks:
            track.has_ended = True
        while self._held:
            yield self._release_oldest()
        self._tracks.clear()
        self._newest_frame = None

    def _step_s(self, frame: Frame) -> float:
        """Seconds since the frame before; 0 for the first of a shot."""
        before, self._newest_frame = self._newest_frame, frame
        if before is None:
            return 0.0
        # Ticks are subtracted before they become seconds, so that the same shot moves the same wherever it begins.
        return max(float((frame.pts - before.pts) * frame.time_base), 0.0)

    def _oldest_is_due(self) -> bool:
        if not self._held:
            return False
        oldest, newest = self._held[0].found.frame, self._held[-1].found.frame
        waited_s = float((newest.pts - oldest.pts) * newest.time_base)
        return waited_s >= self._lag_s or len(self._held) >= MAX_HELD_FRAMES

    def _release_oldest(self) -> FrameFaces[TrackedFace]:
        held = self._held.popleft()
        faces = []
        for track in self._tracks:
            if track.sightings and track.sightings[0].number == held.number:
                face = track.take_oldest(self._next_id)
                if face is not None:
                    faces.append(face)
                    self._next_id = max(self._next_id, face.track_id + 1)
        self._tracks = [track for track in self._tracks if track.sightings or not track.has_ended]
        return FrameFaces(held.found.frame, tuple(faces), held.found.skipped)


def track_faces(
    found: Iterable[FrameFaces[Detection] | Frame], tracker: FaceTracker
) -> Iterator[FrameFaces[TrackedFace]]:
    """The tracking stage: detections in, tracked and smoothed faces out, frames in the same order.

    Frames that nobody looked at come bare (see look.py).
    """
    for frame_faces in found:
        yield from tracker.push(frame_faces)
    yield from tracker.flush()


def newest_boxes(tracks: list[Track]) -> NDArray[np.float32]:
    """(T, 4) where the tracks are expected in the newest frame."""
    return np.array([track.motion.newest_box_xyxy_px for track in tracks], np.float32).reshape(-1, 4)


def matches(predicted: NDArray[np.float32], detections: tuple[Detection, ...]) -> list[tuple[int, int]]:
    """(row of `predicted` (T, 4), detection) index pairs with the least total cost: 1 - IoU, distance and doubt."""
    if not len(predicted) or not detections:
        return []
    detected = np.stack([detection.box_xyxy_px for detection in detections])  # (D, 4)
    scores = np.array([detection.score for detection in detections])
    track_size_px, detection_size_px = box_size_px(predicted), box_size_px(detected)
    centres = (predicted[:, None, :2] + predicted[:, None, 2:] - detected[None, :, :2] - detected[None, :, 2:]) / 2
    distance = np.linalg.norm(centres, axis=2) / np.sqrt(track_size_px[:, None] * detection_size_px[None, :])  # (T, D)
    ratio = track_size_px[:, None] / detection_size_px[None, :]
    possible = (distance <= MAX_DISTANCE) & (np.maximum(ratio, 1 / ratio) <= MAX_SIZE_RATIO)
    cost = 1 - overlaps(predicted, detected) + distance + SCORE_WEIGHT * (1 - scores)[None, :]
    # Dearer than any set of possible pairs, so that as many faces as possible are continued.
    rows, columns = linear_sum_assignment(np.where(possible, cost, 10.0 * cost.size))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if possible[row, column]]


def overlaps(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) and (M, 4) boxes -> (N, M) intersection over union."""
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.maximum(bottom_right - top_left, 0).prod(axis=2)  # (N, M)
    shares: NDArray[np.float32] = common / (
        box_size_px(first)[:, None] ** 2 + box_size_px(second)[None, :] ** 2 - common
    )
    return shares
