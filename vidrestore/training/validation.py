"""Figures of a network in training, on faces that take no part in it."""

import torch
from torch import Tensor, nn

from vidrestore.training.config import VAL_THIRDS
from vidrestore.training.data import to_network
from vidrestore.training.losses import EQUAL_DB, gradient_energy, psnr_db
from vidrestore.training.state import TrainState

EVAL_BATCH = 16
"""Faces at once, so that memory does not grow with `val_faces`."""


@torch.no_grad()
def restore_all(net: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """(N, 3, S, S) in [-1, 1] -> the same, restored, in float32, on the CPU."""
    return torch.cat([net(part.to(device)).cpu() for part in torch.split(images, EVAL_BATCH)])


def validate(state: TrainState, degraded: Tensor, target: Tensor) -> tuple[dict[str, float], Tensor]:
    """Figures of the averaged network on (N, 3, S, S) uint8 pairs, and its output.

    `psnr_*`: dB of the restored thirds; `gain_*`: against the input; `sharpness`: gradient energy against the target's;
    `clean_psnr`: of clean targets put through the network.
    """
    inputs, truth = to_network(degraded), to_network(target)
    output = restore_all(state.ema, inputs, state.device)
    before, after = (psnr_db(images, truth).clamp_max(EQUAL_DB) for images in (inputs, output))
    figures = {"psnr": after.mean().item(), "gain": (after - before).mean().item()}
    for name, third in zip(VAL_THIRDS, before.argsort().tensor_split(len(VAL_THIRDS)), strict=True):
        figures[f"psnr_{name}"] = after[third].mean().item()
        figures[f"gain_{name}"] = (after - before)[third].mean().item()
    figures["sharpness"] = (gradient_energy(output) / gradient_energy(truth)).mean().item()
    clean = truth[: 2 * EVAL_BATCH]
    figures["clean_psnr"] = psnr_db(restore_all(state.ema, clean, state.device), clean).mean().item()
    return {name: round(value, 4) for name, value in figures.items()}, output
