"""uint8 pictures to what a network sees, and back: the same for every engine."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrestore.errors import RestoreError
from vidrestore.models.spec import ModelSpec

LEVELS_PER_UNIT = 127.5
"""8-bit levels 0 … 255 are -1 … 1 to the network: (x / 255 - 0.5) / 0.5."""


def check_crops(crops: NDArray[np.uint8], spec: ModelSpec) -> None:
    """Raise ValueError unless the crops are (B, S, S, 3) uint8 with B >= 1 and the model's own S."""
    shape = (len(crops), spec.crop_px, spec.crop_px, 3)
    if crops.shape != shape or len(crops) == 0 or crops.dtype != np.uint8:
        given = f"{crops.shape} {crops.dtype}"
        raise ValueError(f"crops are {given}; {spec.name} takes {shape} uint8, one or more")


def units_from_levels(crops: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, S, S, 3) uint8 RGB -> (B, 3, S, S) float32 in [-1, 1] on the device; `crops` are not written to."""
    levels = torch.from_numpy(np.require(crops, requirements=["C", "W"]))
    if device.type == "cuda":
        levels = levels.pin_memory().to(device, non_blocking=True)
    return units_of(levels)


def units_of(levels: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 RGB -> (B, 3, S, S) float32 in [-1, 1], on its device."""
    # The permuted view is channels_last already: what tensor cores want, and no slower on a CPU.
    return levels.permute(0, 3, 1, 2).float() / LEVELS_PER_UNIT - 1


def levels_of(units: Tensor) -> Tensor:
    """(B, 3, S, S) float -> (B, S, S, 3) uint8 RGB, rounded and clamped, on its device."""
    levels = ((units.float() + 1) * LEVELS_PER_UNIT).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()


def not_finite_message(name: str, precision: str, remedy: str) -> str:
    return f"{name}: its output in {precision} is not finite; {remedy}"


def levels_from_units(y: Tensor, *, name: str, precision: str, remedy: str) -> NDArray[np.uint8]:
    """(B, 3, S, S) float -> (B, S, S, 3) uint8 RGB, rounded and clamped.

    Raises RestoreError, with the model's name, the precision that it computed in and what to do, for values that are
    not finite.
    """
    if not torch.isfinite(y).all():
        raise RestoreError(not_finite_message(name, precision, remedy))
    result: NDArray[np.uint8] = levels_of(y).cpu().numpy()
    return result
