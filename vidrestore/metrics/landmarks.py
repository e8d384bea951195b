"""How steadily and how truly faces stand, from their landmarks over time; and whether one signal lags behind another.

Landmarks are (T, 5, 2) px in frame coordinates, one row for each frame of one track, in the order of `face.LANDMARKS`;
rows of nan are frames without a face, and whatever would need them is left out. Results are in % of the distance of
the eyes, so that near and far faces can be compared; nan where there is nothing to measure.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import detrend

Landmarks = NDArray[Any]
"""(T, 5, 2) px, floating."""

EYES_PER_HEIGHT = 0.7
"""Least distance of the eyes that is taken for true, against that from between them to the mouth. Faces seen from the
front have 0.8 to 1; it is 0.7 when they turn by about 35 degrees."""
MAX_DELAY_FRAMES = 8
"""Nobody smooths lips over more; with longer searches, one word of a rhythm is taken for the next."""
MIN_OVERLAP_FRAMES = 8
"""Fewer frames of both signals say nothing of a delay."""
MIN_LIKENESS = 0.5
"""Least correlation at the peak. Of two signals of 60 frames that have nothing in common it is 0.3 somewhere."""


def jitter_percent(landmarks_px: Landmarks, reference_px: Landmarks | None = None) -> float:
    """Root mean square of the second difference over time, in % of the eye distance.

    With a reference (the truth), that of the error: only trembling is left. Without one, the face's own changes of
    speed are in it too, so compare two measurements of one clip.
    """
    per_frame = second_differences_percent(landmarks_px, reference_px)
    return root_mean_square(per_frame)


def second_differences_percent(
    landmarks_px: Landmarks, reference_px: Landmarks | None = None, *, times_s: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(T,) the same for each frame: root mean square over its landmarks. nan at the ends and beside gaps.

    `times_s`: as for `second_differences_px`.
    """
    points_px = landmarks_px.astype(np.float64)
    if reference_px is None:
        return 100 * second_differences_px(points_px, times_s) / eye_distances_px(points_px)
    return 100 * second_differences_px(points_px - reference_px, times_s) / eye_distances_px(reference_px)


