"""Pasting known faces into a picture, turned, masked and one before the other, and knowing where they are."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.training.degrade_steps import Image
from vidrestore.training.detector_pictures import FacePicture, Points, face_side_px

MIRROR = [1, 0, 2, 4, 3]
"""Where each landmark comes from when a face is mirrored: left and right are the viewer's."""
TURNED_SHARE = 0.35
"""Share of pasted faces that are turned to a side: the portraits all look into the camera, people in films do not."""
PORTRAIT_MAX_YAW_DEG = 65.0
"""Further round, a turned photograph no longer looks like a head. The teacher finds these with scores above 0.9."""
TIGHT_MAX_YAW_DEG = 30.0
"""Likewise for pictures that are hardly wider than the face: it turns out of them."""
MIN_VISIBLE = 0.65
"""A face of which others hide more than the rest is no longer asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A composite and the faces placed in it that are visible enough."""

    image: Image
    """(S, S, 3) RGB."""
    boxes: Points
    """(N, 4) px."""
    landmarks: Points
    """(N, 5, 2) px."""


class Canvas:
    """A scene in the making: the picture, who owns each pixel, and the faces pasted so far."""

    def __init__(self, background: Image) -> None:
        self.image = background.copy()
        self.owner = np.full(background.shape[:2], -1, np.int16)
        self.boxes: list[Points] = []
        self.landmarks: list[Points] = []
        self.num_own_pixels: list[int] = []
        self.is_decoy: list[bool] = []

    def is_free(self, center: NDArray[np.float64], side_px: float) -> bool:
        """Whether a face there would hide at most a corner of another one."""
        for box in self.boxes:
            overlap = np.minimum(box[2:], center + side_px / 2) - np.maximum(box[:2], center - side_px / 2)
            if overlap.min() > 0 and overlap.prod() > 0.1 * min(side_px**2, face_side_px(box) ** 2):
                return False
        return True

    def paste(
        self,
        face: FacePicture,
        center: NDArray[np.float64],
        side_px: float,
        angle_deg: float,
        mask_name: str,
        rng: np.random.Generator,
        *,
        decoy: Image | None = None,
    ) -> None:
        """Put the face's box centre at `center`, its box scaled to `side_px`, mirrored half of the time."""
        source = face.decode() if decoy is None else decoy
        box, landmarks = face.box_xyxy_px, face.landmarks_px
        if rng.random() < 0.5:
            last_px = source.shape[1] - 1
            source = np.ascontiguousarray(source[:, ::-1])
            box = np.array([last_px - box[2], box[1], last_px - box[0], box[3]], np.float32)
            landmarks = (landmarks * [-1, 1] + [last_px, 0])[MIRROR].astype(np.float32)
        scale = side_px / face_side_px(box)
        if scale < 0.7:  # area-average first: warpAffine alone would alias
            height_px, width_px = (max(2, round(length_px * scale)) for length_px in source.shape[:2])
            shrink = np.array([width_px / source.shape[1], height_px / source.shape[0]])
            source = cv2.resize(source, (width_px, height_px), interpolation=cv2.INTER_AREA)
            landmarks = ((landmarks + 0.5) * shrink - 0.5).astype(np.float32)
            box = ((box.reshape(2, 2) + 0.5) * shrink - 0.5).reshape(4).astype(np.float32)
            scale = side_px / face_side_px(box)
        if decoy is None and rng.random() < TURNED_SHARE:
            yaw_deg = rng.uniform(-1, 1) * (PORTRAIT_MAX_YAW_DEG if face.is_portrait else TIGHT_MAX_YAW_DEG)
            source, box, landmarks = turn_head(source, box, landmarks, yaw_deg)
            scale = side_px / face_side_px(box)
        source = jitter_tone(source, rng)
        mask = _mask(mask_name, source.shape[:2], box)

        box_center = (box[:2] + box[2:]) / 2
        canvas_from_source = cv2.getRotationMatrix2D(box_center.tolist(), angle_deg, scale)
        canvas_from_source[:, 2] += center - box_center
        height_px, width_px = source.shape[:2]
        corners = np.array([[0, 0], [width_px, 0], [0, height_px], [width_px, height_px]], np.float64)
        corners = corners @ canvas_from_source[:, :2].T + canvas_from_source[:, 2]
        size_px = self.image.shape[0]
        x1, y1 = np.clip(np.floor(corners.min(axis=0)), 0, size_px).astype(int)
        x2, y2 = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, size_px).astype(int)
        if x2 - x1 < 2 or y2 - y1 < 2:
            return
        to_region = canvas_from_source - np.array([[0, 0, x1], [0, 0, y1]])
        region_size = (int(x2 - x1), int(y2 - y1))
        warped = cv2.warpAffine(source, to_region, region_size, borderMode=cv2.BORDER_REFLECT_101)
        alpha = cv2.warpAffine(mask, to_region, region_size)[:, :, None]  # zero outside the source
        region = self.image[y1:y2, x1:x2]
        region[:] = np.rint(region + (warped.astype(np.float32) - region) * alpha).astype(np.uint8)

        own = np.zeros(self.owner.shape, bool)
        own[y1:y2, x1:x2] = alpha[:, :, 0] > 0.5
        self.owner[own] = len(self.boxes)
        moved = landmarks @ canvas_from_source[:, :2].T + canvas_from_source[:, 2]
        half = (box[2:] - box[:2]) * scale / 2
        placed = np.concatenate((center - half, center + half)).astype(np.float32)
        self.boxes.append(placed)
        self.landmarks.append(moved.astype(np.float32))
        self.num_own_pixels.append(int(own[_region(placed, size_px)].sum()))
        self.is_decoy.append(decoy is not None)

    def scene(self) -> Scene:
        size_px = self.image.shape[0]
        kept = []
        for index, box in enumerate(self.boxes):
            region = _region(box, size_px)
            visible = int((self.owner[region] == index).sum())
            inside = self.owner[region].size / max(float((box[2] - box[0]) * (box[3] - box[1])), 1.0)
            if (
                not self.is_decoy[index]
                and inside >= MIN_VISIBLE
                and visible > MIN_VISIBLE * self.num_own_pixels[index]
            ):
                kept.append(index)
        boxes = np.array([self.boxes[index] for index in kept], np.float32).reshape(-1, 4)
        landmarks = np.array([self.landmarks[index] for index in kept], np.float32).reshape(-1, 5, 2)
        return Scene(self.image, boxes, landmarks)


