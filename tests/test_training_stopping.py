"""Promises of Ctrl-C and SIGTERM."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.training_runs import ALONE, smooth_faces, tiny_config, write_noise_faces
from vidrestore.training.checkpoint import checkpoints
from vidrestore.training.data import FaceSet
from vidrestore.training.packed import pack
from vidrestore.training.stopping import StopSignal
from vidrestore.training.train import train

REPOSITORY = Path(__file__).parents[1]


def test_ctrl_c_leaves_a_checkpoint(tmp_path: Path) -> None:
    """The signal is sent before the third step: two are done, and saved."""
    faces = smooth_faces()

    class InterruptedFaces:
        """Sends SIGINT when the fifth crop is asked for."""

        asked = 0

        def __getitem__(self, number: int) -> np.ndarray:
            self.asked += 1
            if self.asked == 5 + 4:  # after the validation faces
                os.kill(os.getpid(), signal.SIGINT)
            return np.asarray(faces.crops[number])

    stop = StopSignal()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop.install()
        interrupted = FaceSet(InterruptedFaces(), faces.names, faces.sharpness)
        train(tiny_config(50), interrupted, tmp_path, ALONE, stop=stop)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000002.pt"]


def test_a_stop_for_all_processes_leaves_a_checkpoint(tmp_path: Path) -> None:
    """SIGTERM to the whole group, as a job scheduler sends it, once the first checkpoint is there."""
    pack(write_noise_faces(tmp_path / "faces"), tmp_path / "all.faces", crop_px=64)
    config = dataclasses.replace(
        tiny_config(100_000),
        data=dataclasses.replace(tiny_config(1).data, workers=1, faces=str(tmp_path / "all.faces")),
        loop=dataclasses.replace(tiny_config(100_000).loop, save_every_steps=1, checkpoints_kept=1, val_faces=3),
    )
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from vidrestore.training.config import TrainConfig\n"
        "from vidrestore.training.train import run\n"
        f"run(TrainConfig.from_table(json.loads({json.dumps(config.as_table())!r})), "
        f"folder=Path({str(tmp_path / 'run')!r}), device='cpu')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not checkpoints(tmp_path / "run"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert len(checkpoints(tmp_path / "run")) == 1
