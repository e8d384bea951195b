"""The models that ship with vidrestore are worth running: measured on a public-domain portrait they never saw."""

from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vidrestore.images import frame_from_rgb
from vidrestore.loading import Models, load_models
from vidrestore.options import Options
from vidrestore.stages.detect import detect_faces
from vidrestore.still import restore_image

FACE_BOX_XYXY_PX = (200, 140, 335, 315)
"""Grace Hopper's face in matplotlib's picture of 512 x 600 px, from hairline to chin."""


@cache
def models() -> Models:
    return load_models(Options(device="cpu"))


def portrait() -> NDArray[np.uint8]:
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    return np.asarray(Image.open(path).convert("RGB"))


def psnr_of_face_db(picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    x1, y1, x2, y2 = FACE_BOX_XYXY_PX
    difference = picture[y1:y2, x1:x2].astype(float) - truth[y1:y2, x1:x2]
    return float(10 * np.log10(255**2 / (difference**2).mean()))


def degraded(picture: NDArray[np.uint8], *, shrink: int, noise: float, jpeg_quality: int) -> NDArray[np.uint8]:
    height_px, width_px = picture.shape[:2]
    size = (width_px // shrink, height_px // shrink)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    noisy = np.clip(small + np.random.default_rng(5).normal(0, noise, small.shape), 0, 255).astype(np.uint8)
    _, file = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    coded = cv2.imdecode(file, cv2.IMREAD_COLOR)
    return cv2.resize(coded, (width_px, height_px), interpolation=cv2.INTER_CUBIC)[..., ::-1].copy()


@pytest.mark.parametrize(
    ("shrink", "noise", "jpeg_quality", "least_gain_db"),
    [(1, 25, 90, 1.5), (1, 15, 60, 0.9), (2, 20, 60, 0.6), (3, 12, 30, 0.2)],
    ids=["film noise", "noise and JPEG", "small and noisy", "small, noisy and JPEG"],
)
def test_a_bad_face_comes_back_nearer_to_the_truth(
    shrink: int, noise: float, jpeg_quality: int, least_gain_db: float
) -> None:
    truth = portrait()
    bad = degraded(truth, shrink=shrink, noise=noise, jpeg_quality=jpeg_quality)
    restored = restore_image(bad, models=models())
    assert psnr_of_face_db(restored, truth) - psnr_of_face_db(bad, truth) > least_gain_db


def test_a_clean_face_comes_back_clean() -> None:
    """Of a scan with film grain: hardly any of it is taken for noise. 40.7 dB when written."""
    truth = portrait()
    assert psnr_of_face_db(restore_image(truth, models=models()), truth) > 40


@pytest.mark.parametrize("face_px", [24, 40, 100, 400])
def test_faces_of_every_size_are_found_in_1080p(face_px: int) -> None:
    scale = face_px / 150  # the detector's box around the portrait's face is about 150 px high
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    person = cv2.resize(portrait(), None, fx=scale, fy=scale, interpolation=interpolation)[:1080]
    picture = np.full((1080, 1920, 3), 90, np.uint8)
    height_px, width_px = person.shape[:2]
    top, left = (1080 - height_px) // 2, 300
    picture[top : top + height_px, left : left + width_px] = person
    detector = models().detector
    (found,) = detect_faces([frame_from_rgb(picture)], detector, batch_frames=1)
    x, y = 268 * scale + left, 228 * scale + top  # the middle of her face
    assert any(np.abs(face.landmarks_px.mean(axis=0) - (x, y)).max() < 0.3 * face_px for face in found.faces)
