"""The evaluation's figures are true."""

import numpy as np
import pytest

from vidrestore.training.measures import psnr_db, sharpness, ssim


def test_figures_are_those_of_the_textbook(rng: np.random.Generator) -> None:
    """5 levels off: 34.15 dB. Half the contrast: a quarter of the gradient energy. Equal: SSIM 1; noise: near 0."""
    truth = rng.integers(60, 180, (2, 32, 32, 3), dtype=np.uint8)
    other = rng.integers(60, 180, (2, 32, 32, 3), dtype=np.uint8)
    assert psnr_db(truth + 5, truth) == pytest.approx(10 * np.log10(255**2 / 25))
    assert sharpness(truth // 2, truth) == pytest.approx(0.25, rel=0.02)
    assert ssim(truth, truth) == pytest.approx(1.0)
    assert abs(ssim(other, truth)).max() < 0.2
