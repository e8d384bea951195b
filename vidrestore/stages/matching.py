"""Who of the known faces a detection shows: by place, motion and look."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vidrestore.face import Detection, box_size_px
from vidrestore.stages.appearance import Look, unlikeness

MAX_DISTANCE = 0.75
"""Furthest that a detection's centre may lie from where its track predicts it, in face sizes."""
MAX_SIZE_RATIO = 2.0
"""Most that a face may grow or shrink between sightings."""
SCORE_WEIGHT = 0.5
"""How much a detection's doubt (1 - score) counts in matching, against overlap and distance, each of weight 1."""
LOOK_WEIGHT = 1.3
"""The same for the distance of the looks. Those of two people differ by 0.6 more than those of one, so this weighs as
much as half a face of distance with the overlap that it costs."""
UNKNOWN = 0.3
"""Stands for the distance of looks where one is not known: neither alike nor unlike."""


def matches(
    predicted: NDArray[np.float32],
    detections: tuple[Detection, ...],
    *,
    unlike: NDArray[np.float64] | None = None,
    allowed: NDArray[np.bool_] | None = None,
    reach: NDArray[np.float64] | None = None,
) -> list[tuple[int, int]]:
    """(row of `predicted` (T, 4), detection) index pairs with the least total cost: 1 - IoU, distance, doubt and look.

    Each (T, D), if given: `unlike`: distances of the looks, NaN where unknown. `allowed`: which pairs may be. `reach`:
    how far off a detection may be, in face sizes, in place of MAX_DISTANCE.
    """
    if not len(predicted) or not detections:
        return []
    detected = np.stack([detection.box_xyxy_px for detection in detections])  # (D, 4)
    scores = np.array([detection.score for detection in detections])
    track_size_px, detection_size_px = box_size_px(predicted), box_size_px(detected)
    centres = (predicted[:, None, :2] + predicted[:, None, 2:] - detected[None, :, :2] - detected[None, :, 2:]) / 2
    distance = np.linalg.norm(centres, axis=2) / np.sqrt(track_size_px[:, None] * detection_size_px[None, :])  # (T, D)
    ratio = track_size_px[:, None] / detection_size_px[None, :]
    possible = distance <= (MAX_DISTANCE if reach is None else reach)
    possible &= np.maximum(ratio, 1 / ratio) <= MAX_SIZE_RATIO
    cost = 1 - overlaps(predicted, detected) + distance + SCORE_WEIGHT * (1 - scores)[None, :]
    if unlike is not None:
        # Two looks that have nothing in common are as different as can be.
        cost = cost + LOOK_WEIGHT * np.minimum(np.nan_to_num(unlike, nan=UNKNOWN), 1.0)
    if allowed is not None:
        possible &= allowed
    # Dearer than any set of possible pairs: as many faces as possible are continued.
    rows, columns = linear_sum_assignment(np.where(possible, cost, 20.0 * cost.size))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if possible[row, column]]


def overlaps(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) and (M, 4) boxes -> (N, M) intersection over union."""
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.maximum(bottom_right - top_left, 0).prod(axis=2)  # (N, M)
    shares: NDArray[np.float32] = common / (
        box_size_px(first)[:, None] ** 2 + box_size_px(second)[None, :] ** 2 - common
    )
    return shares


def distances_of_looks(known: list[Look | None], seen: list[Look | None]) -> NDArray[np.float64]:
    """(T, D), NaN where either is not known."""
    rows = [[np.nan if a is None or b is None else unlikeness(a, b) for b in seen] for a in known]
    return np.array(rows, np.float64).reshape(len(known), len(seen))
