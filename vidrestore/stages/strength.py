"""Strength: how much of a restoration a face gets, by how much it needs one and how sure it is that it is one.

A face that is sharp in the restorer's own resolution has nothing to gain; one that the detector itself doubts, or of
which darkness or fog have left nothing, may come out as another. They are left alone; between are slopes, and along a
track the strength changes slowly, so nothing pops.

Sharp means: at both eyes and at the mouth the finest structure is strong beside the next coarser, and it is not noise,
which is as fine but in smooth skin too. The bands are differences of Gaussians, measured in blocks. Flat and clipped
blocks (titles, bars, burnt-out skin) tell nothing of noise. Over 50 faces that took no part in training and six sharp
portraits, degraded as in `vidrestore evaluate`: of the restoration, the sharp portraits get 1 %, the same mildly
degraded 99 %, all others 98 to 100 %; what is gained in decibels stays as it is, or rises by 0.05 at most.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import PlacedFace, SkippedFace, eye_distance_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.stages.crop_geometry import luma_crop, scale_of

NO_FACE_SCORE, FACE_SCORE = 0.5, 0.6
"""Detections of the first score, the least that detectors report, are restored not at all, from the second on fully.
Faces of 24 px in 1920x1080 score 0.57 and more; what is less sure is half hidden, turned away or none."""
SOFT, SHARP = 0.7, 0.85
"""The finest band's strength beside the next one's, from where on a face counts as sharp and as wholly so."""
CLEAN, NOISY = 0.2, 0.3
"""The finest band's strength in smooth skin beside that at eyes and mouth, up to where a face counts as clean, and from
where on as noisy."""
NO_CONTRAST, CONTRAST = 3.0, 6.0
"""Standard deviation of a face's luma, levels of 255, up to which there is nothing to restore, and from which on there
is. Faces that somebody could name have 15 and more in the clips, shadows in a dark audience 3.7 to 5."""
CONTRAST_PX, CONTRAST_BORDER_PX = 64, 8
"""Side of the crop in which that is measured, and of what is left out of it."""
MAX_ENLARGEMENT = 1.25
"""A crop that shows a face larger than it is in the frame has no finest band."""
HALF_EYE, HALF_MOUTH = (0.3, 0.2), (0.45, 0.2)
"""(x, y) of what is looked at around each eye and the middle of the mouth, in eye distances."""
SKIN = 0.4
"""Around the landmarks, in eye distances, smooth skin is looked for."""
BLOCK = 0.14
"""Side of a block, in eye distances: an eye's corner."""
FLAT_LEVELS = 0.2
"""A block with less in the next band is none of a photograph."""
DARKEST, BRIGHTEST = 12.0, 243.0
"""Levels beyond which noise may be clipped away."""
MIN_SKIN_BLOCKS = 20
CHANGE_S = 0.5
"""Time constant with which the strength follows what is seen."""
LOOK_S = 0.15
"""Sharpness is measured so often: a third of `CHANGE_S`, and 0.2 ms a frame."""
MIN_STRENGTH = 0.02
"""Less changes no sample by more than a level or two."""


@dataclass(slots=True)
class Given:
    """What a face was given in the frame before."""

    strength: float
    sharpness: float
    clearness: float
    """By its contrast."""
    looked_at: Frame
    """Where these were last measured."""

    def look(self, frame: Frame, face: PlacedFace) -> None:
        self.sharpness, self.clearness, self.looked_at = sharpness(frame, face), clearness(frame, face), frame

    @property
    def worth(self) -> float:
        return self.clearness * (1 - self.sharpness)

    @property
    def reason(self) -> str:
        """Why it is left alone."""
        if self.clearness < 1 and self.clearness <= 1 - self.sharpness:
            return "too dark or faint"
        return "sharp already" if self.sharpness > 0.5 else "too doubtful"


