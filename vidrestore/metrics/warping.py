"""Flicker: what is left between two pictures of one video once the motion between them is taken out.

The motion is computed on one video, the source or the clean truth, and used for all that are compared: a video whose
own flow bends around its flicker must not be judged by that flow. A video that moves and does not flicker leaves
little; noise, a restorer's changing mind and the softness of interpolation leave more. Compare videos with one
another: no figure is 0 for a moving picture.

Pictures are (H, W, 3) uint8 RGB, of one size; pixel centres are at integers.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""

MIN_SIDE_PX = 16
"""Dense inverse search compares patches of 8 px in pyramids; below this it has nothing to go by."""
RETURN_SHARE, RETURN_SLACK = 0.01, 0.5
"""A pixel is visible in both pictures where the way there and back misses its start by a square of at most the share
of both ways' squares plus the slack, in px^2: the figures of both papers that `motion_between` names."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where each pixel of the later of two pictures was in the earlier one."""

    flow_px: NDArray[np.float32]
    """(H, W, 2): for each pixel of the LATER picture, (x, y) in the EARLIER one minus its place."""
    visible: NDArray[np.bool_]
    """(H, W): False where the earlier picture does not show it: covered, outside, or lost by the flow."""


def motion_between(earlier: Picture, later: Picture) -> Motion:
    """Dense optical flow, with what can be seen in both pictures.

    Flow: Kroeger, Timofte, Dai and van Gool, "Fast optical flow using dense inverse search", ECCV 2016, in OpenCV, on
    luma as it is, at half its size and up. On a portrait moved by known paths it is 0.07 px off, 0.13 with noise of
    sigma 10, 0.19 with JPEG besides; at full size 0.04, 0.18 and 0.36, and blurred first (sigma 1.5 px) 0.09, 0.19 and
    0.25.

    Visibility: the forward-backward check of Sundaram, Brox and Keutzer, "Dense point trajectories by GPU-accelerated
    large displacement optical flow", ECCV 2010, as in Ruder, Dosovitskiy and Brox, "Artistic style transfer for
    videos", GCPR 2016. Their second test, for borders of motion, is left out: it would pass over a sixth of the picture
    in clips of talking heads, lips and lids first, of which we want to know most.

    Raises ValueError for pictures that differ in size or are smaller than `MIN_SIDE_PX`.
    """
    check_alike(earlier, later)
    if min(earlier.shape[:2]) < MIN_SIDE_PX:
        raise ValueError(f"pictures are {earlier.shape}; motion needs {MIN_SIDE_PX} px on each side")
    first, second = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (earlier, later))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(1)
    search.setUseSpatialPropagation(False)  # with it, the flow depends on the number of threads
    to_earlier: NDArray[np.float32] = search.calc(second, first, None)
    to_later: NDArray[np.float32] = search.calc(first, second, None)
    rows, columns = np.indices(first.shape, dtype=np.float32)
    from_x, from_y = columns + to_earlier[..., 0], rows + to_earlier[..., 1]
    back: NDArray[np.float32] = cv2.remap(to_later, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    missed = np.square(to_earlier + back).sum(axis=2)
    ways = np.square(to_earlier).sum(axis=2) + np.square(back).sum(axis=2)
    height_px, width_px = first.shape
    inside = (from_x >= 0) & (from_x <= width_px - 1) & (from_y >= 0) & (from_y <= height_px - 1)
    return Motion(to_earlier, inside & (missed <= RETURN_SHARE * ways + RETURN_SLACK))


def moved_on(earlier: Picture, motion: Motion) -> NDArray[np.float32]:
    """(H, W, 3): the earlier picture as it would look in the later one's place, in levels, edges repeated.

    Cubic interpolation: a linear one is softer, and for that a sharp picture would be called restless.
    """
    rows, columns = np.indices(motion.visible.shape, dtype=np.float32)
    from_x, from_y = columns + motion.flow_px[..., 0], rows + motion.flow_px[..., 1]
    moved: NDArray[np.float32] = cv2.remap(
        earlier.astype(np.float32), from_x, from_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(moved, 0, 255)


def warped_difference(
    earlier: Picture, later: Picture, motion: Motion, region: NDArray[np.bool_] | None = None
) -> float:
    """Mean absolute difference, in levels of 0..255, of the later picture from the earlier one moved on.

    Over pixels that are visible in both, inside `region` (H, W) where one is given; nan when there are none. Raises
    ValueError for sizes that differ.
    """
    return float(np.abs(_difference(earlier, later, motion, region)).mean())


def warping_error(earlier: Picture, later: Picture, motion: Motion, region: NDArray[np.bool_] | None = None) -> float:
    """E_warp of one pair of pictures: the mean square of that difference, for pictures in [0, 1].

    Lai, Huang, Wang, Shechtman, Yumer and Yang, "Learning blind video temporal consistency", ECCV 2018, section 4; a
    video's is the mean over its pairs. There the flow is FlowNet2's and the interpolation linear, so figures compare
    within one program only. Over the same pixels as `warped_difference`, nan when there are none.
    """
    return float(np.square(_difference(earlier, later, motion, region) / 255).mean())


def _difference(
    earlier: Picture, later: Picture, motion: Motion, region: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """(N, 3) in levels; of one row of nan when no pixel counts."""
    check_alike(earlier, later)
    counted = motion.visible if region is None else motion.visible & region
    if counted.shape != later.shape[:2]:
        raise ValueError(f"the motion is of {counted.shape}, the pictures are {later.shape}; both must be of one size")
    if not counted.any():
        return np.full((1, 3), np.nan, np.float32)
    return np.asarray((later.astype(np.float32) - moved_on(earlier, motion))[counted])


def check_alike(first: Picture, second: Picture) -> None:
    """Raise ValueError unless both are (H, W, 3) uint8 of one size."""
    for picture in (first, second):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"a picture is {picture.shape} {picture.dtype}; it must be (H, W, 3) uint8")
    if first.shape != second.shape:
        raise ValueError(f"pictures are {first.shape} and {second.shape}; both must be of one size")
