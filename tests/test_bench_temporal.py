"""The scenes of `bench/temporal.py` are what they say, so that its figures can be believed."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from vidrestore.images import frame_from_rgb
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.stages.detect import detect_faces

BENCH = Path(__file__).parent / "bench"
"""Scripts, which import one another by their bare names."""


@pytest.fixture(scope="module")
def scenes() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCH), *sys.path])
        yield importlib.import_module("temporal_set")


@pytest.fixture(scope="module")
def bench(scenes: ModuleType) -> ModuleType:
    return importlib.import_module("temporal")


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_detector("retinaface-lite", device="cpu")


@pytest.fixture(scope="module")
def scripts(scenes: ModuleType, detector: Any) -> Any:
    return scenes.scripts(scenes.read_portraits([], detector))


@pytest.mark.parametrize("name", ["two people cross", "still, H.264"])
def test_the_same_scene_is_made_twice(scenes: ModuleType, scripts: Any, name: str) -> None:
    first, second = (scenes.make(name, scripts[name], 3) for _ in range(2))
    assert np.array_equal(first.places_px, second.places_px)
    for one, other in zip(first.frames, second.frames, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))


@pytest.mark.parametrize(("name", "most_px"), [("fast pan, 100 px/s", 1.5), ("turning head", 2.0)])
def test_the_truth_is_where_the_detector_finds_the_face(
    scenes: ModuleType, scripts: Any, detector: Any, name: str, most_px: float
) -> None:
    scene = scenes.make(name, scripts[name], 24)
    found = detect_faces((frame_from_rgb(picture) for picture in scene.clean), detector, batch_frames=8)
    landmarks_px = np.array([look.faces[0].landmarks_px for look in found])
    away_px = landmarks_px - scene.places_px[:, 0]
    # Each point has its own bias: the truth is what was found in a picture of another size.
    assert np.abs(away_px.mean(axis=0)).max() < 5
    assert np.sqrt(np.square(away_px - away_px.mean(axis=0)).sum(axis=2).mean()) < most_px


def test_a_turned_head_is_turned_back(scenes: ModuleType) -> None:
    points = np.stack(np.meshgrid(np.linspace(-1.1, 1.1, 9), np.linspace(-1.5, 2, 9)), axis=-1)
    assert np.abs(scenes.unturned(scenes.turned(points, 20), 20) - points).max() < 1e-6


def test_talking_changes_mouth_and_eyes_only(scenes: ModuleType, bench: ModuleType, scripts: Any) -> None:
    silent, talking = (scenes.make(name, scripts[name], 20) for name in ("still", "talking and blinking"))
    assert talking.mouth.max() > 0.1
    assert talking.lids.max() > 0.8
    height_px, width_px = silent.clean[0].shape[:2]
    pixels = np.stack(np.meshgrid(np.arange(width_px), np.arange(height_px)), axis=-1).astype(float)
    u, v = np.moveaxis(scenes.apply(bench.face_from_frame(silent.places_px[0, 0]), pixels), -1, 0)
    is_eye = (np.abs(np.abs(u) - 0.5) < 0.25) & (np.abs(v) < 0.15)
    is_jaw = (np.abs(u) < 1) & (v > 0.9) & (v < 2.3)
    for number, (one, other) in enumerate(zip(silent.clean, talking.clean, strict=True)):
        changed = np.any(one != other, axis=2)
        assert not (changed & ~is_eye & ~is_jaw).any()
        assert (changed & is_eye).any() == (talking.lids[number, 0] > 0)
        assert (changed & is_jaw).any() or talking.mouth[number, 0] < 0.01


def test_a_picture_that_comes_a_frame_late_is_told(scenes: ModuleType, bench: ModuleType, scripts: Any) -> None:
    name = "talking and blinking"
    scene = scenes.make(name, scripts[name], 50)
    late = [scene.clean[0], *scene.clean[:-1]]
    for delay, share in bench.movements(scene, late):
        assert delay == pytest.approx(1, abs=0.1)
        assert share < 0.9
    for delay, share in bench.movements(scene, scene.clean):
        assert delay == pytest.approx(0, abs=0.01)
        assert share == pytest.approx(1)


def test_a_cut_brings_another_person(scenes: ModuleType, scripts: Any) -> None:
    scene = scenes.make("cut", scripts["cut to another framing"], 7)
    assert scene.cuts == (3,)
    assert np.isfinite(scene.landmarks_px[:3, 0]).all()
    assert np.isnan(scene.landmarks_px[3:, 0]).all()
    assert np.isfinite(scene.landmarks_px[3:, 1]).all()
    assert np.isnan(scene.landmarks_px[:3, 1]).all()


def test_motion_follows_the_clock_at_a_variable_rate(scenes: ModuleType, scripts: Any) -> None:
    scene = scenes.make("variable", scripts["variable rate"], 12)
    times_s = np.array([frame.time_s for frame in scene.frames])
    assert len(set(np.diff(times_s).round(3))) > 2
    swing_px = 9 * np.sin(5.03 * times_s)  # its path
    center_px = scene.places_px[:, 0].mean(axis=1)
    assert center_px[:, 0] == pytest.approx(240 + swing_px, abs=0.01)


def test_what_the_blob_covers_is_hidden(scenes: ModuleType, scripts: Any) -> None:
    scene = scenes.make("blob", scripts["a blob passes"], 50)
    assert not scene.is_hidden[:25].any()
    assert scene.is_hidden.any(axis=0).all()  # each point at some time
    assert np.array_equal(np.isnan(scene.landmarks_px).any(axis=3), scene.is_hidden)


def test_a_changed_number_is_counted(bench: ModuleType) -> None:
    assert bench.num_switches(np.array([[1, 2], [1, 0], [2, 2], [2, 1]])) == 2
