"""Before: where in the crop of the frame before each part of a face was to be seen, and how much that is worth.

Crops of a tracked face are registered as a whole; lips, lids and a turning head still move in them. Dense optical flow
(Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, as in OpenCV) tells how, in crops of a small
size. Where the crop before, carried along it, still looks otherwise than noise explains (an occlusion, a lid that shuts
within a frame, flow gone astray), it has no say. What noise explains is read off the crops themselves: it is what they
differ by where they differ least. `steady.py` tells what for.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import Before, PlacedFace, eye_distance_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.stages.crop_geometry import luma_crop

MAX_WEIGHT: Mapping[str, float] = {"off": 0.0, "light": 2.0, "strong": 6.0}
"""How many frames' worth the frames before may count, by the words of --temporal."""
THUMB_PX = 128
"""Flow in thumbs of 64 px leaves 0.02 more of the flicker; in 256 px it takes four times as long."""
BLUR_SIGMA_PX = 1.0
"""Takes noise off a thumb before the flow."""
FINEST_SCALE = 1
"""DIS stops at half the thumb's size: 0.5 ms instead of 2.2."""
PATCH_PX = 5
"""Differences are averaged over patches so wide: a lid is wider, noise is not."""
QUIET_SHARE = 0.3
"""So much of a crop is taken to differ by noise alone. With half of it, a hand before the face passes for noise."""
MIN_NOISE = 0.5
"""Mean square, in levels: below it nothing is to be seen."""
ALIKE, FALL = 2.0, 1.0
"""A patch that differs (mean square) by up to `ALIKE` times the noise is the same; then the weight falls by a factor of
e with each `FALL` more. Blinks and lips of three clips keep 99 % of their amplitude and come in their own frame."""
MAX_NOISE = 8.0
"""Times the mean square of what the blur for the flow takes off a thumb: more cannot be noise. So nobody is averaged
with another person, whom a cut that was missed put in his place."""
AROUND_EYES = 0.6
"""What counts as the face, and not as the still background of a moving one: the box around the landmarks and so much
more on each side, in eye distances."""
MAX_GAIN = 2.0
DARK = 4.0
"""Median level from which on a change of light can be told."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A face and what is remembered of it until the next frame."""

    placed: PlacedFace
    thumb: NDArray[np.float32]
    """(M, M) luma, in levels of 255."""
    smooth: NDArray[np.uint8]
    """The same for the flow."""
    region: tuple[slice, slice]
    """Rows and columns of the face itself."""

    @property
    def weight(self) -> NDArray[np.float32]:
        """(M, M), of what is known with this frame."""
        known = np.ones_like(self.thumb)
        return known if self.placed.before is None else known + self.placed.before.weight


def look_before(placed: Iterable[FrameFaces[PlacedFace]], *, max_weight: float) -> Iterator[FrameFaces[PlacedFace]]:
    """Every frame, in order; its faces with what is known of them from `before`, if the frame before had their track.

    Tracks end at cuts, so nothing is known there.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow.setFinestScale(FINEST_SCALE)
    flow.setUseSpatialPropagation(False)  # with it, the flow depends on the number of threads
    last: dict[int, Seen] = {}
    """By track id: the faces of the frame before."""
    for found in placed:
        now = {}
        for face in found.faces:
            seen = seen_in(found.frame, face)
            earlier = last.get(face.face.track_id)
            if earlier is not None:
                seen = replace(seen, placed=replace(face, before=known_before(earlier, seen, flow, max_weight)))
            now[face.face.track_id] = seen
        last = now
        yield FrameFaces(found.frame, tuple(seen.placed for seen in now.values()), found.skipped)


def seen_in(frame: Frame, placed: PlacedFace) -> Seen:
    scale = THUMB_PX / placed.crop_px
    thumb_from_frame = scale * placed.crop_from_frame
    thumb_from_frame[:, 2] += (scale - 1) / 2  # pixel centres are at integers in both
    thumb = luma_crop(frame, thumb_from_frame, THUMB_PX)
    if thumb is None:  # the crop touches the picture by less than rounding leaves of the thumb
        thumb = np.zeros((THUMB_PX, THUMB_PX), np.float32)
    smooth = cv2.GaussianBlur(thumb, (0, 0), BLUR_SIGMA_PX)
    points = placed.face.landmarks_px @ thumb_from_frame[:, :2].T + thumb_from_frame[:, 2]
    more_px = AROUND_EYES * eye_distance_px(points)
    left, top = np.clip(points.min(axis=0) - more_px, 0, THUMB_PX - PATCH_PX).astype(int)
    right, bottom = np.clip(points.max(axis=0) + more_px, PATCH_PX, THUMB_PX).astype(int)
    region = (slice(top, max(bottom, top + PATCH_PX)), slice(left, max(right, left + PATCH_PX)))
    return Seen(placed, thumb, np.clip(np.rint(smooth), 0, 255).astype(np.uint8), region)


def known_before(earlier: Seen, seen: Seen, flow: cv2.DISOpticalFlow, max_weight: float) -> Before:
    """What the frame before tells of a face."""
    motion_px = flow.calc(seen.smooth, earlier.smooth, None)
    there = pixel_grid(THUMB_PX) + motion_px
    carried = cv2.remap(earlier.thumb, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.remap(earlier.weight, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    region = seen.region
    level, level_before = float(np.median(seen.thumb[region])), float(np.median(carried[region]))
    is_lit = min(level, level_before) >= DARK
    gain = min(max(level / level_before, 1 / MAX_GAIN), MAX_GAIN) if is_lit else 1.0
    patches = cv2.boxFilter(np.square(seen.thumb - gain * carried), -1, (PATCH_PX, PATCH_PX))
    fine = float(np.square(seen.thumb - seen.smooth)[region].mean())
    noise = min(float(np.quantile(patches[region], QUIET_SHARE)), MAX_NOISE * fine)
    likeness = np.exp(np.minimum(ALIKE - patches / max(noise, MIN_NOISE), 0) / FALL)
    return Before(
        crop_from_frame=earlier.placed.crop_from_frame,
        motion=motion_px / np.float32(THUMB_PX),
        weight=np.minimum(weight, np.float32(max_weight)) * likeness.astype(np.float32),
        gain=gain,
    )


@lru_cache(maxsize=8)
def pixel_grid(side_px: int) -> NDArray[np.float32]:
    """(side_px, side_px, 2): x and y of every pixel."""
    y, x = np.indices((side_px, side_px), dtype=np.float32)
    grid = np.stack([x, y], axis=-1)
    grid.setflags(write=False)
    return grid
