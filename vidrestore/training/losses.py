"""Losses of the restorer, each a small function of (output, target), both (N, 3, S, S) float in [-1, 1] -> scalar.

Those of the discriminator are in `adversarial.py`, those that need other networks in `perceptual.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vidrestore.errors import OptionsError

Loss = Callable[[Tensor, Tensor], Tensor]

SMOOTH_BELOW = 2 / 255
"""`smooth_l1` counts differences below one 8-bit level by their square."""
DETAIL_WINDOW_PX = 16
"""A third of the distance of the eyes to the mouth corners at 256 px: a cheek, an eye, a corner of the mouth."""
DETAIL_EPSILON = (1 / 255) ** 2
"""Detail weaker than half a level is none, and the root keeps a finite slope."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each loss in the sum; 0 leaves it out. With `r1` and `path_length`, the penalties' weights."""

    l1: float = 0.0
    l2: float = 0.0
    smooth_l1: float = 0.0
    decibel: float = 0.0
    decibel_floor_db: float = 30.0
    """No weight: see `decibel`."""
    gradient: float = 0.0
    detail: float = 0.0
    perceptual: float = 0.0
    """VGG-19 features."""
    lpips: float = 0.0
    identity: float = 0.0
    """ArcFace."""
    adversarial: float = 0.0
    feature_matching: float = 0.0
    """Of the discriminator's features."""
    r1: float = 10.0
    path_length: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise OptionsError(f"{field.name} of [losses] is {getattr(self, field.name)}; it cannot be below 0")
        for name in ("feature_matching", "path_length"):
            if getattr(self, name) and not self.adversarial:
                raise OptionsError(f"{name} goes with a discriminator; give adversarial a weight too")


def l1(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean()


def l2(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean()


def smooth_l1(output: Tensor, target: Tensor) -> Tensor:
    """Squared below `SMOOTH_BELOW`, linear above (Girshick, Fast R-CNN, ICCV 2015)."""
    return F.smooth_l1_loss(output, target, beta=SMOOTH_BELOW)


def decibel(output: Tensor, target: Tensor, *, floor_db: float) -> Tensor:
    """Half the logarithm of each picture's squared error, averaged: its PSNR, turned over and in other units.

    A decibel is worth the same everywhere. With plain differences the worst pictures rule the sum, and good ones are
    blurred for their sake (their 38.6 dB became 36.7).

    What is wrong with pictures far better than `floor_db` counts ever less. Good pictures resist the changes that bad
    ones need: begin with 30 dB, and raise the floor once bad ones are restored. After 8,000 crops the gains on heavy,
    medium and mild inputs were +0.49, +0.44 and -0.53 dB with 30 dB, +0.19, +0.16 and -0.09 dB with 36 dB; with 45 dB
    the network stayed the identity.
    """
    error = (output - target).square().mean(dim=(1, 2, 3))
    floor = 4 * 10 ** (-floor_db / 10)  # 4: the square of the range of [-1, 1]
    return 0.5 * (error + floor).log().mean()


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


PIXEL_LOSSES: Mapping[str, Loss] = {
    "l1": l1,
    "l2": l2,
    "smooth_l1": smooth_l1,
    "gradient": gradient,
    "detail": detail,
}
"""By the names of `LossWeights`' fields; `decibel` has its floor besides."""


def paired_losses(weights: LossWeights, template: str, device: torch.device) -> dict[str, tuple[float, Loss]]:
    """(weight, loss) of each loss that compares a picture with its target and has a weight.

    Those that need another network load it. Raises WeightsError, with the command that gets its weights, when they are
    not there.
    """
    losses = {name: (getattr(weights, name), loss) for name, loss in PIXEL_LOSSES.items() if getattr(weights, name)}
    if weights.decibel:
        losses["decibel"] = (weights.decibel, partial(decibel, floor_db=weights.decibel_floor_db))
    if weights.perceptual or weights.lpips or weights.identity:
        # Late: a machine that only has PyTorch lacks what these need.
        from vidrestore.training.perceptual import Identity, Lpips, VggPerceptual

        if weights.perceptual:
            losses["perceptual"] = (weights.perceptual, VggPerceptual.installed(device))
        if weights.lpips:
            losses["lpips"] = (weights.lpips, Lpips.installed(device))
        if weights.identity:
            losses["identity"] = (weights.identity, Identity.installed(device, template))
    return losses


EQUAL_DB = 45.0
"""PSNR above this counts as this where pictures are averaged: nobody sees a difference, and untouched inputs
(infinitely many dB) would rule the averages."""


def psnr_db(output: Tensor, target: Tensor) -> Tensor:
    """(N,) peak signal-to-noise ratio of each picture, for values in [-1, 1]; not above 99."""
    mse = (output.clamp(-1, 1) - target).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(4 / mse.clamp_min(1e-12))).clamp_max(99.0)


def gradient_energy(images: Tensor) -> Tensor:
    """(N,) mean squared difference between neighbours: a measure of sharpness, to compare with the truth's."""
    horizontal = (images[..., 1:] - images[..., :-1]).square().mean(dim=(1, 2, 3))
    return horizontal + (images[..., 1:, :] - images[..., :-1, :]).square().mean(dim=(1, 2, 3))
