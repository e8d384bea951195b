"""Measure a restoration: every face that was restored is compared in its own upright crop, frame by frame.

Of every video the same place is cut, where the face was tracked in the source: `CROP_TEMPLATE`, at about the face's own
size. Numbers are kept for every frame, some 400 bytes for a face; pictures of a few tracks only.
"""

import logging
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import InputError
from vidrestore.face import eye_distance_px, template_px
from vidrestore.faces_file.entries import ListedFace
from vidrestore.metrics.identity import FaceRecogniser, identity_similarity
from vidrestore.metrics.in_step import REFERENCE, SOURCE, Frames, VideosInStep
from vidrestore.metrics.kept_pictures import KeptPictures, TrackPictures
from vidrestore.metrics.sharpness import gradient_energy
from vidrestore.metrics.warping import Picture, motion_between, warped_difference, warping_error
from vidrestore.models.backends.pytorch import load_detector, resolve_device
from vidrestore.models.catalog import EMBEDDED_DETECTOR
from vidrestore.models.spec import FaceDetector
from vidrestore.stages.align import cut_crop
from vidrestore.stages.crop_geometry import invert, scale_of, similarity
from vidrestore.stages.cuts import CutDetector

log = logging.getLogger("vidrestore")

CROP_TEMPLATE = "gpen"
"""Wide enough for the detector and the recogniser to see a whole head."""
MIN_CROP_PX, MAX_CROP_PX, CROP_STEP_PX = 192, 512, 64
"""Crops are as large as the face in the frame, in steps, so that neither is fine detail lost nor softness enlarged;
within limits, of which the upper one is for the time it takes."""
DETECT_PX = 256
"""Side of the copy of a crop that the detector sees, which was trained on such sizes: its eyes are 54 px apart."""
FACE_CENTRE, FACE_RADII = (0.5, 0.57), (0.2, 0.27)
"""(x, y): the ellipse from brows to chin in `CROP_TEMPLATE`, as shares of its side. Differences, sharpness and PSNR are
of its inside."""
MOTION_MARGIN = 0.06
"""Around the ellipse, where motion is sought too: more than a face moves in its crop from one frame to the next."""
EYE_HALVES, MOUTH_HALVES = (0.05, 0.03), (0.08, 0.05)
"""(x, y): half width and height, as shares of the side, of what lids and lips move in, around the template's points."""
SAME_FACE = 0.5
"""Furthest that a detection's landmarks may lie from the track's, on average, in eye distances; else it is another face
or a false alarm."""
IDENTITY_EVERY = 5
"""The recogniser looks at every n-th frame of a track: on a CPU it is the slowest part, and a person changes slowly."""
LOG_INTERVAL_S = 10.0

FIGURES = ("warped_difference", "warping_error", "gradient_energy", "eyes_level", "mouth_level", "ids", "psnr_db")


@dataclass(frozen=True, slots=True, eq=False)
class VideoSeries:
    """What was measured of one track in one video, one entry for each of its T frames; nan where nothing was."""

    landmarks_px: NDArray[np.float64]
    """(T, 5, 2) in frame pixels, as the detector finds them in this video."""
    figures: Mapping[str, NDArray[np.float64]]
    """(T,) each, by the names in `FIGURES`: `warped_difference` (levels) and `warping_error` from the frame before;
    `gradient_energy` (levels^2); `eyes_level` and `mouth_level`, brightness against the whole face (levels); `ids` and
    `psnr_db` against the reference, or the source where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredTrack:
    """A face of whose restoration something shows, followed through one shot; T frames from its first to its last."""

    track_id: int
    first_frame: int
    """Its number, from 0."""
    times_s: NDArray[np.float64]
    """(T,) from the first frame of the video."""
    placed_px: NDArray[np.float64]
    """(T, 5, 2) landmarks in frame pixels as tracked, where crops are put; nan where nothing of a restoration shows."""
    videos: Mapping[str, VideoSeries]
    """By the names of `in_step.py`; the reference only where there is one."""
    pictures: TrackPictures | None
    """None where they were not kept."""


@dataclass(slots=True)
class Presence:
    """When a face is there, and how much of its restoration shows."""

    frames: list[int] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    """0 to 1; 0 where it was left alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """All that the page and its JSON are made of."""

    paths: Mapping[str, Path]
    times_s: NDArray[np.float64]
    """(number of frames,) from 0."""
    cuts: tuple[int, ...]
    """Numbers of the frames with which a new shot begins, the first one left out."""
    presence: Mapping[int, Presence]
    """By track id: all faces, those left alone too."""
    tracks: tuple[MeasuredTrack, ...]
    """Those of whose restoration something shows, in the order of their ids."""
    knows_restored: bool
    """Whether a faces file said what was restored; without one every face counts as restored."""
    left_out: Mapping[str, str]
    """Name of a figure -> why it could not be measured, and what to do."""


