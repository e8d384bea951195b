"""3 x 3 convolutions on a CPU with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3).

A tile of 6 x 6 inputs is transformed, multiplied with the transformed kernel position by position, and transformed back
to 4 x 4 outputs: 36 multiplications for 144. The 36 positions of many tiles are 36 matrix products over the channels
(products.py); the transforms around them only add. What surrounds the convolution in GPEN is done by the transforms as
they pass: the style on the way in; demodulation, bias, leaky ReLU and the encoder's features beside the result on the
way out. A transposed convolution with the blur behind it is four convolutions of this kind, their results interleaved.

Tiles go strip by strip, so that what lies between the transforms stays in the cache, and every thread has strips of its
own. The loops are compiled by numba when first used (and kept on disk).

Sources: Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR 2016 (arXiv:1509.09308), whose points 0, 1, -1, 2, -2 and infinity these are.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import numpy as np
import torch
from torch import Tensor

from vidrestore.models.gpen import BLUR_TAPS, LEAKY_SLOPE
from vidrestore.models.products import (
    WIDE_COLUMNS,
    Array,
    as_array,
    block_of,
    compiled,
    multiply,
    number,
    packed,
    stored,
)

TILE_PX = 4
"""Side of a tile's output."""
POSITIONS = 36
STRIP_BYTES = 4 * 2**20
"""Of transformed tiles and products at a time. From 0.5 to 8 MB it makes a difference of 5%."""
MAX_THREADS = 1024
"""More than any machine's cores: a thread begins when there is work for it and no other idle."""
KERNEL_TRANSFORM = (
    torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
)
"""(6, 3), Lavin and Gray's G."""


