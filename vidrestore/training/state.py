"""What a run has learnt so far, and how it outlives the process: checkpoints, ours and official ones.

A checkpoint holds all that the loop changes.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidrestore.errors import WeightsError
from vidrestore.models.gpen import Gpen
from vidrestore.training.adversarial import PathLength
from vidrestore.training.checkpoint import load_checkpoint, save_checkpoint
from vidrestore.training.config import TrainConfig
from vidrestore.training.discriminator import Discriminator, PatchDiscriminators, build_discriminator
from vidrestore.training.start import shows_input, start_as_identity

ALREADY_AVERAGED_STEPS = 10**9
"""What a run is started with stays in its average as long as `ema_decay` says, not for the two steps of a fresh one."""


class TrainState:
    """All that a step changes: the networks, the moving average, the optimizers, and how far the run is."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.loop.seed)
        self.net = Gpen(config.model)
        if config.start == "identity":
            start_as_identity(self.net)
        self.net.to(device)
        to_channels_last(self.net)
        self.ema = Gpen(config.model).to(device)
        self.ema.load_state_dict(self.net.state_dict())
        self.ema.requires_grad_(False).eval()
        self.optimizer = adam(self.net, config.loop.learning_rate, config.loop.betas)
        self.path_length = PathLength().to(device)
        self.discriminator: Discriminator | PatchDiscriminators | None = None
        if config.losses.adversarial:
            self.discriminator = build_discriminator(config.discriminator, config.model.size_px).to(device)
            to_channels_last(self.discriminator)
            adversarial = config.adversarial
            self.d_optimizer = adam(self.discriminator, adversarial.learning_rate, adversarial.betas)
        self.steps_done = 0
        self.steps_averaged = 0
        """In `ema`; what a run was started with counts as a full average."""
        self.val: dict[str, float] = {}
        """The newest figures of `validate`, and the `step` that they belong to: a checkpoint may be of a later one."""

    @property
    def is_adversarial(self) -> bool:
        """Whether the discriminator plays in this step."""
        return self.discriminator is not None and self.steps_done >= self.config.adversarial.from_step

    def save(self, folder: Path) -> Path:
        """Write a checkpoint. `g`, `d`, `g_ema`, `g_optim` and `d_optim` are where GPEN's own script has them."""
        tables: dict[str, Any] = {
            "config": self.config.as_table(),
            "g": self.net.state_dict(),
            "g_ema": self.ema.state_dict(),
            "g_optim": self.optimizer.state_dict(),
            "path_length": self.path_length.state_dict(),
            "steps_done": self.steps_done,
            "steps_averaged": self.steps_averaged,
            "val": self.val,
        }
        if self.discriminator is not None:
            tables |= {"d": self.discriminator.state_dict(), "d_optim": self.d_optimizer.state_dict()}
        return save_checkpoint(tables, folder, steps_done=self.steps_done, kept=self.config.loop.checkpoints_kept)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of this run. Raises WeightsError when it is not one."""
        saved = load_checkpoint(path)
        try:
            self.net.load_state_dict(saved["g"])
            self.ema.load_state_dict(saved["g_ema"])
            self.optimizer.load_state_dict(saved["g_optim"])
            self.path_length.load_state_dict(saved["path_length"])
            if self.discriminator is not None and "d" in saved:
                self.discriminator.load_state_dict(saved["d"])
                self.d_optimizer.load_state_dict(saved["d_optim"])
            self.steps_done, self.steps_averaged = saved["steps_done"], saved["steps_averaged"]
            self.val = saved["val"]
        except (KeyError, ValueError, RuntimeError) as exc:
            reason = str(exc).splitlines()[0]
            raise WeightsError(f"{path}: does not fit this config ({reason}); use another --folder") from exc

    def start_from(self, path: Path) -> None:
        """Begin with the networks of another run, ours or GPEN's own script's, or with a bare generator.

        The optimizers begin anew: the official file numbers its moments by an order of parameters that is not ours.
        Raises WeightsError.
        """
        saved = load_checkpoint(path)
        average = saved.get("g_ema", saved)
        try:
            self.net.load_state_dict(saved.get("g", average))
            self.ema.load_state_dict(average)
            self.steps_averaged = ALREADY_AVERAGED_STEPS
            if self.discriminator is not None and "d" in saved:
                self.discriminator.load_state_dict(saved["d"])
        except (RuntimeError, TypeError, ValueError) as exc:
            reason = " ".join(str(exc).split())[:200]
            raise WeightsError(f"{path}: does not fit [model] and [discriminator] of this config ({reason})") from exc
        if self.config.start == "identity" and not shows_input(self.net):
            raise WeightsError(f'{path}: was not trained from the identity; set start = "random" in the config')


def adam(net: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters(), lr=rate, betas=(betas[0], betas[1]))


def to_channels_last(net: nn.Module) -> None:
    """Lay convolution kernels out as NHWC, twice as fast on CPUs (`Module.to` refuses GPEN's kernels of rank 5)."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
