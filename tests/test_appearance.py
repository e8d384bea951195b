"""A face is known again by its look: in other light, elsewhere, a little turned; and what is not that face is not."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import face_at
from tests.walkers import face_like
from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout
from vidrestore.stages.appearance import ALIKE, SEEN, Look, look_of, unlikeness

SIZE_PX = 400


def frame_with(
    seed: int | None,
    *,
    center_px: tuple[float, float] = (200, 200),
    scale: float = 1.0,
    roll_deg: float = 0.0,
    background: int = 99,
    depth_bits: int = 8,
    gain: float = 1.0,
) -> Frame:
    """A picture of other structure, with one on it whose landmarks are those of `landmarks`; none without a seed."""
    rough = np.random.default_rng(background).uniform(20, 235, (30, 30)).astype(np.float32)
    picture = cv2.resize(rough, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)
    if seed is not None:
        matrix = cv2.getRotationMatrix2D((99.5, 99.5), roll_deg, scale)
        matrix[:, 2] += np.array(center_px) - 99.5
        head = np.zeros((200, 200), np.float32)
        cv2.ellipse(head, (100, 100), (96, 99), 0, 0, 360, 1.0, -1)
        size = (SIZE_PX, SIZE_PX)
        mask = cv2.warpAffine(head, matrix, size)
        picture += mask * (cv2.warpAffine(face_like(seed), matrix, size) - picture)
    levels = np.clip(picture * gain, 0, 255) * (1 << (depth_bits - 8))
    layout = PixelLayout("gray", "gray", depth_bits, 0, 0, False, True, "bt709", "left")
    return Frame(0, 0, Fraction(1, 25), (levels.astype(np.uint8 if depth_bits == 8 else np.uint16),), layout)


def landmarks(
    center_px: tuple[float, float] = (200, 200), scale: float = 1.0, roll_deg: float = 0.0
) -> NDArray[np.float32]:
    points = face_at(0, 0, 120).landmarks_px * scale
    angle = np.deg2rad(-roll_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points @ rotation.T + center_px).astype(np.float32)


def look(frame: Frame, points: NDArray[np.float32]) -> Look:
    found = look_of(frame, points)
    assert found is not None
    return found


REFERENCE = look(frame_with(1), landmarks())


@pytest.mark.parametrize("gain", [0.4, 0.7, 1.2])
def test_light_does_not_change_a_look(gain: float) -> None:
    assert unlikeness(REFERENCE, look(frame_with(1, gain=gain), landmarks())) < 0.05


@pytest.mark.parametrize(
    ("center_px", "scale", "roll_deg"), [((150, 230), 1, 0), ((230, 190), 0.5, 0), ((200, 200), 1.4, 20)]
)
def test_a_face_elsewhere_of_another_size_before_another_background_is_alike(
    center_px: tuple[float, float], scale: float, roll_deg: float
) -> None:
    frame = frame_with(1, center_px=center_px, scale=scale, roll_deg=roll_deg, background=5)
    assert unlikeness(REFERENCE, look(frame, landmarks(center_px, scale, roll_deg))) < 0.5 * ALIKE


def test_landmarks_that_are_off_by_3_percent_hardly_matter(rng: np.random.Generator) -> None:
    for _ in range(10):
        points = landmarks() + rng.normal(0, 0.03 * 60, (5, 2)).astype(np.float32)
        assert unlikeness(REFERENCE, look(frame_with(1), points)) < ALIKE


def test_ten_bits_look_as_eight(rng: np.random.Generator) -> None:
    assert unlikeness(REFERENCE, look(frame_with(1, depth_bits=10), landmarks())) < 0.01


def test_others_and_what_hides_a_face_are_not_alike() -> None:
    """The mean of thirty; two patterns may resemble one another by chance as two people do."""
    others = [unlikeness(REFERENCE, look(frame_with(seed), landmarks())) for seed in range(2, 32)]
    assert np.mean(others) > 0.8
    assert np.mean(np.array(others) > SEEN) > 0.9
    hidden = [unlikeness(REFERENCE, look(frame_with(None, background=seed), landmarks())) for seed in range(30)]
    assert np.mean(np.array(hidden) > SEEN) > 0.9


def test_noise_is_like_nothing(rng: np.random.Generator) -> None:
    layout = frame_with(1).layout
    for _ in range(10):
        noise = np.clip(rng.normal(128, 40, (SIZE_PX, SIZE_PX)), 0, 255).astype(np.uint8)
        assert unlikeness(REFERENCE, look(Frame(0, 0, Fraction(1, 25), (noise,), layout), landmarks())) > SEEN


@pytest.mark.parametrize("center_px", [(200, 200), (-300, 50), (1000, 1000)])
def test_where_there_is_nothing_to_see_there_is_no_look(center_px: tuple[float, float]) -> None:
    layout = frame_with(1).layout
    flat = Frame(0, 0, Fraction(1, 25), (np.full((SIZE_PX, SIZE_PX), 90, np.uint8),), layout)
    assert look_of(flat, landmarks(center_px)) is None


@pytest.mark.parametrize("center_px", [(5, 200), (398, 399), (200, -20)])
def test_a_face_at_the_border_is_no_trouble(center_px: tuple[float, float]) -> None:
    found = look_of(frame_with(1), landmarks(center_px))
    assert found is None or (found.shape == (128,) and np.isfinite(found).all())


@pytest.mark.parametrize("points", [np.zeros((5, 2), np.float32), np.full((5, 2), 200, np.float32)])
def test_landmarks_all_in_one_place_are_no_trouble(points: NDArray[np.float32]) -> None:
    found = look_of(frame_with(1), points)
    assert found is None or np.isfinite(found).all()
