"""Exact conversion between a source's planes and RGB for a region of interest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.layout import Matrix, PixelLayout, Plane
from vidrestore.tone import signal_delta, view_of_signal

Region = tuple[int, int, int, int]
"""Half-open (x0, y0, x1, y1) in px."""
LUMA_WEIGHTS: Mapping[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
"""Kr and Kb of each matrix (ITU-T H.273, table 4)."""


def rgb_region(planes: Sequence[Plane], layout: PixelLayout, region: Region) -> NDArray[np.float32]:
    """(y1 - y0, x1 - x0, 3) float32 RGB of a region that lies inside the picture, nominally 0..255, not clipped.

    Chroma is interpolated linearly from where its samples lie; values beyond nominal white or black survive. HDR's PQ
    comes as an ordinary screen would show it.
    """
    signal = _signal_region(planes, layout, region)
    return view_of_signal(signal) if layout.is_pq else signal


def _signal_region(planes: Sequence[Plane], layout: PixelLayout, region: Region) -> NDArray[np.float32]:
    """As `rgb_region`, with PQ as it is stored."""
    x0, y0, x1, y1 = region
    if layout.family == "rgb":
        green, blue, red = (plane[y0:y1, x0:x1] for plane in planes[:3])
        samples = cv2.merge([red, green, blue]).astype(np.float32)
        return _affine(samples, rgb_from_samples(layout))
    luma = planes[0][y0:y1, x0:x1].astype(np.float32)
    if layout.family == "gray":
        gain, offset = luma_gain_offset(layout)
        return cv2.merge([(luma - np.float32(offset)) * np.float32(1 / gain)] * 3)
    chroma = [_upsampled_chroma(plane, layout, region) for plane in planes[1:3]]
    return _affine(cv2.merge([luma, *chroma]), rgb_from_samples(layout))


def rgb_picture(planes: Sequence[Plane], layout: PixelLayout) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of the whole picture, for looking at."""
    height_px, width_px = planes[0].shape
    rgb = rgb_region(planes, layout, (0, 0, width_px, height_px))
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def rgb_reduced(planes: Sequence[Plane], layout: PixelLayout, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """(height_px, width_px, 3) uint8 RGB copy of the whole picture, each plane area-averaged to that size first.

    Made for detection: fast, and free of chroma siting (an error of a quarter pixel in colour only).
    """
    size = (width_px, height_px)
    reduced = []
    for plane in planes[: 1 if layout.family == "gray" else 3]:
        shrinks = plane.shape[1] >= width_px and plane.shape[0] >= height_px
        small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        if layout.depth_bits > 8:
            small = (small >> (layout.depth_bits - 8)).astype(np.uint8)
        reduced.append(small)
    as_8_bit = replace(layout, depth_bits=8)
    if layout.family == "gray":
        gain, offset = luma_gain_offset(as_8_bit)
        return cv2.merge([cv2.convertScaleAbs(np.maximum(reduced[0], offset) - offset, alpha=1 / gain)] * 3)
    if layout.family == "rgb":
        reduced = [reduced[2], reduced[0], reduced[1]]
    # cv2.transform rounds and saturates in uint8 by itself.
    rgb = cv2.transform(cv2.merge(reduced), rgb_from_samples(as_8_bit))
    if layout.is_pq:
        rgb = cv2.LUT(rgb, np.rint(view_of_signal(np.arange(256, dtype=np.float32))).astype(np.uint8))
    return np.asarray(rgb, dtype=np.uint8)


def add_rgb_delta(planes: Sequence[Plane], layout: PixelLayout, region: Region, delta: NDArray[np.float32]) -> None:
    """Add `delta` ((h, w, 3) float32 RGB, in 1/255 of full scale) to the planes, in place, inside `region`.

    Only the difference passes through the colour matrix: a sample whose delta is zero keeps its exact value, and so do
    detail, grain and out-of-range values beneath a small delta. Alpha is never touched. The region is half-open and
    inside the picture; chroma samples take the average of the luma positions that they stand for. A change of how PQ
    looks becomes the change of its signal that looks so.
    """
    if layout.is_pq:
        delta = signal_delta(_signal_region(planes, layout, region), delta)
    height_px, width_px = planes[0].shape
    x0, y0, x1, y1 = whole = whole_chroma_samples(region, layout, width_px, height_px)
    if whole != region:  # what is added around it has no delta
        border = (region[1] - y0, y1 - region[3], region[0] - x0, x1 - region[2])
        delta = cv2.copyMakeBorder(delta, *border, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    if layout.family == "rgb":
        gain, _ = luma_gain_offset(layout)
        for plane, channel in zip(planes[:3], (1, 2, 0), strict=True):
            _add(plane[y0:y1, x0:x1], delta[..., channel] * np.float32(gain), layout.depth_bits)
        return
    # (3, 1, 3): a row for each of Y, Cb, Cr. One at a time leaves each as a picture of its own.
    luma, *chroma = samples_from_rgb(layout)[:, None]
    _add(planes[0][y0:y1, x0:x1], cv2.transform(delta, luma), layout.depth_bits)
    if layout.family == "yuv":
        rows = slice(y0 >> layout.log2_chroma_h, -(-y1 >> layout.log2_chroma_h))
        columns = slice(x0 >> layout.log2_chroma_w, -(-x1 >> layout.log2_chroma_w))
        for plane, component in zip(planes[1:3], chroma, strict=True):
            reduced = _downsampled_chroma(cv2.transform(delta, component), layout)
            _add(plane[rows, columns], reduced, layout.depth_bits)


def whole_chroma_samples(region: Region, layout: PixelLayout, width_px: int, height_px: int) -> Region:
    """The region grown to whole chroma samples, as far as the picture goes."""
    x0, y0, x1, y1 = region
    step_x, step_y = 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h
    return x0 - x0 % step_x, y0 - y0 % step_y, min(x1 + -x1 % step_x, width_px), min(y1 + -y1 % step_y, height_px)


def _add(samples: Plane, delta: NDArray[np.float32], depth_bits: int) -> None:
    """Add in place, rounded to the nearest level and kept inside the sample range."""
    total = np.rint(samples + delta)
    samples[...] = np.clip(total, 0, (1 << depth_bits) - 1).astype(samples.dtype)


def luma_gain_offset(layout: PixelLayout) -> tuple[float, float]:
    """sample = gain * level + offset, for a level of 0..255."""
    if layout.full_range:
        return ((1 << layout.depth_bits) - 1) / 255, 0.0
    scale = 1 << (layout.depth_bits - 8)
    return 219 * scale / 255, 16.0 * scale


def _chroma_gain_offset(layout: PixelLayout) -> tuple[float, float]:
    """sample = gain * chroma + offset, for chroma of -127.5..127.5."""
    offset = float(1 << (layout.depth_bits - 1))
    if layout.full_range:
        return ((1 << layout.depth_bits) - 1) / 255, offset
    return 224 * (1 << (layout.depth_bits - 8)) / 255, offset


def samples_from_rgb(layout: PixelLayout) -> NDArray[np.float64]:
    """(3, 3): RGB differences -> Y, Cb, Cr differences in sample units."""
    kr, kb = LUMA_WEIGHTS[layout.matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    blue_difference = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - kb))
    red_difference = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - kr))
    luma_gain, _ = luma_gain_offset(layout)
    chroma_gain, _ = _chroma_gain_offset(layout)
    return np.stack([luma * luma_gain, blue_difference * chroma_gain, red_difference * chroma_gain])


