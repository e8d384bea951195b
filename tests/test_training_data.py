"""Promises of the training data."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vidrestore.errors import OptionsError, SourceError
from vidrestore.face import template_px
from vidrestore.training.data import (
    DataConfig,
    DegradationConfig,
    DegradationMix,
    FaceSet,
    PairBatches,
    in_val,
    load_faces,
    show_weights,
    val_pairs,
)
from vidrestore.training.packed import LANDMARK_COLUMNS, pack

REPOSITORY = Path(__file__).resolve().parents[1]
MIX = DegradationMix(DegradationConfig(mix={"soft": 1.0}))
ABSENT = (
    *("av", "click", "facexlib", "filterpy", "matplotlib", "PIL", "platformdirs", "pooch", "requests", "safetensors"),
    *("scipy", "tensorboard", "torchvision", "tqdm"),
)
"""Packages that a machine lent for training may lack."""


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two pictures with landmarks: eyes 72 px and 29 px apart."""
    faces = tmp_path / "faces"
    lines = ["\t".join(("file", *LANDMARK_COLUMNS))]
    for name, side_px in (("a/big.png", 200), ("b/small.png", 80)):
        (faces / name).parent.mkdir(parents=True)
        cv2.imwrite(str(faces / name), cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (side_px, side_px)))
        lines.append("\t".join((name, *(f"{value:.1f}" for value in template_px("tight", side_px).ravel()))))
    (faces / "landmarks.tsv").write_text("\n".join(lines))
    return faces


def made_up_faces(count: int = 6, side_px: int = 32) -> FaceSet:
    crops = np.random.default_rng(5).integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8)
    return FaceSet(crops, tuple(f"a/{number}.png" for number in range(count)), np.ones(count))


def batches(faces: FaceSet, *, batch_size: int = 3, seed: int = 1, rank: int = 0, num_ranks: int = 1) -> PairBatches:
    indices = np.arange(len(faces.names))
    weights = show_weights(faces, indices, DataConfig())
    shares = {"batch_size": batch_size, "rank": rank, "num_ranks": num_ranks}
    return PairBatches(faces, indices, weights, MIX, shift_px=2, seed=seed, **shares)


def test_split_depends_on_the_name_alone() -> None:
    names = [f"folder/{number}.jpg" for number in range(4000)]
    share = np.mean([in_val(name, 0.1) for name in names])
    assert 0.08 < share < 0.12
    assert all(in_val(name, 0.1) == in_val("elsewhere/" + Path(name).name, 0.1) for name in names)


def test_a_batch_depends_on_seed_and_number_alone() -> None:
    faces = made_up_faces()
    degraded, target = batches(faces)[4]
    again, _ = batches(faces)[4]
    assert degraded.shape == target.shape == (3, 3, 32, 32)
    assert (degraded == again).all()
    assert (degraded != batches(faces)[5][0]).any()
    assert (degraded != batches(faces, seed=2)[4][0]).any()


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_share_one_batch_between_them(num_ranks: int) -> None:
    """Put together, what the ranks prepare is to the bit the batch of a single process; no item is seen twice."""
    faces = made_up_faces()
    whole = batches(faces, batch_size=8)[3]
    parts = [batches(faces, batch_size=8, rank=rank, num_ranks=num_ranks)[3] for rank in range(num_ranks)]
    for kind in (0, 1):
        together = torch.empty_like(whole[kind])
        for rank, part in enumerate(parts):
            assert len(part[kind]) == 8 // num_ranks
            together[rank::num_ranks] = part[kind]
        assert torch.equal(together, whole[kind])


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(OptionsError, match="multiple of the 3 ranks"):
        batches(made_up_faces(), batch_size=8, num_ranks=3)


