"""Train a restorer: `python -m vidrestore.training.train --config configs/train_gpen_lite.toml`.

The loop is `train`, at the end; the other functions say what a run is made of. Batch k and everything drawn for it
depend on the seed and k alone, and a checkpoint holds all that the loop changes, so a run that was cut goes on as if it
had not been.
"""

import dataclasses
import json
import logging
import math
import os
import re
import signal
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vidrestore.errors import InputError, OptionsError, WeightsError
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.training.data import (
    DataConfig,
    DegradationConfig,
    DegradationMix,
    FaceSet,
    PairBatches,
    pack_faces,
    show_weights,
    split,
    to_network,
    val_pairs,
)
from vidrestore.training.losses import LossWeights, gradient_energy, psnr_db, weighted_losses
from vidrestore.training.start import start_as_identity

logger = logging.getLogger("vidrestore")

Section = TypeVar("Section")
VAL_THIRDS = ("heavy", "medium", "mild")
"""Validation faces in thirds, from the worst input to the best."""
EQUAL_DB = 45.0
"""Above this nobody sees a difference; untouched inputs (infinitely many dB) would otherwise rule the averages."""
GRID_COLUMNS = 10
EVAL_BATCH = 16


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How long and how fast. Give one of `minutes` and `steps`."""

    minutes: float | None = None
    """Of wall-clock time in the loop, over all its resumptions."""
    steps: int | None = None
    batch_size: int = 8
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 100
    flat_share: float = 0.5
    """Part of the run before the learning rate starts to fall (half a cosine)."""
    final_rate: float = 0.01
    """Of the learning rate, at the end."""
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    seed: int = 1
    threads: int = 2
    bfloat16: bool = True
    compile: bool = True
    val_faces: int = 192
    val_minutes: float = 10.0
    checkpoint_minutes: float = 5.0
    checkpoints_kept: int = 2

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise OptionsError("[loop] needs one of minutes and steps")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run; one TOML table for each field that is a dataclass."""

    name: str
    """Of the model, and of the run's folder."""
    template: str
    """Key of `face.TEMPLATES`."""
    license: str
    """Of the trained weights: it follows from the data."""
    data_note: str
    """What it was trained on, for the weights' metadata."""
    model: GpenConfig
    degradation: DegradationConfig
    loop: LoopConfig
    data: DataConfig = field(default_factory=DataConfig)
    losses: LossWeights = field(default_factory=LossWeights)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "TrainConfig":
        """From nested tables, as TOML or `dataclasses.asdict` give them. Raises OptionsError."""
        sections = {
            "model": GpenConfig,
            "degradation": DegradationConfig,
            "loop": LoopConfig,
            "data": DataConfig,
            "losses": LossWeights,
        }
        values = {
            key: section_from(sections[key], key, value) if key in sections else value for key, value in table.items()
        }
        return section_from(cls, "the run", values)

    @classmethod
    def from_toml(cls, path: Path) -> "TrainConfig":
        try:
            return cls.from_table(tomllib.loads(path.read_text()))
        except (OSError, tomllib.TOMLDecodeError, OptionsError) as exc:
            raise OptionsError(f"{path}: {exc}; mend the file") from exc


