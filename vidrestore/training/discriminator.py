"""Discriminators: networks that tell true faces from restored ones, and so teach the restorer what it still lacks.

Two kinds with one interface, `judge(images) -> Judgement`, so that the loop takes either:

- `Discriminator`, StyleGAN2's residual network: one verdict on the whole face, as in the official GPEN training, whose
  checkpoints (`d`) load with a strict key match. Source: Karras et al., "Analyzing and Improving the Image Quality of
  StyleGAN", CVPR 2020; layout of the weights: github.com/yangxy/GPEN.
- `PatchDiscriminators`: a verdict on every neighbourhood, at several scales. They cannot say whether a face is a
  likely one, only whether skin, hair and lashes look true, cost a fraction, and need fewer faces. Sources: Isola et
  al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017; Wang et al.,
  "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs" (pix2pixHD), CVPR 2018.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.errors import OptionsError
from vidrestore.models.gpen import BiasedLeakyReLU, Blur, EqualConv2d, EqualLinear, GpenConfig

STDDEV_GROUP = 4
"""Images whose spread is measured together (StyleGAN2)."""
STDDEV_EPSILON = 1e-8
"""Keeps the root's slope finite where all images of a group are alike (StyleGAN2)."""
PATCH_KERNEL_PX = 4
"""Twice the stride: every pixel then counts in equally many outputs, and the gradient that the restorer gets has no
checkerboard."""
PATCH_STRIDED_CONVS = 3
"""With the last convolution, a verdict sees 38 px of its scale: at 256 px an eye, at 128 its surroundings, at 64 half
a face. pix2pix has one more layer and 70 px, but only one scale."""
MIN_PATCH_SCALE_PX = 16
"""Leaves 2 x 2 verdicts after the strided convolutions."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a discriminator makes of N images."""

    logits: list[Tensor]
    """One for each scale, (N, 1) or (N, 1, h, w); positive where an image looks true."""
    features: list[Tensor]
    """What the layers saw on the way, each (N, C, h, w), for feature matching. Independent of the rest of the batch."""


@dataclass(frozen=True, slots=True)
class DiscriminatorConfig:
    """Which discriminator to build; the fields that its kind does not name are not used."""

    kind: Literal["stylegan2", "patch"] = "stylegan2"
    channel_multiplier: int = 2
    """stylegan2: doubles the channels from 64 px upwards when 2."""
    width: float = 1.0
    """stylegan2: scales every layer (the official code calls it `narrow`)."""
    smallest_px: int = 64
    """patch: the coarsest scale; then 128, 256, … up to the size of the faces."""
    base_channels: int = 16
    """patch: of the first layer, doubled by each of the next. The cost grows with its square."""

    def __post_init__(self) -> None:
        if self.kind not in ("stylegan2", "patch"):
            raise OptionsError(f'kind is {self.kind!r}; it must be "stylegan2" or "patch"')
        if self.channel_multiplier not in (1, 2):
            raise OptionsError(f"channel_multiplier is {self.channel_multiplier}; it must be 1 or 2")
        if not 0 < self.width <= 4:
            raise OptionsError(f"width is {self.width}; it must be above 0 and at most 4")
        if self.smallest_px < MIN_PATCH_SCALE_PX or self.smallest_px & (self.smallest_px - 1):
            raise OptionsError(
                f"smallest_px is {self.smallest_px}; it must be a power of two, at least {MIN_PATCH_SCALE_PX}"
            )
        if self.base_channels < 1:
            raise OptionsError(f"base_channels is {self.base_channels}; it must be at least 1")


def build_discriminator(config: DiscriminatorConfig, size_px: int) -> "Discriminator | PatchDiscriminators":
    """For faces of side `size_px`, the generator's. Raises OptionsError for a size that does not fit."""
    try:
        if config.kind == "stylegan2":
            return Discriminator(size_px, channel_multiplier=config.channel_multiplier, width=config.width)
        return PatchDiscriminators(size_px, smallest_px=config.smallest_px, base_channels=config.base_channels)
    except ValueError as exc:
        raise OptionsError(str(exc)) from exc


class ResidualBlock(nn.Module):
    """Halves the size. Every branch keeps the variance near one, so their sum is divided by the root of two."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(EqualConv2d(num_in, num_in, 3, pad_px=1), BiasedLeakyReLU(num_in))
        self.conv2 = nn.Sequential(Blur((2, 2)), EqualConv2d(num_in, num_out, 3, stride=2), BiasedLeakyReLU(num_out))
        self.skip = nn.Sequential(Blur((1, 1)), EqualConv2d(num_in, num_out, 1, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H/2, W/2)."""
        return (self.conv2(self.conv1(x)) + self.skip(x)) / math.sqrt(2)


