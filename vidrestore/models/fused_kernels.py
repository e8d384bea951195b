"""What runs between the convolutions of GPEN on a GPU: one pass over the pictures each, written in Triton.

A convolution of GPEN is followed by a filter, a scale, a bias, a leaky ReLU, a concatenation and the scale of the next
one. As PyTorch operations each reads and writes the picture once more, and that takes longer than the convolution.
Pictures are (N, C, H, W) in channels_last; scales and biases are float32, as is all that is computed here.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from vidrestore.models.gpen import LEAKY_SLOPE

SLOPE = tl.constexpr(LEAKY_SLOPE)
TILE_ELEMENTS = 1024
"""Per program and step: 16 bytes of float16 for each of 128 threads, the widest load that there is."""
BLOCK_CHANNELS = 64
"""128 bytes of float16: a line of the cache."""
BLOCK_ROWS = 8
"""Rows that one program filters: the three more that it reads for them are mostly in the cache."""
COMPILED = {"enable_fp_fusion": True}
"""Multiply and add in one; said because Triton warns that its default is going to change."""


class Scaled(NamedTuple):
    """What a convolution's result goes through on its way to the next one; all float32."""

    gain: Tensor
    """(N, C): demodulation. Its rows may lie apart."""
    bias: Tensor
    """(C,)"""
    encoder_bias: Tensor
    """(C,): the features come as the encoder's convolution left them, without bias and activation."""
    feature_gain: Tensor
    """(1,)"""
    feature_bias: Tensor
    """(C,)"""
    next_style: Tensor | None
    """(N, 2 C): what the next convolution's input is to be multiplied with; None after the last."""


class ToImage(NamedTuple):
    """The sum of the RGB images; all float32."""

    kernel: Tensor
    """(3, 2 C)"""
    style: Tensor
    """(N, 2 C). Its rows may lie apart."""
    bias: Tensor
    """(3,)"""
    coarser: Tensor | None
    """(N, 3, H / 2, W / 2), contiguous."""


def from_rgb(picture: Tensor, kernel: Tensor, dtype: torch.dtype) -> Tensor:
    """A 1 x 1 convolution of (N, 3, H, W) with (C, 3) -> (N, C, H, W) in `dtype`, without bias."""
    if picture.stride(2) != picture.shape[3] * picture.stride(3):
        picture = picture.contiguous()
    faces, _, height, width = picture.shape
    out = empty_picture(faces, len(kernel), height, width, dtype, picture.device)
    block_c, block_p = blocks(len(kernel), height * width)
    grid = (triton.cdiv(height * width, block_p), triton.cdiv(len(kernel), block_c), faces)
    strides = (picture.stride(0), picture.stride(1), picture.stride(3))
    sizes = (len(kernel), height * width)
    from_rgb_kernel[grid](picture, kernel, out, *strides, *sizes, BLOCK_P=block_p, BLOCK_C=block_c, **COMPILED)
    return out


def blurred(picture: Tensor, bias: Tensor) -> Tensor:
    """(N, C, H, W) as a convolution left it -> bias, leaky ReLU, low-pass filter: (N, C, H + 1, W + 1)."""
    picture = picture.contiguous(memory_format=torch.channels_last)
    faces, channels, height, width = picture.shape
    out = empty_picture(faces, channels, height + 1, width + 1, picture.dtype, picture.device)
    block_c, block_x = blocks(channels, width + 1)
    columns, rows = triton.cdiv(width + 1, block_x), triton.cdiv(height + 1, BLOCK_ROWS)
    blurred_kernel[columns * rows, triton.cdiv(channels, block_c), faces](
        picture, bias, out, channels, height, width, ROWS=BLOCK_ROWS, BLOCK_X=block_x, BLOCK_C=block_c, **COMPILED
    )
    return out


def upsampled(conv: Tensor, features: Tensor, scaled: Scaled) -> Tensor:
    """The low-pass filter after a transposed convolution, activation and concatenation -> (N, 2 C, H, W).

    `conv` is (N, C, H + 1, W + 1), or with every second row and column in channels of their own, (N, 4 C, H / 2 + 1,
    W / 2 + 1).
    """
    assert scaled.next_style is not None, "an upsampling layer is never the last"
    conv = conv.contiguous(memory_format=torch.channels_last)
    features = features.contiguous(memory_format=torch.channels_last)
    faces, channels, height, width = features.shape
    out = empty_picture(faces, 2 * channels, height, width, conv.dtype, conv.device)
    block_c, block_x = blocks(channels, width)
    columns, rows = triton.cdiv(width, block_x), triton.cdiv(height, BLOCK_ROWS)
    upsampled_kernel[columns * rows, triton.cdiv(channels, block_c), faces](
        conv,
        features,
        *scaled,
        out,
        scaled.gain.stride(0),
        scaled.next_style.stride(0),
        channels,
        height,
        width,
        PHASES=conv.shape[1] != channels,
        ROWS=BLOCK_ROWS,
        BLOCK_X=block_x,
        BLOCK_C=block_c,
        **COMPILED,
    )
    return out


