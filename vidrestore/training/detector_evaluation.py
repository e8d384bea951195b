"""How well a detector does beside its teacher, on pictures and clips that took no part in the training.

The truth is what the teacher finds with certainty in the clean picture. Each picture is then shown clean and heavily
degraded (4 times down and up, then H.264 at CRF 40) to both detectors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vidrestore.errors import InputError
from vidrestore.face import Detection, eye_distance_px
from vidrestore.models.face_detector import SCORE_THRESHOLD, RetinaFaceDetector
from vidrestore.models.spec import FaceDetector, ModelSpec
from vidrestore.models.state_dict import read_state_dict
from vidrestore.pixels import rgb_region
from vidrestore.training.degrade_steps import Image, down_up, video_compression
from vidrestore.training.detector_pictures import face_side_px

TRUE_SCORE = 0.8
"""What the teacher finds with this score is a face that must be found."""
DOUBTFUL_SCORE = 0.3
"""What the teacher finds between this and `TRUE_SCORE` may be found or not."""
MATCH_IOU = 0.4
"""Two boxes that overlap this much are the same face."""
SIZE_BINS_PX: tuple[tuple[float, float], ...] = ((0, 20), (20, 40), (40, math.inf))
"""Half-open bins of `face_side_px`."""
MIN_EYE_DISTANCE_SHARE = 0.25
"""Landmark errors are in eye distances; in profile, where the eyes fall together, in this share of the face's side."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One row of the table."""

    detector: str
    condition: str
    bin_px: str
    num_true: int
    num_found: int
    recall: float
    landmark_error: float
    """Mean distance of the five points from the teacher's, in eye distances."""
    num_detections: int
    false_positives: float
    """Share of all detections at `SCORE_THRESHOLD` where the teacher sees nothing, not even doubtfully."""


def as_detector(path: Path) -> RetinaFaceDetector:
    """A detector on the CPU that reports down to doubtful faces, from a weights file. Raises WeightsError."""
    spec = ModelSpec(path.stem, "detector", path.name, None, None, None, "unknown", str(path))
    state_dict = read_state_dict(path)
    return RetinaFaceDetector.from_state_dict(state_dict, spec=spec, sha256="", score_threshold=DOUBTFUL_SCORE)


def load_pictures(folder: Path, num_frames: int) -> list[tuple[str, Image]]:
    """(name, (H, W, 3) uint8 RGB) of every picture in a folder and of `num_frames` frames of every clip in it."""
    from vidrestore.video.sample import sample_frames  # late: the training room also works without PyAV

    pictures: list[tuple[str, Image]] = []
    for path in sorted(folder.iterdir()):
        if path.suffix in (".mp4", ".mkv", ".mov", ".avi"):
            for frame in sample_frames(path, num_frames):
                whole = rgb_region(frame.planes, frame.layout, (0, 0, frame.width_px, frame.height_px))
                pictures.append((f"{path.name}:{frame.index}", np.clip(np.rint(whole), 0, 255).astype(np.uint8)))
        elif path.suffix in (".png", ".jpg", ".jpeg"):
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if picture is not None:
                pictures.append((path.name, np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)))
    if not pictures:
        raise InputError(f"{folder}: holds neither pictures nor clips")
    return pictures


def degrade_heavily(image: Image, seed: int) -> Image:
    """4 times down and up, then H.264 at CRF 40. The same seed gives the same picture."""
    rng = np.random.default_rng(seed)
    small = down_up(image, rng, factor=(4.0, 4.0))
    return video_compression(small, rng, crf=(40, 40), mpeg2_share=(0.0, 0.0))


def compare_detectors(
    student: FaceDetector, teacher: FaceDetector, pictures: Sequence[tuple[str, Image]]
) -> list[Figures]:
    """Both detectors on all pictures, clean and degraded. The detectors must report down to `DOUBTFUL_SCORE`."""
    truths = [teacher.detect(image[None])[0] for _, image in pictures]
    figures = []
    for condition in ("clean", "degraded"):
        images = [image for _, image in pictures]
        if condition == "degraded":
            images = [degrade_heavily(image, seed) for seed, image in enumerate(images)]
        for name, detector in (("student", student), ("teacher", teacher)):
            known = detector is teacher and condition == "clean"
            found = truths if known else [detector.detect(image[None])[0] for image in images]
            figures += _figures(name, condition, truths, found)
    return figures


def _figures(
    name: str,
    condition: str,
    truths: Sequence[tuple[Detection, ...]],
    found: Sequence[tuple[Detection, ...]],
) -> list[Figures]:
    num_detections = num_false = 0
    hits: dict[tuple[float, float], list[float | None]] = {bin_px: [] for bin_px in SIZE_BINS_PX}
    for known, seen in zip(truths, found, strict=True):
        seen = tuple(face for face in seen if face.score >= SCORE_THRESHOLD)
        num_detections += len(seen)
        num_false += sum(_best_match(face, known) is None for face in seen)
        for truth in known:
            if truth.score < TRUE_SCORE:
                continue
            side_px = face_side_px(truth.box_xyxy_px)
            bin_px = next(bounds for bounds in SIZE_BINS_PX if bounds[0] <= side_px < bounds[1])
            match = _best_match(truth, seen)
            hits[bin_px].append(None if match is None else landmark_error(match, truth))
    rows = []
    for bin_px, errors in hits.items():
        matched = [error for error in errors if error is not None]
        rows.append(
            Figures(
                detector=name,
                condition=condition,
                bin_px=f"{bin_px[0]:.0f}-{bin_px[1]:.0f}",
                num_true=len(errors),
                num_found=len(matched),
                recall=len(matched) / len(errors) if errors else math.nan,
                landmark_error=float(np.mean(matched)) if matched else math.nan,
                num_detections=num_detections,
                false_positives=num_false / max(num_detections, 1),
            )
        )
    return rows


def _best_match(face: Detection, others: Sequence[Detection]) -> Detection | None:
    overlaps = [box_overlap(face, other) for other in others]
    if not overlaps or max(overlaps) < MATCH_IOU:
        return None
    return others[int(np.argmax(overlaps))]


def box_overlap(one: Detection, other: Detection) -> float:
    """Intersection over union."""
    a, b = one.box_xyxy_px, other.box_xyxy_px
    width_px, height_px = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(float(width_px), 0.0) * max(float(height_px), 0.0)
    return shared / (face_side_px(a) ** 2 + face_side_px(b) ** 2 - shared + 1e-9)


def landmark_error(face: Detection, truth: Detection) -> float:
    """Mean distance of the five points in eye distances of the truth."""
    unit_px = max(eye_distance_px(truth.landmarks_px), MIN_EYE_DISTANCE_SHARE * face_side_px(truth.box_xyxy_px))
    return float(np.linalg.norm(face.landmarks_px - truth.landmarks_px, axis=1).mean()) / unit_px


def table(figures: Sequence[Figures]) -> str:
    """For people; as Markdown."""
    lines = ["| pictures | detector | face px | faces | recall | landmark error | detections | false |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in figures:
        lines.append(
            f"| {row.condition} | {row.detector} | {row.bin_px} | {row.num_true} | {row.recall:.3f} "
            f"| {row.landmark_error:.3f} | {row.num_detections} | {row.false_positives:.3f} |"
        )
    return "\n".join(lines)
