"""Data parallel training with torchrun: every process takes its part of each batch, and gradients are averaged.

Nothing is wrapped: the loop calls `average_gradients` between backward and the optimizer. That also holds for penalties
that differentiate twice and for networks that only some steps use, both of which DistributedDataParallel finds hard.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vidrestore.errors import OptionsError

PATIENCE = timedelta(hours=4)
"""How long processes wait for one another: a folder without landmarks may take the first one hours to pack."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this is, and where it computes."""

    rank: int
    num_ranks: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """The one that writes files and speaks."""
        return self.rank == 0


@contextmanager
def joined_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that torchrun started (NCCL on GPUs, gloo on CPUs); a process started alone is rank 0 of 1.

    Raises OptionsError for a device that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise OptionsError(f"device is {device!r}; it must be auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionsError("device is cuda, but PyTorch sees no CUDA GPU here; take cpu or auto")
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        kind = f"cuda:{torch.cuda.current_device()}"
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if num_ranks == 1:
        yield Ranks(0, 1, torch.device(kind))
        return
    backend = "nccl" if kind.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), num_ranks, torch.device(kind))
    finally:
        dist.destroy_process_group()


@contextmanager
def first_alone(ranks: Ranks) -> Iterator[None]:
    """The first process goes through the block while the others wait; they find what it has left, such as a cache."""
    if not ranks.is_first:
        dist.barrier()
    try:
        yield
    finally:
        if ranks.is_first and ranks.num_ranks > 1:
            dist.barrier()


def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Replace every gradient by its mean over the processes; one that is missing counts as zero."""
    if ranks.num_ranks == 1:
        return
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in wanted:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in wanted if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])  # one message instead of hundreds
    dist.all_reduce(flat)
    flat /= ranks.num_ranks
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, parts, strict=True):
        gradient.copy_(mean.view_as(gradient))


def on_any_rank(flag: bool, ranks: Ranks) -> bool:
    """Whether the flag is set in any process: all must leave the loop at the same step, or the others wait for ever."""
    if ranks.num_ranks == 1:
        return flag
    votes = torch.tensor([float(flag)], device=ranks.device)
    dist.all_reduce(votes)
    return bool(votes.item() > 0)


def mean_over_ranks(value: Tensor, ranks: Ranks) -> Tensor:
    """The mean of a tensor over the processes."""
    if ranks.num_ranks > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= ranks.num_ranks
    return value
