"""Where a crop lies in its frame, and moving pictures between the two.

Convention as in `face.py`. Warping is area-correct: where pixels are merged they are averaged, never skipped.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.frame import Frame
from vidrestore.pixels import Region, luma_gain_offset

SAMPLING_MARGIN_PX = 3
"""Extra frame pixels around a crop square: cubic interpolation reads two beyond, rounding one more."""


def similarity(
    source: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(2, 3) rotation, uniform scale and shift that takes points `source` (N, 2) to `target` with least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, in its
    closed form for the plane: with points as complex numbers, a rotation and scale is one factor. No mirroring.
    `weights` (N,) say how much each point counts.
    """
    w = np.ones((len(source), 1)) if weights is None else weights[:, None]
    source_mean, target_mean = (w * source).sum(axis=0) / w.sum(), (w * target).sum(axis=0) / w.sum()
    a, b = source - source_mean, target - target_mean
    spread = max(float((w * a**2).sum()), 1e-12)
    cosine = float((w * a * b).sum()) / spread
    sine = float((w[:, 0] * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])).sum()) / spread
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.hstack([linear, (target_mean - linear @ source_mean)[:, None]])


def invert(b_from_a: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) a_from_b."""
    linear = np.linalg.inv(b_from_a[:, :2])
    return np.hstack([linear, -(linear @ b_from_a[:, 2])[:, None]])


def crop_corners_px(crop_from_frame: NDArray[np.float64], crop_px: int) -> NDArray[np.float64]:
    """(4, 2) corners of the crop square in the frame, clockwise from the crop's top left; outer edges of its pixels."""
    low, high = -0.5, crop_px - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    frame_from_crop = invert(crop_from_frame)
    return np.asarray(corners @ frame_from_crop[:, :2].T + frame_from_crop[:, 2])


def region_of_crop(
    crop_from_frame: NDArray[np.float64], crop_px: int, width_px: int, height_px: int, *, margin_px: int = 0
) -> Region | None:
    """The smallest region of the picture that holds the crop square; None when they do not meet."""
    corners = crop_corners_px(crop_from_frame, crop_px)
    low = np.floor(corners.min(axis=0)).astype(int) - margin_px
    high = np.ceil(corners.max(axis=0)).astype(int) + 1 + margin_px
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]), width_px), min(int(high[1]), height_px)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def sampled_region(frame: Frame, crop_from_frame: NDArray[np.float64], crop_px: int) -> Region | None:
    """What is read of the picture for a crop; None when its square lies outside altogether."""
    size = (frame.width_px, frame.height_px)
    return region_of_crop(crop_from_frame, crop_px, *size, margin_px=SAMPLING_MARGIN_PX)


def shifted_source(b_from_a: NDArray[np.float64], x_px: float, y_px: float) -> NDArray[np.float64]:
    """The same mapping for a source whose origin is moved to (x_px, y_px)."""
    shifted = b_from_a.copy()
    shifted[:, 2] += b_from_a[:, :2] @ np.array([x_px, y_px])
    return shifted


def scale_of(b_from_a: NDArray[np.float64]) -> float:
    """Pixels of b for one of a."""
    return math.sqrt(abs(float(np.linalg.det(b_from_a[:, :2]))))


def enlarges(b_from_a: NDArray[np.float64]) -> bool:
    return scale_of(b_from_a) >= 1


def whole_shrink(b_from_a: NDArray[np.float64]) -> int:
    """Pixels of a for one of b, rounded down; at least 1."""
    return max(int(1 / max(scale_of(b_from_a), 1e-6)), 1)


def from_blocks(b_from_a: NDArray[np.float64], shrink: int) -> NDArray[np.float64]:
    """The same mapping for a source of which each block of shrink x shrink pixels has become one."""
    # Centre of block k lies at n * k + (n - 1) / 2.
    b_from_blocks = shifted_source(b_from_a, (shrink - 1) / 2, (shrink - 1) / 2)
    b_from_blocks[:, :2] *= shrink
    return b_from_blocks


def warp(
    image: NDArray[np.float32],
    out_from_image: NDArray[np.float64],
    width_px: int,
    height_px: int,
    *,
    border: int,
    enlarge_with: int = cv2.INTER_CUBIC,
) -> NDArray[np.float32]:
    """(h, w[, C]) float32 -> (height_px, width_px[, C]) through a similarity.

    When it shrinks by n or more, blocks of n x n pixels are averaged first, so that every source pixel counts; the
    remaining factor below 2 is sampled linearly. When it enlarges, `enlarge_with` interpolates.
    `border` is OpenCV's rule for what lies beyond the image.
    """
    shrink = whole_shrink(out_from_image)
    flags = enlarge_with if enlarges(out_from_image) else cv2.INTER_LINEAR
    if shrink > 1:
        height, width = image.shape[:2]
        # A whole number of blocks: the last ones are filled up in the way that the border asks for.
        padded = cv2.copyMakeBorder(image, 0, -height % shrink, 0, -width % shrink, border)
        size = (padded.shape[1] // shrink, padded.shape[0] // shrink)
        image = np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
        out_from_image = from_blocks(out_from_image, shrink)
    warped = cv2.warpAffine(image, out_from_image, (width_px, height_px), flags=flags, borderMode=border)
    return np.asarray(warped, dtype=np.float32)


def luma_crop(frame: Frame, crop_from_frame: NDArray[np.float64], crop_px: int) -> NDArray[np.float32] | None:
    """(S, S) levels of 255 of a crop's first plane (luma; green of an RGB picture); beyond the picture its edge is
    repeated. None when the crop's square lies outside altogether."""
    region = sampled_region(frame, crop_from_frame, crop_px)
    if region is None:
        return None
    x0, y0, x1, y1 = region
    gain, offset = luma_gain_offset(frame.layout)
    levels = (frame.planes[0][y0:y1, x0:x1] - np.float32(offset)) * np.float32(1 / gain)
    return warp(levels, shifted_source(crop_from_frame, x0, y0), crop_px, crop_px, border=cv2.BORDER_REPLICATE)
