"""GPEN: the GAN Prior Embedded Network, the restorer at the heart of vidrestore.

1. An encoder (one convolution and one strided convolution per octave) turns a degraded face into features at every
   resolution from S x S down to 4 x 4.
2. A fully connected layer turns the 4 x 4 features into a code z; eight more (StyleGAN2's mapping) turn z into w.
3. A StyleGAN2 generator starts from a learned 4 x 4 constant. Each of its 3 x 3 convolutions is modulated by w.
4. Where StyleGAN2 adds noise, GPEN concatenates the encoder's features of that resolution, scaled by a learned number.
   Every styled layer therefore hands twice its channels to the next one.
5. ToRGB layers turn each resolution into an image; the images are added from coarse to fine.
Sources: Yang et al., "GAN Prior Embedded Network for Blind Face Restoration in the Wild", CVPR 2021 (arXiv:2105.06070);
Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; layout of the released weights:
github.com/yangxy/GPEN. The paper has noise added or concatenated; all released models concatenate, and so do we.
Our form differs in one thing, with the same numbers out: a modulated convolution scales its input by the style and its
output by the demodulation, instead of building a kernel per face, so that a batch of faces is one ordinary convolution.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.2
ACTIVATION_GAIN = math.sqrt(2)
"""Keeps the variance of a leaky ReLU's output near that of its input (StyleGAN2, "equalized learning rate")."""
MAPPING_LR_MULTIPLIER = 0.01
"""StyleGAN2's mapping learns 100 times slower than the rest."""
EPSILON = 1e-8
BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)
"""The binomial low-pass filter used around every change of resolution."""
MIN_SIZE_PX = 16


class StateDictError(ValueError):
    """Tensors that are not those of a GPEN generator; the message names the first key or shape that is off."""


