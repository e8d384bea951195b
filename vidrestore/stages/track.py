"""Detections to tracks: who is who from frame to frame, and where exactly, smoothed in time.

Frames are held back by a lag, so that a face's place is judged from the frames after it as well as those before
(motion.py), and so that it is known what a lone detection or a gap was: a false alarm, a face missed for a moment, or
the end of a track. What the lag leaves open is decided for the face.

Detections continue the tracks (one_face.py) by place, motion and look (matching.py, appearance.py). Whoever comes back
soon, and looks alike, has the id from before.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrestore.face import Detection, TrackedFace
from vidrestore.frame import Frame, FrameFaces
from vidrestore.stages.appearance import ALIKE, SEEN, look_of
from vidrestore.stages.cuts import CutDetector
from vidrestore.stages.flow import Carried, carry_face
from vidrestore.stages.matching import MAX_DISTANCE, distances_of_looks, matches, overlaps
from vidrestore.stages.one_face import BLIND_GAP_S, LONE_GAP_S, Track

DEFAULT_LAG_S = 0.5
"""Jitter of the crop is no lower with a longer one, of which the memory is the price (`tests/bench/tracking.py`)."""
MAX_HELD_FRAMES = 32
"""Bounds the memory at high frame rates: 0.5 s at 60 fps are 31 frames, 0.4 GB of 8-bit 4:2:0 at 4K. With a longer lag
than the default as many times more. Others wait in other stages: `MAX_WAIT_FRAMES` in `pipeline.py` has the sum."""
START_SCORE = 0.5
"""Only a detection at least so confident begins a track; any may continue one. The embedded detector gives faces of
24 px in 1920x1080 scores from 0.57 on; false alarms are for `CONFIRM_S` (one_face.py) to sort out."""
RETURN_S = 1.5
"""A face that comes back within this time has its id again: a second out of sight, and half hidden before and after."""
RETURN_OVERLAP = 0.3
"""From this overlap (intersection over union) on with where it is expected, a face that comes back may be half hidden
still, and less like itself: `SEEN` is enough."""
RETURN_SPEED = 4.0
"""How much further off it may be for every second, face sizes / s: a head that dashes across the picture."""
CROSSING = 0.02
"""From this overlap (intersection over union) on two faces are taken for one before the other. What hides a face is
then not taken for its look."""
HIDING = 0.3
"""From this overlap with another face on, one that is not found is behind it."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldFrame:
    """A frame on its way through the lag."""

    number: int
    """Counts the frames pushed into the tracker."""
    found: FrameFaces[Detection]


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
        self._max_held_frames = round(MAX_HELD_FRAMES * max(lag_s / DEFAULT_LAG_S, 1.0))
        self._is_cut = is_cut or CutDetector().is_cut
        self._held: deque[HeldFrame] = deque()
        self._tracks: list[Track] = []
        self._lost: list[Track] = []
        """Tracks that have ended in this shot and whose faces may come back."""
        self._time_s = 0.0
        """Of the shot."""
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
        self._time_s += step_s
        number = self._num_pushed
        self._num_pushed += 1
        self._held.append(HeldFrame(number, found))

        following = [track for track in self._tracks if not track.has_ended]
        carried = [self._carried(track, following, before, found.frame) for track in following]
        for track, motion in zip(following, carried, strict=True):
            track.advance(number, step_s, motion, was_looked_at=was_looked_at)
        if was_looked_at:
            self._assign(following, found, number, step_s, fades_in=before is not None)
        for track in following:
            if track.newest.is_there:
                track.last_seen_s = self._time_s
            if track.end_if_lost() and track.is_confirmed:
                self._lost.append(track)
        # As long as somebody who came back in time may still wait to be shown.
        self._lost = [track for track in self._lost if self._time_s - track.last_seen_s <= RETURN_S + self._lag_s]

        while self._oldest_is_due():
            yield self._release_oldest()

    def flush(self) -> Iterator[FrameFaces[TrackedFace]]:
        """End all tracks and yield every held frame."""
        for track in self._tracks:
            track.has_ended = True
        while self._held:
            yield self._release_oldest()
        self._tracks.clear()
        self._lost.clear()
        self._newest_frame = None
        self._time_s = 0.0

    def _carried(self, track: Track, following: list[Track], before: Frame | None, frame: Frame) -> Carried | None:
        """How flow saw the track's face move, by what of it is not behind other faces."""
        # Where the face is not seen, flow would follow what hides it.
        if before is None or not track.newest.is_there:
            return None
        box_xyxy_px = track.motion.newest_box_xyxy_px
        in_front = [
            other.motion.newest_box_xyxy_px
            for other in following
            if other is not track and other.newest.is_there and other.surprise < track.surprise
        ]
        return carry_face(before, frame, box_xyxy_px, np.stack(in_front) if in_front else None)

    def _assign(
        self, following: list[Track], found: FrameFaces[Detection], number: int, step_s: float, *, fades_in: bool
    ) -> None:
        """Give each detection to the track that it continues, or begin one with it."""
        looks = [look_of(found.frame, face.landmarks_px) for face in found.faces]
        detected = np.array([face.box_xyxy_px for face in found.faces], np.float32).reshape(-1, 4)
        is_in_view = (overlaps(detected, detected) > CROSSING).sum(axis=1) <= 1  # itself
        boxes = newest_boxes(following)
        unlike = distances_of_looks([track.look for track in following], looks)
        away_s = np.array([track.newest.seconds_since_seen for track in following])
        was_there = away_s <= max(LONE_GAP_S, step_s)
        # Who was away for longer is to be known by the look.
        limit = np.where(was_there, np.inf, np.where(away_s <= BLIND_GAP_S, SEEN, ALIKE))
        rest, missing = list(range(len(looks))), list(range(len(following)))
        for rows in (np.flatnonzero(was_there), np.flatnonzero(~was_there)):  # in this order
            columns = rest.copy()
            faces = tuple(found.faces[column] for column in columns)
            part = unlike[rows][:, columns]
            for i, j in matches(boxes[rows], faces, unlike=part, allowed=~(part > limit[rows, None])):
                row, column = int(rows[i]), columns[j]
                following[row].observe(found.faces[column], looks[column], is_in_view=bool(is_in_view[column]))
                rest.remove(column)
                missing.remove(row)
        is_behind: NDArray[np.bool_] = np.any(overlaps(boxes, detected) > HIDING, axis=1)
        for row in missing:
            following[row].miss(found.frame, is_behind=bool(is_behind[row]))
        for column in rest:
            face = found.faces[column]
            if face.score >= START_SCORE:
                self._tracks.append(Track(number, face, looks[column], time_s=self._time_s, fades_in=fades_in))

    def _know_again(self, new: list[Track]) -> None:
        """Give those of the tracks that are about to be shown first the ids of faces that were lost before.

        Not before it must be: who comes out from behind something is half hidden at first.
        """
        away = [track for track in self._tracks if not track.has_ended and not track.newest.is_there] + self._lost
        away = [track for track in away if track.track_id is not None]
        if not new or not away:
            return
        known = [track.look for track in away]
        # Of someone who has come out by now the newest look tells; of someone half behind another, an earlier one.
        newest, clear = ([track.newest_look for track in new], [track.clear_look for track in new])
        unlike = np.fmin(distances_of_looks(known, newest), distances_of_looks(known, clear))
        unseen_s = np.array([[track.begin_s - lost.last_seen_s for track in new] for lost in away])
        reach = MAX_DISTANCE + RETURN_SPEED * unseen_s
        faces = tuple(track.first for track in new)
        boxes = np.stack([track.clear_box_xyxy_px for track in away])
        # Who comes back where somebody is expected may be half hidden still.
        expected = overlaps(newest_boxes(away), np.stack([face.box_xyxy_px for face in faces])) >= RETURN_OVERLAP
        allowed = (unlike <= np.where(expected, SEEN, ALIKE)) & (unseen_s > 0) & (unseen_s <= RETURN_S)
        for row, column in matches(boxes, faces, unlike=unlike, allowed=allowed, reach=reach):
            new[column].track_id = away[row].track_id
            away[row].has_ended = True
            self._lost = [track for track in self._lost if track is not away[row]]

    def _step_s(self, frame: Frame) -> float:
        """Seconds since the frame before; 0 for the first of a shot."""
        before, self._newest_frame = self._newest_frame, frame
        return 0.0 if before is None else frame.seconds_since(before)

    def _oldest_is_due(self) -> bool:
        if not self._held:
            return False
        oldest, newest = self._held[0].found.frame, self._held[-1].found.frame
        waited_s = float((newest.pts - oldest.pts) * newest.time_base)
        return waited_s >= self._lag_s or len(self._held) >= self._max_held_frames

    def _release_oldest(self) -> FrameFaces[TrackedFace]:
        held = self._held.popleft()
        faces = []
        shown = [track for track in self._tracks if track.sightings and track.sightings[0].number == held.number]
        self._know_again([track for track in shown if track.track_id is None and track.shows_oldest()])
        for track in shown:
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
