"""What the page tells of a restoration: each figure with its meaning, its source, and how it is drawn from a track."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrestore.face import template_px
from vidrestore.metrics.in_step import REFERENCE, RESTORED, SOURCE
from vidrestore.metrics.landmarks import (
    delay_frames,
    eye_distances_px,
    keypoint_distances_percent,
    mean,
    motion_errors_percent,
    root_mean_square,
    second_differences_percent,
    second_differences_px,
)
from vidrestore.metrics.measure import CROP_TEMPLATE, Measured, MeasuredTrack

Series = NDArray[np.float64]
"""(T,), one entry for each frame of a track; nan where there is none."""
OfTrack = Callable[[MeasuredTrack, str], Series | None]
"""A figure of a track in one of its videos, by name; None where it makes no sense for that video."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the page's table."""

    key: str
    """In the JSON, and in `Measured.left_out`."""
    title: str
    unit: str
    decimals: int
    meaning: str
    """One or two sentences for people who do not know the word."""
    defined_in: str
    of_track: OfTrack
    pooled: Callable[[Series], float] = mean
    """One number of the entries of many frames."""
    is_plotted: bool = True


def _as_measured(key: str, *, factor: float = 1.0) -> OfTrack:
    return lambda track, name: track.videos[name].figures[key] * factor


def _against_truth(key: str) -> OfTrack:
    return lambda track, name: None if name == truth_of(track) else track.videos[name].figures[key]


def _landmark_jitter(track: MeasuredTrack, name: str) -> Series | None:
    landmarks_px = track.videos[name].landmarks_px
    if REFERENCE not in track.videos:
        return second_differences_percent(landmarks_px, times_s=track.times_s)
    if name == REFERENCE:
        return None
    return second_differences_percent(landmarks_px, track.videos[REFERENCE].landmarks_px, times_s=track.times_s)


def _crop_jitter(track: MeasuredTrack, name: str) -> Series | None:
    """Of a square's corners: put by each frame's own detection in the source, and as tracked for the restoration."""
    if name == REFERENCE:
        return None
    placed_px = track.placed_px if name == RESTORED else track.videos[SOURCE].landmarks_px
    return np.asarray(100 * second_differences_px(squares_px(placed_px), track.times_s) / eye_distances_px(placed_px))