def second_differences_px(
    points_px: NDArray[np.float64], times_s: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(T, N, 2) points over time -> (T,) root mean square over the points; nan at the ends and beside gaps.

    `times_s`, (T,) and rising, are those of frames that do not come evenly: what glides has none there either. Each is
    twice the way from where its neighbours say, on a straight line between them, that the point should be.
    """
    per_frame = np.full(len(points_px), np.nan)
    if len(points_px) >= 3:
        steps_s = np.ones(len(points_px) - 1) if times_s is None else np.diff(times_s)
        before_share = (steps_s[1:] / (steps_s[:-1] + steps_s[1:]))[:, None, None]
        expected_px = before_share * points_px[:-2] + (1 - before_share) * points_px[2:]
        squares = np.square(2 * (points_px[1:-1] - expected_px)).sum(axis=2)
        per_frame[1:-1] = np.sqrt(squares.mean(axis=1))
    return per_frame


def tlme(landmarks_px: Landmarks, reference_px: Landmarks) -> float:
    """Temporal landmark motion error, in % of the reference's eye distance; 0 where a face moves as the reference does.

    The mean distance between the way that a landmark goes from one frame to the next and the way that the reference's
    goes. The name is that of Chen et al., "DicFace", arXiv 2506.13355, 2025, of which neither formula nor code could be
    found in public; this is the name taken at its word. Unlike `akd` it does not see a constant offset.
    """
    return mean(motion_errors_percent(landmarks_px, reference_px))


def motion_errors_percent(landmarks_px: Landmarks, reference_px: Landmarks) -> NDArray[np.float64]:
    """(T,) of which `tlme` is the mean: over the landmarks, from the frame before; nan in the first."""
    moves_px = np.diff(landmarks_px.astype(np.float64) - reference_px.astype(np.float64), axis=0)
    away_px = np.linalg.norm(moves_px, axis=2).mean(axis=1)
    return 100 * np.concatenate([[np.nan], away_px]) / eye_distances_px(reference_px)


def akd(landmarks_px: Landmarks, reference_px: Landmarks) -> float:
    """Average keypoint distance from the reference, in % of its eye distance.

    Siarohin, Lathuilière, Tulyakov, Ricci and Sebe, "Animating arbitrary objects via deep motion transfer", CVPR 2019;
    for restored faces in Feng, Li and Loy, "Kalman-inspired feature propagation for video face super-resolution", ECCV
    2024. There it is in px of a crop of fixed size, with 68 points.
    """
    return mean(keypoint_distances_percent(landmarks_px, reference_px))


def keypoint_distances_percent(landmarks_px: Landmarks, reference_px: Landmarks) -> NDArray[np.float64]:
    """(T,) of which `akd` is the mean: over the landmarks."""
    apart_px = np.linalg.norm(landmarks_px.astype(np.float64) - reference_px.astype(np.float64), axis=2).mean(axis=1)
    return np.asarray(100 * apart_px / eye_distances_px(reference_px))


def eye_distances_px(landmarks_px: Landmarks) -> NDArray[np.float64]:
    """(T,) distance of the eyes, at least 1 px; nan where there is no face.

    In profile the eyes fall onto one another, and what is divided by their distance means nothing: there it is judged
    by the height of the face, `EYES_PER_HEIGHT`.
    """
    points = landmarks_px.astype(np.float64)
    eyes_px = np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
    height_px = np.linalg.norm(points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1), axis=1)
    return np.asarray(np.maximum(np.maximum(eyes_px, EYES_PER_HEIGHT * height_px), 1.0))


def delay_frames(source: NDArray[Any], restored: NDArray[Any]) -> float:
    """By how many frames one signal, (T,), comes behind another; below 0 where it comes before.

    nan where none varies, or where they have too little in common.

    Such as the brightness of a mouth or of the eyes: an open mouth is dark, and so is a closed lid beside the white of
    an eye. The place of the peak of their cross-correlation, straight trends removed, each lag over the frames that
    both signals have; a parabola through the peak and its neighbours finds fractions of a frame (Jacovitti and Scarano,
    "Discrete time techniques for time delay estimation", IEEE Transactions on Signal Processing 41(2), 1993). Samples
    of nan are filled in along straight lines. Raises ValueError for signals of different lengths.
    """
    if source.shape != restored.shape or source.ndim != 1:
        raise ValueError(f"signals are {source.shape} and {restored.shape}; both must be (T,)")
    furthest = min(MAX_DELAY_FRAMES, len(source) - MIN_OVERLAP_FRAMES)
    if furthest < 1:
        return np.nan
    first, second = (_without_trend(signal.astype(np.float64)) for signal in (source, restored))
    if first is None or second is None:
        return np.nan
    lags = np.arange(-furthest, furthest + 1)
    likeness = np.array([_likeness(first, second, lag) for lag in lags.tolist()])
    peak = int(likeness.argmax())
    if likeness[peak] < MIN_LIKENESS:
        return np.nan
    if peak in (0, len(lags) - 1):
        return float(lags[peak])
    before, at, after = likeness[peak - 1 : peak + 2]
    return float(lags[peak] + 0.5 * (before - after) / min(before - 2 * at + after, -1e-12))


def _likeness(first: NDArray[np.float64], second: NDArray[np.float64], lag: int) -> float:
    """Correlation coefficient of the frames that overlap when `second` is taken `lag` frames later."""
    length = len(first) - abs(lag)
    a, b = first[max(-lag, 0) :][:length], second[max(lag, 0) :][:length]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-12))


def _without_trend(signal: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """None for a signal that does not vary, or that is mostly missing."""
    known = np.isfinite(signal)
    if known.sum() < max(MIN_OVERLAP_FRAMES, len(signal) / 2):
        return None
    places = np.arange(len(signal))
    level: NDArray[np.float64] = detrend(np.interp(places, places[known], signal[known]))
    return level if level.std() > 1e-9 * max(float(np.abs(signal[known]).max()), 1.0) else None


def mean(values: NDArray[np.float64]) -> float:
    """Of what is known; nan where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def root_mean_square(values: NDArray[np.float64]) -> float:
    """Of what is known; nan where nothing is."""
    return float(np.sqrt(mean(np.square(values))))
