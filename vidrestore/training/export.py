"""From a restorer's checkpoint to a weights file that the catalogue and `load_gpen` take; and what exports share."""

import logging
import subprocess
from pathlib import Path

from torch import Tensor

from vidrestore.errors import WeightsError
from vidrestore.models.weights import write_weights
from vidrestore.training.checkpoint import load_checkpoint, newest_checkpoint
from vidrestore.training.config import TrainConfig

logger = logging.getLogger("vidrestore")

HALF_MAX = 65504.0
"""The largest float16."""


def export_restorer(checkpoint: Path, target: Path, *, half: bool = False) -> None:
    """Write the averaged network of a checkpoint, or of the newest in a run's folder, as safetensors, with metadata.

    `half` stores float16: half the bytes; `Gpen.from_state_dict` computes in float32 all the same. A reader never sees
    a file that is partly written. Raises WeightsError when the checkpoint cannot be used, or does not fit into float16.
    """
    checkpoint = newest_checkpoint(checkpoint)
    saved = load_checkpoint(checkpoint)
    if "g_ema" not in saved or "config" not in saved:
        raise WeightsError(f"{checkpoint}: is no checkpoint of `vidrestore train`; official ones need no export")
    config = TrainConfig.from_table(saved["config"])
    tensors = {
        key: to_half(value, key, checkpoint, remedy="leave out --half") if half else value.float().contiguous()
        for key, value in saved["g_ema"].items()
    }
    metadata = {
        "kind": "restorer",
        "name": config.name,
        "template": config.template,
        "crop_px": str(config.model.size_px),
        "license": config.license,
        "data": config.data_note,
        "commit": source_commit(),
        "steps": str(saved["steps_done"]),
    }
    metadata |= {f"val_{key}": str(value) for key, value in saved["val"].items()}
    write_weights(tensors, metadata, target)
    logger.info("%s: %.1f MB from %s", target, target.stat().st_size / 1e6, checkpoint)


def to_half(tensor: Tensor, key: str, checkpoint: Path, *, remedy: str) -> Tensor:
    """As float16. Raises WeightsError, which names the tensor and the remedy, when a value does not fit."""
    if not tensor.abs().max() < HALF_MAX:
        raise WeightsError(f"{checkpoint}: {key} does not fit into float16; {remedy}")
    return tensor.half().contiguous()


def source_commit() -> str:
    """The commit of the source tree that this code runs from, "unknown" outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
