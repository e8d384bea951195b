"""Speed of the matrix products between Winograd's transforms: python tests/bench/products.py

GFLOP/s of one core for 36 products at once, the fastest of 7: PyTorch's bmm (here MKL's) and `models/products.py`, in
float32 and, where the processor multiplies it, in bfloat16.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from vidrestore.allocator import keep_freed_memory
from vidrestore.models.products import as_array, block_of, can_multiply, multiply, packed

POSITIONS, ROUNDS = 36, 7
SHAPES = [(256, 512, 512), (256, 512, 256), (512, 256, 128), (1024, 64, 32)]
"""Tiles, channels in and out."""


def gflops(run: Callable[[], object], work_flop: float) -> float:
    times_s = []
    for _ in range(ROUNDS + 1):
        start_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - start_s)
    return work_flop / min(times_s[1:]) / 1e9


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    dtypes = [dtype for dtype in (torch.float32, torch.bfloat16) if can_multiply(dtype)]
    heads = [f"{dtype}, {what}".removeprefix("torch.") for dtype in dtypes for what in ("bmm", "ours")]
    print(f"| tiles, channels in and out | {' | '.join(heads)} |\n|{'---|' * (1 + len(heads))}")
    for tiles, num_in, num_out in SHAPES:
        block = block_of(num_out)
        assert block is not None
        rows = -(-tiles // block[0]) * block[0]
        cells = []
        for dtype in dtypes:
            a, b = torch.randn(POSITIONS, rows, num_in).to(dtype), torch.randn(POSITIONS, num_in, num_out)
            ours, theirs = packed(b, dtype), b.to(dtype)
            sums = np.empty((POSITIONS, rows, num_out), np.float32)
            arrays = as_array(a), as_array(ours), sums
            work_flop = 2.0 * POSITIONS * rows * num_in * num_out
            cells += [gflops(lambda a=a, b=theirs: torch.bmm(a, b), work_flop)]
            cells += [gflops(lambda arrays=arrays: multiply(*arrays), work_flop)]
        print(f"| {tiles}, {num_in} -> {num_out} | {' | '.join(f'{cell:.0f}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
