"""The samples outside the crop squares: equal, or after encoding with loss, alike."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.frame import Frame
from vidrestore.layout import Plane
from vidrestore.verify.pair import Pair

Corners = NDArray[np.floating[Any]]
"""(4, 2) corners of a crop square in frame pixels, in order around it."""

GROWN_PX = 1.0
"""A crop square is taken for this much wider on each side: the faces file rounds its corners, and pixels lie on whole
numbers. Chroma needs no more: the pasted change ends two pixels inside the square (`stages/paste.py`)."""
PROBE_STEP_PX = 3
"""Without `lossless`, every third sample of every third row is looked at, in all frames: 3 ms at 720p. An odd step
meets both fields of interlaced pictures."""
MIN_PSNR_DB = 20.0
"""Below it a picture is another one. Six web clips have 44 dB or more at our defaults, 40 with `share`, 25 at x264's
coarsest, a crf of 51, which leaves 12 to 24 of tiny synthetic ones."""
OTHER_RATIO = 4.0
"""A picture whose squared error is this many times smaller (6 dB) against the frame before or after is out of place;
so is the range of a film that is so much closer to its source when that is taken from limited to full or back."""
CODING_NOISE = 4.0
"""Squared levels that any encoder may err by, whichever frame it shows."""
RANGE_GAIN, RANGE_BLACK = 255 / 219, 16.0
"""Full range from limited: (level - black) * gain (ITU-T H.273)."""
FRACTION_BITS = 4
"""Of a pixel, for OpenCV's polygons."""


def compare_samples(pair: Pair, at: str, one: Frame, other: Frame, inside: NDArray[np.uint8] | None) -> None:
    """Raise VerifyError unless all samples outside the crop squares are equal."""
    for component, wanted, kept in comparable_planes(one, other):
        if np.array_equal(wanted, kept):
            continue
        differing = wanted != kept
        if inside is not None:
            differing &= ~covered_samples(inside, wanted.shape)
        places = np.argwhere(differing)
        if len(places):
            y, x = places[0]
            pair.differs(
                f"{at}: {len(places)} samples of {component} outside the crop squares differ, the first at "
                f"({x}, {y}): {kept[y, x]}, not {wanted[y, x]}"
            )


def crop_mask(squares: Iterable[Corners], width_px: int, height_px: int) -> NDArray[np.uint8] | None:
    """(height_px, width_px), 1 inside the crop squares, each `GROWN_PX` wider; None where there are none."""
    mask: NDArray[np.uint8] | None = None
    for corners in squares:
        square = np.asarray(corners, dtype=np.float64)
        centre = square.mean(axis=0)
        half_side_px = max(float(np.linalg.norm(square[1] - square[0])) / 2, 0.5)
        grown = centre + (square - centre) * (half_side_px + GROWN_PX) / half_side_px
        if mask is None:
            mask = np.zeros((height_px, width_px), np.uint8)
        cv2.fillConvexPoly(mask, np.rint(grown * (1 << FRACTION_BITS)).astype(np.int32), 1, shift=FRACTION_BITS)
    return mask


