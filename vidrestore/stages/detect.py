"""Detect: find the faces of every frame, in batches, on a copy of the picture that is large enough and no larger."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vidrestore.face import Detection
from vidrestore.frame import Frame, FrameFaces
from vidrestore.models.spec import FaceDetector
from vidrestore.pixels import rgb_reduced

MAX_LONG_SIDE_PX = 1920
"""Larger frames are reduced to this. Not less: of faces of 24 px a MobileNet RetinaFace finds 91% in a single frame, of
20 px 86%, of 16 px 66%. 1920 x 1080 takes 0.2 s on one CPU core, 1280 x 720 0.08 s."""
MIN_LONG_SIDE_PX = 480
"""Smaller frames are enlarged towards this: their faces are small too, and the time is nothing (10 ms)."""
MAX_ENLARGEMENT = 4.0
"""Beyond this there is nothing left to see."""


def detect_faces(
    frames: Iterable[Frame], detector: FaceDetector, *, batch_frames: int, rotation_deg: int = 0
) -> Iterator[FrameFaces[Detection]]:
    """Every frame, in order, with its faces, best score first, in frame pixels.

    The detector is given `batch_frames` frames at once, fewer at the end and where the frame size changes. It sees them
    turned clockwise by `rotation_deg` (0, 90, 180 or 270), as a player shows them: it knows no sideways faces.
    """
    if batch_frames < 1:
        raise ValueError(f"batch_frames is {batch_frames}; it must be at least 1")
    waiting: list[Frame] = []
    images: list[NDArray[np.uint8]] = []
    for frame in frames:
        image = turned(detection_image(frame), rotation_deg)
        if images and image.shape != images[0].shape:
            yield from _detect_batch(waiting, images, detector, rotation_deg)
            waiting, images = [], []
        waiting.append(frame)
        images.append(image)
        if len(images) == batch_frames:
            yield from _detect_batch(waiting, images, detector, rotation_deg)
            waiting, images = [], []
    if images:
        yield from _detect_batch(waiting, images, detector, rotation_deg)


def detection_size(width_px: int, height_px: int) -> tuple[int, int]:
    """(width, height) in px of the copy on which faces of a frame of this size are looked for."""
    long_side_px = max(width_px, height_px)
    target_px = min(max(long_side_px, MIN_LONG_SIDE_PX), MAX_LONG_SIDE_PX, round(long_side_px * MAX_ENLARGEMENT))
    scale = target_px / long_side_px
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def detection_image(frame: Frame) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB copy of a frame in its `detection_size`."""
    return rgb_reduced(frame.planes, frame.layout, *detection_size(frame.width_px, frame.height_px))


def _detect_batch(
    frames: list[Frame], images: list[NDArray[np.uint8]], detector: FaceDetector, rotation_deg: int
) -> Iterator[FrameFaces[Detection]]:
    found = detector.detect(np.stack(images))
    height_px, width_px = turned(images[0], -rotation_deg).shape[:2]
    for frame, faces in zip(frames, found, strict=True):
        scale = np.array([frame.width_px / width_px, frame.height_px / height_px], np.float32)
        upright = (turned_back(face, rotation_deg, width_px, height_px) for face in faces)
        yield FrameFaces(frame, tuple(to_frame(face, scale) for face in upright))


def turned(image: NDArray[np.uint8], rotation_deg: int) -> NDArray[np.uint8]:
    """(h, w, 3) turned clockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(image, k=-rotation_deg // 90))


def turned_back(face: Detection, rotation_deg: int, width_px: int, height_px: int) -> Detection:
    """A face seen in a picture turned clockwise, in the picture of width_px x height_px as it was before."""
    if rotation_deg == 0:
        return face

    def back(points: NDArray[np.float32]) -> NDArray[np.float32]:
        x, y = points[..., 0], points[..., 1]
        before = {
            90: (y, height_px - 1 - x),
            180: (width_px - 1 - x, height_px - 1 - y),
            270: (width_px - 1 - y, x),
        }[rotation_deg]
        return np.stack(before, axis=-1)

    corners = back(face.box_xyxy_px.reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return Detection(box_xyxy_px=box, score=face.score, landmarks_px=back(face.landmarks_px))


def to_frame(face: Detection, scale: NDArray[np.float32]) -> Detection:
    """A face seen in a reduced copy, in frame pixels; `scale` (2,) is frame px per px of the copy, in x and y.

    Pixel centres are at integers: the first pixel of a copy at half size has its centre at 0.5 in the frame.
    """
    box = (face.box_xyxy_px.reshape(2, 2) + 0.5) * scale - 0.5
    landmarks = (face.landmarks_px + 0.5) * scale - 0.5
    return Detection(
        box_xyxy_px=box.reshape(4).astype(np.float32), score=face.score, landmarks_px=landmarks.astype(np.float32)
    )
