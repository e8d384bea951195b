"""GPEN made ready to run: the function of `models/gpen.py`, with all that does not depend on the face done once.

What makes it faster than the module that trains:

1. Scales, gains and biases are folded into kernels. A leaky ReLU commutes with a positive factor, so its gain goes into
   what comes before it.
2. Where pictures are larger than kernels, a face's style and demodulation go into its own copy of the kernel: thousands
   of numbers instead of millions. Where kernels are larger, the picture is scaled.
3. On a CPU bias and leaky ReLU run inside the convolution, and a batch of faces is no batch: a picture that leaves the
   cache is what costs.
"""

import functools
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.models.gpen import (
    ACTIVATION_GAIN,
    EPSILON,
    LEAKY_SLOPE,
    BiasedLeakyReLU,
    EqualConv2d,
    EqualLinear,
    Gpen,
    StyledConv,
    ToRGB,
    binomial_kernel,
)
from vidrestore.models.side_by_side import side_by_side

WINOGRAD_MIN_CHANNELS = 16
"""With fewer, what is saved is less than what the transforms cost. At 16 both are equal, but no picture lies between
the operations: at 2048 px the peak is 3.4 GiB instead of 4.4."""
WINOGRAD_MIN_FLOP = 1e9
"""Less takes 5 ms anyway; the embedded model then does without numba."""
WINOGRAD_MIN_UPSAMPLED_PX = 128
"""Below, kernels (16 times as large as they were) take longer to fetch than pictures."""
SIDE_BY_SIDE_MAX_PX = 512
"""On a CPU, larger faces go one after the other: they keep all cores busy, and two of 2048 px would take 6 GB."""
Layer = TypeVar("Layer", bound=nn.Module)


