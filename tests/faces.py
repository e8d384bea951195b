"""Pictures and faces for the tests of aligning and pasting."""

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import AlignedFace, TrackedFace, template_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.layout import PixelLayout
from vidrestore.models.spec import ModelSpec
from vidrestore.stages.align import align_faces, place_faces
from vidrestore.stages.crop_geometry import crop_corners_px


def smooth_picture(width_px: int, height_px: int) -> NDArray[np.uint8]:
    x, y = np.meshgrid(np.arange(width_px), np.arange(height_px))
    waves = [np.sin(x / 17 + k) * 50 + np.cos(y / 23 - k) * 50 + 128 for k in range(3)]
    return np.rint(np.stack(waves, axis=-1)).astype(np.uint8)


def yuv_frame(width_px: int = 320, height_px: int = 240, depth_bits: int = 8) -> Frame:
    """A smooth 4:2:0 picture with texture in every plane."""
    layout = PixelLayout("test", "yuv", depth_bits, 1, 1, False, False, "bt709", "left")
    rng = np.random.default_rng(0)
    planes = []
    for component in layout.components:
        height, width = layout.plane_shape(component, width_px, height_px)
        rough = rng.uniform(60, 200, (height // 8 + 2, width // 8 + 2)).astype(np.float32)
        plane = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC) * (1 << (depth_bits - 8))
        planes.append(np.rint(plane).astype(np.uint8 if depth_bits == 8 else np.uint16))
    return Frame(0, 0, Fraction(1, 25), tuple(planes), layout)


def face_at(center_px: tuple[float, float], side_px: float, roll_deg: float = 0.0, track_id: int = 1) -> TrackedFace:
    """A face whose aligned crop square has this centre and side in the frame."""
    points = (template_px("tight", 1) - 0.5) * side_px
    angle = np.deg2rad(roll_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (points @ rotation.T + center_px).astype(np.float32)
    x, y = center_px
    box = np.float32([x - side_px / 2, y - side_px / 2, x + side_px / 2, y + side_px / 2])
    return TrackedFace(track_id, box, landmarks, 0.99, landmarks, 0.0)


def aligned(frame: Frame, *faces: TrackedFace, crop_px: int = 128) -> tuple[AlignedFace, ...]:
    spec = ModelSpec("test", "restorer", "test", None, None, None, "none", "none", crop_px=crop_px, template="tight")
    (found,) = align_faces(place_faces([FrameFaces(frame, faces)], spec, min_face_px=0, max_faces=None))
    return found.faces


def inside_crop(frame: Frame, face: AlignedFace) -> list[NDArray[np.bool_]]:
    """For each plane, which samples lie inside the face's crop square.

    A sample is outside when its centre is; chroma of 4:2:0 lies at even columns and between rows.
    """
    corners = crop_corners_px(face.crop_from_frame, face.crop.shape[0])
    masks = []
    for component, plane in zip(frame.layout.components, frame.planes, strict=True):
        step = 2 if component in ("Cb", "Cr") else 1
        points = np.stack(np.meshgrid(np.arange(plane.shape[1]) * step, np.arange(plane.shape[0]) * step), axis=-1)
        points = points + np.array([0.0, (step - 1) / 2])
        inside = np.ones(plane.shape, bool)
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            edge, offset = b - a, points - a
            inside &= edge[0] * offset[..., 1] - edge[1] * offset[..., 0] >= 0
        masks.append(inside)
    return masks
