"""Losses, each a small function of (output, target), both (N, 3, S, S) float in [-1, 1]; all return a scalar tensor."""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

CHARBONNIER_EPSILON = 2 / 255
"""Differences below one 8-bit level count as squared, larger ones as absolute."""

DETAIL_WINDOW_PX = 16
"""A third of the distance of the eyes to the mouth corners at 256 px: a cheek, an eye, a corner of the mouth."""
DETAIL_EPSILON = (1 / 255) ** 2
"""Detail weaker than half a level is none, and the root keeps a finite slope."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each loss in the sum; 0 leaves it out."""

    l1: float = 0.0
    charbonnier: float = 1.0
    gradient: float = 0.5
    detail: float = 0.0


def l1(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean()


def charbonnier(output: Tensor, target: Tensor) -> Tensor:
    """A smooth L1: sqrt(d^2 + e^2) - e (Charbonnier et al., ICIP 1994)."""
    difference = output - target
    return (difference.square() + CHARBONNIER_EPSILON**2).sqrt().mean() - CHARBONNIER_EPSILON


def gradient(output: Tensor, target: Tensor) -> Tensor:
    """L1 of the differences between neighbours: edges matter beyond their few pixels."""
    difference = output - target
    horizontal = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    vertical = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return horizontal + vertical


def detail(output: Tensor, target: Tensor) -> Tensor:
    """L1 of the local strength of detail: root mean square gradient over windows of `DETAIL_WINDOW_PX`.

    The other losses are content with a blur where they cannot know the place of a hair; this one asks for as much
    structure as the target has there.
    """
    return (detail_strength(output) - detail_strength(target)).abs().mean()


def detail_strength(images: Tensor) -> Tensor:
    """(N, 3, S, S) -> (N, 3, s, s), one value for each half window."""
    horizontal = images[..., 1:, 1:] - images[..., 1:, :-1]
    vertical = images[..., 1:, 1:] - images[..., :-1, 1:]
    power = horizontal.square() + vertical.square()
    window_px = DETAIL_WINDOW_PX
    return (F.avg_pool2d(power, window_px, stride=window_px // 2) + DETAIL_EPSILON).sqrt()


LOSSES = {"l1": l1, "charbonnier": charbonnier, "gradient": gradient, "detail": detail}
"""By the names of `LossWeights`' fields."""


def weighted_losses(output: Tensor, target: Tensor, weights: LossWeights) -> dict[str, Tensor]:
    """Each loss that has a weight, times its weight; their sum is what training minimises."""
    result = {}
    for field in fields(weights):
        weight = getattr(weights, field.name)
        if weight:
            result[field.name] = weight * LOSSES[field.name](output, target)
    return result


def psnr_db(output: Tensor, target: Tensor) -> Tensor:
    """(N,) peak signal-to-noise ratio of each picture, for values in [-1, 1]; not above 99."""
    mse = (output.clamp(-1, 1) - target).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(4 / mse.clamp_min(1e-12))).clamp_max(99.0)


def gradient_energy(images: Tensor) -> Tensor:
    """(N,) mean squared difference between neighbours: a measure of sharpness, to compare with the truth's."""
    horizontal = (images[..., 1:] - images[..., :-1]).square().mean(dim=(1, 2, 3))
    return horizontal + (images[..., 1:, :] - images[..., :-1, :]).square().mean(dim=(1, 2, 3))