class PreparedGpen(nn.Module):
    """(N, 3, S, S) RGB in [-1, 1] -> the same in float32. For inference only.

    Convolutions compute in `dtype`; styles, demodulation and the sum of the RGB images stay in float32.
    """

    constant: Tensor

    def __init__(self, net: Gpen, dtype: torch.dtype = torch.float32, *, winograd: bool = False) -> None:
        """`winograd`: with the convolutions of `winograd.py` where they pay; on a CPU."""
        super().__init__()
        self.config = net.config
        self.dtype = dtype
        generator = net.generator
        from_rgb, *downs = encoder_layers(net)
        self.from_rgb = FromRgb(*from_rgb, dtype)
        self.downs = nn.ModuleList(Down(*layers, dtype) for layers in downs)
        self.to_latent = Linear(layers_of(net.final_linear, EqualLinear))
        self.mapping = nn.ModuleList(Linear([layer]) for layer in layers_of(generator.style, EqualLinear))
        convs, to_rgbs = layers_of(generator, StyledConv), layers_of(generator, ToRGB)
        modulations = [layer.conv.modulation for layer in convs] + [layer.conv.modulation for layer in to_rgbs]
        self.styles = Linear(modulations)
        self.style_sizes = [len(modulation.bias) for modulation in modulations]
        self.register_buffer("constant", channels_last(generator.input.input, dtype))
        sizes_px = [resolution_px for resolution_px in net.config.resolutions_px for _ in range(2)][1:]
        self.convs = nn.ModuleList(
            Styled(layer, dtype, size_px if winograd else None) for layer, size_px in zip(convs, sizes_px, strict=True)
        )
        self.to_rgbs = nn.ModuleList(Rgb(layer, dtype) for layer in to_rgbs)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self.restore_batch(x)
        if self.config.size_px <= SIDE_BY_SIDE_MAX_PX:
            return side_by_side(self.restore_batch, x)
        return torch.cat([self.restore_batch(face) for face in torch.split(x, 1)])

    def restore_batch(self, x: Tensor) -> Tensor:
        """All at once. On a CPU a single face has kernels of its own, several share them."""
        x = self.from_rgb(x.to(self.dtype, memory_format=torch.channels_last))
        features = [x]
        for down in self.downs:
            x = down(x)
            features.append(x)
        w = leaky_relu_(self.to_latent(x.float().flatten(start_dim=1)))
        w = w * torch.rsqrt(w.square().mean(dim=1, keepdim=True) + EPSILON)
        for layer in self.mapping:
            w = leaky_relu_(layer(w))
        styles = torch.split(self.styles(w), self.style_sizes, dim=1)
        conv_styles, rgb_styles = styles[: len(self.convs)], styles[len(self.convs) :]

        x = self.constant.expand(len(w), -1, -1, -1)
        image = None
        for number, (conv, style) in enumerate(zip(self.convs, conv_styles, strict=True)):
            x = conv(x, style, features[-1])
            if number % 2 == 0:  # the second at its resolution
                features.pop()  # what was used is let go: at 2048 px it is most of the memory
                image = self.to_rgbs[number // 2](x, rgb_styles[number // 2], image)
        assert image is not None
        return image.permute(0, 3, 1, 2)


class Linear(nn.Module):
    """One or more `EqualLinear` of the same input, side by side, in float32. (N, in) -> (N, sum of out)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layers: list[EqualLinear]) -> None:
        super().__init__()
        gains = [ACTIVATION_GAIN if layer.activate else 1.0 for layer in layers]
        weights = [layer.weight * (layer.scale * gain) for layer, gain in zip(layers, gains, strict=True)]
        biases = [layer.bias * (layer.lr_multiplier * gain) for layer, gain in zip(layers, gains, strict=True)]
        self.register_buffer("weight", torch.cat(weights).detach().float())
        self.register_buffer("bias", torch.cat(biases).detach().float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class FromRgb(nn.Module):
    """(N, 3, S, S) -> (N, C, S, S): the encoder's first layer."""

    kernel: Tensor
    bias: Tensor

    def __init__(self, conv: EqualConv2d, activation: BiasedLeakyReLU, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("kernel", channels_last(conv.weight * (conv.scale * ACTIVATION_GAIN), dtype))
        self.register_buffer("bias", (activation.bias * ACTIVATION_GAIN).detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return conv_leaky(x, self.kernel, self.bias)


class Down(nn.Module):
    """(N, C, 2H, 2W) -> (N, C', H, W): blur and strided convolution."""

    blur: Tensor
    kernel: Tensor
    bias: Tensor

    def __init__(self, conv: EqualConv2d, activation: BiasedLeakyReLU, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("blur", depthwise_blur(conv.weight.shape[1], 1.0, dtype))
        self.register_buffer("kernel", channels_last(conv.weight * (conv.scale * ACTIVATION_GAIN), dtype))
        self.register_buffer("bias", (activation.bias * ACTIVATION_GAIN).detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        blurred = F.conv2d(x, self.blur, padding=2, groups=x.shape[1])
        return conv_leaky(blurred, self.kernel, self.bias, stride=2)


class Styled(nn.Module):
    """Modulated convolution, and the encoder's features beside its output. (N, C, H, W) -> (N, 2 C', H or 2H, ...)."""

    kernel: Tensor
    power: Tensor
    blur: Tensor | None
    bias: Tensor
    feature_gain: Tensor
    feature_bias: Tensor

    def __init__(self, layer: StyledConv, dtype: torch.dtype, winograd_px: int | None) -> None:
        """`winograd_px`: side of the square output where a Winograd convolution may be tried."""
        super().__init__()
        kernel = (layer.conv.weight[0] * layer.conv.scale).detach().float()  # (C', C, 3, 3)
        self.num_out = len(kernel)
        self.upsamples = layer.conv.blur is not None
        self.register_buffer("power", kernel.square().sum(dim=(2, 3)).t().contiguous())  # (C, C')
        self.is_winograd = winograd_px is not None and winograd_pays(
            kernel, winograd_px, dtype, upsamples=self.upsamples
        )
        if self.is_winograd:
            from vidrestore.models.winograd import transformed_kernel, upsampling_kernels

            plain = upsampling_kernels(kernel) if self.upsamples else kernel
            self.register_buffer("kernel", transformed_kernel(plain, dtype))
        else:  # a transposed convolution wants (C, C', 3, 3)
            self.register_buffer("kernel", channels_last(kernel.transpose(0, 1) if self.upsamples else kernel, dtype))
        self.register_buffer("blur", depthwise_blur(self.num_out, 4.0, dtype) if self.upsamples else None)
        bias = (layer.activate.bias * ACTIVATION_GAIN).detach().to(dtype)
        self.register_buffer("bias", bias[: self.num_out].clone())
        self.register_buffer("feature_bias", bias[self.num_out :, None, None].clone())
        self.register_buffer("feature_gain", (layer.noise.weight * ACTIVATION_GAIN).detach().to(dtype))

    def forward(self, x: Tensor, style: Tensor, features: Tensor) -> Tensor:
        demodulation = torch.rsqrt(style.square() @ self.power + EPSILON) * ACTIVATION_GAIN  # (N, C')
        if self.is_winograd:
            from vidrestore.models.winograd import styled_conv  # late: numba takes a second to load

            beside = (features, self.feature_gain, self.feature_bias.flatten())
            return styled_conv(x, self.kernel, style[0], demodulation[0], self.bias, *beside)
        if x.device.type == "cpu" and len(x) == 1 and self.kernel.numel() < x.numel():
            own = self._activated(x, self._own_kernel(style, demodulation))
        else:
            own = self._scaled(x, style, demodulation)
        features = torch.addcmul(self.feature_bias, features, self.feature_gain)
        return torch.cat((own, F.leaky_relu_(features, LEAKY_SLOPE)), dim=1)

    def _own_kernel(self, style: Tensor, demodulation: Tensor) -> Tensor:
        per_out, per_in = demodulation[0][:, None, None, None], style[0][None, :, None, None]
        if self.upsamples:
            per_out, per_in = per_out.transpose(0, 1), per_in.transpose(0, 1)
        return self.kernel * (per_out * per_in).to(self.kernel.dtype)

    def _activated(self, x: Tensor, kernel: Tensor) -> Tensor:
        if self.blur is None:
            return conv_leaky(x, kernel, self.bias, padding=1)
        doubled = F.conv_transpose2d(x, kernel, stride=2)
        return conv_leaky(doubled, self.blur, self.bias, padding=1, groups=self.num_out)

    def _scaled(self, x: Tensor, style: Tensor, demodulation: Tensor) -> Tensor:
        # Large styles would overflow float16; what they are divided by, demodulation gives back.
        largest = style.abs().amax(dim=1, keepdim=True).clamp_min(EPSILON)
        x = x * (style / largest)[:, :, None, None].to(x.dtype)
        demodulation = demodulation * largest
        if self.blur is None:
            x = F.conv2d(x, self.kernel, padding=1)
        else:
            doubled = F.conv_transpose2d(x, self.kernel, stride=2)
            x = F.conv2d(doubled, self.blur, padding=1, groups=self.num_out)
        x = torch.addcmul(self.bias[:, None, None], x, demodulation[:, :, None, None].to(x.dtype))
        return F.leaky_relu_(x, LEAKY_SLOPE)


def winograd_pays(kernel: Tensor, size_px: int, dtype: torch.dtype, *, upsamples: bool) -> bool:
    """Whether this layer with its kernel (C', C, 3, 3) and square output is faster with `winograd.py`, and can be."""
    num_out, num_in = kernel.shape[:2]
    work_flop = 2 * kernel.numel() * (size_px // 2 if upsamples else size_px) ** 2
    if min(num_out, num_in) < WINOGRAD_MIN_CHANNELS or work_flop < WINOGRAD_MIN_FLOP:
        return False
    if upsamples and size_px < WINOGRAD_MIN_UPSAMPLED_PX:
        return False
    from vidrestore.models.products import block_of, can_multiply  # late: numba takes a second to load

    return can_multiply(dtype) and num_in % 2 == 0 and block_of(4 * num_out if upsamples else num_out) is not None


class Rgb(nn.Module):
    """(N, C, H, W), and the coarser image (N, H / 2, W / 2, 3) -> the image (N, H, W, 3). Images are float32."""

    kernel: Tensor
    bias: Tensor

    def __init__(self, layer: ToRGB, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("kernel", (layer.conv.weight[0, :, :, 0, 0] * layer.conv.scale).detach().float())
        self.register_buffer("bias", layer.bias.detach().float().clone())

    def forward(self, x: Tensor, style: Tensor, coarser: Tensor | None) -> Tensor:
        kernels = (self.kernel * style[:, None]).to(x.dtype)  # (N, 3, C)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, H * W, C), a view of channels_last
        image = torch.bmm(pixels, kernels.transpose(1, 2)).view(len(x), *x.shape[2:], 3).float()
        image = image + self.bias.flatten()
        return image if coarser is None else image.add_(doubled_image(coarser))


def layers_of(module: nn.Module, kind: type[Layer]) -> list[Layer]:
    """In the order in which the network runs them."""
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def encoder_layers(net: Gpen) -> list[tuple[EqualConv2d, BiasedLeakyReLU]]:
    """From the finest to the coarsest. (All but the first begin with a `Blur`, always the same.)"""
    levels = [net.get_submodule(f"ecd{level}") for level in range(len(net.config.resolutions_px))]
    return [(layers_of(level, EqualConv2d)[0], layers_of(level, BiasedLeakyReLU)[0]) for level in levels]


def doubled_image(image: Tensor) -> Tensor:
    """(N, H, W, 3) -> (N, 2 H, 2 W, 3), as `gpen.Upsample` does.

    Its binomial filter is linear interpolation between pixels, with zeros around the image. PyTorch's own takes three
    times as long for this shape, and its last bits depend on the number of threads.
    """
    return doubled_along(doubled_along(image, 1), 2)


def doubled_along(image: Tensor, axis: int) -> Tensor:
    """New pixels lie a quarter of the way from an old one to its neighbour before, and to the one behind."""
    length_px = image.shape[axis]
    far = image * 0.25
    before = image * 0.75
    behind = before.clone()
    before.narrow(axis, 1, length_px - 1).add_(far.narrow(axis, 0, length_px - 1))
    behind.narrow(axis, 0, length_px - 1).add_(far.narrow(axis, 1, length_px - 1))
    return torch.stack((before, behind), dim=axis + 1).flatten(axis, axis + 1)


def channels_last(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    return kernel.detach().to(dtype).contiguous(memory_format=torch.channels_last)


def depthwise_blur(channels: int, gain: float, dtype: torch.dtype) -> Tensor:
    """(C, 1, 4, 4): the low-pass filter of `gpen.Blur`, for a convolution in groups of one channel."""
    return channels_last(binomial_kernel(gain).expand(channels, 1, 4, 4), dtype)


def leaky_relu_(x: Tensor) -> Tensor:
    """In place; the gain is in what came before."""
    return F.leaky_relu_(x, LEAKY_SLOPE)


def conv_leaky(
    x: Tensor, kernel: Tensor, bias: Tensor, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    """Convolution, bias and leaky ReLU; on a CPU in one pass over the picture (oneDNN's post-operations)."""
    if x.device.type == "cpu" and runs_in_onednn(x.dtype) and not torch.compiler.is_compiling():
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, kernel, bias, [padding] * 2, [stride] * 2, [1, 1], groups, "leaky_relu", [LEAKY_SLOPE], ""
        )
        return fused
    return leaky_relu_(F.conv2d(x, kernel, bias, stride=stride, padding=padding, groups=groups))


@functools.cache
def runs_in_onednn(dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch and this CPU have the convolution that torch.compile uses on CPUs."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not has_onednn or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
