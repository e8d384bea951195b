"""A face in an HDR picture is shown to the models as on an ordinary screen, and only their change goes back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import CLIPS
from tests.fakes import IdentityRestorer
from tests.test_pipeline import one_face
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.pixels import rgb_picture
from vidrestore.tone import signal_delta, view_of_signal
from vidrestore.video.read import VideoReader


def signal_of_light(cd_m2: float) -> float:
    """SMPTE ST 2084's inverse function, in 0..255."""
    share = (cd_m2 / 10_000) ** 0.1593017578125
    return float(255 * ((0.8359375 + 18.8515625 * share) / (1 + 18.6875 * share)) ** 78.84375)


@pytest.mark.parametrize(
    ("cd_m2", "low", "high"),
    [(0.0, 0, 3), (36, 115, 135), (100, 180, 200), (203, 215, 230), (1000, 235, 245), (10_000, 254.9, 255)],
    ids=["black", "18 % grey", "bright skin", "white page", "lamp", "peak"],
)
def test_light_is_as_bright_as_on_an_ordinary_screen(cd_m2: float, low: float, high: float) -> None:
    assert low <= view_of_signal(np.float32([signal_of_light(cd_m2)]))[0] <= high


def light_of_signal(signal: float) -> float:
    """SMPTE ST 2084, in cd/m2."""
    root = (signal / 255) ** (1 / 78.84375)
    return float(10_000 * (max(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125))


def test_the_view_rises_with_the_signal() -> None:
    assert (np.diff(view_of_signal(np.linspace(0, 255, 4001).astype(np.float32))) > 0).all()


def test_no_change_is_exactly_no_change_and_a_change_of_skin_looks_as_wanted() -> None:
    rng = np.random.default_rng(1)
    signal = rng.uniform(-5, 260, (40, 40, 3)).astype(np.float32)
    assert not signal_delta(signal, np.zeros_like(signal)).any()
    skin = rng.uniform(20, signal_of_light(100), (40, 40, 3)).astype(np.float32)
    wanted = rng.uniform(-10, 10, skin.shape).astype(np.float32)
    after = view_of_signal(skin + signal_delta(skin, wanted))
    possible = np.clip(view_of_signal(skin) + wanted, 0, 255)
    assert np.abs(after - possible).max() < 0.05


@pytest.mark.parametrize("cd_m2", [150, 203, 600, 1000, 4000])
@pytest.mark.parametrize("delta", [-15, 3, 15])
def test_bright_parts_change_by_no_larger_share_of_their_light_than_on_an_ordinary_screen(
    cd_m2: float, delta: float
) -> None:
    """A bright edge that is 15 levels too bright would else shine with 1,000 cd/m2 beside a white wall of 203."""
    signal = np.float32([signal_of_light(cd_m2)])
    view = float(view_of_signal(signal)[0])
    after = light_of_signal(float((signal + signal_delta(signal, np.float32([delta])))[0]))
    on_screen = ((view + delta) / view) ** 2.4
    assert after / cd_m2 == pytest.approx(on_screen, rel=0.02)


class Brighter(IdentityRestorer):
    """Adds a brighter spot, and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[NDArray[np.uint8]] = []

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.seen.extend(crops.copy())
        better = super().restore(crops).astype(int)
        better[:, 16:32, 16:48] += 20
        better[:, 32:48, 16:48] -= 20
        return np.clip(better, 0, 255).astype(np.uint8)


def test_the_restorer_sees_the_view_and_the_picture_changes_as_it_said(tmp_path: Path) -> None:
    clip = CLIPS["hdr10"]
    source, target, restorer = clip.make(tmp_path), tmp_path / "out.mkv", Brighter()
    models = Models(one_face(clip), restorer)
    options = Options(lossless=True, min_face_px=1, temporal="off")
    restore_video(source, target, options, models=models)
    with VideoReader(source) as before, VideoReader(target) as after:
        one, other = next(before.frames()), next(after.frames())
        assert after.info.light == before.info.light
    assert one.layout.is_pq
    view, changed = rgb_picture(one.planes, one.layout), rgb_picture(other.planes, other.layout)
    raw = rgb_picture(one.planes, replace(one.layout, is_pq=False))
    seen = restorer.seen[0][28:36, 28:36].mean()
    middle = (slice(21, 27), slice(29, 35))
    assert abs(seen - view[middle].mean()) < 15
    assert view[middle].mean() - raw[middle].mean() > 30  # the raw signal is darker
    difference = changed.astype(int) - view
    assert difference.max() > 5
    assert difference.min() < -5
    outside = np.ones(view.shape[:2], bool)
    outside[:, 8:-8] = False  # the crop is higher than the picture
    assert not difference[outside].any()
