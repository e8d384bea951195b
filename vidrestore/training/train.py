"""Train a restorer: the loop, and the command line of a machine that has only PyTorch, NumPy and OpenCV.

What the loop changes is in `state.py`, what a step does in `trainer.py`. Batch k and everything drawn for it depend on
the seed and k alone, and a checkpoint holds all that the loop changes, so a run that was cut goes on as if it had not
been.

On such a machine: `python -m vidrestore.training.train CONFIG --faces FILE.faces`.
"""

import argparse
import dataclasses
import logging
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vidrestore.errors import InputError, SourceError, TargetError
from vidrestore.training.checkpoint import checkpoints
from vidrestore.training.config import TrainConfig
from vidrestore.training.data import DegradationMix, FaceSet, PairBatches, load_faces, show_weights, split, val_pairs
from vidrestore.training.ranks import Ranks, first_alone, joined_ranks, on_any_rank
from vidrestore.training.run_log import RunLog
from vidrestore.training.state import TrainState
from vidrestore.training.stopping import StopSignal, WorkerShield
from vidrestore.training.trainer import Trainer
from vidrestore.training.validation import validate

logger = logging.getLogger("vidrestore")

LOG_EVERY_STEPS = 50


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
                measured, output = validate(state, val_degraded, val_target)
                state.val = {"step": state.steps_done, **measured}
                log.validation(state.steps_done, measured, (val_degraded, output, val_target))

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
