"""What every training here shares: how the learning rate goes, and the moving average of the weights."""

import math

import torch
from torch import nn


def learning_rate_share(
    step: int, num_steps: int, *, warmup_steps: int, flat_share: float = 0.0, final_share: float = 0.0
) -> float:
    """Learning rate of step 0 ... num_steps - 1, as a share of its peak.

    It rises linearly, stays for `flat_share` of the run, and falls along half a cosine to `final_share`.
    """
    warm = min(1.0, (step + 1) / max(warmup_steps, 1))
    falling = min(1.0, max(0.0, (step / num_steps - flat_share) / (1 - flat_share)))
    return warm * (final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * falling)))


@torch.no_grad()
def update_ema(ema: nn.Module, net: nn.Module, decay: float, steps_done: int) -> None:
    """Moving average of weights and batch statistics, a plain average at first so that the start is soon forgotten."""
    keep = min(decay, 1 - 1 / (steps_done + 1))
    current = net.state_dict()
    for name, averaged in ema.state_dict().items():
        if averaged.is_floating_point():
            averaged.lerp_(current[name], 1 - keep)
        else:
            averaged.copy_(current[name])
