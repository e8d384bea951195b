"""Promises of the training loop."""

import dataclasses
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.fakes import StopAfter
from tests.training_runs import (
    ALONE,
    same_weights,
    smooth_faces,
    tiny_adversarial_config,
    tiny_config,
    write_noise_faces,
)
from vidrestore.errors import SourceError
from vidrestore.training.checkpoint import checkpoints
from vidrestore.training.config import AdversarialConfig, TrainConfig
from vidrestore.training.data import FaceSet
from vidrestore.training.packed import pack
from vidrestore.training.train import train

ABSENT_PACKAGES = (
    *("av", "click", "facexlib", "filterpy", "matplotlib", "PIL", "platformdirs", "pooch", "requests", "safetensors"),
    *("scipy", "skimage", "tensorboard", "torchvision", "tqdm"),
)
"""What a machine lent for training may lack."""


@pytest.mark.parametrize("make_config", [tiny_config, tiny_adversarial_config])
@pytest.mark.parametrize("cut_after", [1, 4])
def test_a_run_that_was_cut_ends_with_the_same_weights(tmp_path: Path, make_config: type, cut_after: int) -> None:
    """Bit for bit, generator, average and discriminator, whether cut before or after the discriminator joined."""
    config: TrainConfig = make_config(7)
    whole = train(config, smooth_faces(), tmp_path / "whole", ALONE)
    half = train(config, smooth_faces(), tmp_path / "cut", ALONE, stop=StopAfter(cut_after))  # type: ignore[arg-type]
    assert half.steps_done == cut_after
    resumed = train(config, smooth_faces(), tmp_path / "cut", ALONE)
    assert resumed.steps_done == whole.steps_done == 7
    assert same_weights(whole.net, resumed.net) == []
    assert same_weights(whole.ema, resumed.ema) == []
    if whole.discriminator is not None:
        assert resumed.discriminator is not None
        assert same_weights(whole.discriminator, resumed.discriminator) == []
        assert torch.equal(whole.path_length.mean, resumed.path_length.mean)


def test_the_loop_runs_on_a_machine_lent_for_training(tmp_path: Path) -> None:
    """With PyTorch, NumPy and OpenCV alone: from a packed file, by the module's own command line, to a checkpoint."""
    pack(write_noise_faces(tmp_path / "faces"), tmp_path / "all.faces", crop_px=64)
    config = tmp_path / "run.toml"
    config.write_text(
        """
        name = "tiny"
        template = "tight"
        license = "none"
        data_note = "noise"
        model = { size_px = 32, channel_multiplier = 1, width = 0.0625, style_dim = 16, num_mapping_layers = 2 }
        data = { workers = 1, val_share = 0.3, softest_dropped = 0.0, shift_px = 2 }
        degradation = { mix = { call = 0.5, archival = 0.5 } }
        losses = { l1 = 1.0, adversarial = 0.1 }
        discriminator = { kind = "patch", smallest_px = 32, base_channels = 4 }
        loop = { steps = 2, batch_size = 2, compile = false, threads = 1, val_faces = 3 }
        """
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT_PACKAGES!r}))\n"
        "from vidrestore.training.train import main\n"
        f"sys.argv[1:] = [{str(config)!r}, '--faces', {str(tmp_path / 'all.faces')!r}, "
        f"'--folder', {str(tmp_path / 'run')!r}, '--device', 'cpu']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.stem for path in checkpoints(tmp_path / "run")] == ["step_00000002"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_face_ends_the_run_with_one_line_and_a_checkpoint(workers: int, tmp_path: Path) -> None:
    class DamagedFaces:
        """The first faces are sound; whoever asks for a seventh meets a damaged one."""

        asked = 0

        def __getitem__(self, number: int) -> np.ndarray:
            self.asked += 1
            if self.asked > 6 + 4:  # after the validation faces
                raise SourceError("all.faces: face 7 is damaged; pack the faces again")
            return np.asarray(faces.crops[number])

    faces = smooth_faces()
    config = tiny_config(50)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=workers))
    with pytest.raises(SourceError) as caught:
        train(config, FaceSet(DamagedFaces(), faces.names, faces.sharpness), tmp_path, ALONE)
    assert str(caught.value) == "all.faces: face 7 is damaged; pack the faces again"
    assert [path.stem for path in checkpoints(tmp_path)] == ["step_00000003"]
    left = multiprocessing.active_children()
    for worker in left:  # as Python does when it exits, and then waits for ever
        worker.terminate()
        worker.join(60)
    assert not any(worker.is_alive() for worker in left)


def test_penalties_are_in_the_log(tmp_path: Path) -> None:
    """They are taken every 16th and 4th step, and no logged step is one of those: the newest value stands there."""
    config = tiny_adversarial_config(50)
    config = dataclasses.replace(config, adversarial=AdversarialConfig(from_step=2))
    train(config, smooth_faces(), tmp_path, ALONE)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"r1", "path_length", "discriminator", "l1"} <= lines[0]["train"].keys()


def test_a_run_can_be_watched(tmp_path: Path) -> None:
    """Scalars and grids for TensorBoard, a line of figures for each validation, a grid of 3 rows of 4 faces."""
    pytest.importorskip("tensorboard")
    train(tiny_config(2), smooth_faces(), tmp_path, ALONE)
    assert any((tmp_path / "tensorboard").glob("events.*"))
    assert '"clean_psnr"' in (tmp_path / "log.jsonl").read_text()
    grid = cv2.imread(str(tmp_path / "grid_00000002.png"))
    assert grid is not None
    assert grid.shape == (3 * 32, 4 * 32, 3)