def squares_px(landmarks_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 5, 2) -> (T, 4, 2) corners of the square of `CROP_TEMPLATE`, clockwise; nan where there is no face.

    `crop_corners_px(similarity(...))` of all frames at once, points as complex numbers: a film has too many for one
    after the other.
    """
    template = template_px(CROP_TEMPLATE, 1)
    points, wanted = landmarks_px[..., 0] + 1j * landmarks_px[..., 1], template[:, 0] + 1j * template[:, 1]
    middles = points.mean(axis=1, keepdims=True)
    away = points - middles
    crop_from_frame = (away.conj() * (wanted - wanted.mean())).sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # nan divided by nan
        frame_from_crop = np.square(np.abs(away)).sum(axis=1, keepdims=True) / crop_from_frame
    corners = np.array([-0.5 - 0.5j, 0.5 - 0.5j, 0.5 + 0.5j, -0.5 + 0.5j])
    found = middles + (corners - wanted.mean()) * frame_from_crop
    return np.stack([found.real, found.imag], axis=-1)


def _against_true_landmarks(percent: Callable[[NDArray[np.float64], NDArray[np.float64]], Series]) -> OfTrack:
    def of_track(track: MeasuredTrack, name: str) -> Series | None:
        truth = truth_of(track)
        return None if name == truth else percent(track.videos[name].landmarks_px, track.videos[truth].landmarks_px)

    return of_track


def _delay(key: str) -> OfTrack:
    def of_track(track: MeasuredTrack, name: str) -> Series | None:
        if name != RESTORED:
            return None
        levels = (track.videos[video].figures[key] for video in (SOURCE, RESTORED))
        return np.full(len(track.placed_px), delay_frames(*levels))

    return of_track


def truth_of(track: MeasuredTrack) -> str:
    """The name of the video that others are compared with: the reference, or the source where there is none."""
    return REFERENCE if REFERENCE in track.videos else SOURCE


FIGURES = (
    Figure(
        "warped_difference",
        "Flicker",
        "levels",
        2,
        "What is left between neighbouring frames of a face when its motion is taken out: the mean difference, in "
        "steps of 255. Lower is calmer; grain counts too, so a noisy source has more of it than a restoration should.",
        "Optical flow by dense inverse search (Kroeger et al., ECCV 2016), computed once and used for all videos; "
        "what is hidden in one of the frames is left out (Sundaram et al., ECCV 2010).",
        _as_measured("warped_difference"),
    ),
    Figure(
        "warping_error",
        "Warping error (E_warp)",
        "× 10⁻³",
        3,
        "The same as a mean square, with white as 1: few strong changes weigh more than many weak ones.",
        "Lai et al., “Learning blind video temporal consistency”, ECCV 2018; there of whole frames and by another "
        "flow, so their figures are no measure for these.",
        _as_measured("warping_error", factor=1000),
        is_plotted=False,
    ),
    Figure(
        "gradient_energy",
        "Sharpness",
        "levels²",
        1,
        "How much brightness changes from pixel to pixel inside the face. More is sharper, or noisier.",
        "Energy of the gradient: Subbarao et al., “Focusing techniques”, Optical Engineering 32(11), 1993.",
        _as_measured("gradient_energy"),
    ),
    Figure(
        "landmark_jitter",
        "Landmark jitter",
        "% of the eye distance",
        2,
        "How much eyes, nose and mouth corners tremble, as a face detector sees them in upright crops of each video. "
        "The detector's own trembling and the head's changes of speed are in it; with a reference, only the error's.",
        "The root mean square of the second difference over time, as in the benchmarks of this program's tracker.",
        _landmark_jitter,
        root_mean_square,
    ),
    Figure(
        "crop_jitter",
        "Crop jitter",
        "% of the eye distance",
        2,
        "How much a square around the head trembles. Before: put by the landmarks that a detector finds in each "
        "frame of the source; after: by the tracked ones, smoothed over time, with which the face was restored. The "
        "head's changes of speed are in both.",
        "The same second difference, of the corners of GPEN's square; some restorers have a smaller one.",
        _crop_jitter,
        root_mean_square,
    ),
    Figure(
        "tlme",
        "TLME, temporal landmark motion error",
        "% of the eye distance",
        2,
        "How differently the landmarks move from frame to frame than in the reference, or in the source where there "
        "is none. The detector's own trembling is in it.",
        "Reported by Chen et al., “DicFace”, arXiv 2506.13355, 2025, with no formula in public; here the mean "
        "distance between a landmark's ways from frame to frame.",
        _against_true_landmarks(motion_errors_percent),
        is_plotted=False,
    ),
    Figure(
        "akd",
        "AKD, average keypoint distance",
        "% of the eye distance",
        2,
        "How far the landmarks lie from those of the reference, or of the source where there is none.",
        "Siarohin et al., “Animating arbitrary objects via deep motion transfer”, CVPR 2019; there in px and of 68 "
        "points.",
        _against_true_landmarks(keypoint_distances_percent),
        is_plotted=False,
    ),
    Figure(
        "ids",
        "IDS, identity similarity",
        "cosine",
        3,
        "Whether a face recogniser sees the person of the reference, or of the source where there is none: 1 is the "
        "same face, about 0 somebody else.",
        "ArcFace (Deng et al., CVPR 2019); as in Feng et al., “Kalman-inspired feature propagation for video face "
        "super-resolution”, ECCV 2024.",
        _against_truth("ids"),
    ),
    Figure(
        "psnr_db",
        "PSNR",
        "dB",
        2,
        "How close the pixels of the face are to the reference's; higher is closer.",
        "10 log10 of 255² over the mean squared error.",
        _against_truth("psnr_db"),
    ),
    Figure(
        "eyes_delay",
        "Delay of the eyelids",
        "frames",
        2,
        "By how many frames a blink in the restoration comes after that in the source; 0 is right. Left out where the "
        "two have too little in common to tell.",
        "Peak of the cross-correlation of the eyes' brightness (Jacovitti and Scarano, IEEE Trans. Signal Processing "
        "41(2), 1993).",
        _delay("eyes_level"),
        is_plotted=False,
    ),
    Figure(
        "mouth_delay",
        "Delay of the mouth",
        "frames",
        2,
        "Likewise for the mouth: an open one is darker.",
        "As above.",
        _delay("mouth_level"),
        is_plotted=False,
    ),
)


def comparable(figure: Figure, track: MeasuredTrack) -> dict[str, Series]:
    """(T,) by the names of the videos: nan also where it is not known of all of them.

    A detector misses more faces before than after, and the worst first: what was missed must not flatter "before".
    """
    entries = {name: figure.of_track(track, name) for name in track.videos}
    known = {name: series for name, series in entries.items() if series is not None}
    in_all = np.logical_and.reduce([np.isfinite(series) for series in known.values()])
    return {name: np.where(in_all, series, np.nan) for name, series in known.items()}


def values_of(figure: Figure, tracks: Iterable[MeasuredTrack]) -> dict[str, float]:
    """The figure over all comparable frames of the tracks, by the names of the videos; only where there are some."""
    entries: dict[str, list[Series]] = {}
    for track in tracks:
        for name, series in comparable(figure, track).items():
            entries.setdefault(name, []).append(series)
    values = {name: figure.pooled(np.concatenate(series)) for name, series in entries.items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def over_time(figure: Figure, measured: Measured) -> Mapping[str, Series]:
    """(number of frames,) the figure in each frame of a video, the mean over its faces; by the names of the videos.

    Comparable ones only, so that all videos' are of the same faces.
    """
    num_frames = len(measured.times_s)
    sums: dict[str, Series] = {}
    counts: dict[str, Series] = {}
    for track in measured.tracks:
        for name, series in comparable(figure, track).items():
            span = slice(track.first_frame, track.first_frame + len(series))
            known = np.isfinite(series)
            sums.setdefault(name, np.zeros(num_frames))[span] += np.where(known, series, 0)
            counts.setdefault(name, np.zeros(num_frames))[span] += known
    return {
        name: np.where(counts[name] > 0, total / np.maximum(counts[name], 1), np.nan)
        for name, total in sums.items()
        if counts[name].any()
    }
