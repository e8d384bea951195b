"""Sharper is more, at the same size."""

import cv2
import numpy as np
import pytest

from vidrestore.metrics.sharpness import gradient_energy, true_detail
from vidrestore.training import losses
from vidrestore.training.data import stack_images, to_network


def test_blur_takes_sharpness_away_and_noise_adds_it(rng: np.random.Generator) -> None:
    picture = rng.integers(60, 200, (64, 64, 3), dtype=np.uint8)
    soft = cv2.GaussianBlur(picture, (0, 0), 1)
    noisy = np.clip(soft + rng.normal(0, 8, soft.shape), 0, 255).astype(np.uint8)
    assert gradient_energy(soft) < 0.2 * gradient_energy(picture)
    assert gradient_energy(noisy) > 1.5 * gradient_energy(soft)


def test_noise_is_no_detail_and_blur_takes_detail_away(rng: np.random.Generator) -> None:
    picture = cv2.resize(rng.integers(40, 220, (16, 16, 3), dtype=np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    assert true_detail(picture, picture) == pytest.approx(1)
    assert true_detail(noisy, picture) == pytest.approx(1, abs=0.03)
    assert true_detail(cv2.GaussianBlur(picture, (0, 0), 3), picture) < 0.7


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
