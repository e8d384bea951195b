"""Paste: bring what the restorer changed back into the frame's own planes, and nothing else.

Only the *difference* between a restored crop and the source's crop travels back. A restorer that changes nothing
therefore changes no sample; a large face keeps the detail and grain that its crop was too small to hold; and samples
where the mask is zero are never written. Faces that overlap share the place by their masks.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import RestoredFace
from vidrestore.frame import Frame, FrameFaces, RestoredFrame
from vidrestore.pixels import Region, add_rgb_delta
from vidrestore.stages.crop_geometry import invert, region_of_crop, shifted_source, warp

FEATHER_START = 0.02
"""Share of the crop's side, from its edge inwards, where the mask is exactly zero."""
FEATHER_END = 0.16
"""Share of the crop's side from where on the mask is one. Between the two it rises smoothly."""
CLEAR_BORDER_PX = 2.0
"""The mask is zero at least this far inside the crop's edge in the frame, so that a chroma sample shared by pixels
inside and outside of the crop square keeps its value."""
GREY_SPREAD = 3.0
"""A crop whose channels lie within this mean distance of one another (levels of 255) is a grey picture; MPEG noise in
the chroma of a black-and-white film stays below 2."""


def paste_faces(restored: Iterable[FrameFaces[RestoredFace]], *, strength: float) -> Iterator[RestoredFrame]:
    """Yield each frame with its faces pasted, and the source's beside it. `strength` 0..1 scales the change."""
    for found in restored:
        frame = paste_into(found.frame, found.faces, strength=strength)
        yield RestoredFrame(frame, found.frame, found.faces, found.skipped)


def paste_into(frame: Frame, faces: Iterable[RestoredFace], *, strength: float) -> Frame:
    """A new frame with all faces pasted; the same frame when there are none."""
    parts = [part for part in (_part(frame, face) for face in faces) if part is not None]
    if not parts or strength == 0:
        return frame
    planes = tuple(plane.copy() for plane in frame.planes)
    for region, members in _overlapping_groups(parts):
        x0, y0, x1, y1 = region
        change = np.zeros((y1 - y0, x1 - x0, 3), dtype=np.float32)
        weight = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
        for (left, top, right, bottom), masked_change, mask in members:
            rows, columns = slice(top - y0, bottom - y0), slice(left - x0, right - x0)
            change[rows, columns] += masked_change
            weight[rows, columns] += mask
        change *= strength / np.maximum(weight, 1.0)[..., None]
        add_rgb_delta(planes, frame.layout, region, change)
    return replace(frame, planes=planes)


Part = tuple[Region, NDArray[np.float32], NDArray[np.float32]]
"""A region, its change times the mask (h, w, 3) in RGB levels, and the mask (h, w) in [0, 1]."""


def _part(frame: Frame, face: RestoredFace) -> Part | None:
    crop_from_frame = face.aligned.crop_from_frame
    crop_px = face.restored.shape[0]
    region = region_of_crop(crop_from_frame, crop_px, frame.width_px, frame.height_px)
    if region is None:
        return None
    crop_px_per_frame_px = float(np.sqrt(abs(np.linalg.det(crop_from_frame[:, :2]))))
    # Of a face of two or three pixels the clear border would leave nothing.
    clear_px = min(round(CLEAR_BORDER_PX * crop_px_per_frame_px), crop_px // 4)
    mask = feather_mask(crop_px, clear_px)
    change = color_kept_change(face.aligned.crop, face.restored, mask)
    layers = np.dstack([change * mask[..., None], mask])
    x0, y0, x1, y1 = region
    region_from_crop = invert(shifted_source(crop_from_frame, x0, y0))
    # Linear: a cubic would ring at the mask's foot and leave traces where it must be zero.
    warped = warp(layers, region_from_crop, x1 - x0, y1 - y0, border=cv2.BORDER_CONSTANT, enlarge_with=cv2.INTER_LINEAR)
    return region, warped[..., :3], warped[..., 3]


def color_kept_change(
    crop: NDArray[np.uint8], restored: NDArray[np.uint8], mask: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(S, S, 3) float32 restored - crop, without its mean over the mask: the face keeps its colour and brightness.

    On a grey picture the change is grey too.
    """
    change = restored.astype(np.float32) - crop.astype(np.float32)
    if _is_grey(crop):
        change = np.repeat(change.mean(axis=2, keepdims=True), 3, axis=2)
    mean = (change * mask[..., None]).sum(axis=(0, 1)) / mask.sum()
    return np.asarray(change - mean, dtype=np.float32)


def _is_grey(crop: NDArray[np.uint8]) -> bool:
    channels = crop.astype(np.float32)
    spread = np.abs(channels - channels.mean(axis=2, keepdims=True)).mean()
    return bool(spread < GREY_SPREAD)


@lru_cache(maxsize=64)
def feather_mask(crop_px: int, clear_px: int) -> NDArray[np.float32]:
    """(S, S) float32 in [0, 1]: one inside, exactly zero at the edge, with a smooth slope between and round corners."""
    start = max(FEATHER_START * crop_px, clear_px)
    end = max(FEATHER_END * crop_px, start + 1)
    edge_distance = np.minimum(np.arange(crop_px), np.arange(crop_px)[::-1]).astype(np.float32)
    ramp = np.clip((edge_distance - start) / (end - start), 0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    mask = np.outer(smooth, smooth).astype(np.float32)
    mask.setflags(write=False)
    return mask


def _overlapping_groups(parts: list[Part]) -> list[tuple[Region, list[Part]]]:
    """Parts whose regions touch, together with the region around them all. Groups do not overlap one another."""
    groups: list[tuple[Region, list[Part]]] = []
    for part in parts:
        region, members = part[0], [part]
        merged = True
        while merged:
            merged = False
            for group in groups:
                if _touch(region, group[0]):
                    groups.remove(group)
                    region, members = _around(region, group[0]), group[1] + members
                    merged = True
                    break
        groups.append((region, members))
    return groups


def _touch(a: Region, b: Region) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _around(a: Region, b: Region) -> Region:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