def section_from(section: type[Section], name: str, table: Mapping[str, Any]) -> Section:
    """Build a dataclass from a table. Raises OptionsError for an unknown, missing or bad value."""
    known = {item.name for item in dataclasses.fields(section)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise OptionsError(f"{name} has no {key!r}; it has {', '.join(sorted(known))}")
    try:
        return section(**table)
    except (TypeError, ValueError) as exc:
        raise OptionsError(f"{name}: {exc}") from exc


class TrainState:
    """All that a step changes: the network, its moving average, the optimizer, and how far the run is."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.net = Gpen(config.model)
        start_as_identity(self.net)
        to_channels_last(self.net)
        self.ema = Gpen(config.model)
        self.ema.load_state_dict(self.net.state_dict())
        self.ema.requires_grad_(False).eval()
        betas = (config.loop.betas[0], config.loop.betas[1])
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.loop.learning_rate, betas=betas)
        self.steps_done = 0
        self.elapsed_s = 0.0
        """In the loop, over all its resumptions."""
        self.val: dict[str, float] = {}
        """The newest figures of `validate`."""

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the run is over."""
        loop = self.config.loop
        if loop.steps is not None:
            return self.steps_done / loop.steps
        assert loop.minutes is not None
        return self.elapsed_s / (loop.minutes * 60)

    def save(self, folder: Path) -> Path:
        """Write `step_N.pt` (a partial file never has that name) and delete the oldest beyond `checkpoints_kept`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step_{self.steps_done:08d}.pt"
        partial = path.with_suffix(".part")
        torch.save(
            {
                "config": plain(self.config),
                "g": self.net.state_dict(),
                "g_ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "steps_done": self.steps_done,
                "elapsed_s": self.elapsed_s,
                "val": self.val,
            },
            partial,
        )
        os.replace(partial, path)
        for old in checkpoints(folder)[: -self.config.loop.checkpoints_kept]:
            old.unlink()
        return path

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises WeightsError when it is not one of this network."""
        saved = load_checkpoint(path)
        try:
            self.net.load_state_dict(saved["g"])
            self.ema.load_state_dict(saved["g_ema"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (KeyError, ValueError, RuntimeError) as exc:
            reason = str(exc).splitlines()[0]
            raise WeightsError(f"{path}: does not fit this config ({reason}); use another --run folder") from exc
        self.steps_done, self.elapsed_s = saved["steps_done"], saved["elapsed_s"]
        self.val = saved["val"]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `TrainState.save` wrote. Raises WeightsError."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises several unrelated types for a damaged file
        raise WeightsError(f"{path}: is not a readable checkpoint; use an older one") from exc
    if not isinstance(saved, dict) or "g_ema" not in saved or "config" not in saved:
        raise WeightsError(f"{path}: is no checkpoint of this training room")
    return saved


def checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in folder.glob("step_*.pt") if re.fullmatch(r"step_\d{8,}\.pt", path.name))


def plain(config: TrainConfig) -> dict[str, Any]:
    """As tables that `TrainConfig.from_table` takes back."""
    tables: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return tables


def to_channels_last(net: nn.Module) -> None:
    """Lay convolution kernels out as NHWC, twice as fast on CPUs (`Module.to` refuses GPEN's kernels of rank 5)."""
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def learning_rate(loop: LoopConfig, steps_done: int, progress: float) -> float:
    """Warm up, stay, then fall along half a cosine to `final_rate`."""
    warm = min(1.0, (steps_done + 1) / max(loop.warmup_steps, 1))
    falling = min(1.0, max(0.0, (progress - loop.flat_share) / (1 - loop.flat_share)))
    shape = loop.final_rate + (1 - loop.final_rate) * 0.5 * (1 + math.cos(math.pi * falling))
    return loop.learning_rate * warm * shape


@torch.no_grad()
def update_ema(ema: nn.Module, net: nn.Module, decay: float, steps_done: int) -> None:
    """Moving average of the weights, a plain average at first so that the start is soon forgotten."""
    keep = min(decay, 1 - 1 / (steps_done + 1))
    for averaged, current in zip(ema.parameters(), net.parameters(), strict=True):
        averaged.lerp_(current, 1 - keep)


def train_step(state: TrainState, forward: nn.Module, degraded: Tensor, target: Tensor) -> dict[str, float]:
    """One step on a batch, each (B, 3, S, S) uint8. Returns the weighted losses, the learning rate and the norm."""
    loop = state.config.loop
    rate = learning_rate(loop, state.steps_done, state.progress)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    inputs = to_network(degraded).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=loop.bfloat16):
        output = forward(inputs)
    parts = weighted_losses(output.float(), to_network(target), state.config.losses)
    state.optimizer.zero_grad(set_to_none=True)
    torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(state.net.parameters(), loop.clip_norm)
    if torch.isfinite(norm):
        state.optimizer.step()
    else:
        logger.warning("step %d: the gradient is not finite; the step is left out", state.steps_done)
    state.steps_done += 1
    update_ema(state.ema, state.net, loop.ema_decay, state.steps_done)
    return {name: part.item() for name, part in parts.items()} | {"rate": rate, "norm": norm.item()}


@torch.no_grad()
def restore_all(net: nn.Module, images: Tensor) -> Tensor:
    """(N, 3, S, S) in [-1, 1] -> the same, restored, in float32."""
    return torch.cat([net(part) for part in torch.split(images, EVAL_BATCH)])


def validate(state: TrainState, degraded: Tensor, target: Tensor) -> tuple[dict[str, float], Tensor]:
    """Figures of the averaged network on (N, 3, S, S) uint8 pairs, and its output.

    `psnr_*`: dB of the restored thirds; `gain_*`: against the input; `sharpness`: gradient energy against the target's;
    `clean_psnr`: of clean targets put through the network.
    """
    inputs, truth = to_network(degraded), to_network(target)
    output = restore_all(state.ema, inputs)
    before, after = (psnr_db(images, truth).clamp_max(EQUAL_DB) for images in (inputs, output))
    figures = {"psnr": after.mean().item(), "gain": (after - before).mean().item()}
    for name, third in zip(VAL_THIRDS, before.argsort().tensor_split(len(VAL_THIRDS)), strict=True):
        figures[f"psnr_{name}"] = after[third].mean().item()
        figures[f"gain_{name}"] = (after - before)[third].mean().item()
    figures["sharpness"] = (gradient_energy(output) / gradient_energy(truth)).mean().item()
    clean = truth[: 2 * EVAL_BATCH]
    figures["clean_psnr"] = psnr_db(restore_all(state.ema, clean), clean).mean().item()
    return {name: round(value, 4) for name, value in figures.items()}, output


def write_grid(path: Path, degraded: Tensor, output: Tensor, target: Tensor) -> None:
    """A PNG with one face per column: degraded, restored, target."""
    restored = ((output.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    rows = [torch.cat(list(images[:GRID_COLUMNS]), dim=2) for images in (degraded, restored, target)]
    grid = torch.cat(rows, dim=1).permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))


class StopSignal:
    """Set by Ctrl-C and SIGTERM, so that the loop ends after a whole step and leaves a checkpoint."""

    def __init__(self) -> None:
        self.is_set = False

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    def _set(self, number: int, frame: object) -> None:
        self.is_set = True


def train(config: TrainConfig, faces: FaceSet, folder: Path, stop: StopSignal | None = None) -> TrainState:
    """Run to the end, or go on from the newest checkpoint in `folder`. Checkpoints, `log.jsonl` and grids go there."""
    loop = config.loop
    torch.set_num_threads(loop.threads)
    cv2.setNumThreads(0)  # a forked worker would wait for ever for the threads that stayed with its parent
    folder.mkdir(parents=True, exist_ok=True)
    state = TrainState(config)
    if saved := checkpoints(folder):
        state.load(saved[-1])
        logger.info("going on from %s", saved[-1])
    forward = torch.compile(state.net, dynamic=False) if loop.compile else state.net
    assert isinstance(forward, nn.Module)

    mix = DegradationMix(config.degradation)
    train_indices, val_indices = split(faces, config.data)
    weights = show_weights(faces, train_indices, config.data)
    batches = PairBatches(
        faces,
        train_indices,
        weights,
        mix,
        batch_size=loop.batch_size,
        shift_px=config.data.shift_px,
        seed=loop.seed,
    )
    last_step = loop.steps if loop.steps is not None else 10**9
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(state.steps_done, last_step),
        num_workers=config.data.workers,
    )
    # A fixed random choice, so that the faces of every source are among them.
    shuffled = np.random.default_rng(loop.seed).permutation(val_indices)[: loop.val_faces]
    val_degraded, val_target = val_pairs(faces, shuffled, mix)
    logger.info("%d faces to train on, %d to validate with", len(train_indices), len(shuffled))

    log_path = folder / "log.jsonl"
    last_val_s = last_save_s = before_s = state.elapsed_s
    crops_since, since_s = 0, time.monotonic()
    begin_s = time.monotonic() - state.elapsed_s
    for degraded, target in loader:
        if state.progress >= 1 or (stop is not None and stop.is_set):
            break
        record = train_step(state, forward, degraded, target)
        state.elapsed_s = time.monotonic() - begin_s
        crops_since += len(degraded)
        if state.steps_done % 50 == 0:
            now_s = time.monotonic()
            record |= {
                "step": state.steps_done,
                "minutes": state.elapsed_s / 60,
                "crops_per_s": crops_since / (now_s - since_s),
            }
            append_line(log_path, record)
            crops_since, since_s = 0, now_s
        if state.elapsed_s - last_val_s >= loop.val_minutes * 60:
            report_val(state, val_degraded, val_target, folder, log_path)
            last_val_s = state.elapsed_s = time.monotonic() - begin_s
        if state.elapsed_s - last_save_s >= loop.checkpoint_minutes * 60:
            state.save(folder)
            last_save_s = state.elapsed_s
    if state.steps_done:
        report_val(state, val_degraded, val_target, folder, log_path)
    logger.info(
        "%s after %d steps, %.1f minutes here", state.save(folder), state.steps_done, (state.elapsed_s - before_s) / 60
    )
    return state