def measure(
    paths: Mapping[str, Path],
    *,
    faces: Path | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    device: str = "auto",
    detector: FaceDetector | None = None,
) -> Measured:
    """Read the videos in step and measure every face that was restored.

    `paths`: the source, its restoration and perhaps the clean reference, by the names of `in_step.py`. `faces` is the
    faces file of the run, `start_s` and `end_s` its span. Raises SourceError when the videos do not show the same
    frames at the same times, or the faces file is not theirs.
    """
    left_out = {}
    recogniser = None
    try:
        recogniser = FaceRecogniser.installed(CROP_TEMPLATE, resolve_device(device))
    except InputError as exc:
        left_out["ids"] = str(exc)
    with VideosInStep(paths, start_s=start_s, end_s=end_s) as videos:
        detector = detector or load_detector(EMBEDDED_DETECTOR, device=device)
        recorder = Recorder(detector, recogniser)
        told_s = time.monotonic()
        for time_s, frames, shown in videos.with_faces(faces, detector):
            recorder.add(time_s, frames, shown)
            if time.monotonic() - told_s >= LOG_INTERVAL_S:
                told_s = time.monotonic()
                log.info(f"measured {len(recorder.times_s)}/{videos.num_frames_expected or '?'} frames")
    return recorder.measured(paths, knows_restored=faces is not None, left_out=left_out)


class _Track:
    """A track while it is measured."""

    def __init__(self, crop_px: int) -> None:
        self.crop_px = crop_px
        self.frames = array("q")
        # Arrays, which take a tenth of the memory of lists.
        self.placed_px = array("d")
        """Ten numbers for each frame."""
        self.landmarks_px: dict[str, array[float]] = {}
        """Likewise, by the names of the videos."""
        self.figures: dict[str, dict[str, array[float]]] = {}
        """One number for each frame, by the names of the videos and of the figures."""
        self.crops: dict[str, Picture] = {}
        """Of the newest frame."""


