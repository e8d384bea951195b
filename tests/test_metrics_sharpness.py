"""Sharper is more, at the same size."""

import cv2
import numpy as np
import pytest

from vidrestore.metrics.sharpness import gradient_energy, sharpness_ratio
from vidrestore.training import losses
from vidrestore.training.data import stack_images, to_network


def test_blur_takes_sharpness_away_and_noise_adds_it(rng: np.random.Generator) -> None:
    picture = rng.integers(60, 200, (64, 64, 3), dtype=np.uint8)
    soft = cv2.GaussianBlur(picture, (0, 0), 1)
    assert sharpness_ratio(soft, picture) < 0.2
    assert sharpness_ratio(picture, soft) > 5
    assert sharpness_ratio(picture, picture) == 1


def test_a_ramp_has_its_slope_squared() -> None:
    ramp = np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], 30, axis=0).repeat(3, axis=2)
    assert gradient_energy(ramp) == pytest.approx(64)
    assert gradient_energy(ramp.transpose(1, 0, 2).copy()) == pytest.approx(64)


def test_only_pairs_inside_the_region_count() -> None:
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[:, 10:] = 100
    left = np.zeros((20, 20), np.bool_)
    left[:, :10] = True
    assert gradient_energy(picture, left) == 0
    assert gradient_energy(picture) > 0
    assert np.isnan(gradient_energy(picture, np.zeros_like(left)))
    with pytest.raises(ValueError, match="of one size"):
        gradient_energy(picture, left[:5])


def test_it_is_what_training_measures(rng: np.random.Generator) -> None:
    gray = rng.integers(0, 256, (32, 32, 1), dtype=np.uint8).repeat(3, axis=2)
    in_training = losses.gradient_energy(to_network(stack_images([gray]))).item()
    assert gradient_energy(gray) == pytest.approx(in_training * 127.5**2, rel=1e-4)
