"""Train a restorer. The loop is `train`, at the end; what comes before says what a run is made of.

Batch k and everything drawn for it depend on the seed and k alone, and a checkpoint holds all that the loop changes, so
a run that was cut goes on as if it had not been.

On a machine that has only PyTorch, NumPy and OpenCV: `python -m vidrestore.training.train CONFIG --faces FILE.faces`.
"""

import argparse
import dataclasses
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vidrestore.errors import InputError, SourceError, TargetError, WeightsError
from vidrestore.models.gpen import Gpen
from vidrestore.training.adversarial import (
    PathLength,
    discriminator_loss,
    feature_matching,
    generator_loss,
    r1_penalty,
    restore_with_latents,
)
from vidrestore.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from vidrestore.training.config import VAL_THIRDS, TrainConfig
from vidrestore.training.data import (
    DegradationMix,
    FaceSet,
    PairBatches,
    load_faces,
    show_weights,
    split,
    to_network,
    val_pairs,
)
from vidrestore.training.discriminator import Discriminator, PatchDiscriminators, build_discriminator
from vidrestore.training.losses import gradient_energy, paired_losses, psnr_db
from vidrestore.training.ranks import Ranks, average_gradients, first_alone, joined_ranks, mean_over_ranks, on_any_rank
from vidrestore.training.run_log import RunLog
from vidrestore.training.schedule import learning_rate, update_ema
from vidrestore.training.start import show_input, shows_input, start_as_identity

logger = logging.getLogger("vidrestore")

