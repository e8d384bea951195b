"""Drawn people who walk, cross and hide, with what a detector would find of them."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.fakes import face_at
from vidrestore.face import Detection
from vidrestore.frame import Frame, FrameFaces
from vidrestore.layout import PixelLayout

GRAY = PixelLayout("gray", "gray", 8, 0, 0, False, True, "bt709", "left")
WIDTH_PX, HEIGHT_PX = 640, 200
FACE_PX = 60
"""Width of a box."""
FOUND_PART = 0.5
"""A face of which less is to be seen is not found."""

Way = Callable[[int], tuple[float, float] | None]
"""Frame -> centre of the face in px, None while away."""


def face_like(seed: int) -> NDArray[np.float32]:
    """(200, 200) soft structure of 50 to 200, another for each seed."""
    coarse = np.random.default_rng(seed).uniform(50, 200, (12, 12)).astype(np.float32)
    return cv2.resize(coarse, (200, 200), interpolation=cv2.INTER_CUBIC)


def scene(
    ways: Sequence[Way], num_frames: int, *, blob: Way = lambda k: None, faces: Sequence[int] = (1, 2, 3)
) -> list[FrameFaces[Detection]]:
    """At 25 frames per second; the later ones walk in front, and the blob (100 px wide) before all. `faces`: seeds."""
    rng = np.random.default_rng(5)
    rough = rng.uniform(60, 190, (10, 32)).astype(np.float32)
    background = cv2.resize(rough, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    size = (WIDTH_PX, HEIGHT_PX)
    head = np.zeros((200, 200), np.float32)
    cv2.ellipse(head, (100, 100), (96, 99), 0, 0, 360, 1.0, -1)
    found = []
    for k in range(num_frames):
        picture = background.copy()
        seen: list[tuple[Detection, NDArray[np.float32], float]] = []
        for seed, way in zip(faces, ways, strict=False):
            place = way(k)
            if place is None:
                continue
            matrix = np.array([[0.5, 0, place[0] - 50], [0, 0.5, place[1] - 50]])
            mask = cv2.warpAffine(head, matrix, size)
            picture += mask * (cv2.warpAffine(face_like(seed), matrix, size, flags=cv2.INTER_LINEAR) - picture)
            for _, other, _ in seen:
                other *= 1 - mask
            face = face_at(*place, FACE_PX)
            noise = rng.normal(0, 0.3, (5, 2)).astype(np.float32)
            detection = Detection(face.box_xyxy_px, 0.99, face.landmarks_px + noise)
            seen.append((detection, mask, float(head.sum() / 4)))
        if (place := blob(k)) is not None:
            cover = np.zeros((HEIGHT_PX, WIDTH_PX), np.float32)
            cv2.rectangle(cover, *[(round(place[0] + side), round(place[1] + 2 * side)) for side in (-50, 50)], 1.0, -1)
            picture = np.where(cover > 0, np.float32(120), picture)
            for _, other, _ in seen:
                other *= 1 - cover
        levels = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
        frame = Frame(k, 40 * k, Fraction(1, 1000), (levels,), GRAY)
        faces_found = tuple(each for each, mask, whole in seen if mask.sum() >= FOUND_PART * whole)
        found.append(FrameFaces(frame, faces_found))
    return found
