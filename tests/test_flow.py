"""Promises of the motion that is read off the pixels: exact to a few hundredths of a pixel, or none at all."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout
from vidrestore.stages.flow import carry_face

SIZE_PX = 240
CENTER = np.array([120.0, 118.0])
BOX = np.array([80, 66, 160, 170], np.float32)
CORNERS = np.array([[80, 66], [160, 66], [160, 170], [80, 170]], np.float64)


def layout(depth_bits: int) -> PixelLayout:
    name = "gray" if depth_bits == 8 else "gray10le"
    return PixelLayout(name, "gray", depth_bits, 0, 0, False, True, "bt709", "left")


def frame_of(picture: NDArray[np.float32], depth_bits: int = 8) -> Frame:
    levels = np.clip(np.rint(picture * 2 ** (depth_bits - 8)), 0, 2**depth_bits - 1)
    plane = levels.astype(np.uint8 if depth_bits == 8 else np.uint16)
    return Frame(0, 0, Fraction(1, 25), (plane,), layout(depth_bits))


def texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """As soft as a face."""
    coarse = rng.uniform(40, 210, (30, 30)).astype(np.float32)
    return cv2.GaussianBlur(cv2.resize(coarse, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC), (0, 0), 2)


def motion(shift_px: tuple[float, float], zoom: float, roll_deg: float) -> NDArray[np.float64]:
    matrix = cv2.getRotationMatrix2D(CENTER.tolist(), roll_deg, zoom)
    matrix[:, 2] += shift_px
    return matrix


def warped(picture: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return cv2.warpAffine(picture, matrix, (SIZE_PX, SIZE_PX), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def error_px(found: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Root mean square over the corners of the box."""
    difference = CORNERS @ (found - true)[:, :2].T + (found - true)[:, 2]
    return float(np.sqrt((difference**2).sum(axis=1).mean()))


@pytest.mark.parametrize("depth_bits", [8, 10])
@pytest.mark.parametrize(
    ("shift_px", "zoom", "roll_deg"),
    [((0, 0), 1, 0), ((3.3, -2.1), 1, 0), ((20, 8), 1, 0), ((0, 0), 1.03, 0), ((1, 1), 0.99, 4)],
)
def test_a_moved_face_is_carried_to_within_a_tenth_of_a_pixel(
    shift_px: tuple[float, float], zoom: float, roll_deg: float, depth_bits: int, rng: np.random.Generator
) -> None:
    picture, true = texture(rng), motion(shift_px, zoom, roll_deg)
    carried = carry_face(frame_of(picture, depth_bits), frame_of(warped(picture, true), depth_bits), BOX)
    assert carried is not None
    assert error_px(carried.frame_from_before, true) < 0.1


def test_noise_of_ten_levels_costs_an_eighth_of_a_percent_of_the_face(rng: np.random.Generator) -> None:
    """A detector is off by a whole one, and the flow says itself how far off it is, within a factor of three."""
    picture, true = texture(rng), motion((1.7, 0.6), 1.005, 0.5)
    errors, told = [], []
    for _ in range(8):
        noisy = [frame_of(one + rng.normal(0, 10, one.shape)) for one in (picture, warped(picture, true))]
        carried = carry_face(*noisy, BOX)
        assert carried is not None
        errors.append(error_px(carried.frame_from_before, true) / 91)
        told.append(carried.noise)
    error = float(np.sqrt(np.mean(np.square(errors))))
    assert error < 0.00125
    assert error / 3 < np.mean(told) < error * 3


def test_a_hand_before_a_third_of_the_face_is_outvoted(rng: np.random.Generator) -> None:
    picture, hand, true = texture(rng), texture(rng), motion((2, 1), 1, 0)
    before, after = picture.copy(), warped(picture, true)
    before[135:, :] = hand[135:, :]
    after[135:, :] = warped(hand, motion((-9, 5), 1, 0))[135:, :]
    carried = carry_face(frame_of(before), frame_of(after), BOX)
    assert carried is not None
    assert error_px(carried.frame_from_before, true) < 0.3


@pytest.mark.parametrize("box", [BOX, BOX + 300, np.array([235, 235, 260, 260], np.float32)])
def test_where_there_is_nothing_to_follow_nothing_is_told(box: NDArray[np.float32]) -> None:
    flat = frame_of(np.full((SIZE_PX, SIZE_PX), 90, np.float32))
    assert carry_face(flat, flat, box) is None


def test_another_picture_is_no_motion(rng: np.random.Generator) -> None:
    assert carry_face(frame_of(texture(rng)), frame_of(texture(rng)), BOX) is None


def test_a_face_of_20_px_is_carried_too(rng: np.random.Generator) -> None:
    picture, true = texture(rng), motion((0.8, -0.5), 1, 0)
    small = np.array([110, 106, 130, 132], np.float32)
    carried = carry_face(frame_of(picture), frame_of(warped(picture, true)), small)
    assert carried is not None
    shift_px = carried.frame_from_before @ (*CENTER, 1) - CENTER
    np.testing.assert_allclose(shift_px, (0.8, -0.5), atol=0.1)