EQUAL_DB = 45.0
"""Above this nobody sees a difference; untouched inputs (infinitely many dB) would otherwise rule the averages."""
EVAL_BATCH = 16
LOG_EVERY_STEPS = 50
ALREADY_AVERAGED_STEPS = 10**9
"""What a run is started with stays in its average as long as `ema_decay` says, not for the two steps of a fresh one."""
PATH_LENGTH_SHARE = 0.5
"""Of the batch, for the path length penalty: it differentiates twice, and takes the memory of two steps."""


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
        """The newest figures of `validate`."""

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
        share = learning_rate(
            1.0,
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


class StopSignal:
    """Set by Ctrl-C and SIGTERM, so that the loop ends after a whole step and leaves a checkpoint.

    A second one is obeyed at once.
    """

    def __init__(self) -> None:
        self.is_set = False

    def install(self) -> None:
        self._before = {number: signal.signal(number, self._set) for number in (signal.SIGINT, signal.SIGTERM)}

    def _set(self, number: int, frame: object) -> None:
        self.is_set = True
        for number, handler in self._before.items():
            signal.signal(number, handler)


class WorkerShield:
    """Sets what a worker does when it is told to stop.

    Ctrl-C and SIGTERM often reach all processes: a worker that obeyed would take the last steps with it. Once the loop
    is over it must obey: Python ends its workers by SIGTERM when it exits, and waits for them.
    """

    def __init__(self) -> None:
        self._is_over = multiprocessing.RawValue("b", False)  # in memory that the workers share

    def __call__(self, _worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._exit_if_over)

    def _exit_if_over(self, _number: int, _frame: object) -> None:
        if self._is_over.value:
            os._exit(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.value = True


def train(
    config: TrainConfig,
    faces: FaceSet,
    folder: Path,
    ranks: Ranks,
    *,
    start_from: Path | None = None,
    stop: StopSignal | None = None,
) -> TrainState:
    """Run to the end, or go on from the newest checkpoint in `folder`. Checkpoints, logs and grids go there.

    `start_from` gives a new run its networks. Raises WeightsError, OptionsError.
    """
    loop = config.loop
    torch.set_num_threads(loop.threads)
    cv2.setNumThreads(0)  # a forked worker would wait for ever for the threads that stayed with its parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise TargetError(f"{folder}: cannot be made ({exc.strerror}); name another --folder") from exc
    state = TrainState(config, ranks.device)
    if saved := checkpoints(folder):
        state.resume(saved[-1])
        logger.info("going on from %s", saved[-1])
    elif start_from is not None:
        state.start_from(start_from)
    trainer = Trainer(state, ranks)

    mix = DegradationMix(config.degradation)
    train_indices, val_indices = split(faces, config.data)
    batches = PairBatches(
        faces,
        train_indices,
        show_weights(faces, train_indices, config.data),
        mix,
        batch_size=loop.batch_size,
        shift_px=config.data.shift_px,
        seed=loop.seed,
        rank=ranks.rank,
        num_ranks=ranks.num_ranks,
    )
    shield = WorkerShield()
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(state.steps_done, loop.steps),
        num_workers=config.data.workers,
        worker_init_fn=shield,
        pin_memory=ranks.device.type == "cuda",
    )
    # A fixed random choice, so that the faces of every source are among them.
    shuffled = np.random.default_rng(loop.seed).permutation(val_indices)[: loop.val_faces]
    val_degraded, val_target = val_pairs(faces, shuffled, mix)

    if state.steps_done >= loop.steps:
        return state
    with RunLog(folder, is_first=ranks.is_first) as log, shield:
        log.say(f"{len(train_indices)} faces to train on, {len(shuffled)} to validate with")
        crops_since, since_s = 0, time.monotonic()
        figures: dict[str, Tensor] = {}
        """The newest of each: penalties are taken at few steps, hardly ever at one that is logged."""

        def checkpoint() -> None:
            if ranks.is_first:
                state.save(folder)

        def report() -> None:
            if ranks.is_first:
                state.val, output = validate(state, val_degraded, val_target)
                log.validation(state.steps_done, state.val, (val_degraded, output, val_target))

        try:
            for degraded, target in loader:
                if on_any_rank(stop is not None and stop.is_set, ranks):
                    break
                figures |= trainer.step(degraded, target)
                crops_since += loop.batch_size
                if state.steps_done % LOG_EVERY_STEPS == 0:
                    speed = crops_since / (time.monotonic() - since_s)
                    log.scalars(state.steps_done, {name: value.item() for name, value in figures.items()}, speed)
                    crops_since, since_s = 0, time.monotonic()
                if state.steps_done % loop.val_every_steps == 0:
                    report()
                if state.steps_done % loop.save_every_steps == 0:
                    checkpoint()
        except SourceError as exc:
            checkpoint()
            # From a worker it comes with a traceback in its text, the message last.
            message = str(exc).strip().splitlines()[-1]
            raise SourceError(message.removeprefix(f"{SourceError.__module__}.{SourceError.__name__}: ")) from exc
        checkpoint()  # before the validation: whoever stopped us may not wait for that
        if state.steps_done % loop.val_every_steps:
            report()
            checkpoint()
    return state


def run(
    config: TrainConfig,
    *,
    faces: str | None = None,
    folder: Path | None = None,
    start_from: Path | None = None,
    device: str = "auto",
) -> None:
    """What both command lines do: join the other processes, find the faces, train until the end or Ctrl-C."""
    if faces is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, faces=faces))
    stop = StopSignal()
    with joined_ranks(device) as ranks:
        with first_alone(ranks):
            face_set = load_faces(config.data, config.template, config.model.size_px)
        stop.install()  # not before: packing faces takes minutes, and is simply cut
        train(config, face_set, folder or Path("runs") / config.name, ranks, start_from=start_from, stop=stop)


def main() -> None:
    """Without the package's command line and what that needs."""
    parser = argparse.ArgumentParser(prog="python -m vidrestore.training.train", description="Train a restorer.")
    parser.add_argument("config", type=Path, help="TOML file of the run")
    parser.add_argument("--faces", help="packed file or folder of faces, instead of the config's")
    parser.add_argument("--folder", type=Path, help="folder of the run; runs/NAME if not given")
    parser.add_argument("--start-from", type=Path, help="checkpoint whose networks a new run begins with")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        run(
            TrainConfig.from_toml(given.config),
            faces=given.faces,
            folder=given.folder,
            start_from=given.start_from,
            device=given.device,
        )
    except InputError as exc:
        parser.exit(2, f"error: {exc}\n")


if __name__ == "__main__":
    main()
