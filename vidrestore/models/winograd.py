"""3 x 3 convolutions on a CPU with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3).

A tile of 6 x 6 inputs is transformed, multiplied with the transformed kernel position by position, and transformed back
to 4 x 4 outputs: 36 multiplications for 144. The 36 positions of many tiles are 36 matrix products over the channels;
the transforms around them only add. What surrounds the convolution in GPEN is done by the transforms as they pass: the
style on the way in; demodulation, bias, leaky ReLU and the encoder's features beside the result on the way out.

Tiles go strip by strip, so that what lies between the transforms stays in the cache, and every thread has strips of its
own. The loops are compiled by numba when first used (and kept on disk).

Sources: Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR 2016 (arXiv:1509.09308), whose points 0, 1, -1, 2, -2 and infinity these are.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrestore.models.gpen import LEAKY_SLOPE

Array = NDArray[np.float32]

TILE_PX = 4
"""Side of a tile's output."""
POSITIONS = 36
STRIP_BYTES = 4 * 2**20
"""Of transformed tiles at a time. From 2 to 8 MB it makes no difference; with 0.5 MB products are too small (a fifth
slower), with 32 MB the cache is too."""
KERNEL_TRANSFORM = (
    torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
)
"""(6, 3), Lavin and Gray's G."""


def compiled(loops: Callable[..., None]) -> Callable[..., None]:
    """By numba, to run without holding Python's lock."""
    try:
        return numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)(loops)
    except RuntimeError:  # no folder can be written to: compile anew each time
        return numba.njit(nogil=True, fastmath=True, error_model="numpy")(loops)