class Recorder:
    """Measures frame after frame, and holds no picture longer than for two of them, but for `KeptPictures`."""

    def __init__(self, detector: FaceDetector, recogniser: FaceRecogniser | None) -> None:
        self._detector, self._recogniser = detector, recogniser
        self._cut_detector = CutDetector()
        self._cuts: list[int] = []
        self._presence: dict[int, Presence] = {}
        self._tracks: dict[int, _Track] = {}
        self._present: set[int] = set()
        """Ids of the faces in the newest frame."""
        self._pictures = KeptPictures(eye_line=float(template_px(CROP_TEMPLATE, 1)[:2, 1].mean()))
        self.times_s: list[float] = []

    def add(self, time_s: float, frames: Frames, faces: Sequence[ListedFace]) -> None:
        """One frame of each video, by name, and the source's faces in it."""
        number = len(self.times_s)
        self.times_s.append(time_s)
        if self._cut_detector.is_cut(frames[SOURCE]):
            self._cuts.append(number)
        for face in faces:
            presence = self._presence.setdefault(face.track_id, Presence())
            presence.frames.append(number)
            presence.strengths.append(face.strength if face.restored else 0.0)
            if face.restored and face.strength > 0:
                self._measure(number, frames, face)
        present = {face.track_id for face in faces}
        for track_id in self._present - present:
            if track_id in self._tracks:
                self._tracks[track_id].crops = {}
        self._present = present
        self._pictures.drop_short(present)

    def measured(self, paths: Mapping[str, Path], *, knows_restored: bool, left_out: Mapping[str, str]) -> Measured:
        return Measured(
            paths=dict(paths),
            times_s=np.array(self.times_s),
            cuts=tuple(self._cuts),
            presence=self._presence,
            tracks=tuple(self._finished(track_id, track) for track_id, track in sorted(self._tracks.items())),
            knows_restored=knows_restored,
            left_out=left_out,
        )

    def _finished(self, track_id: int, track: _Track) -> MeasuredTrack:
        rows = np.array(track.frames) - track.frames[0]

        def spread(values: "array[float]", *shape: int) -> NDArray[np.float64]:
            """One entry for each frame, nan in gaps."""
            full = np.full((int(rows[-1]) + 1, *shape), np.nan)
            full[rows] = np.array(values).reshape(-1, *shape)
            return full

        videos = {
            name: VideoSeries(
                spread(track.landmarks_px[name], 5, 2), {key: spread(values) for key, values in figures.items()}
            )
            for name, figures in track.figures.items()
        }
        first, last = track.frames[0], track.frames[-1]
        times_s = np.array(self.times_s[first : last + 1])
        return MeasuredTrack(
            track_id, first, times_s, spread(track.placed_px, 5, 2), videos, self._pictures.of(track_id)
        )

    def _measure(self, number: int, frames: Frames, face: ListedFace) -> None:
        track = self._tracks.get(face.track_id)
        crop_px = crop_side_px(face) if track is None else track.crop_px
        crop_from_frame = similarity(face.landmarks_px, template_px(CROP_TEMPLATE, crop_px))
        crops: dict[str, Picture] = {}
        for name, frame in frames.items():
            crop = cut_crop(frame, crop_from_frame, crop_px)
            if crop is None:  # outside the picture, in all videos
                return
            crops[name] = crop
        if track is None:
            track = self._tracks[face.track_id] = _Track(crop_px)
        figures = single_figures(crops)
        if track.crops and track.frames[-1] == number - 1:
            for name, more in pair_figures(track.crops, crops).items():
                figures[name] |= more
        if self._recogniser and len(track.frames) % IDENTITY_EVERY == 0:
            for name, similar in identities(self._recogniser, crops).items():
                figures[name]["ids"] = similar
        frame_from_crop = invert(crop_from_frame)
        for name, found_px in zip(crops, landmarks_in(list(crops.values()), self._detector), strict=True):
            landmarks_px = found_px @ frame_from_crop[:, :2].T + frame_from_crop[:, 2]
            track.landmarks_px.setdefault(name, array("d")).extend(landmarks_px.ravel())
            kept = track.figures.setdefault(name, {key: array("d") for key in FIGURES})
            for key, values in kept.items():
                values.append(figures[name].get(key, np.nan))
        track.frames.append(number)
        track.placed_px.extend(face.landmarks_px.ravel())
        track.crops = crops
        self._pictures.add(face.track_id, number, crops)


def crop_side_px(face: ListedFace) -> int:
    """About as many pixels as the crop's square has in the frame, in steps and within limits."""
    side_px = 1 / scale_of(similarity(face.landmarks_px, template_px(CROP_TEMPLATE, 1)))
    return int(np.clip(round(side_px / CROP_STEP_PX) * CROP_STEP_PX, MIN_CROP_PX, MAX_CROP_PX))


@lru_cache(maxsize=4)
def face_region(crop_px: int) -> NDArray[np.bool_]:
    """(S, S): the ellipse of the face."""
    rows, columns = (np.indices((crop_px, crop_px)) + 0.5) / crop_px
    away_x, away_y = (columns - FACE_CENTRE[0]) / FACE_RADII[0], (rows - FACE_CENTRE[1]) / FACE_RADII[1]
    return np.asarray(away_x**2 + away_y**2 <= 1)


