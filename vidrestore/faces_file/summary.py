"""A faces file for people who choose among its tracks: when each is there, how large, how strong."""

from array import array
from dataclasses import dataclass, field
from statistics import median

from vidrestore.face import eye_distance_px
from vidrestore.faces_file.read import ListedFaces


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """A face that was followed, for people who choose."""

    track_id: int
    begin_s: float
    """Its first frame, on the output's clock."""
    end_s: float
    """Its last frame."""
    num_frames: int
    """In which it is listed, restored or not."""
    eyes_apart_px: float
    """Median."""
    strength: float
    """Mean of how much of the restoration shows, 0 to 1; 0 where it is left alone."""


@dataclass(slots=True)
class _Tally:
    begin_s: float
    end_s: float = 0.0
    eyes_px: "array[float]" = field(default_factory=lambda: array("f"))
    strength: float = 0.0


def tracks_of(listed: ListedFaces) -> list[TrackSummary]:
    """All tracks, by id, in one reading; of each face 4 bytes are kept."""
    tallies: dict[int, _Tally] = {}
    for frame in listed.frames():
        # One of the two moments of an interlaced frame is enough.
        for track_id, face in {face.track_id: face for face in frame.faces}.items():
            tally = tallies.setdefault(track_id, _Tally(frame.time_s))
            tally.end_s = frame.time_s
            tally.eyes_px.append(eye_distance_px(face.landmarks_px))
            tally.strength += face.strength
    return [
        TrackSummary(
            track_id=track_id,
            begin_s=tally.begin_s,
            end_s=tally.end_s,
            num_frames=len(tally.eyes_px),
            eyes_apart_px=median(tally.eyes_px),
            strength=tally.strength / len(tally.eyes_px),
        )
        for track_id, tally in sorted(tallies.items())
    ]
