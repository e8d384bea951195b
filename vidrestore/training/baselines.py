"""Two classical filters that a restorer is to be better than."""

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from vidrestore.training.degrade_steps import Image

LANCZOS, DENOISED = "Lanczos", "NLM + unsharp"
LANCZOS_SHRINK = 2
"""Crops come at full size, whatever was lost. This is the picture that a classical upscaler would have been given: of
1.25, 1.5, 2 and 3 the factor with the best PSNR over all presets and levels (+0.28 dB, training faces)."""
NLM_STRENGTH = 5.0
"""Of OpenCV's non-local means, for brightness and colour. With the unsharp mask behind it, 2, 3, 5 and 8 gain -0.13,
0.11, 0.25 and -0.03 dB (training faces, as for Lanczos); 0.7 to 2 times the noise estimated in each picture at most
-0.05: most of these inputs are too soft rather than too noisy."""
NLM_PATCH_PX, NLM_SEARCH_PX = 7, 21
"""OpenCV's defaults."""
UNSHARP_AMOUNT = 0.3
UNSHARP_SIGMA_SHARE = 1 / 128
"""Of the crop's side. At this width an amount of 0.3 gains 0.02 dB over none, and 0.6 loses 0.17 dB."""


def lanczos(image: Image) -> Image:
    """Shrunk to half the size by area, where most noise and blocks go, and enlarged again by Lanczos."""
    height_px, width_px = image.shape[:2]
    small = (width_px // LANCZOS_SHRINK, height_px // LANCZOS_SHRINK)
    half = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    result: Image = cv2.resize(half, (width_px, height_px), interpolation=cv2.INTER_LANCZOS4)
    return result


def denoised_and_sharpened(image: Image) -> Image:
    """OpenCV's non-local means for colour, then an unsharp mask."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # it weighs the channels as if they stood so
    smooth = cv2.fastNlMeansDenoisingColored(bgr, None, NLM_STRENGTH, NLM_STRENGTH, NLM_PATCH_PX, NLM_SEARCH_PX)
    levels = cv2.cvtColor(smooth, cv2.COLOR_BGR2RGB).astype(np.float32)
    blurred = cv2.GaussianBlur(levels, (0, 0), UNSHARP_SIGMA_SHARE * image.shape[0])
    sharpened: Image = np.clip(np.rint(levels + UNSHARP_AMOUNT * (levels - blurred)), 0, 255).astype(np.uint8)
    return sharpened


BASELINES: Mapping[str, Callable[[Image], Image]] = {LANCZOS: lanczos, DENOISED: denoised_and_sharpened}
"""(S, S, 3) RGB -> the same shape."""
