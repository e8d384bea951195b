"""Strength: how much of a restoration a face gets, by how much it needs one and how sure it is that it is one.

A face that is sharp in the restorer's own resolution has nothing to gain, and one that the detector itself doubts may
come out as another. Both are left alone; between is a slope, and along a track it changes slowly, so nothing pops.

Sharp means: fine structure is strong beside the next coarser, and not for noise, which is as fine but everywhere. The
bands are differences of Gaussians; their strength is taken in blocks, at the strongest edges and in the smoothest skin.
Over 50 faces that took no part in training and six sharp portraits, degraded as in `vidrestore evaluate`: of the
restoration, sharp portraits get 8 %, the same mildly degraded 95 %, all others 98 to 100 %; what is gained in decibels
rises from 0.28 to 0.34 on the mildly degraded faces and stays as it is on the worse ones.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import PlacedFace, SkippedFace
from vidrestore.frame import Frame, FrameFaces
from vidrestore.stages.crop_geometry import luma_crop, scale_of

NO_FACE_SCORE, FACE_SCORE = 0.3, 0.6
"""Detections below the first are restored not at all, from the second on fully. Faces of 24 px in 1920x1080 score 0.57
and more, and tracks begin at 0.5: what is less sure is half hidden, or turned away."""
SOFT, SHARP = 0.7, 0.85
"""The finest band's strength at edges beside the next one's, from where on a face counts as sharp and as wholly so."""
CLEAN, NOISY = 0.2, 0.3
"""The finest band's strength in smooth skin beside that at edges, up to where a face counts as clean and as half so."""
MAX_ENLARGEMENT = 1.25
"""A crop that shows a face larger than it is in the frame has no finest band."""
INNER_SHARE = 0.6
"""Of the crop's side: eyes, nose and mouth, and no background."""
BLOCK_SHARE = 0.05
"""Side of a block, of the crop's: an eye's corner."""
CHANGE_S = 0.5
"""Time constant with which the strength follows what is seen."""
LOOK_S = 0.15
"""Sharpness is measured so often: a third of `CHANGE_S`, and 0.1 ms a frame."""
MIN_STRENGTH = 0.02
"""Less changes no sample by more than a level or two."""


@dataclass(slots=True)
class Given:
    """What a face was given in the frame before."""

    strength: float
    sharpness: float
    looked_s: float
    """When it was last measured."""


def give_strength(placed: Iterable[FrameFaces[PlacedFace]]) -> Iterator[FrameFaces[PlacedFace]]:
    """Every frame, in order; its faces with their strength, those without any set aside with the reason."""
    last: dict[int, Given] = {}
    """By track id."""
    before_s = 0.0
    for found in placed:
        time_s = found.frame.time_s
        part = 1 - math.exp(-max(time_s - before_s, 0.0) / CHANGE_S)
        before_s = time_s
        now, faces, skipped = {}, [], list(found.skipped)
        for face in found.faces:
            track_id, trust = face.face.track_id, slope(face.face.score, NO_FACE_SCORE, FACE_SCORE)
            given = last.get(track_id)
            if given is None:
                sharp = sharpness(found.frame, face)
                given = Given(trust * (1 - sharp), sharp, time_s)
            elif time_s - given.looked_s >= LOOK_S:
                given.sharpness, given.looked_s = sharpness(found.frame, face), time_s
            given.strength += part * (trust * (1 - given.sharpness) - given.strength)
            now[track_id] = given
            if given.strength >= MIN_STRENGTH:
                faces.append(replace(face, face=replace(face.face, strength=face.face.strength * given.strength)))
            else:
                skipped.append(SkippedFace(face.face, "sharp already" if trust > 0 else "too doubtful"))
        last = now
        yield FrameFaces(found.frame, tuple(faces), tuple(skipped))


def sharpness(frame: Frame, placed: PlacedFace) -> float:
    """0 where a restorer may help, 1 for a face that is sharp and clean in the resolution of its crop."""
    if scale_of(placed.crop_from_frame) > MAX_ENLARGEMENT:
        return 0.0
    inner_px = round(INNER_SHARE * placed.crop_px)
    corner_px = (placed.crop_px - inner_px) / 2
    inner_from_frame = placed.crop_from_frame.copy()
    inner_from_frame[:, 2] -= corner_px
    luma = luma_crop(frame, inner_from_frame, inner_px)
    if luma is None:
        return 0.0
    once, twice = (cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in (1.0, 2.0))
    block_px = max(round(BLOCK_SHARE * placed.crop_px), 2)
    finest, next_one = in_blocks(luma - once, block_px), in_blocks(once - twice, block_px)
    edges, skin = np.quantile(finest, 0.95), np.quantile(finest, 0.1)
    is_sharp = slope(float(edges / max(np.quantile(next_one, 0.95), 1e-3)), SOFT, SHARP)
    is_noisy = slope(float(skin / max(edges, 1e-3)), CLEAN, NOISY)
    return is_sharp * (1 - is_noisy)


def in_blocks(band: NDArray[np.float32], block_px: int) -> NDArray[np.float64]:
    """Root mean square in blocks, each half over the next."""
    squares = cv2.boxFilter(np.square(band), -1, (block_px, block_px))
    step = block_px // 2
    return np.sqrt(squares[step:-step:step, step:-step:step].astype(np.float64))


def slope(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, straight between."""
    return min(max((value - low) / (high - low), 0.0), 1.0)