def styled(
    conv: Tensor, features: Tensor, scaled: Scaled, to_image: ToImage | None
) -> tuple[Tensor | None, Tensor | None]:
    """Activation and concatenation -> (N, 2 C, H, W), if there is a next style, and the RGB image (N, 3, H, W).

    `conv` is (N, C, H, W), or with every second row and column in channels of their own, (N, 4 C, H / 2, W / 2).
    """
    conv = conv.contiguous(memory_format=torch.channels_last)
    features = features.contiguous(memory_format=torch.channels_last)
    faces, channels, height, width = features.shape
    out = image = None
    if scaled.next_style is not None:
        out = empty_picture(faces, 2 * channels, height, width, conv.dtype, conv.device)
    if to_image is not None:
        image = torch.empty(faces, 3, height, width, dtype=torch.float32, device=conv.device)
    coarser = None if to_image is None else to_image.coarser
    block_c, block_p = blocks(channels, height * width)
    nothing = scaled.gain  # an address where none is used
    styled_kernel[triton.cdiv(height * width, block_p), faces](
        conv,
        features,
        *scaled[:-1],
        nothing if scaled.next_style is None else scaled.next_style,
        nothing if out is None else out,
        *((nothing, nothing, nothing) if to_image is None else to_image[:-1]),
        nothing if coarser is None else coarser,
        nothing if image is None else image,
        scaled.gain.stride(0),
        0 if scaled.next_style is None else scaled.next_style.stride(0),
        0 if to_image is None else to_image.style.stride(0),
        channels,
        height,
        width,
        PHASES=conv.shape[1] != channels,
        HAS_OUT=out is not None,
        HAS_IMAGE=image is not None,
        HAS_COARSER=coarser is not None,
        BLOCKS_C=triton.cdiv(channels, block_c),
        BLOCK_P=block_p,
        BLOCK_C=block_c,
        **COMPILED,
    )
    return out, image