@dataclass(frozen=True, slots=True)
class GpenConfig:
    """What must be known to build a generator. `width` scales every layer (the official code calls it `narrow`)."""

    size_px: int
    """Side S of the square input and output, a power of two."""
    channel_multiplier: int = 2
    """Doubles the channels from 64 px upwards when 2."""
    width: float = 1.0
    style_dim: int = 512
    num_mapping_layers: int = 8

    def __post_init__(self) -> None:
        if self.size_px < MIN_SIZE_PX or self.size_px & (self.size_px - 1):
            raise ValueError(f"size_px is {self.size_px}; it must be a power of two, at least {MIN_SIZE_PX}")

    @property
    def resolutions_px(self) -> list[int]:
        """4, 8, …, size_px."""
        return [2**octave for octave in range(2, self.size_px.bit_length())]

    def channels(self, resolution_px: int) -> int:
        """Channels of the features at one resolution: 512 up to 32 px, then halved at each octave."""
        if resolution_px <= 32:
            return int(512 * self.width)
        return int(256 * 64 // resolution_px * self.channel_multiplier * self.width)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "GpenConfig":
        """Read the configuration off the tensors' names and shapes. Raises StateDictError when they are not GPEN's."""
        encoder_levels = sum(bool(re.fullmatch(r"ecd\d+\.0\.\d\.weight", key)) for key in state)
        mapping_layers = sum(bool(re.fullmatch(r"generator\.style\.\d+\.weight", key)) for key in state)
        try:
            width = state["generator.input.input"].shape[1] / 512
            style_dim = state["generator.style.1.weight"].shape[0]
            full_size_channels = state["ecd0.0.0.weight"].shape[0]
        except (KeyError, IndexError) as exc:
            raise StateDictError(f"not a GPEN generator: {exc} is missing or has another rank") from exc
        if not 3 <= encoder_levels <= 12:
            raise StateDictError(f"not a GPEN generator: it has {encoder_levels} encoder levels")
        size_px = 2 ** (encoder_levels + 1)
        multiplier = 1
        if size_px > 32 and full_size_channels != cls(size_px, 1, width).channels(size_px):
            multiplier = 2
        return cls(size_px, multiplier, width, style_dim, mapping_layers)


def binomial_kernel(gain: float) -> Tensor:
    """(4, 4) float32 outer product of `BLUR_TAPS`, summing to `gain`."""
    taps = torch.tensor(BLUR_TAPS, device="cpu")  # whatever the device that a network is built on
    kernel = taps[:, None] * taps[None, :]
    return kernel * (gain / kernel.sum())


def random_weight(*shape: int, deviation: float = 1.0) -> Tensor:
    """Of zero mean; on the device "meta" without values.

    There nothing is computed: the first sum on that device loads PyTorch's compiler, which takes 2 CPU seconds.
    """
    weight = torch.empty(shape)
    return weight if weight.is_meta else weight.normal_(std=deviation)


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu_(x * ACTIVATION_GAIN, LEAKY_SLOPE)


class Blur(nn.Module):
    """Zero-padded 4 x 4 low-pass filter, the same for every channel."""

    kernel: Tensor

    def __init__(self, pad_px: tuple[int, int], gain: float = 1.0) -> None:
        super().__init__()
        self.pad_px = pad_px
        self.register_buffer("kernel", binomial_kernel(gain))

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.pad_px
        channels = x.shape[1]
        weight = self.kernel.to(x.dtype).expand(channels, 1, 4, 4)
        if before == after:
            return F.conv2d(x, weight, padding=before, groups=channels)
        return F.conv2d(F.pad(x, (before, after, before, after)), weight, groups=channels)


class Upsample(nn.Module):
    """Doubles the size of an image: zeros between the pixels, then the low-pass filter."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", binomial_kernel(gain=4.0))

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        weight = self.kernel.to(x.dtype).expand(channels, 1, 4, 4)
        # A strided transposed convolution is "insert zeros, then filter"; a symmetric kernel needs no flip.
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)  # (N, C, 2H, 2W)


class EqualLinear(nn.Module):
    """Linear layer whose stored weights have unit variance and are scaled when used (equalized learning rate)."""

    def __init__(
        self, num_in: int, num_out: int, *, bias_init: float = 0.0, lr_multiplier: float = 1.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(num_out, num_in, deviation=1 / lr_multiplier))
        self.bias = nn.Parameter(torch.full((num_out,), bias_init))
        self.scale = lr_multiplier / math.sqrt(num_in)
        self.lr_multiplier = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)
        return leaky_relu(out) if self.activate else out


class EqualConv2d(nn.Module):
    """Convolution without bias, scaled like `EqualLinear`."""

    def __init__(self, num_in: int, num_out: int, kernel_px: int, *, stride: int = 1, pad_px: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(num_out, num_in, kernel_px, kernel_px))
        self.scale = 1 / math.sqrt(num_in * kernel_px**2)
        self.stride, self.pad_px = stride, pad_px

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, stride=self.stride, padding=self.pad_px)


class BiasedLeakyReLU(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x + self.bias.view(1, -1, 1, 1).to(x.dtype))


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)


class ModulatedConv2d(nn.Module):
    """Convolution whose kernel is scaled per input channel by the style and, if demodulated, normalised per output."""

    def __init__(
        self,
        num_in: int,
        num_out: int,
        kernel_px: int,
        style_dim: int,
        *,
        upsample: bool = False,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_weight(1, num_out, num_in, kernel_px, kernel_px))
        self.modulation = EqualLinear(style_dim, num_in, bias_init=1.0)
        self.scale = 1 / math.sqrt(num_in * kernel_px**2)
        self.pad_px = kernel_px // 2
        self.demodulate = demodulate
        # The transposed convolution leaves one row and column too many; the blur takes them off again.
        self.blur = Blur((1, 1), gain=4.0) if upsample else None

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (N, C_in, H, W), w (N, style_dim) -> (N, C_out, H, W), or (N, C_out, 2H, 2W) when upsampling."""
        style = self.modulation(w).float()  # (N, C_in)
        weight = self.weight[0] * self.scale  # (C_out, C_in, k, k)
        x = x * style[:, :, None, None].to(x.dtype)
        kernel = weight.to(x.dtype)
        if self.blur is None:
            out = F.conv2d(x, kernel, padding=self.pad_px)
        else:
            out = self.blur(F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2))
        if not self.demodulate:
            return out
        # sum over (i, k, k) of (w * s_i)^2, without building a kernel per face.
        norm = style.square() @ weight.float().square().sum(dim=(2, 3)).t()  # (N, C_out)
        return out * torch.rsqrt(norm + EPSILON)[:, :, None, None].to(out.dtype)