def turn_head(image: Image, box: Points, landmarks: Points, yaw_deg: float) -> tuple[Image, Points, Points]:
    """A frontal face as if its owner looked to a side (positive: towards the viewer's right), with box and landmarks.

    The head is taken for half an ellipsoid with a nose before a flat background, turned about its vertical axis and
    seen from far away; what turns out of sight is dropped, what comes into sight is stretched.
    """
    sine, cosine = np.sin(np.deg2rad(yaw_deg)), np.cos(np.deg2rad(yaw_deg))
    face_w, face_h = (box[2:] - box[:2]).tolist()
    center_x, center_y = ((box[:2] + box[2:]) / 2).tolist()
    nose_x, nose_y = landmarks[2].tolist()

    def turned_x(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        outside = ((x - center_x) / (0.75 * face_w)) ** 2 + ((y - center_y) / (0.95 * face_h)) ** 2
        depth = 0.75 * face_w * np.sqrt(np.clip(1 - outside, 0, None))
        off_nose = ((x - nose_x) / (0.1 * face_w)) ** 2 + ((y - nose_y) / (0.14 * face_h)) ** 2
        depth = depth + 0.15 * face_w * np.exp(-off_nose / 2)
        return np.asarray(center_x + (x - center_x) * cosine + depth * sine, np.float32)

    height_px, width_px = image.shape[:2]
    columns = np.arange(width_px, dtype=np.float32)
    y, x = np.meshgrid(np.arange(height_px, dtype=np.float32), columns, indexing="ij")
    target_x = turned_x(x, y)
    if yaw_deg >= 0:  # of points that fall onto one column, the one nearer to the viewer stays
        target_x = np.maximum.accumulate(target_x, axis=1)
    else:
        target_x = np.minimum.accumulate(target_x[:, ::-1], axis=1)[:, ::-1]
    target_x = target_x + columns * np.float32(1e-3)  # strictly increasing
    source_x = np.stack([np.interp(columns, row, columns) for row in target_x]).astype(np.float32)
    turned = cv2.remap(image, source_x, y, cv2.INTER_LINEAR)

    moved = landmarks.copy()
    moved[:, 0] = turned_x(landmarks[:, 0], landmarks[:, 1])
    edges_x = turned_x(box[[0, 2]], np.full(2, center_y, np.float32))
    left, right = min(edges_x.min(), moved[:, 0].min()), max(edges_x.max(), moved[:, 0].max())
    return np.asarray(turned, np.uint8), np.array([left, box[1], right, box[3]], np.float32), moved


def _region(box: Points, size_px: int) -> tuple[slice, slice]:
    x1, y1, x2, y2 = np.clip(np.rint(box), 0, size_px).astype(int).tolist()
    return slice(y1, y2), slice(x1, x2)


def _mask(name: str, shape: tuple[int, ...], box: Points) -> NDArray[np.float32]:
    """(H, W) opacity of a pasted picture: its whole rectangle, the head, or head and shoulders."""
    height_px, width_px = shape
    face_w, face_h = (box[2:] - box[:2]).tolist()
    center_x, center_y = ((box[:2] + box[2:]) / 2).tolist()
    if name == "rect":
        return np.ones((height_px, width_px), np.float32)
    mask = np.zeros((height_px, width_px), np.uint8)
    head = (round(center_x), round(center_y - 0.08 * face_h)), (round(0.68 * face_w), round(0.75 * face_h))
    cv2.ellipse(mask, *head, 0, 0, 360, 255, -1)
    if name == "bust":
        shoulders = (round(center_x), round(center_y + 2.3 * face_h)), (round(1.5 * face_w), round(1.75 * face_h))
        cv2.ellipse(mask, *shoulders, 0, 0, 360, 255, -1)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.04 * face_w, 0.4))
    return soft.astype(np.float32) / np.float32(255)


def jitter_tone(image: Image, rng: np.random.Generator) -> Image:
    """Another contrast and brightness, as if lit and exposed differently."""
    gain, offset = rng.uniform(0.6, 1.25), rng.uniform(-30, 30)
    levels = image * np.float32(gain) + np.float32(offset)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