def give_strength(placed: Iterable[FrameFaces[PlacedFace]]) -> Iterator[FrameFaces[PlacedFace]]:
    """Every frame, in order; its faces with their strength, those without any set aside with the reason."""
    last: dict[int, Given] = {}
    """By track id."""
    before: Frame | None = None
    for found in placed:
        frame = found.frame
        part = 1 - math.exp(-frame.seconds_since(before) / CHANGE_S) if before else 0.0
        before = frame
        now, faces, skipped = {}, [], list(found.skipped)
        for face in found.faces:
            track_id, trust = face.face.track_id, slope(face.face.score, NO_FACE_SCORE, FACE_SCORE)
            given = last.get(track_id)
            if given is None:
                given = Given(0.0, 0.0, 1.0, frame)
                given.look(frame, face)
                given.strength = trust * given.worth
            elif face.face.seconds_since_seen == 0:  # else something may be before it
                if frame.seconds_since(given.looked_at) >= LOOK_S:
                    given.look(frame, face)
                given.strength += part * (trust * given.worth - given.strength)
            now[track_id] = given
            if given.strength >= MIN_STRENGTH:
                faces.append(replace(face, face=replace(face.face, strength=face.face.strength * given.strength)))
            else:
                skipped.append(SkippedFace(face.face, given.reason))
        last = now
        yield FrameFaces(frame, tuple(faces), tuple(skipped))


def sharpness(frame: Frame, placed: PlacedFace) -> float:
    """0 where a restorer may help, 1 for a face that is sharp and clean in the resolution of its crop."""
    if scale_of(placed.crop_from_frame) > MAX_ENLARGEMENT:
        return 0.0
    luma = luma_crop(frame, placed.crop_from_frame, placed.crop_px)
    if luma is None:
        return 0.0
    crop_from_frame = placed.crop_from_frame
    points = placed.face.landmarks_px @ crop_from_frame[:, :2].T + crop_from_frame[:, 2]  # (5, 2)
    eyes_px = eye_distance_px(points)
    block_px = max(round(BLOCK * eyes_px), 2)
    once, twice = (cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in (1.0, 2.0))
    finest, next_one = strength_around(luma - once, block_px), strength_around(once - twice, block_px)
    edges, ratios = [], []
    for centre, halves in ((points[0], HALF_EYE), (points[1], HALF_EYE), (points[3:].mean(axis=0), HALF_MOUTH)):
        part = within(centre - eyes_px * np.array(halves), centre + eyes_px * np.array(halves), placed.crop_px)
        if not finest[part].size:
            return 0.0
        edges.append(float(np.quantile(finest[part], 0.9)))
        ratios.append(edges[-1] / max(float(np.quantile(next_one[part], 0.9)), 1e-3))
    around = within(points.min(axis=0) - SKIN * eyes_px, points.max(axis=0) + SKIN * eyes_px, placed.crop_px)
    step = (slice(None, None, max(block_px // 2, 1)),) * 2
    mean = cv2.boxFilter(luma, -1, (block_px, block_px))[around][step]
    is_skin = (next_one[around][step] > FLAT_LEVELS) & (mean > DARKEST) & (mean < BRIGHTEST)
    if is_skin.sum() < MIN_SKIN_BLOCKS:
        return 0.0
    skin = float(np.quantile(finest[around][step][is_skin], 0.1))
    is_noisy = slope(skin / max(float(np.median(edges)), 1e-3), CLEAN, NOISY)
    return slope(min(ratios), SOFT, SHARP) * (1 - is_noisy)


def clearness(frame: Frame, placed: PlacedFace) -> float:
    """0 for a face without contrast, 1 for one with enough."""
    small_from_frame = CONTRAST_PX / placed.crop_px * placed.crop_from_frame
    luma = luma_crop(frame, small_from_frame, CONTRAST_PX)
    inner = slice(CONTRAST_BORDER_PX, -CONTRAST_BORDER_PX)
    return 0.0 if luma is None else slope(float(luma[inner, inner].std()), NO_CONTRAST, CONTRAST)


def strength_around(band: NDArray[np.float32], block_px: int) -> NDArray[np.float32]:
    """(S, S): root mean square in the block around each pixel."""
    squares = cv2.boxFilter(np.square(band), -1, (block_px, block_px))
    # Running sums leave rounding errors on what is flat.
    return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)


def within(low_px: NDArray[np.float64], high_px: NDArray[np.float64], crop_px: int) -> tuple[slice, slice]:
    """Rows and columns from one point (x, y) to another, as far as the crop goes."""
    (left, top), (right, bottom) = (np.clip(np.rint(each), 0, crop_px).astype(int) for each in (low_px, high_px))
    return slice(top, bottom), slice(left, right)


def slope(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, straight between."""
    return min(max((value - low) / (high - low), 0.0), 1.0)