def transformed_kernel(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    """(C', C, 3, 3) -> what `styled_conv` multiplies with, in float32 or bfloat16."""
    sides = KERNEL_TRANSFORM.to(kernel.device)
    turned = torch.einsum("ik,jl,ockl->ijco", sides, sides, kernel.double())
    return packed(turned.flatten(0, 1).float(), dtype)


def upsampling_kernels(kernel: Tensor) -> Tensor:
    """Kernel (C', C, 3, 3) of a transposed convolution with stride 2, then blurred -> (4 C', C, 3, 3) of plain ones.

    They make the pixels of even rows and columns, of even rows and odd columns, of odd rows and even columns, and the
    rest. Along one axis the kernel (3 taps) and the blur (4 taps, summing to 2) are one kernel of 6 taps; of these each
    pixel meets every second, since x is spread out with zeros between.
    """
    blur = torch.tensor(BLUR_TAPS, dtype=torch.float64) * 2 / sum(BLUR_TAPS)
    taps = torch.zeros(2, 3, 3, dtype=torch.float64)  # (odd, tap of the plain kernel, tap of the given one)
    for given in range(3):
        for k in range(4):
            shift = given + 1 - k  # y[j] takes x[i] where j - 2 i is this
            odd = shift % 2
            taps[odd, 1 - (shift - odd) // 2, given] += blur[k]
    kernels = torch.einsum("pak,qbl,ockl->pqocab", taps, taps, kernel.double())
    return kernels.flatten(0, 2).to(kernel.dtype)


def styled_conv(
    x: Tensor,
    kernel: Tensor,
    style: Tensor,
    demodulation: Tensor,
    bias: Tensor,
    features: Tensor,
    feature_gain: Tensor,
    feature_bias: Tensor,
) -> Tensor:
    """leaky(conv(x * style) * demodulation + bias), and beside it leaky(features * feature_gain + feature_bias).

    x (1, C, H, W) channels_last, kernel from `transformed_kernel`, style (C,), demodulation, bias and feature_bias
    (C',), features (1, C', H', W') channels_last, feature_gain (1,) -> (1, 2 C', H', W') channels_last like x. On the
    CPU, float32 or bfloat16; H and W multiples of 4; zero padding of 1. H' and W' are H and W, or twice that where the
    kernel is of `upsampling_kernels`.
    """
    _, num_in, height_px, width_px = x.shape
    num_out = len(bias)
    shape = (1, 2 * num_out, *features.shape[2:])
    output = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    source, beside, target = (in_pixels(tensor) for tensor in (x, features, output))
    style_, scale, offset, feature_offset = (
        as_array(tensor.contiguous().float()) for tensor in (style, demodulation, bias, feature_bias)
    )
    matrices = as_array(kernel)
    num_columns = matrices.shape[1] * matrices.shape[3]
    block = block_of(num_columns)
    assert block is not None, "transformed_kernel has made blocks"
    gain = np.float32(feature_gain.item())
    rows, columns = height_px // TILE_PX, width_px // TILE_PX
    strip_rows = max(1, STRIP_BYTES // (POSITIONS * columns * (num_in + num_columns) * 4))
    strip_rows = min(strip_rows, -(-rows // torch.get_num_threads()))
    max_tiles = padded(strip_rows * columns, block[0])

    def run(strips: Iterable[int]) -> None:
        tiles = np.zeros(POSITIONS * max_tiles * num_in, matrices.dtype)
        products = np.empty(POSITIONS * max_tiles * num_columns, np.float32)
        for first in strips:
            count = min(strip_rows, rows - first) * columns
            size = padded(count, block[0])
            tiles_ = tiles[: POSITIONS * size * num_in].reshape(POSITIONS, size, num_in)
            products_ = products[: POSITIONS * size * num_columns].reshape(POSITIONS, size, num_columns)
            transform_in(source, style_, first, count, tiles_)
            multiply(tiles_, matrices, products_)
            transform_out(products_, scale, offset, beside, gain, feature_offset, first, count, target)

    in_threads(run, range(0, rows, strip_rows))
    return output


def padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def in_pixels(x: Tensor) -> Array:
    """(1, C, H, W) channels_last -> its memory as (H, W, C)."""
    return as_array(x[0].permute(1, 2, 0).contiguous())


def in_threads(run: Callable[[Iterable[int]], None], strips: Iterable[int]) -> None:
    """Call `run` in as many threads as PyTorch uses, each with strips taken from a common store."""
    num_threads = torch.get_num_threads()
    store, lock = iter(strips), threading.Lock()

    def take() -> Iterable[int]:
        while True:
            with lock:
                strip = next(store, None)
            if strip is None:
                return
            yield strip

    if num_threads == 1:
        run(take())
        return
    done = [workers(os.getpid()).submit(run, take()) for _ in range(num_threads)]
    wait(done)  # also where one has failed: the others write into what the caller lets go
    for one in done:
        one.result()


@cache
def workers(_pid: int) -> ThreadPoolExecutor:
    """Shared by all faces that are restored at once: each asks for no more than its share. Of this process: a fork has
    none of its parent's threads."""
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="winograd")


def try_out(dtype: torch.dtype) -> None:
    """Compile all loops and run them once. Raises what numba raises, on a full disk or where it is told not to work."""
    for upsamples in (False, True):
        kernel = torch.zeros(WIDE_COLUMNS, 2, 3, 3)
        features = torch.zeros(1, WIDE_COLUMNS, 8 if upsamples else 4, 8 if upsamples else 4, dtype=dtype)
        x, vector = torch.zeros(1, 2, 4, 4, dtype=dtype), torch.zeros(WIDE_COLUMNS)
        kernel = transformed_kernel(upsampling_kernels(kernel) if upsamples else kernel, dtype)
        styled_conv(x, kernel, torch.zeros(2), vector, vector, features, torch.zeros(1), vector)


@compiled
def transform_in(x: Array, style: Array, first_row: int, count: int, tiles: Array) -> None:
    """x (H, W, C), zero outside -> tiles (36, count or more, C): B^T (x * style) B of Lavin and Gray, rows of tiles."""
    height, width, channels = x.shape
    columns = width // 4
    patch = np.zeros((6, 6, channels), x.dtype)
    half = np.empty((6, 6, channels), np.float32)
    two, four, five = np.float32(2), np.float32(4), np.float32(5)
    for tile in range(count):
        top = (first_row + tile // columns) * 4 - 1
        left = tile % columns * 4 - 1
        source, row, column = x, top, left
        if top < 0 or left < 0 or top + 6 > height or left + 6 > width:
            for i in range(6):
                for j in range(6):
                    is_inside = 0 <= top + i < height and 0 <= left + j < width
                    for c in range(channels):
                        if is_inside:
                            patch[i, j, c] = x[top + i, left + j, c]
                        else:
                            patch[i, j, c] = 0
            source, row, column = patch, 0, 0
        # Rows of channels are taken out first: numba then knows that nothing is out of bounds, and vectorises.
        for j in range(6):
            r0, r1, r2 = source[row, column + j], source[row + 1, column + j], source[row + 2, column + j]
            r3, r4, r5 = source[row + 3, column + j], source[row + 4, column + j], source[row + 5, column + j]
            h0, h1, h2, h3, h4, h5 = half[0, j], half[1, j], half[2, j], half[3, j], half[4, j], half[5, j]
            for c in range(channels):
                s = style[c]
                x0, x1, x2 = number(r0[c]) * s, number(r1[c]) * s, number(r2[c]) * s
                x3, x4, x5 = number(r3[c]) * s, number(r4[c]) * s, number(r5[c]) * s
                even, odd = x4 - four * x2, x3 - four * x1
                even2, odd2 = x4 - x2, two * (x3 - x1)
                h0[c] = four * x0 - five * x2 + x4
                h1[c] = even + odd
                h2[c] = even - odd
                h3[c] = even2 + odd2
                h4[c] = even2 - odd2
                h5[c] = four * x1 - five * x3 + x5
        for i in range(6):
            h0, h1, h2, h3, h4, h5 = half[i, 0], half[i, 1], half[i, 2], half[i, 3], half[i, 4], half[i, 5]
            t0, t1, t2 = tiles[6 * i, tile], tiles[6 * i + 1, tile], tiles[6 * i + 2, tile]
            t3, t4, t5 = tiles[6 * i + 3, tile], tiles[6 * i + 4, tile], tiles[6 * i + 5, tile]
            for c in range(channels):
                x0, x1, x2, x3, x4, x5 = h0[c], h1[c], h2[c], h3[c], h4[c], h5[c]
                even, odd = x4 - four * x2, x3 - four * x1
                even2, odd2 = x4 - x2, two * (x3 - x1)
                t0[c] = stored(four * x0 - five * x2 + x4, tiles)
                t1[c] = stored(even + odd, tiles)
                t2[c] = stored(even - odd, tiles)
                t3[c] = stored(even2 + odd2, tiles)
                t4[c] = stored(even2 - odd2, tiles)
                t5[c] = stored(four * x1 - five * x3 + x5, tiles)


@compiled
def transform_out(
    products: Array,
    scale: Array,
    offset: Array,
    features: Array,
    feature_gain: np.float32,
    feature_offset: Array,
    first_row: int,
    count: int,
    output: Array,
) -> None:
    """products (36, count or more, C' or 4 C') -> output (H', W', 2 C'): A^T products A and the features, activated."""
    channels = len(scale)
    step = 1 if products.shape[2] == channels else 2
    columns = output.shape[1] // (4 * step)
    half = np.empty((4, 6, channels), np.float32)
    two, four, eight, slope = np.float32(2), np.float32(4), np.float32(8), np.float32(LEAKY_SLOPE)
    for tile in range(count):
        top, left = (first_row + tile // columns) * 4 * step, tile % columns * 4 * step
        for phase in range(step * step):
            row, column, first = top + phase // step, left + phase % step, phase * channels
            last = first + channels
            for j in range(6):
                p0, p1, p2 = (
                    products[j, tile, first:last],
                    products[6 + j, tile, first:last],
                    products[12 + j, tile, first:last],
                )
                p3, p4, p5 = (
                    products[18 + j, tile, first:last],
                    products[24 + j, tile, first:last],
                    products[30 + j, tile, first:last],
                )
                h0, h1, h2, h3 = half[0, j], half[1, j], half[2, j], half[3, j]
                for c in range(channels):
                    x0, x1, x2, x3, x4, x5 = p0[c], p1[c], p2[c], p3[c], p4[c], p5[c]
                    sum1, difference1, sum2, difference2 = x1 + x2, x1 - x2, x3 + x4, x3 - x4
                    h0[c] = x0 + sum1 + sum2
                    h1[c] = difference1 + two * difference2
                    h2[c] = sum1 + four * sum2
                    h3[c] = difference1 + eight * difference2 + x5
            for i in range(4):
                g0, g1, g2, g3, g4, g5 = half[i, 0], half[i, 1], half[i, 2], half[i, 3], half[i, 4], half[i, 5]
                o0, o1 = output[row + i * step, column], output[row + i * step, column + step]
                o2, o3 = output[row + i * step, column + 2 * step], output[row + i * step, column + 3 * step]
                for c in range(channels):
                    x0, x1, x2, x3, x4, x5 = g0[c], g1[c], g2[c], g3[c], g4[c], g5[c]
                    sum1, difference1, sum2, difference2 = x1 + x2, x1 - x2, x3 + x4, x3 - x4
                    y0 = (x0 + sum1 + sum2) * scale[c] + offset[c]
                    y1 = (difference1 + two * difference2) * scale[c] + offset[c]
                    y2 = (sum1 + four * sum2) * scale[c] + offset[c]
                    y3 = (difference1 + eight * difference2 + x5) * scale[c] + offset[c]
                    o0[c] = stored(max(y0, slope * y0), output)
                    o1[c] = stored(max(y1, slope * y1), output)
                    o2[c] = stored(max(y2, slope * y2), output)
                    o3[c] = stored(max(y3, slope * y3), output)
                for j in range(4):
                    beside = output[row + i * step, column + j * step, channels:]
                    pixel = features[row + i * step, column + j * step]
                    for c in range(channels):
                        f = number(pixel[c]) * feature_gain + feature_offset[c]
                        beside[c] = stored(max(f, slope * f), output)
