"""The classical filters that restorers are measured beside."""

import numpy as np

from vidrestore.training.baselines import denoised_and_sharpened, lanczos
from vidrestore.training.measures import psnr_db

SIDE_PX = 64


def test_baselines_do_what_their_names_say(rng: np.random.Generator) -> None:
    """Noise of 4 levels is weaker by 3 dB or more after both; a colour stays within 2 levels (Lab has 8 bits)."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    clean = np.stack([60 + 2 * x, 90 + y, 200 - x - y], axis=2).astype(np.uint8)
    noisy = np.clip(clean + rng.normal(0, 4, clean.shape), 0, 255).round().astype(np.uint8)
    for filtered in (lanczos, denoised_and_sharpened):
        before, after = (psnr_db(image[None], clean[None])[0] for image in (noisy, filtered(noisy)))
        assert after > before + 3
        flat = np.full_like(clean, (200, 120, 40))
        assert np.abs(filtered(flat).astype(int) - flat).max() <= 2
