"""Losses of the contest between restorer and discriminator, each a small function that returns a scalar tensor.

Logits are one tensor, or one for each scale of the discriminator (`Judgement.logits`), which then count alike.

Both regularisers are used lazily, every k steps, and need second derivatives: compute them in float32 outside of
autocast and on networks that are not compiled (torch.compile has no double backward). The official GPEN training adds
10 / 2 * 16 * `r1_penalty` every 16 steps and 2 * 4 * `PathLength` every 4. Its 10 is for one verdict per face: on faces
of 256 px an untrained `Discriminator` starts at an R1 of 0.00004, `PatchDiscriminators` at 0.4, so they need far less.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.models.gpen import Gpen, StyleGenerator

PATH_DECAY = 0.01
"""Share of a new batch in the running mean of path lengths (StyleGAN2)."""
PATH_EPSILON = 1e-8
"""A network that starts as the identity does not use its latents at all: keeps the root's slope finite there."""


def discriminator_loss(real: Tensor | Sequence[Tensor], fake: Tensor | Sequence[Tensor]) -> Tensor:
    """Logistic loss (Goodfellow et al., NeurIPS 2014): true images should get positive logits, restored ones negative.

    2 ln 2 = 1.39 for a discriminator that knows nothing, 0 for one that is never wrong.
    """
    losses = [
        F.softplus(-true.float()).mean() + F.softplus(false.float()).mean()
        for true, false in zip(scales(real), scales(fake), strict=True)
    ]
    return torch.stack(losses).mean()


def generator_loss(fake: Tensor | Sequence[Tensor]) -> Tensor:
    """Non-saturating: -log of the probability that a restored image is true. Its slope stays when all are found out."""
    return torch.stack([F.softplus(-logits.float()).mean() for logits in scales(fake)]).mean()


def r1_penalty(
    logits: Tensor | Sequence[Tensor], real_images: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Squared length of the gradient of a logit with respect to the image, mean over images, positions and scales.

    Keeps the discriminator flat at true images (Mescheder et al., ICML 2018). `real_images` (N, 3, S, S) must have had
    `requires_grad` before they were judged.

    A map of P logits has P gradients. Their mean square takes one backward pass: with random signs, the products of
    different positions vanish on average. (The gradient of the mean logit would not do: its square is P times smaller,
    and slopes of neighbours that cancel escape it.) For (N, 1) logits signs do not matter, and this is StyleGAN2's R1.
    `generator` draws the signs on the CPU; seed it by the step, and a resumed run draws the same.
    """
    maps = scales(logits)
    signed = []
    for values in maps:
        positions = values.shape[1:]
        signs = torch.randint(0, 2, positions, generator=generator).to(values) * 2 - 1
        signed.append((values * signs).sum() / math.sqrt(positions.numel() * len(maps)))
    (gradient,) = torch.autograd.grad(torch.stack(signed).sum(), real_images, create_graph=True)
    return gradient.square().sum() / len(real_images)


def feature_matching(fake_features: Sequence[Tensor], real_features: Sequence[Tensor]) -> Tensor:
    """L1 between what the discriminator's layers see in a restored image and in the true one, mean over the layers.

    Gradients reach the restored side only (pix2pixHD, CVPR 2018).
    """
    pairs = zip(fake_features, real_features, strict=True)
    return torch.stack([F.l1_loss(fake.float(), real.detach().float()) for fake, real in pairs]).mean()


class PathLength(nn.Module):
    """StyleGAN2's path length regularisation: a step of w should change the image equally far wherever it starts.

    The only state is the running mean of lengths, a buffer, so `state_dict` holds all that a resumed run needs.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: Tensor, latents: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Penalise the lengths' squared distance from their running mean, and move that towards this batch's.

        images (N, 3, S, S) were made from latents (N, L, style_dim), one for each of L layers; see
        `restore_with_latents`. `generator` draws the noise on the CPU; seed it by the step for an exact resume.
        """
        noise = torch.randn(images.shape, generator=generator).to(images)
        noise = noise / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * noise).sum(), latents, create_graph=True)
        lengths = (gradient.square().sum(dim=2).mean(dim=1) + PATH_EPSILON).sqrt()  # (N,)
        # As in StyleGAN2, the new mean carries gradient too; what is kept does not.
        mean = self.mean.lerp(lengths.mean(), PATH_DECAY)
        self.mean.copy_(mean.detach())
        return (lengths - mean).square().mean()


def restore_with_latents(net: Gpen, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The network's output, and the latents that it was made from, to differentiate the one by the other.

    inputs (N, 3, S, S) -> the same, latents (N, L, style_dim). `Gpen` hands one w to all layers; here every layer gets
    a row of its own, all equal, because the official training (`return_latents`) measures path lengths row by row.
    Hooks do that for one call.
    """
    rows = latent_rows(net.generator)
    num_rows = max(row for _, row in rows) + 1
    made: list[Tensor] = []

    def spread(_module: nn.Module, _args: Any, w: Tensor) -> None:
        made.append(w[:, None].repeat(1, num_rows, 1))

    def take(row: int, _module: nn.Module, _args: Any) -> tuple[Tensor]:
        return (made[0][:, row],)

    with ExitStack() as hooks:
        hooks.enter_context(net.generator.style.register_forward_hook(spread))
        for modulation, row in rows:
            hooks.enter_context(modulation.register_forward_pre_hook(partial(take, row)))
        output = net(inputs)
    return output, made[0]


def latent_rows(generator: StyleGenerator) -> list[tuple[nn.Module, int]]:
    """Which row of latents each modulation takes. As in StyleGAN2, ToRGB shares the row of the layer after it."""
    styled = [generator.conv1, *generator.convs]
    to_rgbs = [generator.to_rgb1, *generator.to_rgbs]
    rows = [(layer.get_submodule("conv.modulation"), index) for index, layer in enumerate(styled)]
    return rows + [(layer.get_submodule("conv.modulation"), 2 * level + 1) for level, layer in enumerate(to_rgbs)]


def scales(logits: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """One tensor as a list of one."""
    return [logits] if isinstance(logits, Tensor) else logits
