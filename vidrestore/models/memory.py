"""How a device without memory makes itself known."""

import torch

ALLOCATION_FAILURES = ("DefaultCPUAllocator", "ALLOC_FAILED", "out of memory", "not enough memory")
"""What a failed allocation says where PyTorch has no class for it: on the CPU, in cuBLAS, in cuDNN."""


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an exception of PyTorch, or of NumPy, means that the device has no memory left."""
    if isinstance(exc, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(exc, RuntimeError) and any(text in str(exc) for text in ALLOCATION_FAILURES)
