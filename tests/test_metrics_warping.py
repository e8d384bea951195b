"""A video that moves and does not flicker is told from one that does, by how much."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vidrestore.metrics.warping import Motion, motion_between, warped_difference, warping_error

SIDE_PX = 128


def texture(rng: np.random.Generator, side_px: int = 256) -> NDArray[np.float32]:
    """(side, side, 3): soft blobs of some 6 px."""
    noise = rng.normal(0, 1, (side_px, side_px, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    return 128 + 40 * soft / soft.std()


def seen_at(scene: NDArray[np.float32], x_px: float, y_px: float) -> NDArray[np.uint8]:
    """(SIDE_PX, SIDE_PX, 3) of the scene, from there."""
    matrix = np.float32([[1, 0, -60 - x_px], [0, 1, -60 - y_px]])
    part = cv2.warpAffine(scene, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_CUBIC)
    return np.clip(np.rint(part), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("x_px", "y_px"), [(0.0, 0.0), (2.0, -1.0), (0.5, 3.25)])
def test_a_motion_is_found_to_a_tenth_of_a_pixel_and_leaves_under_a_level(
    rng: np.random.Generator, x_px: float, y_px: float
) -> None:
    scene = texture(rng)
    earlier, later = seen_at(scene, 0, 0), seen_at(scene, x_px, y_px)
    motion = motion_between(earlier, later)
    inner = motion.flow_px[16:-16, 16:-16]
    assert np.abs(inner - (x_px, y_px)).mean() < 0.1
    assert motion.visible[16:-16, 16:-16].mean() > 0.99
    assert warped_difference(earlier, later, motion) < 1
    unmoved = Motion(np.zeros_like(motion.flow_px), motion.visible)
    if x_px:
        assert warped_difference(earlier, later, unmoved) > 8


def test_flicker_is_measured_in_levels_by_the_motion_of_a_steady_video(rng: np.random.Generator) -> None:
    scene = texture(rng)
    earlier, later = seen_at(scene, 0, 0), seen_at(scene, 1.5, 0.5)
    motion = motion_between(earlier, later)
    brighter = np.clip(later.astype(int) + 6, 0, 255).astype(np.uint8)
    calm = warped_difference(earlier, later, motion)
    assert warped_difference(earlier, brighter, motion) == pytest.approx(6, abs=0.3)
    assert calm < 1


def test_the_warping_error_is_a_mean_square_with_white_as_one() -> None:
    motion = Motion(np.zeros((20, 20, 2), np.float32), np.ones((20, 20), np.bool_))
    earlier, later = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 151, np.uint8)
    assert warping_error(earlier, later, motion) == pytest.approx(0.2**2)
    assert warped_difference(earlier, later, motion) == pytest.approx(51)


def test_what_the_earlier_picture_does_not_show_is_not_compared(rng: np.random.Generator) -> None:
    scene, another = texture(rng), texture(rng)
    earlier, later = seen_at(scene, 0, 0), seen_at(scene, 8, 0)
    came_in = motion_between(earlier, later).visible[16:-16, -6:]
    assert came_in.mean() < 0.1
    # Flow bends one picture into another, but not there and back.
    assert motion_between(earlier, seen_at(another, 0, 0)).visible.mean() < 0.5


def test_only_the_region_counts_and_an_empty_one_is_no_number() -> None:
    motion = Motion(np.zeros((20, 20, 2), np.float32), np.ones((20, 20), np.bool_))
    earlier = np.zeros((20, 20, 3), np.uint8)
    later = earlier.copy()
    later[:, 10:] = 30
    left = np.zeros((20, 20), np.bool_)
    left[:, :10] = True
    assert warped_difference(earlier, later, motion, left) == 0
    assert warped_difference(earlier, later, motion, ~left) == pytest.approx(30)
    assert np.isnan(warped_difference(earlier, later, motion, np.zeros_like(left)))
    assert np.isnan(warping_error(earlier, later, motion, np.zeros_like(left)))


def test_pictures_that_do_not_belong_together_are_refused() -> None:
    small, large = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 24, 3), np.uint8)
    with pytest.raises(ValueError, match="of one size"):
        motion_between(small, large)
    with pytest.raises(ValueError, match="16 px on each side"):
        motion_between(small[:8], small[:8])
    with pytest.raises(ValueError, match="uint8"):
        motion_between(small.astype(np.float32), small)  # type: ignore[arg-type]
