"""GPEN as its authors run it, to measure against: a kernel per face, grouped convolutions, filters by channel.

The same maths as `vidrestore/models/gpen.py` and its parameters; the order of operations is the official PyTorch
code's without its CUDA extension (github.com/yangxy/GPEN, after rosinality/stylegan2-pytorch).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vidrestore.models.gpen import Gpen, ModulatedConv2d, StyledConv, ToRGB


def plain_forward(net: Gpen, x: Tensor) -> Tensor:
    """(N, 3, S, S) RGB in [-1, 1] -> the same."""
    features = []
    for level in range(len(net.config.resolutions_px)):
        *blur, conv, activation = net.get_submodule(f"ecd{level}.0")
        if blur:
            x = upfirdn(x, blur[0].kernel, up=1, pad=(2, 2))
        x = F.conv2d(x, conv.weight * conv.scale, stride=conv.stride, padding=conv.pad_px)
        x = fused_leaky_relu(x, activation.bias)
        features.append(x)
    linear = net.get_submodule("final_linear.0")
    z = fused_leaky_relu(
        F.linear(x.reshape(len(x), -1), linear.weight * linear.scale), linear.bias * linear.lr_multiplier
    )
    generator = net.generator
    w = generator.style[0](z)
    for layer in generator.style[1:]:
        w = fused_leaky_relu(F.linear(w, layer.weight * layer.scale), layer.bias * layer.lr_multiplier)

    features.reverse()
    x = generator.input.input.repeat(len(w), 1, 1, 1)
    x = styled_conv(generator.conv1, x, w, features[0])
    image = to_rgb(generator.to_rgb1, x, w, None)
    for level, layer in enumerate(generator.to_rgbs):
        x = styled_conv(generator.convs[2 * level], x, w, features[level + 1])
        x = styled_conv(generator.convs[2 * level + 1], x, w, features[level + 1])
        image = to_rgb(layer, x, w, image)
    return image


def styled_conv(layer: StyledConv, x: Tensor, w: Tensor, features: Tensor) -> Tensor:
    x = modulated_conv(layer.conv, x, w)
    x = torch.cat((x, layer.noise.weight * features), dim=1)
    return fused_leaky_relu(x, layer.activate.bias)


def to_rgb(layer: ToRGB, x: Tensor, w: Tensor, coarser: Tensor | None) -> Tensor:
    image = modulated_conv(layer.conv, x, w) + layer.bias
    if coarser is None or layer.upsample is None:
        return image
    return image + upfirdn(coarser, layer.upsample.kernel, up=2, pad=(2, 1))


def modulated_conv(layer: ModulatedConv2d, x: Tensor, w: Tensor) -> Tensor:
    faces, num_in, height, width = x.shape
    style = layer.modulation(w).view(faces, 1, num_in, 1, 1)
    kernels = layer.scale * layer.weight * style  # (N, C', C, k, k)
    if layer.demodulate:
        kernels = kernels * torch.rsqrt(kernels.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
    num_out, size = kernels.shape[1], kernels.shape[-1]
    x = x.reshape(1, faces * num_in, height, width)
    if layer.blur is None:
        kernels = kernels.view(faces * num_out, num_in, size, size)
        return F.conv2d(x, kernels, padding=layer.pad_px, groups=faces).view(faces, num_out, height, width)
    kernels = kernels.transpose(1, 2).reshape(faces * num_in, num_out, size, size)
    x = F.conv_transpose2d(x, kernels, stride=2, groups=faces)
    return upfirdn(x.view(faces, num_out, *x.shape[2:]), layer.blur.kernel, up=1, pad=(1, 1))


def fused_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    bias = bias.view(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x + bias, negative_slope=0.2) * math.sqrt(2)


def upfirdn(x: Tensor, kernel: Tensor, *, up: int, pad: tuple[int, int]) -> Tensor:
    """Zeros between the pixels and around them, then the filter, on each channel as a picture of its own."""
    faces, channels, height, width = x.shape
    x = x.reshape(-1, height, 1, width, 1, 1)
    x = F.pad(x, [0, 0, 0, up - 1, 0, 0, 0, up - 1]).view(-1, height * up, width * up, 1)
    x = F.pad(x, [0, 0, *pad, *pad]).permute(0, 3, 1, 2)
    x = F.conv2d(x, kernel.flip(0, 1)[None, None])
    return x.reshape(faces, channels, *x.shape[2:])
