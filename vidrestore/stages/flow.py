"""How a face moved from one frame to the next, by the pixels themselves.

A detector is off by a percent of the face's size, another way in every frame. Optical flow compares two frames directly
and is ten to forty times more precise, but knows only differences. `motion.py` takes both.

Points on a grid over the face are followed there and back (Lucas and Kanade, "An iterative image registration
technique", IJCAI 1981, in pyramids as OpenCV has it; the way back: Kalal et al., "Forward-backward error", ICPR 2010),
and the similarity that most of them agree on is what the head did; lips, lids and hands are outvoted.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import box_size_px
from vidrestore.frame import Frame
from vidrestore.stages.crop_geometry import similarity

FACE_PX = 100
"""Faces are looked at in this size, so that all cost the same: 1 to 2 ms. Their own noise is averaged away."""
MAX_ENLARGEMENT = 4.0
WINDOW_PX, PYRAMID_LEVELS, GRID = 21, 2, 9
MARGIN = 0.4
"""What is looked at around the box, in face sizes: how far a face may move in one frame."""
INSET = 0.1
"""Share of the box's sides without points: there the background shows."""
MAX_RETURN_PX = 1.0
"""A point must come back to where it began within this."""
MIN_POINTS = GRID * GRID // 4
MAX_RESIDUAL_PX = 1.5
"""Median distance from the similarity above which the points do not agree on one."""
AGREEMENT_PX = 0.05
"""Points that are this near to the similarity are never outvoted."""
ROUNDS = 5
NOISE_PER_RESIDUAL = 0.2
"""What the similarity's own error is of the points' median distance from it; measured on known paths."""
MIN_NOISE = 3e-4
"""Face sizes."""


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A face's motion over one frame."""

    frame_from_before: NDArray[np.float64]
    """(2, 3) similarity: px of the frame before -> px of this one."""
    noise: float
    """Standard deviation, in face sizes."""


def carry_face(
    before: Frame, frame: Frame, box_xyxy_px: NDArray[np.float32], in_front_xyxy_px: NDArray[np.float32] | None = None
) -> Carried | None:
    """The motion of what is in the box (of the frame before); None where the points do not agree on one.

    What lies in the boxes `in_front_xyxy_px` (N, 4) of the frame before is something else.
    """
    x1, y1, x2, y2 = (float(side) for side in box_xyxy_px)
    size_px = float(box_size_px(box_xyxy_px))
    margin_px = MARGIN * size_px
    left, top = max(int(x1 - margin_px), 0), max(int(y1 - margin_px), 0)
    right, bottom = min(int(x2 + margin_px) + 1, frame.width_px), min(int(y2 + margin_px) + 1, frame.height_px)
    scale = min(FACE_PX / size_px, MAX_ENLARGEMENT)
    block_px = max(int(1 / scale), 1)
    right, bottom = right - (right - left) % block_px, bottom - (bottom - top) % block_px
    width_px, height_px = round((right - left) * scale), round((bottom - top) * scale)
    if min(width_px, height_px) < 2 * WINDOW_PX or before.planes[0].shape != frame.planes[0].shape:
        return None
    region = (slice(top, bottom), slice(left, right))
    size = (width_px, height_px)
    earlier, later = reduced_luma(before, region, block_px, size), reduced_luma(frame, region, block_px, size)
    inset_x, inset_y = INSET * (x2 - x1), INSET * (y2 - y1)
    grid = np.meshgrid(np.linspace(x1 + inset_x, x2 - inset_x, GRID), np.linspace(y1 + inset_y, y2 - inset_y, GRID))
    # Pixel centres are at integers in both.
    ratio = np.array([width_px / (right - left), height_px / (bottom - top)])
    places = np.stack(grid, axis=-1).reshape(-1, 2)
    if in_front_xyxy_px is not None:
        low, high = in_front_xyxy_px[:, None, :2], in_front_xyxy_px[:, None, 2:]
        places = places[~np.all((places >= low) & (places <= high), axis=2).any(axis=0)]
    points = (places - (left, top) + 0.5) * ratio - 0.5
    inside = np.all((points >= 0) & (points <= (width_px - 1, height_px - 1)), axis=1)
    there, back, followed = there_and_back(earlier, later, points[inside].astype(np.float32))
    if followed.sum() < MIN_POINTS:
        return None

    def frame_px(picture_px: NDArray[np.float32]) -> NDArray[np.float64]:
        return (picture_px.astype(np.float64) + 0.5) / ratio - 0.5 + (left, top)

    matrix, residual_px = agreed_similarity(frame_px(back[followed]), frame_px(there[followed]), scale)
    if residual_px > MAX_RESIDUAL_PX:
        return None
    return Carried(matrix, max(NOISE_PER_RESIDUAL * residual_px / FACE_PX, MIN_NOISE))


def reduced_luma(frame: Frame, region: tuple[slice, slice], block_px: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The first plane (luma; green of an RGB picture) of a region, 8 bits, in (width, height) px.

    Whole blocks are averaged and then sampled: averaging over parts of pixels takes ten times as long.
    """
    part = frame.planes[0][region]
    blocks = (part.shape[1] // block_px, part.shape[0] // block_px)
    averaged = cv2.resize(part, blocks, interpolation=cv2.INTER_AREA) if block_px > 1 else part
    small = cv2.resize(averaged, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(small >> (frame.layout.depth_bits - 8), dtype=np.uint8)


def there_and_back(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Points (N, 2) in `before` -> where they are in `after` (N, 2), the points, and (N,) which came back."""
    if not len(points):
        return points, points, np.zeros(0, np.bool_)
    window = (WINDOW_PX, WINDOW_PX)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=window, maxLevel=PYRAMID_LEVELS)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, winSize=window, maxLevel=PYRAMID_LEVELS)
    missed_px = np.abs(back - points).max(axis=1)
    followed = (found.ravel() == 1) & (returned.ravel() == 1) & (missed_px <= MAX_RETURN_PX)
    return there, points, followed


def agreed_similarity(
    source: NDArray[np.float64], target: NDArray[np.float64], scale: float
) -> tuple[NDArray[np.float64], float]:
    """(2, 3) that takes most of the points (N, 2) to their targets, and their median distance from it times `scale`.

    Least squares with weights of Geman and McClure, anew for each round; the first are those of the median shift.
    """
    matrix = np.hstack([np.eye(2), np.median(target - source, axis=0)[:, None]])
    for _ in range(ROUNDS):
        distance_px = distances_px(matrix, source, target) * scale
        limit_px = max(1.5 * float(np.median(distance_px)), AGREEMENT_PX)
        matrix = similarity(source, target, 1 / (1 + (distance_px / limit_px) ** 2) ** 2)
    return matrix, float(np.median(distances_px(matrix, source, target))) * scale


def distances_px(
    matrix: NDArray[np.float64], source: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,)"""
    return np.asarray(np.linalg.norm(source @ matrix[:, :2].T + matrix[:, 2] - target, axis=1), np.float64)
