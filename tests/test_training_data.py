"""Promises of the training data."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from vidrestore.errors import SourceError
from vidrestore.face import template_px
from vidrestore.training.data import (
    DataConfig,
    DegradationConfig,
    DegradationMix,
    FaceSet,
    PairBatches,
    align_face,
    in_val,
    pack_faces,
    show_weights,
)

MIX = DegradationMix(DegradationConfig(mix={"soft": 1.0}))


def made_up_faces(count: int = 6, side_px: int = 32) -> FaceSet:
    crops = np.random.default_rng(5).integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8)
    return FaceSet(crops, tuple(f"a/{number}.png" for number in range(count)), np.ones(count))


def batches(faces: FaceSet, seed: int = 1) -> PairBatches:
    indices = np.arange(len(faces.names))
    weights = show_weights(faces, indices, DataConfig())
    return PairBatches(faces, indices, weights, MIX, batch_size=3, shift_px=2, seed=seed)


@pytest.mark.parametrize("scale", [0.7, 3.0])
def test_landmarks_land_on_the_template(scale: float) -> None:
    """Dots drawn on a picture's landmarks are within half a pixel of the template in the crop."""
    template = template_px("tight", 128)
    landmarks = template * scale + (20, 10)
    side_px = int(128 * scale) + 40
    for point in range(5):
        picture = np.zeros((side_px, side_px, 3), np.uint8)
        y, x = np.mgrid[:side_px, :side_px]
        distance = np.hypot(x - landmarks[point, 0], y - landmarks[point, 1])
        picture[:] = (255 * np.exp(-0.5 * (distance / (2 * scale)) ** 2))[:, :, None].astype(np.uint8)
        crop = align_face(picture, landmarks, template, 128)[..., 0].astype(float)
        rows, columns = np.mgrid[:128, :128]
        center = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
        assert np.linalg.norm(center - template[point]) < 0.5


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


def test_packing_drops_small_faces_and_is_done_once(tmp_path: Path) -> None:
    header = "file\t" + "\t".join(
        f"{name}_{axis}" for name in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy"
    )
    lines = [header]
    for name, size_px in (("big.png", 200), ("small.png", 80)):
        cv2.imwrite(str(tmp_path / name), np.full((size_px, size_px, 3), 90, np.uint8))
        lines.append(name + "\t" + "\t".join(f"{value:.1f}" for value in template_px("tight", size_px).ravel()))
    (tmp_path / "landmarks.tsv").write_text("\n".join(lines))
    config = DataConfig(faces=str(tmp_path), cache=str(tmp_path / "cache"))
    faces = pack_faces(config, "tight", 64)
    assert faces.names == ("big.png",)
    assert faces.crops.shape == (1, 64, 64, 3)
    (tmp_path / "big.png").unlink()
    assert np.array_equal(pack_faces(config, "tight", 64).crops, faces.crops)


def test_a_folder_without_landmarks_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="landmarks.tsv"):
        pack_faces(DataConfig(faces=str(tmp_path)), "tight", 64)
