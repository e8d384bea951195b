"""What a run writes about itself: `log.jsonl`, picture grids, and the same for TensorBoard where it is installed."""

import json
import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger("vidrestore")

GRID_COLUMNS = 10


class RunLog:
    """Lines, scalars and grids of a run; of several processes only the first one writes."""

    def __init__(self, folder: Path, *, is_first: bool) -> None:
        self.folder, self.is_first = folder, is_first
        self.board: SummaryWriter | None = None
        if is_first and find_spec("tensorboard"):
            from torch.utils import tensorboard  # late: an extra

            self.board = tensorboard.SummaryWriter(str(folder / "tensorboard"))

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.board is not None:
            self.board.close()

    def say(self, message: str) -> None:
        if self.is_first:
            logger.info(message)

    def scalars(self, step: int, figures: Mapping[str, float], crops_per_s: float) -> None:
        """Losses and the norm of the gradient at one step."""
        self._write(step, "train", {**figures, "crops_per_s": crops_per_s})

    def validation(self, step: int, figures: Mapping[str, float], images: Sequence[Tensor]) -> None:
        """Figures of `validate`, and a grid with one face per column from rows of images.

        Each of `images` is (N, 3, S, S), uint8 or float in [-1, 1].
        """
        if not self.is_first:
            return
        self._write(step, "val", figures)
        grid = picture_grid(images)
        cv2.imwrite(str(self.folder / f"grid_{step:08d}.png"), cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))
        if self.board is not None:
            self.board.add_image("val/degraded, restored, target", grid, step, dataformats="HWC")
        logger.info("step %d: %s", step, "  ".join(f"{name} {value:.2f}" for name, value in figures.items()))

    def _write(self, step: int, kind: str, figures: Mapping[str, Any]) -> None:
        if not self.is_first:
            return
        with (self.folder / "log.jsonl").open("a") as lines:
            lines.write(json.dumps({"step": step, kind: dict(figures)}) + "\n")
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)


def picture_grid(rows: Sequence[Tensor]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(rows * S, columns * S, 3) RGB from rows of (N, 3, S, S)."""
    lines = []
    for images in rows:
        if images.dtype != torch.uint8:
            images = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        lines.append(torch.cat(list(images[:GRID_COLUMNS]), dim=2))
    return torch.cat(lines, dim=1).permute(1, 2, 0).contiguous().numpy()
