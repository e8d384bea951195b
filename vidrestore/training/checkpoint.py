"""Checkpoints of a run: one folder, files `step_N.pt`, never one that is partly written, never more than asked for."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vidrestore.errors import WeightsError


def checkpoints(folder: Path) -> list[Path]:
    """Those of a run, oldest first."""
    return sorted(path for path in folder.glob("step_*.pt") if re.fullmatch(r"step_\d{8,}\.pt", path.name))


def newest_checkpoint(path: Path) -> Path:
    """The file itself, or the newest one of a run's folder. Raises WeightsError when there is none."""
    if not path.is_dir():
        return path
    found = checkpoints(path)
    if not found:
        raise WeightsError(f"{path}: holds no checkpoint step_*.pt; train first")
    return found[-1]


def save_checkpoint(state: Mapping[str, Any], folder: Path, *, steps_done: int, kept: int) -> Path:
    """Write `step_N.pt` and delete the oldest beyond `kept`. A cut leaves the older ones as they were."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{steps_done:08d}.pt"
    partial = path.with_suffix(".part")
    torch.save(dict(state), partial)
    os.replace(partial, path)
    for old in checkpoints(folder)[:-kept]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The tables in a file of `torch.save`, on the CPU. Raises WeightsError."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise WeightsError(f"{path}: there is no such file") from exc
    except Exception as exc:  # torch raises several unrelated types for a damaged file
        raise WeightsError(f"{path}: is not a readable checkpoint; use an older one") from exc
    if not isinstance(saved, dict):
        raise WeightsError(f"{path}: is no checkpoint, but a {type(saved).__name__}")
    return saved
