"""Sharpness: how much a picture changes from pixel to pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.metrics.warping import Picture


def gradient_energy(picture: Picture, region: NDArray[np.bool_] | None = None) -> float:
    """Mean squared difference between neighbours of luma, along x plus along y, in levels^2; nan for an empty region.

    `picture` is (H, W, 3) uint8 RGB; with `region` (H, W), over pairs that lie inside. The energy of the
    gradient of Subbarao, Choi and Nikzad, "Focusing techniques", Optical Engineering 32(11), 1993. Noise counts as
    sharpness too: compare pictures of one face at one size. `losses.gradient_energy` of the training room is the same
    for batches of tensors, over all colours.
    """
    across, down = gradient(picture, region)
    if not len(across) or not len(down):
        return np.nan
    return float(np.square(across).mean() + np.square(down).mean())


def true_detail(picture: Picture, truth: Picture, region: NDArray[np.bool_] | None = None) -> float:
    """How much of the truth's detail is in the picture: the slope of its gradient against the truth's.

    1 is all of it. Noise, which agrees with nothing, does not count. Both (H, W, 3) uint8 RGB, in register.
    """
    ours, theirs = (np.concatenate(gradient(each, region)) for each in (picture, truth))
    return float((ours * theirs).sum() / max(float(np.square(theirs).sum()), 1e-6))


def gradient(
    picture: Picture, region: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Differences of luma between neighbours along x, and along y, of all pairs inside the region."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = np.ones(luma.shape, np.bool_) if region is None else region
    if inside.shape != luma.shape:
        raise ValueError(f"the region is {inside.shape}, the picture {picture.shape}; both must be of one size")
    across = np.diff(luma, axis=1)[inside[:, 1:] & inside[:, :-1]]
    down = np.diff(luma, axis=0)[inside[1:] & inside[:-1]]
    return across, down
