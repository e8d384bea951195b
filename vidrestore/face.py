"""A face, from detection to restored crop.

Convention, here and everywhere: RGB; points are (x, y) in px, origin top left, pixel centres at integers; boxes are
(x1, y1, x2, y2); left and right are the viewer's; a matrix `b_from_a` (2, 3) maps points in a to points in b.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
"""Order of the five points, as seen by the viewer (RetinaFace's order)."""

FADE_S = 0.2
"""For so long a restoration comes up or goes down, so that no face changes from one frame to the next. At a cut all
does, and nothing fades."""

TEMPLATES: Mapping[str, tuple[tuple[float, float], ...]] = {
    # GPEN's own alignment template, given for 512 px in its face_enhancement code and scaled linearly.
    "gpen": (
        (0.39461079, 0.47438281),
        (0.60435586, 0.47322266),
        (0.50015000, 0.59367031),
        (0.41398398, 0.71646133),
        (0.58767793, 0.71550059),
    ),
    # The tight template of our own lite models: eyes 0.36 of the side apart. The sharpest faces in the training data
    # (200 px tight crops, eyes 78 px apart) then fill 256 px nearly at their own resolution.
    "tight": ((0.32, 0.37), (0.68, 0.37), (0.50, 0.57), (0.355, 0.75), (0.645, 0.75)),
}
"""Where the five points lie in an aligned crop, as fractions of its side. Every model names its own."""


def template_px(name: str, crop_px: int) -> NDArray[np.float64]:
    """(5, 2) points of a template in a crop of side `crop_px`. Raises KeyError for an unknown name."""
    return np.array(TEMPLATES[name], dtype=np.float64) * crop_px


def eye_distance_px(landmarks_px: NDArray[Any]) -> float:
    """Of landmarks (5, 2)."""
    return float(np.linalg.norm(landmarks_px[1] - landmarks_px[0]))


def box_size_px(boxes_xyxy_px: NDArray[Any]) -> NDArray[Any]:
    """(..., 4) -> (...) side of a square as large as the box, at least 1."""
    sides_px = np.maximum(boxes_xyxy_px[..., 2:] - boxes_xyxy_px[..., :2], 1)
    return np.sqrt(sides_px[..., 0] * sides_px[..., 1])


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face found in one frame."""

    box_xyxy_px: NDArray[np.float32]
    """(4,) in frame pixels."""
    score: float
    """Confidence in [0, 1]."""
    landmarks_px: NDArray[np.float32]
    """(5, 2) in frame pixels, in the order of `LANDMARKS`."""

    def __post_init__(self) -> None:
        check_geometry(self.box_xyxy_px, self.landmarks_px)


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """A face followed over time. The geometry is smoothed; what the detector saw stays beside it."""

    track_id: int
    """From 1; a face that comes back in the same shot within 1.5 s has it again."""
    box_xyxy_px: NDArray[np.float32]
    """(4,), smoothed."""
    landmarks_px: NDArray[np.float32]
    """(5, 2), smoothed."""
    score: float
    """Of the newest detection of this track."""
    detected_landmarks_px: NDArray[np.float32] | None
    """(5, 2) as detected in this very frame; None where nobody looked, or where the face was not found and is bridged.
    """
    seconds_since_seen: float
    """0 when the face was detected in this frame, or when nobody looked because it is there in the looks around it;
    else the time for which it has been missing."""
    strength: float = 1.0
    """How much of the restoration is to be seen, 0 to 1: a face that comes or goes in the middle of a shot fades."""

    def __post_init__(self) -> None:
        check_geometry(self.box_xyxy_px, self.landmarks_px)


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """How what is known of a face from the frames before is laid over its crop (`before.py`)."""

    crop_from_frame: NDArray[np.float64]
    """(2, 3), of the face's crop in the frame before."""
    motion: NDArray[np.float32]
    """(M, M, 2): for M x M places of this crop, where the same was in the one before, minus the place; x and y as
    shares of the crop's side."""
    weight: NDArray[np.float32]
    """(M, M): how much what was there counts, against 1 of this frame; 0 where it is not the same."""
    gain: float
    """What levels of the frame before must be multiplied with to be as bright as this one's; film flickers."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedFace:
    """A tracked face and where its crop lies: all that is left of a restored one when its frame is handed on."""

    face: TrackedFace
    crop_from_frame: NDArray[np.float64]
    """(2, 3), frame pixels -> crop pixels."""
    crop_px: int
    """Side S of the crop."""
    before: Before | None = None
    """None where the face was not there, or with --temporal off."""
    moment: int = 0
    """Of an interlaced frame that has been put together again: 1 or 2, the moment that shows the face; else 0."""


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """A tracked face and its crop of the source, on the way into the restorer."""

    face: TrackedFace
    crop: NDArray[np.uint8]
    """(S, S, 3) RGB."""
    crop_from_frame: NDArray[np.float64]
    """(2, 3), frame pixels -> crop pixels."""
    before: Before | None = None
    steady_crop: NDArray[np.uint8] | None = None
    """(S, S, 3) RGB: the crop averaged with those of the frames before, to be restored in its place."""

    def __post_init__(self) -> None:
        side_px = self.crop.shape[0]
        if self.crop.shape != (side_px, side_px, 3) or self.crop.dtype != np.uint8:
            raise ValueError(f"crop is {self.crop.shape} {self.crop.dtype}; it must be (S, S, 3) uint8")
        if self.crop_from_frame.shape != (2, 3):
            raise ValueError(f"crop_from_frame is {self.crop_from_frame.shape}; it must be (2, 3)")

    @property
    def to_restore(self) -> NDArray[np.uint8]:
        """(S, S, 3) RGB, what the restorer is shown."""
        return self.crop if self.steady_crop is None else self.steady_crop


@dataclass(frozen=True, slots=True, eq=False)
class RestoredFace:
    """An aligned face and what the restorer made of its crop."""

    aligned: AlignedFace
    restored: NDArray[np.uint8]
    """(S, S, 3) RGB, in the place of `aligned.crop`."""

    def __post_init__(self) -> None:
        if self.restored.shape != self.aligned.crop.shape or self.restored.dtype != np.uint8:
            crop = self.aligned.crop
            raise ValueError(f"restored is {self.restored.shape}, its crop {crop.shape}; both must be alike")


@dataclass(frozen=True, slots=True, eq=False)
class SkippedFace:
    """A face that was found and deliberately not restored."""

    face: TrackedFace
    reason: str
    """For people, such as "smaller than min_face_px"."""
    moment: int = 0
    """As in `PlacedFace`."""


def check_geometry(box_xyxy_px: NDArray[np.float32], landmarks_px: NDArray[np.float32]) -> None:
    """Raise ValueError unless the shapes are (4,) and (5, 2)."""
    if box_xyxy_px.shape != (4,):
        raise ValueError(f"box_xyxy_px is {box_xyxy_px.shape}; it must be (4,)")
    if landmarks_px.shape != (5, 2):
        raise ValueError(f"landmarks_px is {landmarks_px.shape}; it must be (5, 2)")