def test_validation_stays_the_same_when_faces_are_added() -> None:
    """The degradation of a validation face depends on its name alone."""
    few, many = made_up_faces(3), made_up_faces(6)
    moved = FaceSet(np.roll(many.crops, 2, axis=0), (*many.names[-2:], *many.names[:-2]), many.sharpness)
    before, after = val_pairs(few, np.arange(3), MIX), val_pairs(moved, np.arange(2, 5), MIX)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_half_of_the_faces_are_mirrored() -> None:
    """Of 64 faces, each dark on one side, 20 to 44 are dark on the other."""
    crops = np.full((1, 32, 32, 3), 230, np.uint8)
    crops[:, :, :16] = 20
    _, target = batches(FaceSet(crops, ("a.png",), np.ones(1)), batch_size=64)[0]
    mirrored = int((target[:, 1, 16, 28] < target[:, 1, 16, 4]).sum())
    assert 20 <= mirrored <= 44


def test_a_folder_is_packed_once_and_small_faces_are_left_out(folder: Path, tmp_path: Path) -> None:
    config = DataConfig(faces=str(folder), cache=str(tmp_path / "cache"))
    faces = load_faces(config, "tight", 64)
    assert faces.names == ("a/big.png",)
    assert faces.crops[0].shape == (64, 64, 3)
    (packed,) = (tmp_path / "cache").iterdir()
    written_ns = packed.stat().st_mtime_ns
    lower = dataclasses.replace(config, min_eye_distance_px=20)
    assert load_faces(lower, "tight", 64).names == ("a/big.png", "b/small.png")
    assert packed.stat().st_mtime_ns == written_ns
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [packed.name]
    (folder / "landmarks.tsv").write_text((folder / "landmarks.tsv").read_text() + "\n")
    load_faces(config, "tight", 64)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_packed_file_serves_any_size_and_keeps_the_limit_on_soft_faces(folder: Path, tmp_path: Path) -> None:
    """The limit is about the eyes in the source picture, not in the packed crop."""
    pack(folder, tmp_path / "faces.zip", crop_px=160)
    config = DataConfig(faces=str(tmp_path / "faces.zip"), cache=str(tmp_path / "none"))
    for crop_px in (64, 160, 256):
        faces = load_faces(config, "tight", crop_px)
        assert faces.names == ("a/big.png",)
        assert faces.crops[0].shape == (crop_px, crop_px, 3)
    assert not (tmp_path / "none").exists()


def test_faces_packed_for_another_template_are_refused(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "faces.zip", template="gpen", crop_px=64)
    with pytest.raises(SourceError, match="for template gpen, not tight"):
        load_faces(DataConfig(faces=str(tmp_path / "faces.zip")), "tight", 64)


def test_a_limit_that_leaves_no_face_is_named(folder: Path, tmp_path: Path) -> None:
    config = DataConfig(faces=str(folder), cache=str(tmp_path / "cache"), min_eye_distance_px=1000)
    with pytest.raises(SourceError, match="1000 px apart"):
        load_faces(config, "tight", 64)


def test_batches_are_made_without_pyav_and_the_other_packages(folder: Path, tmp_path: Path) -> None:
    """From a packed file on a machine that has PyTorch, numpy and OpenCV alone; worker processes included."""
    pack(folder, tmp_path / "faces.zip", crop_px=64)
    code = f"""
import sys
for name in {ABSENT!r}:
    sys.modules[name] = None
import numpy as np
from torch.utils.data import DataLoader
import vidrestore.training.packed
from vidrestore.training.data import *
from vidrestore.training.degrade import PRESETS
from vidrestore.training.degrade_steps import HAS_PYAV
assert not HAS_PYAV
config = DataConfig(faces={str(tmp_path / "faces.zip")!r}, min_eye_distance_px=20)
faces = load_faces(config, "tight", 64)
mix = DegradationMix(DegradationConfig(mix={{name: 1.0 for name in PRESETS}}))
indices = np.arange(2)
batches = PairBatches(faces, indices, np.full(2, 0.5), mix, batch_size=16, shift_px=2, seed=1)
for degraded, target in DataLoader(batches, batch_size=None, sampler=range(2), num_workers=1):
    print(*degraded.shape, int((degraded != target).any()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.splitlines() == ["16 3 64 64 1"] * 2, done.stderr