def append_stddev(x: Tensor) -> Tensor:
    """Minibatch standard deviation (Karras et al., ICLR 2018): (N, C, H, W) -> (N, C + 1, H, W).

    The new channel is how much the images of a group differ, one number for each group: a batch of faces that are all
    alike gives itself away. Groups have 4 images or, where N is no multiple of 4, the most that divide N evenly, so
    that every image has a group and any N will do; with groups of one (N = 1, 5, 7, 11, …) the channel says nothing.
    Real and restored batches should therefore have the same N.
    """
    num, channels, height, width = x.shape
    group = max(size for size in range(1, STDDEV_GROUP + 1) if num % size == 0)
    # In float16 epsilon would be 0, and the slope of the root infinite.
    grouped = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(group, num // group, channels, height, width)
    stddev = (grouped.var(dim=0, unbiased=False) + STDDEV_EPSILON).sqrt().mean(dim=(1, 2, 3))  # (N / group,)
    channel = stddev.to(x.dtype).repeat(group).view(num, 1, 1, 1).expand(num, 1, height, width)
    return torch.cat((x, channel), dim=1)


class Discriminator(nn.Module):
    """StyleGAN2's residual discriminator; its channels are those of the generator at each resolution.

    Input: (N, 3, S, S) float RGB in [-1, 1]. Parameter names are those of the official checkpoints. Raises ValueError
    unless `size_px` is a power of two from 16, or when `width` leaves no channels.
    """

    def __init__(self, size_px: int, *, channel_multiplier: int = 2, width: float = 1.0) -> None:
        super().__init__()
        config = GpenConfig(size_px, channel_multiplier, width)
        channels = config.channels(size_px)
        if channels < 1:
            raise ValueError(f"width is {width}; it must be larger, or no channel is left at {size_px} px")
        layers: list[nn.Module] = [nn.Sequential(EqualConv2d(3, channels, 1), BiasedLeakyReLU(channels))]
        for resolution_px in config.resolutions_px[-2::-1]:
            finer, channels = channels, config.channels(resolution_px)
            layers.append(ResidualBlock(finer, channels))
        self.convs = nn.Sequential(*layers)
        self.final_conv = nn.Sequential(EqualConv2d(channels + 1, channels, 3, pad_px=1), BiasedLeakyReLU(channels))
        self.final_linear = nn.Sequential(
            EqualLinear(channels * 4 * 4, channels, activate=True), EqualLinear(channels, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, 1) logits."""
        return self.judge(images).logits[0]

    def judge(self, images: Tensor) -> Judgement:
        """Logits (N, 1); features of every residual block, S/2 px first, 4 px last."""
        x = self.convs[0](images)
        features = []
        for block in self.convs[1:]:
            x = block(x)
            features.append(x)
        x = self.final_conv(append_stddev(x))
        return Judgement([self.final_linear(x.flatten(start_dim=1))], features)


class PatchJudge(nn.Module):
    """The verdicts at one scale: strided convolutions, then one logit for each remaining position.

    No batch norm: it would make the verdict on one image depend on the others (R1 asks for the slope of each image's
    own), and differ between a batch of real and one of restored images for reasons that are not in the pictures.
    Equalised convolutions rather than spectral norm: they keep no state that changes with each look, so a resumed run
    is exact, they learn at the generator's rates, and R1 already bounds the slope.
    """

    def __init__(self, base_channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        num_in = 3
        for depth in range(PATCH_STRIDED_CONVS):
            num_out = base_channels * 2**depth
            conv = EqualConv2d(num_in, num_out, PATCH_KERNEL_PX, stride=2, pad_px=1)
            self.layers.append(nn.Sequential(conv, BiasedLeakyReLU(num_out)))
            num_in = num_out
        self.logits = EqualConv2d(num_in, 1, 3, pad_px=1)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Judgement:
        """(N, 3, s, s) -> logits (N, 1, s/8, s/8), features of s/2, s/4 and s/8 px."""
        features = []
        x = images
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        logits = self.logits(x)
        return Judgement([logits + self.bias.to(logits.dtype)], features)


class PatchDiscriminators(nn.Module):
    """A `PatchJudge` at each of `smallest_px`, twice that, … up to `size_px`, each with weights of its own.

    Input: (N, 3, S, S) float RGB in [-1, 1]; each scale sees the mean over its pixels' areas. Parameter names begin
    with the scale (`scales.64.`), so that those trained for smaller faces can go on with larger ones. Raises ValueError
    unless `size_px` is `smallest_px` doubled any number of times.
    """

    def __init__(self, size_px: int, *, smallest_px: int = 64, base_channels: int = 16) -> None:
        super().__init__()
        scales_px = [size_px]
        while scales_px[0] > smallest_px and scales_px[0] % 2 == 0:
            scales_px.insert(0, scales_px[0] // 2)
        if scales_px[0] != smallest_px:
            raise ValueError(f"size_px is {size_px}; it must be smallest_px ({smallest_px}) times a power of two")
        self.scales = nn.ModuleDict({str(scale_px): PatchJudge(base_channels) for scale_px in scales_px})

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, S, S) -> logits (N, 1, s/8, s/8) for each scale s, the coarsest first."""
        return self.judge(images).logits

    def judge(self, images: Tensor) -> Judgement:
        """Logits as of `forward`; features of all scales, the coarsest first."""
        logits, features = [], []
        for scale_px, judge in self.scales.items():
            seen = judge(F.avg_pool2d(images, images.shape[-1] // int(scale_px)))
            logits += seen.logits
            features += seen.features
        return Judgement(logits, features)