def around_the_face(crop_px: int) -> tuple[slice, slice]:
    """Rows and columns of the ellipse and its margin."""

    def span(centre: float, radius: float) -> slice:
        reach = radius + MOTION_MARGIN
        return slice(max(int((centre - reach) * crop_px), 0), int((centre + reach) * crop_px) + 1)

    return span(FACE_CENTRE[1], FACE_RADII[1]), span(FACE_CENTRE[0], FACE_RADII[0])


def single_figures(crops: Mapping[str, Picture]) -> dict[str, dict[str, float]]:
    """Of each video's crop by itself and against the reference: by the names of the videos and of the figures."""
    region = face_region(len(crops[SOURCE]))
    figures = {}
    for name, crop in crops.items():
        luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
        eyes, mouth = moving_parts(luma)
        level = float(luma[region].mean())
        figures[name] = {
            "gradient_energy": gradient_energy(crop, region),
            "eyes_level": eyes - level,
            "mouth_level": mouth - level,
        }
        if REFERENCE in crops and name != REFERENCE:
            error = crop[region].astype(np.float32) - crops[REFERENCE][region]
            figures[name]["psnr_db"] = float(10 * np.log10(255**2 / max(float(np.square(error).mean()), 1e-3)))
    return figures


def moving_parts(luma: NDArray[np.float32]) -> tuple[float, float]:
    """Mean level around both eyes, and around the mouth, of a crop (S, S)."""
    points = template_px(CROP_TEMPLATE, 1)

    def level(centre: NDArray[np.float64], halves: tuple[float, float]) -> float:
        low, high = (np.rint((centre + sign * np.array(halves)) * len(luma)).astype(int) for sign in (-1, 1))
        return float(luma[low[1] : high[1], low[0] : high[0]].mean())

    eyes = [level(points[number], EYE_HALVES) for number in (0, 1)]
    return sum(eyes) / 2, level(points[3:].mean(axis=0), MOUTH_HALVES)


def pair_figures(before: Mapping[str, Picture], crops: Mapping[str, Picture]) -> dict[str, dict[str, float]]:
    """Of each video's crops in two neighbouring frames, by the motion of the reference or else of the source."""
    truth = REFERENCE if REFERENCE in crops else SOURCE
    region = face_region(len(crops[truth]))
    part = around_the_face(len(region))
    motion = motion_between(before[truth][part], crops[truth][part])
    return {
        name: {
            "warped_difference": warped_difference(before[name][part], crop[part], motion, region[part]),
            "warping_error": warping_error(before[name][part], crop[part], motion, region[part]),
        }
        for name, crop in crops.items()
    }


def identities(recogniser: FaceRecogniser, crops: Mapping[str, Picture]) -> dict[str, float]:
    """Cosine to the reference, or to the source where there is none, of each other video."""
    truth = REFERENCE if REFERENCE in crops else SOURCE
    embeddings = dict(zip(crops, recogniser.embeddings(list(crops.values())), strict=True))
    return {
        name: identity_similarity(embedding, embeddings[truth])
        for name, embedding in embeddings.items()
        if name != truth
    }


def landmarks_in(crops: Sequence[Picture], detector: FaceDetector) -> list[NDArray[np.float64]]:
    """(5, 2) px in each crop of one size, of the detection that is the track's face; nan where none is."""
    crop_px = len(crops[0])
    wanted = template_px(CROP_TEMPLATE, crop_px)
    scale = crop_px / DETECT_PX
    shown = [np.asarray(cv2.resize(crop, (DETECT_PX, DETECT_PX), interpolation=cv2.INTER_AREA)) for crop in crops]
    landmarks_px = []
    for found in detector.detect(np.stack(shown).astype(np.uint8, copy=False)):
        in_crop = [(face.landmarks_px.astype(np.float64) + 0.5) * scale - 0.5 for face in found]
        apart_px = [float(np.linalg.norm(points - wanted, axis=1).mean()) for points in in_crop]
        if apart_px and min(apart_px) <= SAME_FACE * eye_distance_px(wanted):
            landmarks_px.append(in_crop[int(np.argmin(apart_px))])
        else:
            landmarks_px.append(np.full((5, 2), np.nan))
    return landmarks_px
