"""What this machine could do at best: a large convolution, of the kind that most of GPEN is."""

import time

import torch
import torch.nn.functional as F

from vidrestore.models.backends.cuda_graphs import convolutions
from vidrestore.models.backends.pytorch import BFLOAT16_CAPABILITY, FLOAT16_CAPABILITY
from vidrestore.models.prepared import runs_in_onednn

CHANNELS = 512
SIZE_PX = 64
BATCHES = {"cpu": 1, "cuda": 16}
"""Enough work to keep every core of the device busy, and little enough to take no time."""
ROUNDS = 5


@torch.inference_mode()
def ceiling_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """The fastest of a few rounds of a 3 x 3 convolution of 512 channels in PyTorch, in GFLOP/s.

    As the networks run: on CUDA float32 is float32, not TensorFloat-32, and cuDNN takes its fastest algorithm.
    """
    batch = BATCHES[device.type]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, CHANNELS, SIZE_PX, SIZE_PX, generator=generator)
    kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator)
    x, kernel = (tensor.to(device, dtype, memory_format=torch.channels_last) for tensor in (x, kernel))
    fastest_s = float("inf")
    for _ in range(1 + ROUNDS):  # the first warms up, and is never the fastest
        synchronize(device)
        start_s = time.perf_counter()
        with convolutions(benchmark=True):
            F.conv2d(x, kernel, padding=1)
        synchronize(device)
        fastest_s = min(fastest_s, time.perf_counter() - start_s)
    return 2 * 9 * batch * (CHANNELS * SIZE_PX) ** 2 / fastest_s / 1e9


def synchronize(device: torch.device) -> None:
    """Wait for what the device still computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def hardware_dtypes(device: torch.device) -> list[str]:
    """What the device computes in without a detour."""
    if device.type == "cpu":
        return ["float32", *(["bfloat16"] if runs_in_onednn(torch.bfloat16) else [])]
    capability = torch.cuda.get_device_capability(device)
    halves = {"bfloat16": BFLOAT16_CAPABILITY, "float16": FLOAT16_CAPABILITY}
    return ["float32", *(dtype for dtype, first in halves.items() if capability >= first)]