class FeatureConcat(nn.Module):
    """Stands where StyleGAN2 adds noise: the encoder's features become the second half of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        return torch.cat((x, self.weight.to(x.dtype) * features), dim=1)  # (N, 2C, H, W)


class StyledConv(nn.Module):
    def __init__(self, num_in: int, num_out: int, style_dim: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(num_in, num_out, 3, style_dim, upsample=upsample)
        self.noise = FeatureConcat()
        self.activate = BiasedLeakyReLU(2 * num_out)

    def forward(self, x: Tensor, w: Tensor, features: Tensor) -> Tensor:
        return self.activate(self.noise(self.conv(x, w), features))


class ToRGB(nn.Module):
    def __init__(self, num_in: int, style_dim: int, *, upsample: bool = True) -> None:
        super().__init__()
        self.upsample = Upsample() if upsample else None
        self.conv = ModulatedConv2d(num_in, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, w: Tensor, coarser: Tensor | None = None) -> Tensor:
        image = self.conv(x, w) + self.bias.to(x.dtype)
        if self.upsample is None or coarser is None:
            return image
        return image + self.upsample(coarser)


class ConstantInput(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(random_weight(1, channels, 4, 4))


class StyleGenerator(nn.Module):
    """StyleGAN2's mapping and synthesis, fed with the encoder's features (coarse to fine) instead of noise."""

    def __init__(self, config: GpenConfig) -> None:
        super().__init__()
        style_dim = config.style_dim
        mapping: list[nn.Module] = [PixelNorm()]
        for _ in range(config.num_mapping_layers):
            mapping.append(EqualLinear(style_dim, style_dim, lr_multiplier=MAPPING_LR_MULTIPLIER, activate=True))
        self.style = nn.Sequential(*mapping)

        channels = config.channels(4)
        self.input = ConstantInput(channels)
        self.conv1 = StyledConv(channels, channels, style_dim)
        self.to_rgb1 = ToRGB(2 * channels, style_dim, upsample=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for resolution_px in config.resolutions_px[1:]:
            coarser, channels = channels, config.channels(resolution_px)
            self.convs.append(StyledConv(2 * coarser, channels, style_dim, upsample=True))
            self.convs.append(StyledConv(2 * channels, channels, style_dim))
            self.to_rgbs.append(ToRGB(2 * channels, style_dim))

    def forward(self, z: Tensor, features: list[Tensor]) -> Tensor:
        """z (N, style_dim); features[k] (N, C_k, 4 * 2^k, 4 * 2^k) -> (N, 3, S, S)."""
        w = self.style(z)
        x = self.input.input.to(features[0].dtype).expand(len(z), -1, -1, -1)
        x = self.conv1(x, w, features[0])
        image = self.to_rgb1(x, w)
        for level, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * level](x, w, features[level + 1])
            x = self.convs[2 * level + 1](x, w, features[level + 1])
            image = to_rgb(x, w, image)
        return image


class Gpen(nn.Module):
    """The full generator. Input and output: (N, 3, S, S) float RGB in [-1, 1] (the output may overshoot a little).

    Parameter names are those of the official checkpoints, so that they load with a strict key match.
    """

    def __init__(self, config: GpenConfig) -> None:
        super().__init__()
        self.config = config
        resolutions_px = config.resolutions_px[::-1]
        channels = config.channels(config.size_px)
        self.ecd0 = nn.Sequential(nn.Sequential(EqualConv2d(3, channels, 1), BiasedLeakyReLU(channels)))
        for level, resolution_px in enumerate(resolutions_px[1:], start=1):
            finer, channels = channels, config.channels(resolution_px)
            down = nn.Sequential(Blur((2, 2)), EqualConv2d(finer, channels, 3, stride=2), BiasedLeakyReLU(channels))
            self.add_module(f"ecd{level}", nn.Sequential(down))
        self.final_linear = nn.Sequential(EqualLinear(channels * 4 * 4, config.style_dim, activate=True))
        self.generator = StyleGenerator(config)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for level in range(len(self.config.resolutions_px)):
            x = self.get_submodule(f"ecd{level}")(x)
            features.append(x)
        z = self.final_linear(x.flatten(start_dim=1))
        return self.generator(z, features[::-1])

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "Gpen":
        """Build the network that these tensors belong to and load them, every key and shape required to match.

        Raises StateDictError naming what does not fit.
        """
        config = GpenConfig.from_state_dict(state)
        with torch.device("meta"):
            net = cls(config)
        expected = net.state_dict()
        for key in sorted(expected.keys() ^ state.keys()):
            raise StateDictError(f"not a GPEN generator: {key} is {'missing' if key in expected else 'not expected'}")
        for key, tensor in state.items():
            if tensor.shape != expected[key].shape:
                shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[key].shape)}"
                raise StateDictError(f"not a GPEN generator: {key} has shape {shapes}")
            if not torch.isfinite(tensor).all():
                raise StateDictError(f"damaged weights: {key} holds values that are not finite")
        net.load_state_dict({key: tensor.float() for key, tensor in state.items()}, strict=True, assign=True)
        return net.eval()
