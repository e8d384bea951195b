"""One training step of a restorer, and of its discriminator.

What a step draws depends on the seed and the step's number alone.
"""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vidrestore.training.adversarial import (
    discriminator_loss,
    feature_matching,
    generator_loss,
    r1_penalty,
    restore_with_latents,
)
from vidrestore.training.data import to_network
from vidrestore.training.losses import paired_losses
from vidrestore.training.ranks import Ranks, average_gradients, mean_over_ranks
from vidrestore.training.schedule import learning_rate_share, update_ema
from vidrestore.training.start import show_input
from vidrestore.training.state import TrainState

logger = logging.getLogger("vidrestore")

PATH_LENGTH_SHARE = 0.5
"""Of the batch, for the path length penalty: it differentiates twice, and takes the memory of two steps."""


class Trainer:
    """Takes steps: holds what a step needs beside the state."""

    def __init__(self, state: TrainState, ranks: Ranks) -> None:
        config = state.config
        self.state, self.ranks, self.config = state, ranks, config
        self.losses = paired_losses(config.losses, config.template, ranks.device)
        self.restore = torch.compile(state.net, dynamic=False) if config.loop.compile else state.net

    def step(self, degraded: Tensor, target: Tensor) -> dict[str, Tensor]:
        """One step on this process's part of a batch, each (B, 3, S, S) uint8. Returns figures for the log."""
        state, loop = self.state, self.config.loop
        inputs, truth = (self._to_device(images) for images in (degraded, target))
        share = learning_rate_share(
            state.steps_done,
            loop.steps,
            warmup_steps=loop.warmup_steps,
            flat_share=loop.flat_share,
            final_share=loop.final_share,
        )
        output, figures = self._generator_step(inputs, truth, share)
        if state.is_adversarial:
            figures |= self._discriminator_step(output, truth, share)
        if self.config.start == "identity":
            show_input(state.net)
        state.steps_done += 1
        state.steps_averaged += 1
        update_ema(state.ema, state.net, loop.ema_decay, state.steps_averaged)
        return figures

    def _to_device(self, images: Tensor) -> Tensor:
        on_device = images.to(self.ranks.device, non_blocking=True)
        return to_network(on_device).contiguous(memory_format=torch.channels_last)

    def _draws(self) -> torch.Generator:
        """What this step draws depends on the seed and its number alone."""
        return torch.Generator().manual_seed(self.config.loop.seed * 2**32 + self.state.steps_done)

    def _mixed_precision(self) -> torch.autocast:
        return torch.autocast(self.ranks.device.type, dtype=torch.bfloat16, enabled=self.config.loop.bfloat16)

    def _generator_step(self, inputs: Tensor, truth: Tensor, share: float) -> tuple[Tensor, dict[str, Tensor]]:
        state, weights = self.state, self.config.losses
        with self._mixed_precision():
            output = self.restore(inputs)
        output = output.float()
        parts = {name: weight * loss(output, truth) for name, (weight, loss) in self.losses.items()}
        if state.is_adversarial:
            assert state.discriminator is not None
            state.discriminator.requires_grad_(False)
            with self._mixed_precision():
                judged = state.discriminator.judge(output)
            parts["adversarial"] = weights.adversarial * generator_loss(judged.logits)
            if weights.feature_matching:
                with torch.no_grad(), self._mixed_precision():
                    real = state.discriminator.judge(truth)
                matching = feature_matching(judged.features, real.features)
                parts["feature_matching"] = weights.feature_matching * matching
            every = self.config.adversarial.path_length_every_steps
            if weights.path_length and state.steps_done % every == 0:
                part = max(1, round(PATH_LENGTH_SHARE * len(inputs)))
                # In float32 and not compiled: it is differentiated twice.
                images, latents = restore_with_latents(state.net, inputs[:part])
                penalty = state.path_length(images, latents, generator=self._draws())
                parts["path_length"] = weights.path_length * every * penalty
                # One mean for all, so that the first process's checkpoint is every process's.
                mean = mean_over_ranks(state.path_length.mean, self.ranks)
                state.path_length.mean.copy_(mean if torch.isfinite(mean) else torch.zeros_like(mean))
        norm = self._descend(state.net, state.optimizer, parts, self.config.loop.learning_rate * share)
        return output.detach(), parts | {"norm": norm}

    def _discriminator_step(self, output: Tensor, truth: Tensor, share: float) -> dict[str, Tensor]:
        state, adversarial = self.state, self.config.adversarial
        assert state.discriminator is not None
        state.discriminator.requires_grad_(True)
        with self._mixed_precision():
            fake, real = state.discriminator.judge(output), state.discriminator.judge(truth)
        parts = {"discriminator": discriminator_loss(real.logits, fake.logits)}
        every = adversarial.r1_every_steps
        if self.config.losses.r1 and state.steps_done % every == 0:
            images = truth.detach().requires_grad_(True)
            logits = state.discriminator.judge(images).logits  # likewise differentiated twice
            penalty = r1_penalty(logits, images, generator=self._draws())
            parts["r1"] = self.config.losses.r1 / 2 * every * penalty
        self._descend(state.discriminator, self.state.d_optimizer, parts, adversarial.learning_rate * share)
        return parts

    def _descend(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, parts: Mapping[str, Tensor], rate: float
    ) -> Tensor:
        """One step of an optimizer down the sum of the losses; returns the gradient's norm."""
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        average_gradients(net.parameters(), self.ranks)
        norm = nn.utils.clip_grad_norm_(net.parameters(), self.config.loop.clip_norm)
        if torch.isfinite(norm):
            optimizer.step()
        else:
            logger.warning("step %d: the gradient is not finite; the step is left out", self.state.steps_done)
        return norm