def covered_samples(inside: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask for a plane of that shape: a chroma sample is inside where one of its pixels is."""
    if inside.shape == shape:
        return inside.view(bool)
    step_y, step_x = (-(-full // part) for full, part in zip(inside.shape, shape, strict=True))
    covered = np.zeros(shape, bool)
    for y, x in np.ndindex(step_y, step_x):
        part = inside[y::step_y, x::step_x].view(bool)
        covered[: part.shape[0], : part.shape[1]] |= part
    return covered


def comparable_planes(one: Frame, other: Frame) -> Iterator[tuple[str, Plane, Plane]]:
    """(component, the first frame's samples, the second's in the first's levels) of the planes that both define.

    Gray may have become colour, and levels multiples of themselves: luma is still the same. Chroma of another
    resolution is not. Where the second has fewer bits, its levels are spread out.
    """
    kept = dict(zip(other.layout.components, other.planes, strict=True))
    more_bits = other.layout.depth_bits - one.layout.depth_bits
    for component, plane in zip(one.layout.components, one.planes, strict=True):
        if component not in kept or kept[component].shape != plane.shape:
            continue
        found = kept[component]
        if more_bits > 0:
            found = cast(Plane, (found + (1 << (more_bits - 1)) >> more_bits).astype(plane.dtype))
        elif more_bits < 0:
            found = cast(Plane, found.astype(np.uint16) << -more_bits)
        yield component, plane, found


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """A few samples of a frame that was encoded with loss, and of its source."""

    at: str
    before: list[NDArray[np.float32]]
    """One array for each plane that both define, luma first, in levels of 255; without what lies in crop squares."""
    after: list[NDArray[np.float32]]
    places: NDArray[np.bool_] | None
    """Which samples of luma these are; None: all."""
    luma: NDArray[np.float32]
    """All of the source's."""


class Likeness:
    """Whether each picture is its source's, and none of its neighbours'. It runs one frame behind."""

    def __init__(self, pair: Pair, min_psnr_db: float) -> None:
        self._pair, self._min_psnr_db = pair, min_psnr_db
        self._last: _Probe | None = None
        self._luma_before_last: NDArray[np.float32] | None = None
        self._range_errors = np.zeros(3)
        """Mean squares of luma, added up: as it is, and against the two wrong ranges."""
        self._num_frames = 0
        self.worst_psnr_db: float | None = None

    def look(self, at: str, one: Frame, other: Frame, inside: NDArray[np.uint8] | None) -> None:
        probe = _probed(at, one, other, inside)
        if self._last is not None:
            self._judge(self._last, [self._luma_before_last, probe.luma])
            self._luma_before_last = self._last.luma
        self._last = probe

    def finish(self) -> None:
        if self._last is not None:
            self._judge(self._last, [self._luma_before_last])
        own, *wrong = self._range_errors / max(self._num_frames, 1)
        if own > OTHER_RATIO * min(wrong) + CODING_NOISE:
            self._pair.differs("limited and full range are mixed up")

    def _judge(self, probe: _Probe, neighbours: Sequence[NDArray[np.float32] | None]) -> None:
        if not len(probe.before[0]):
            return  # faces fill the picture
        errors = [_mean_square(one, other) for one, other in zip(probe.before, probe.after, strict=True) if len(one)]
        worst = max(errors)
        psnr_db = 10 * math.log10(255**2 / max(worst, 1e-6))
        if worst > 0 and (self.worst_psnr_db is None or psnr_db < self.worst_psnr_db):
            self.worst_psnr_db = psnr_db
        if psnr_db < self._min_psnr_db:
            self._pair.differs(f"{probe.at} is another picture (PSNR {psnr_db:.1f} dB outside the crop squares)")
        one, other = probe.before[0], probe.after[0]
        wrong_ranges = ((one - RANGE_BLACK) * np.float32(RANGE_GAIN), one / np.float32(RANGE_GAIN) + RANGE_BLACK)
        self._range_errors += (errors[0], *(_mean_square(wrong, other) for wrong in wrong_ranges))
        self._num_frames += 1
        for luma in neighbours:
            if luma is None:
                continue
            there = luma.ravel() if probe.places is None else luma[probe.places]
            if errors[0] > OTHER_RATIO * _mean_square(there, other) + CODING_NOISE:
                self._pair.differs(f"{probe.at} shows the frame before or after it")


def _probed(at: str, one: Frame, other: Frame, inside: NDArray[np.uint8] | None) -> _Probe:
    before: list[NDArray[np.float32]] = []
    after: list[NDArray[np.float32]] = []
    places: NDArray[np.bool_] | None = None
    grid = np.s_[::PROBE_STEP_PX, ::PROBE_STEP_PX]
    scale = np.float32(255 / ((1 << one.layout.depth_bits) - 1))
    for number, (_, wanted, kept) in enumerate(comparable_planes(one, other)):
        outside = None if inside is None else ~covered_samples(inside, wanted.shape)[grid]
        if number == 0:
            places = outside
        pair = [plane[grid].astype(np.float32) * scale for plane in (wanted, kept)]
        for samples, plane in zip((before, after), pair, strict=True):
            samples.append(plane.ravel() if outside is None else plane[outside])
    return _Probe(at, before, after, places, one.planes[0][grid].astype(np.float32) * scale)


def _mean_square(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    difference = (one - other).ravel()
    return float(difference @ difference) / len(difference)