def rgb_from_samples(layout: PixelLayout) -> NDArray[np.float64]:
    """(3, 4) affine: Y, Cb, Cr samples (or R, G, B samples) -> RGB of 0..255."""
    luma_gain, luma_offset = luma_gain_offset(layout)
    if layout.family == "rgb":
        linear: NDArray[np.floating] = np.eye(3) / luma_gain
        offsets = np.full(3, luma_offset)
    else:
        _, chroma_offset = _chroma_gain_offset(layout)
        linear = np.linalg.inv(samples_from_rgb(layout))
        offsets = np.array([luma_offset, chroma_offset, chroma_offset])
    return np.hstack([linear, -(linear @ offsets)[:, None]])


def _affine(samples: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(cv2.transform(samples, matrix), dtype=np.float32)


def siting_offset_px(layout: PixelLayout) -> tuple[float, float]:
    """Where the first chroma sample lies on the luma grid, (x, y)."""
    last_x, last_y = (1 << layout.log2_chroma_w) - 1, (1 << layout.log2_chroma_h) - 1
    x = 0.0 if layout.siting.endswith("left") else last_x / 2
    if layout.siting.startswith("top"):
        return x, 0.0
    return x, float(last_y) if layout.siting.startswith("bottom") else last_y / 2


def _upsampled_chroma(plane: Plane, layout: PixelLayout, region: Region) -> NDArray[np.float32]:
    """(h, w) float32 chroma at every luma position of the region, interpolated linearly."""
    x0, y0, x1, y1 = region
    step_x, step_y = 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h
    if step_x == step_y == 1:
        return plane[y0:y1, x0:x1].astype(np.float32)
    # The chroma samples around the region, one more on each side where the picture has them.
    column, row = max(x0 // step_x - 1, 0), max(y0 // step_y - 1, 0)
    part = plane[row : y1 // step_y + 2, column : x1 // step_x + 2].astype(np.float32)
    offset_x, offset_y = siting_offset_px(layout)
    chroma_from_region = np.array(
        [
            [1 / step_x, 0.0, (x0 - offset_x) / step_x - column],
            [0.0, 1 / step_y, (y0 - offset_y) / step_y - row],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (x1 - x0, y1 - y0)
    warped = cv2.warpAffine(part, chroma_from_region, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.float32)


def _downsampled_chroma(full: NDArray[np.float32], layout: PixelLayout) -> NDArray[np.float32]:
    """(h, w) at luma positions, starting on a whole chroma sample -> (ceil(h / step_y), ceil(w / step_x)).

    Each sample averages the luma positions around where it lies: a box when it lies between them, a triangle (1 2 1)
    when it lies on one. Steps of 4 (4:1:1, 4:1:0) and samples on the lower of two rows (rare) take the box.
    """
    offset_x, offset_y = siting_offset_px(layout)
    reduced = _downsampled_rows(full, 1 << layout.log2_chroma_h, cosited=offset_y == 0)
    return _downsampled_rows(reduced.T, 1 << layout.log2_chroma_w, cosited=offset_x == 0).T


def _downsampled_rows(full: NDArray[np.float32], step: int, *, cosited: bool) -> NDArray[np.float32]:
    if step == 1:
        return full
    missing = -len(full) % step
    if missing:  # an odd picture: its last chroma sample stands for fewer rows
        full = np.concatenate([full, np.repeat(full[-1:], missing, axis=0)])
    if not cosited or step != 2:
        return np.asarray(full.reshape(-1, step, full.shape[1]).mean(axis=1), dtype=np.float32)
    before = np.concatenate([full[:1], full[1:-1:2]])
    return np.asarray((before + 2 * full[0::2] + full[1::2]) / 4, dtype=np.float32)
