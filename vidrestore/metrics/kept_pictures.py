"""The few pictures that the page shows: of the longest tracks, the line through the eyes over time, and stills."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.metrics.warping import Picture

MAX_TRACKS = 16
"""Tracks of which pictures are kept at once, about 5 MB each."""
SIDE_PX = 192
"""Of a kept picture; larger crops are reduced."""
MAX_LINES = 750
"""Frames from a track's beginning of which the eye line is kept: 30 s at 25 frames per second."""
GAP_LEVEL = 128
"""Grey, of the columns for frames in which the face is away: time must go on there too."""
MAX_STILLS = 10
"""Stills of one track; there are always at least half as many, evenly spread."""
STILL_SPAN = (0.19, 0.81)
"""Of a crop's columns, what a still shows: the face without most of what is around it; of its rows a little lower."""
STILL_DOWN = 0.04


@dataclass(frozen=True, slots=True, eq=False)
class TrackPictures:
    """What is shown of one track, by the names of the videos."""

    eye_lines: Mapping[str, Picture]
    """(SIDE_PX, T, 3) x-t slices: each column is the line through the eyes in one frame, viewer's left at the top; grey
    where the face is away."""
    still_frames: tuple[int, ...]
    """Numbers of the frames that the stills are of."""
    stills: Mapping[str, tuple[Picture, ...]]
    """(s, s, 3) each, s at most SIDE_PX: the middle of the crop."""


class _Track:
    """One track's pictures while it goes on."""

    def __init__(self, first_frame: int) -> None:
        self.first_frame = first_frame
        self.num_frames = 0
        self.lines: dict[str, list[NDArray[np.uint8]]] = {}
        self.stills: list[tuple[int, dict[str, Picture]]] = []
        self.step = 1

    def add(self, frame: int, crops: Mapping[str, Picture], eye_line: float) -> None:
        place = frame - self.first_frame
        if place < MAX_LINES:
            for name, crop in crops.items():
                line = crop[round(eye_line * len(crop))][None]
                if len(crop) != SIDE_PX:
                    line = np.asarray(cv2.resize(line, (SIDE_PX, 1), interpolation=cv2.INTER_AREA), dtype=np.uint8)
                lines = self.lines.setdefault(name, [])
                lines += [np.full((SIDE_PX, 3), GAP_LEVEL, np.uint8)] * (place - len(lines))
                lines.append(line[0].copy())
        if self.num_frames % self.step == 0:
            self.stills.append((frame, {name: still(crop) for name, crop in crops.items()}))
            if len(self.stills) > MAX_STILLS:
                self.stills = self.stills[::2]
                self.step *= 2
        self.num_frames += 1


class KeptPictures:
    """Takes the crops of every face and frame, and keeps those of the longest tracks."""

    def __init__(self, eye_line: float) -> None:
        """`eye_line`: how far down the eyes are in a crop, as a share of its side."""
        self._eye_line = eye_line
        self._tracks: dict[int, _Track] = {}
        self._dropped: set[int] = set()

    def add(self, track_id: int, frame: int, crops: Mapping[str, Picture]) -> None:
        """The crops (S, S, 3) of one face in one frame, by the names of the videos."""
        if track_id not in self._dropped:
            self._tracks.setdefault(track_id, _Track(frame)).add(frame, crops, self._eye_line)

    def drop_short(self, present: Collection[int]) -> None:
        """Forget the shortest tracks while there are too many; first those that are over."""
        while len(self._tracks) > MAX_TRACKS:
            shortest = min(self._tracks, key=lambda track_id: (track_id in present, self._tracks[track_id].num_frames))
            del self._tracks[shortest]
            self._dropped.add(shortest)

    def of(self, track_id: int) -> TrackPictures | None:
        track = self._tracks.get(track_id)
        if track is None:
            return None
        return TrackPictures(
            eye_lines={name: np.stack(lines, axis=1) for name, lines in track.lines.items()},
            still_frames=tuple(frame for frame, _ in track.stills),
            stills={name: tuple(pictures[name] for _, pictures in track.stills) for name in track.lines},
        )


def still(crop: Picture) -> Picture:
    """The middle of a crop, at most `SIDE_PX` wide and high."""
    left, right = (round(share * len(crop)) for share in STILL_SPAN)
    down = round(STILL_DOWN * len(crop))
    part = crop[left + down : right + down, left:right]
    if len(part) <= SIDE_PX:
        return part.copy()
    return np.asarray(cv2.resize(part, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), dtype=np.uint8)