def empty_picture(
    faces: int, channels: int, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Channels_last."""
    shape = (faces, channels, height, width)
    return torch.empty(shape, dtype=dtype, device=device, memory_format=torch.channels_last)


def blocks(channels: int, pixels: int) -> tuple[int, int]:
    """Channels and pixels of one tile, powers of two."""
    block_c = min(triton.next_power_of_2(channels), BLOCK_CHANNELS)
    return block_c, min(triton.next_power_of_2(pixels), max(TILE_ELEMENTS // block_c, 1))


# ---- Kernels. A face's offset is in 64 bits: 16 faces of 2048 px have more elements than 32 bits can count.


@triton.jit
def leaky(x):
    return tl.where(x >= 0, x, x * SLOPE)


@triton.jit
def from_rgb_kernel(
    picture, kernel, out, face_stride, color_stride, pixel_stride, channels, pixels,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    face = tl.program_id(2).to(tl.int64)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros((BLOCK_P, BLOCK_C), dtype=tl.float32)
    for color in tl.static_range(3):
        level = tl.load(picture + face * face_stride + color * color_stride + p * pixel_stride, p < pixels, 0.0)
        weight = tl.load(kernel + c * 3 + color, c < channels, 0.0)
        total += level.to(tl.float32)[:, None] * weight[None, :]
    mask = (p < pixels)[:, None] & (c < channels)[None, :]
    tl.store(out + face * pixels * channels + p[:, None] * channels + c[None, :], total, mask)


@triton.jit
def activated(picture, bias, y, x, c, channels, height, width):
    """Of one row; zero outside of the picture."""
    mask = ((x >= 0) & (x < width) & (y >= 0) & (y < height))[:, None] & (c < channels)[None, :]
    value = tl.load(picture + (y * width + x)[:, None] * channels + c[None, :], mask, 0.0).to(tl.float32)
    return tl.where(mask, leaky(value + bias[None, :]), 0.0)


@triton.jit
def blurred_kernel(
    picture, bias, out, channels, height, width, ROWS: tl.constexpr, BLOCK_X: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Rows are filtered along x as they come; the last four, in registers, are filtered along y."""
    columns = tl.cdiv(width + 1, BLOCK_X)
    first = (tl.program_id(0) // columns) * ROWS + tl.zeros((BLOCK_X,), dtype=tl.int32)
    x = (tl.program_id(0) % columns) * BLOCK_X + tl.arange(0, BLOCK_X)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    face = tl.program_id(2).to(tl.int64)
    picture += face * height * width * channels
    out += face * (height + 1) * (width + 1) * channels
    b = tl.load(bias + c, c < channels, 0.0)

    row0 = tl.zeros((BLOCK_X, BLOCK_C), dtype=tl.float32)
    row1 = row0
    row2 = row0
    for step in tl.static_range(ROWS + 3):
        y = first + step - 2
        outer = activated(picture, b, y, x - 2, c, channels, height, width)
        outer += activated(picture, b, y, x + 1, c, channels, height, width)
        inner = activated(picture, b, y, x - 1, c, channels, height, width)
        inner += activated(picture, b, y, x, c, channels, height, width)
        row3 = outer * 0.125 + inner * 0.375
        if step >= 3:
            total = (row0 + row3) * 0.125 + (row1 + row2) * 0.375
            mask = ((x <= width) & (y <= height + 1))[:, None] & (c < channels)[None, :]
            tl.store(out + ((y - 1) * (width + 1) + x)[:, None] * channels + c[None, :], total, mask)
        row0 = row1
        row1 = row2
        row2 = row3


@triton.jit
def doubled(conv, y, x, c, channels, height, width, PHASES: tl.constexpr):
    """Of one row of a transposed convolution's result, (height + 1, width + 1); zero outside."""
    mask = ((x >= 0) & (x <= width) & (y >= 0) & (y <= height))[:, None] & (c < channels)[None, :]
    if PHASES:
        pixel = ((y // 2) * (width // 2 + 1) + x // 2) * 4 + (y % 2) * 2 + x % 2
    else:
        pixel = y * (width + 1) + x
    return tl.load(conv + pixel[:, None] * channels + c[None, :], mask, 0.0).to(tl.float32)


@triton.jit
def upsampled_kernel(
    conv, features, gain, bias, encoder_bias, feature_gain, feature_bias, next_style, out,
    gain_stride, next_stride, channels, height, width,
    PHASES: tl.constexpr, ROWS: tl.constexpr, BLOCK_X: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """As `blurred_kernel`, and what follows it."""
    columns = tl.cdiv(width, BLOCK_X)
    first = (tl.program_id(0) // columns) * ROWS + tl.zeros((BLOCK_X,), dtype=tl.int32)
    x = (tl.program_id(0) % columns) * BLOCK_X + tl.arange(0, BLOCK_X)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    face = tl.program_id(2).to(tl.int64)
    in_channels = c < channels
    if PHASES:
        conv += face * (height // 2 + 1) * (width // 2 + 1) * 4 * channels
    else:
        conv += face * (height + 1) * (width + 1) * channels
    features += face * height * width * channels
    out += face * height * width * channels * 2
    own_gain = tl.load(gain + face * gain_stride + c, in_channels, 0.0)
    own_bias = tl.load(bias + c, in_channels, 0.0)
    e_bias = tl.load(encoder_bias + c, in_channels, 0.0)
    f_bias = tl.load(feature_bias + c, in_channels, 0.0)
    f_gain = tl.load(feature_gain)
    own_next = tl.load(next_style + face * next_stride + c, in_channels, 0.0)
    f_next = tl.load(next_style + face * next_stride + channels + c, in_channels, 0.0)

    row0 = tl.zeros((BLOCK_X, BLOCK_C), dtype=tl.float32)
    row1 = row0
    row2 = row0
    for step in tl.static_range(ROWS + 3):
        y = first + step - 1
        outer = doubled(conv, y, x - 1, c, channels, height, width, PHASES)
        outer += doubled(conv, y, x + 2, c, channels, height, width, PHASES)
        inner = doubled(conv, y, x, c, channels, height, width, PHASES)
        inner += doubled(conv, y, x + 1, c, channels, height, width, PHASES)
        row3 = outer * 0.25 + inner * 0.75
        if step >= 3:
            own = (row0 + row3) * 0.25 + (row1 + row2) * 0.75
            own = leaky(own * own_gain[None, :] + own_bias[None, :])
            pixel = ((y - 2) * width + x)[:, None]
            mask = ((x < width) & (y - 2 < height))[:, None] & in_channels[None, :]
            feature = tl.load(features + pixel * channels + c[None, :], mask, 0.0).to(tl.float32)
            feature = leaky(leaky(feature + e_bias[None, :]) * f_gain + f_bias[None, :])
            tl.store(out + pixel * channels * 2 + c[None, :], own * own_next[None, :], mask)
            tl.store(out + pixel * channels * 2 + channels + c[None, :], feature * f_next[None, :], mask)
        row0 = row1
        row1 = row2
        row2 = row3


@triton.jit
def doubled_color(coarser, y, x, mask, height, width):
    """Linear interpolation between an image's pixels at twice the resolution, with zeros around it."""
    top = (y + 1) // 2 - 1
    left = (x + 1) // 2 - 1
    bottom_weight = tl.where(y % 2 == 0, 0.75, 0.25)
    right_weight = tl.where(x % 2 == 0, 0.75, 0.25)
    total = tl.zeros_like(bottom_weight)
    for i in tl.static_range(2):
        for j in tl.static_range(2):
            row = top + i
            column = left + j
            inside = mask & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            level = tl.load(coarser + row * width + column, inside, 0.0)
            weight_y = bottom_weight if i == 1 else 1.0 - bottom_weight
            weight_x = right_weight if j == 1 else 1.0 - right_weight
            total += level * weight_y * weight_x
    return total


@triton.jit
def styled_kernel(
    conv, features, gain, bias, encoder_bias, feature_gain, feature_bias, next_style, out,
    rgb_kernel, rgb_style, rgb_bias, coarser, image,
    gain_stride, next_stride, rgb_stride, channels, height, width,
    PHASES: tl.constexpr, HAS_OUT: tl.constexpr, HAS_IMAGE: tl.constexpr, HAS_COARSER: tl.constexpr,
    BLOCKS_C: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """All channels of a few pixels, so that they can be summed up to RGB on the way."""
    face = tl.program_id(1).to(tl.int64)
    pixels = height * width
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    y = p // width
    x = p % width
    in_picture = p < pixels
    conv += face * pixels * channels
    features += face * pixels * channels
    out += face * pixels * channels * 2
    f_gain = tl.load(feature_gain)
    red = tl.zeros((BLOCK_P,), dtype=tl.float32)
    green = red
    blue = red
    for block in range(BLOCKS_C):
        c = block * BLOCK_C + tl.arange(0, BLOCK_C)
        in_channels = c < channels
        mask = in_picture[:, None] & in_channels[None, :]
        if PHASES:
            conv_pixel = ((y // 2) * (width // 2) + x // 2) * 4 + (y % 2) * 2 + x % 2
        else:
            conv_pixel = p
        own = tl.load(conv + conv_pixel[:, None] * channels + c[None, :], mask, 0.0).to(tl.float32)
        own_gain = tl.load(gain + face * gain_stride + c, in_channels, 0.0)
        own_bias = tl.load(bias + c, in_channels, 0.0)
        own = leaky(own * own_gain[None, :] + own_bias[None, :])
        feature = tl.load(features + p[:, None] * channels + c[None, :], mask, 0.0).to(tl.float32)
        e_bias = tl.load(encoder_bias + c, in_channels, 0.0)
        f_bias = tl.load(feature_bias + c, in_channels, 0.0)
        feature = leaky(leaky(feature + e_bias[None, :]) * f_gain + f_bias[None, :])
        if HAS_IMAGE:
            own_style = tl.load(rgb_style + face * rgb_stride + c, in_channels, 0.0)
            f_style = tl.load(rgb_style + face * rgb_stride + channels + c, in_channels, 0.0)
            own_red = tl.load(rgb_kernel + c, in_channels, 0.0) * own_style
            f_red = tl.load(rgb_kernel + channels + c, in_channels, 0.0) * f_style
            red += tl.sum(own * own_red[None, :] + feature * f_red[None, :], axis=1)
            own_green = tl.load(rgb_kernel + 2 * channels + c, in_channels, 0.0) * own_style
            f_green = tl.load(rgb_kernel + 3 * channels + c, in_channels, 0.0) * f_style
            green += tl.sum(own * own_green[None, :] + feature * f_green[None, :], axis=1)
            own_blue = tl.load(rgb_kernel + 4 * channels + c, in_channels, 0.0) * own_style
            f_blue = tl.load(rgb_kernel + 5 * channels + c, in_channels, 0.0) * f_style
            blue += tl.sum(own * own_blue[None, :] + feature * f_blue[None, :], axis=1)
        if HAS_OUT:
            own_next = tl.load(next_style + face * next_stride + c, in_channels, 0.0)
            f_next = tl.load(next_style + face * next_stride + channels + c, in_channels, 0.0)
            at = p[:, None] * channels * 2 + c[None, :]
            tl.store(out + at, own * own_next[None, :], mask)
            tl.store(out + at + channels, feature * f_next[None, :], mask)
    if HAS_IMAGE:
        image += face * pixels * 3
        red += tl.load(rgb_bias)
        green += tl.load(rgb_bias + 1)
        blue += tl.load(rgb_bias + 2)
        if HAS_COARSER:
            quarter = (height // 2) * (width // 2)
            coarser += face * quarter * 3
            red += doubled_color(coarser, y, x, in_picture, height // 2, width // 2)
            green += doubled_color(coarser + quarter, y, x, in_picture, height // 2, width // 2)
            blue += doubled_color(coarser + 2 * quarter, y, x, in_picture, height // 2, width // 2)
        tl.store(image + p, red, in_picture)
        tl.store(image + pixels + p, green, in_picture)
        tl.store(image + 2 * pixels + p, blue, in_picture)
