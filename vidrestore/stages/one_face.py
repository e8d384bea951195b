"""One face over time: where it is in the frames that are held, who it is, and how much of its restoration to show.

A face that was looked for in vain may be there all the same, or something may hide it; the picture at the place where
it is expected tells. Where it is hidden its restoration fades out, and in again.
"""

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from vidrestore.face import FADE_S, Detection, TrackedFace
from vidrestore.frame import Frame
from vidrestore.stages.appearance import ALIKE, SEEN, Look, look_of, unlikeness
from vidrestore.stages.flow import Carried
from vidrestore.stages.motion import FaceMotion

MAX_GAP_S = 0.5
"""A face unseen for longer has left; bridged until then if it comes back."""
SURE_SCORE = 0.95
"""A face seen in one frame only is believed from this score on."""
CONFIRM_S = 0.2
"""A less sure one must be seen again within this time."""
LONE_GAP_S = 0.1
"""Between two sightings no further apart nothing fades: it would blink."""
BLIND_GAP_S = 0.25
"""The same where the picture shows nothing by which a face could be known again."""
LOOK_CHANGES_S, LOOK_STAYS_S = 0.5, 3.0
"""Time constants with which a track's look follows what is seen: what is alike, and what may be half hidden."""


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
    looks_alike: bool | None
    """Whether the picture looks like the face; None where that cannot be told."""
    seconds_hidden: float
    """How long the face has not been in view: 0 where it is there, or where the picture looks like it."""
    age_s: float
    """Of the track."""


class Track:
    """One face over time, as far as its frames are held."""

    def __init__(self, number: int, detection: Detection, look: Look | None, *, time_s: float, fades_in: bool) -> None:
        """First seen at `time_s` of the shot."""
        self.track_id: int | None = None
        """Given when the track is first seen by the next stage, so that false alarms use up no ids."""
        self.first = detection
        self.clear_box_xyxy_px = detection.box_xyxy_px
        """Where it was last seen, and looked like itself."""
        self.begin_s = self.last_seen_s = time_s
        """Of the shot."""
        self.motion = FaceMotion(detection)
        self.sightings = deque([Sighting(number, detection, True, detection.score, 0.0, True, 0.0, 0.0)])
        self.newest = self.sightings[-1]
        self.look = look
        """A slow mean."""
        self.clear_look = look
        """The newest one with no other face before it, if there was any."""
        self.newest_look = look
        self.surprise = 0.0
        """Distance of the newest detection's look from it; 0 where that cannot be told."""
        self.is_confirmed = detection.score >= SURE_SCORE
        self.has_ended = False
        self._strength = 0.0 if fades_in else None
        """In the frame that was last given up; None before the first."""
        self._taken_s = 0.0
        """Age in that frame."""
        self._look_age_s = 0.0
        """Age when the look was last seen."""

    def advance(self, number: int, step_s: float, carried: Carried | None, *, was_looked_at: bool) -> None:
        """Go on to the next frame. If anybody looked, `observe` or `miss` comes next.

        In a frame that nobody looked at it is as it was in the frame before: there, or missing for longer.
        """
        self.motion.advance(step_s, carried)
        before = self.newest
        is_there = before.is_there and not was_looked_at
        unseen_s = 0.0 if is_there else before.seconds_since_seen + step_s
        hidden_s = 0.0 if is_there else before.seconds_hidden + step_s
        age_s = before.age_s + step_s
        self._add(Sighting(number, None, is_there, before.score, unseen_s, before.looks_alike, hidden_s, age_s))

    def observe(self, detection: Detection, look: Look | None, *, is_in_view: bool) -> None:
        """The face was found in the newest frame. `is_in_view`: no other face is before it, as far as is known."""
        newest = self.newest
        self._replace_newest(Sighting(newest.number, detection, True, detection.score, 0.0, True, 0.0, newest.age_s))
        self.is_confirmed = True
        self.surprise = 0.0 if self.look is None or look is None else unlikeness(self.look, look)
        self.motion.observe(detection)
        self.newest_look = look
        if self.look is None:
            self.look = look
        elif look is not None and is_in_view:
            self.clear_look = look
            if self.surprise <= ALIKE:
                self.clear_box_xyxy_px = detection.box_xyxy_px
            follows_s = LOOK_CHANGES_S if self.surprise <= ALIKE else LOOK_STAYS_S
            part = 1 - math.exp((self._look_age_s - newest.age_s) / follows_s)
            self.look = self.look + np.float32(part) * (look - self.look)
        self._look_age_s = newest.age_s

    def miss(self, frame: Frame, *, is_behind: bool) -> None:
        """The face was looked for in the newest frame, which is this, and not found. `is_behind`: another was."""
        look = look_of(frame, self.motion.newest_landmarks_px)
        alike = None
        if self.look is not None:
            alike = not is_behind and look is not None and unlikeness(self.look, look) <= SEEN
        newest = replace(self.newest, looks_alike=alike)
        if alike and newest.seconds_since_seen <= MAX_GAP_S - FADE_S:
            newest = replace(newest, seconds_hidden=0.0)
        self._replace_newest(newest)

    def end_if_lost(self) -> bool:
        """Whether it ends now."""
        limit_s = MAX_GAP_S if self.is_confirmed else CONFIRM_S
        if self.has_ended or self.newest.seconds_since_seen <= limit_s:
            return False
        self.has_ended = True
        return True

    def take_oldest(self, new_id: int) -> TrackedFace | None:
        """Give up the oldest frame: the face in it, or None where it is not to be shown."""
        shown = self.shows_oldest()
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

    def shows_oldest(self) -> bool:
        """Whether the face is to be shown in the oldest frame, as far as is known now."""
        is_false_alarm = self.has_ended and not self.is_confirmed and not self.newest.is_there
        if self.sightings[0].is_there:
            return not is_false_alarm
        found_again = any(sighting.is_there for sighting in self.sightings)
        return found_again or (self.is_confirmed and not self.has_ended)

    def _strength_of_oldest(self) -> float:
        """Never further from the one before than a fade is steep."""
        oldest = self.sightings[0]
        seen_ages_s = [sighting.age_s for sighting in self.sightings if sighting.is_there]
        if not seen_ages_s:  # gone, as far as is known: never up again until it is found
            target = 1 - oldest.seconds_hidden / FADE_S
            target = target if self._strength is None else min(target, self._strength)
        else:
            hidden_ages_s = [sighting.age_s for sighting in self.sightings if self._is_hidden(sighting)]
            if not self.newest.is_there:
                hidden_ages_s.append(seen_ages_s[-1])
            target = min((age_s - oldest.age_s for age_s in hidden_ages_s), default=FADE_S) / FADE_S
        target = min(max(target, 0.0), 1.0)
        if self._strength is None:
            return target
        step = (oldest.age_s - self._taken_s) / FADE_S
        return min(max(target, self._strength - step), self._strength + step)

    def _is_hidden(self, sighting: Sighting) -> bool:
        """Whether something is before the face while it is not found; it is found again later, or it is not known."""
        if sighting.is_there:
            return False
        last_age_s = sighting.age_s - sighting.seconds_since_seen
        again = (later.age_s for later in self.sightings if later.is_there and later.age_s > sighting.age_s)
        gap_s = next(again, math.inf) - last_age_s
        if sighting.looks_alike is None:
            return gap_s > BLIND_GAP_S
        return gap_s > LONE_GAP_S and not sighting.looks_alike

    def _replace_newest(self, sighting: Sighting) -> None:
        self.sightings.pop()
        self._add(sighting)

    def _add(self, sighting: Sighting) -> None:
        self.sightings.append(sighting)
        self.newest = sighting
