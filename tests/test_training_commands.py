"""`vidrestore train ...` and `vidrestore evaluate` as a user types them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vidrestore.cli import main
from vidrestore.face import template_px
from vidrestore.training.checkpoint import checkpoints

CONFIGS = Path(__file__).parents[1] / "configs"
CONFIG = """
name = "tiny"
template = "tight"
license = "none"
data_note = "drawn"
[model]
size_px = 32
channel_multiplier = 1
width = 0.0625
style_dim = 16
num_mapping_layers = 2
[data]
cache = {cache}
workers = 0
val_share = 0.3
softest_dropped = 0.0
shift_px = 2
min_eye_distance_px = 10
[degradation]
mix = {{ soft = 1.0 }}
[losses]
l1 = 1.0
adversarial = 0.1
[discriminator]
kind = "patch"
smallest_px = 32
base_channels = 4
[loop]
steps = {steps}
batch_size = 2
compile = false
threads = 1
val_faces = 3
"""


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Twelve drawn faces of 200 px with their table of landmarks."""
    folder = tmp_path / "faces"
    folder.mkdir()
    names = [f"{point}_{axis}" for point in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy"]
    points = template_px("tight", 200)
    rows = ["\t".join(["file", *names])]
    rng = np.random.default_rng(0)
    for number in range(12):
        image = np.full((200, 200, 3), rng.integers(100, 200, 3), np.uint8)
        for x, y in points.round().astype(int).tolist():
            cv2.circle(image, (x, y), 12, rng.integers(0, 90, 3).tolist(), -1)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        rows.append("\t".join([f"{number}.png", *map(str, points.ravel().tolist())]))
    (folder / "landmarks.tsv").write_text("\n".join(rows) + "\n")
    return folder


def config(tmp_path: Path, steps: int) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG.format(cache=json.dumps(str(tmp_path / "cache")), steps=steps))
    return str(path)


def leave(*words: str) -> int:
    """The exit code of one command."""
    try:
        main(words)
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def test_faces_become_a_model_that_restores(tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pack, train, go on, export, evaluate: five commands from a folder of faces to a table of figures."""
    packed, run, weights = tmp_path / "all.faces", tmp_path / "run", tmp_path / "tiny.safetensors"
    assert leave("train", "pack", str(faces), "-o", str(packed), "--size", "48") == 0
    training = ("train", "--faces", str(packed), "--folder", str(run), "--device", "cpu", "--config")
    assert leave(*training, config(tmp_path, 2)) == 0
    assert leave(*training, config(tmp_path, 3)) == 0
    assert [path.name for path in checkpoints(run)] == ["step_00000002.pt", "step_00000003.pt"]
    half = tmp_path / "half.safetensors"
    assert leave("train", "export", str(run), "-o", str(weights)) == 0
    assert leave("train", "export", str(run), "-o", str(half), "--half") == 0
    for path, dtype in ((weights, torch.float32), (half, torch.float16)):
        assert {tensor.dtype for tensor in load_file(path).values()} == {dtype}
    capsys.readouterr()
    words = ("--faces", str(faces), "--split", "all", "--count", "2", "--presets", "call", "--device", "cpu")
    report = tmp_path / "figures.json"
    assert leave("evaluate", "--model", str(weights), *words, "--json", str(report)) == 0
    table = capsys.readouterr().out
    assert all(level in table for level in ("mild", "medium", "heavy"))
    assert "call" in report.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train",), "--config is missing"),
        (("train", "--config", "nowhere.toml"), "nowhere.toml: cannot be read"),
        (("train", "--config", str(CONFIGS / "train_gpen_lite.toml"), "--device", "gpu"), "must be auto, cpu or cuda"),
        (("train", "--config", str(CONFIGS / "train_gpen_lite.toml"), "--faces", "nowhere"), "nowhere"),
        (("train", "export", "nowhere.pt", "-o", "out.safetensors"), "nowhere.pt: there is no such file"),
        (("train", "pack", "nowhere", "-o", "out.faces"), "nowhere"),
        (("train", "detector", "--config", "nowhere.toml", "--faces", "nowhere"), "nowhere.toml: cannot be read"),
        (("train", "export-detector", "nowhere.pt", "-o", "out.safetensors"), "nowhere.pt: there is no such file"),
        (("evaluate", "--model", "gpen-lite-256", "--faces", "nowhere"), "nowhere"),
        (("evaluate", "--model", "gpen-lite-256", "--faces", ".", "--presets", "awful"), "awful"),
    ],
)
def test_mistakes_end_with_one_line(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, the file or option named, no traceback, nothing written."""
    monkeypatch.chdir(tmp_path)
    assert leave(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