def transformed_kernel(kernel: Tensor) -> Tensor:
    """(C', C, 3, 3) -> (36, C, C') float32."""
    sides = KERNEL_TRANSFORM.to(kernel.device)
    turned = torch.einsum("ik,jl,ockl->ijco", sides, sides, kernel.double())
    return turned.flatten(0, 1).float().contiguous()


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

    x (1, C, H, W) channels_last, kernel (36, C, C') from `transformed_kernel`, style (C,), demodulation, bias and
    feature_bias (C',), features (1, C', H, W) channels_last, feature_gain (1,) -> (1, 2 C', H, W) channels_last. All
    float32 on the CPU; H and W multiples of 4; zero padding of 1.
    """
    _, num_in, height_px, width_px = x.shape
    num_out = kernel.shape[2]
    output = torch.empty(1, 2 * num_out, height_px, width_px, memory_format=torch.channels_last)
    source, beside, target = (in_pixels(tensor) for tensor in (x, features, output))
    style_, scale, offset, feature_offset = (
        tensor.contiguous().numpy() for tensor in (style, demodulation, bias, feature_bias)
    )
    gain = np.float32(feature_gain.item())
    rows, columns = height_px // TILE_PX, width_px // TILE_PX
    strip_rows = max(1, STRIP_BYTES // (POSITIONS * columns * (num_in + num_out) * 4))
    strip_rows = min(strip_rows, -(-rows // torch.get_num_threads()))

    def run(strips: Iterable[int]) -> None:
        tiles = torch.empty(POSITIONS * strip_rows * columns * num_in)
        products = torch.empty(POSITIONS * strip_rows * columns * num_out)
        for first in strips:
            count = min(strip_rows, rows - first)
            tiles_ = tiles[: POSITIONS * count * columns * num_in].view(POSITIONS, -1, num_in)
            products_ = products[: POSITIONS * count * columns * num_out].view(POSITIONS, -1, num_out)
            transform_in(source, style_, first, tiles_.numpy())
            torch.bmm(tiles_, kernel, out=products_)
            transform_out(products_.numpy(), scale, offset, beside, gain, feature_offset, first, target)

    in_threads(run, range(0, rows, strip_rows))
    return output


def in_pixels(x: Tensor) -> Array:
    """(1, C, H, W) channels_last -> its memory as (H, W, C)."""
    return x[0].permute(1, 2, 0).contiguous().numpy()


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
    for done in [workers(num_threads, os.getpid()).submit(run, take()) for _ in range(num_threads)]:
        done.result()


@cache
def workers(num_threads: int, _pid: int) -> ThreadPoolExecutor:
    """Threads that run PyTorch's own operations alone. Of this process: a fork has none of its parent's threads."""
    barrier = threading.Barrier(num_threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # PyTorch sets a thread up when it is first asked; what is set before would be lost
        torch.set_num_threads(1)
        barrier.wait()

    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="winograd")
    try:
        for _ in range(num_threads):
            pool.submit(begin)
        barrier.wait()
    except BaseException:  # no more threads, or Ctrl-C: those that wait would be waited for at exit
        barrier.abort()
        raise
    # The number set last is what threads to come begin with, too; in this thread it never changed.
    torch.set_num_threads(num_threads)
    return pool


@compiled
def transform_in(x: Array, style: Array, first_row: int, tiles: Array) -> None:
    """x (H, W, C), zero outside -> tiles (36, rows * W / 4, C): B^T (x * style) B of Lavin and Gray, rows of tiles."""
    height, width, channels = x.shape
    columns = width // 4
    patch = np.zeros((6, 6, channels), np.float32)
    half = np.empty((6, 6, channels), np.float32)
    two, four, five = np.float32(2), np.float32(4), np.float32(5)
    for number in range(tiles.shape[1]):
        top = (first_row + number // columns) * 4 - 1
        left = number % columns * 4 - 1
        source, row, column = x, top, left
        if top < 0 or left < 0 or top + 6 > height or left + 6 > width:
            for i in range(6):
                for j in range(6):
                    is_inside = 0 <= top + i < height and 0 <= left + j < width
                    for c in range(channels):
                        patch[i, j, c] = x[top + i, left + j, c] if is_inside else np.float32(0)
            source, row, column = patch, 0, 0
        # Rows of channels are taken out first: numba then knows that nothing is out of bounds, and vectorises.
        for j in range(6):
            r0, r1, r2 = source[row, column + j], source[row + 1, column + j], source[row + 2, column + j]
            r3, r4, r5 = source[row + 3, column + j], source[row + 4, column + j], source[row + 5, column + j]
            h0, h1, h2, h3, h4, h5 = half[0, j], half[1, j], half[2, j], half[3, j], half[4, j], half[5, j]
            for c in range(channels):
                s = style[c]
                x0, x1, x2, x3, x4, x5 = r0[c] * s, r1[c] * s, r2[c] * s, r3[c] * s, r4[c] * s, r5[c] * s
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
            t0, t1, t2 = tiles[6 * i, number], tiles[6 * i + 1, number], tiles[6 * i + 2, number]
            t3, t4, t5 = tiles[6 * i + 3, number], tiles[6 * i + 4, number], tiles[6 * i + 5, number]
            for c in range(channels):
                x0, x1, x2, x3, x4, x5 = h0[c], h1[c], h2[c], h3[c], h4[c], h5[c]
                even, odd = x4 - four * x2, x3 - four * x1
                even2, odd2 = x4 - x2, two * (x3 - x1)
                t0[c] = four * x0 - five * x2 + x4
                t1[c] = even + odd
                t2[c] = even - odd
                t3[c] = even2 + odd2
                t4[c] = even2 - odd2
                t5[c] = four * x1 - five * x3 + x5


@compiled
def transform_out(
    products: Array,
    scale: Array,
    offset: Array,
    features: Array,
    feature_gain: np.float32,
    feature_offset: Array,
    first_row: int,
    output: Array,
) -> None:
    """products (36, tiles, C') -> output (H, W, 2 C'): A^T products A, activated, and the features activated."""
    channels = products.shape[2]
    columns = output.shape[1] // 4
    half = np.empty((4, 6, channels), np.float32)
    two, four, eight, slope = np.float32(2), np.float32(4), np.float32(8), np.float32(LEAKY_SLOPE)
    for number in range(products.shape[1]):
        top, left = (first_row + number // columns) * 4, number % columns * 4
        for j in range(6):
            p0, p1, p2 = products[j, number], products[6 + j, number], products[12 + j, number]
            p3, p4, p5 = products[18 + j, number], products[24 + j, number], products[30 + j, number]
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
            o0, o1 = output[top + i, left], output[top + i, left + 1]
            o2, o3 = output[top + i, left + 2], output[top + i, left + 3]
            for c in range(channels):
                x0, x1, x2, x3, x4, x5 = g0[c], g1[c], g2[c], g3[c], g4[c], g5[c]
                sum1, difference1, sum2, difference2 = x1 + x2, x1 - x2, x3 + x4, x3 - x4
                y0 = (x0 + sum1 + sum2) * scale[c] + offset[c]
                y1 = (difference1 + two * difference2) * scale[c] + offset[c]
                y2 = (sum1 + four * sum2) * scale[c] + offset[c]
                y3 = (difference1 + eight * difference2 + x5) * scale[c] + offset[c]
                o0[c] = max(y0, slope * y0)
                o1[c] = max(y1, slope * y1)
                o2[c] = max(y2, slope * y2)
                o3[c] = max(y3, slope * y3)
            for j in range(4):
                beside, pixel = output[top + i, left + j, channels:], features[top + i, left + j]
                for c in range(channels):
                    f = pixel[c] * feature_gain + feature_offset[c]
                    beside[c] = max(f, slope * f)