def report_val(state: TrainState, degraded: Tensor, target: Tensor, folder: Path, log_path: Path) -> None:
    """Validate, and write the figures to the log and the state, and the pictures to a grid."""
    state.val, output = validate(state, degraded, target)
    append_line(log_path, {"step": state.steps_done, "minutes": state.elapsed_s / 60, "val": state.val})
    write_grid(folder / f"grid_{state.steps_done:08d}.png", degraded, output, target)
    thirds = " ".join(f"{state.val[f'psnr_{name}']:.2f} ({state.val[f'gain_{name}']:+.2f})" for name in VAL_THIRDS)
    logger.info(
        "step %d, %.1f min: heavy, medium, mild %s dB; sharpness %.3f; clean %.1f dB",
        *(state.steps_done, state.elapsed_s / 60, thirds, state.val["sharpness"], state.val["clean_psnr"]),
    )


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    with path.open("a") as lines:
        lines.write(json.dumps(record) + "\n")


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True, help="TOML file of the run.")
@click.option("--faces", help="Folder of training faces, instead of the config's.")
@click.option("--run", "folder", type=click.Path(path_type=Path), help="Folder of the run; runs/NAME if not given.")
@click.option("--minutes", type=float, help="Length of the run, instead of the config's.")
def main(config_path: Path, faces: str | None, folder: Path | None, minutes: float | None) -> None:
    """Train a restorer, or go on with the run that is in its folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        config = TrainConfig.from_toml(config_path)
        if faces is not None:
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, faces=faces))
        if minutes is not None:
            config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, minutes=minutes, steps=None))
        face_set = pack_faces(config.data, config.template, config.model.size_px)
        stop = StopSignal()
        stop.install()
        train(config, face_set, folder or Path("runs") / config.name, stop)
    except InputError as exc:
        raise click.ClickException(str(exc)) from exc


if __name__ == "__main__":
    main()
