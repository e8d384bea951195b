"""Samples show the frames of the clip at the times they claim, whichever library reads them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.clips import CLIPS, picture_rgb
from vidrestore.errors import SourceError
from vidrestore.frame import Frame
from vidrestore.pixels import rgb_picture
from vidrestore.video.sample import sample_frames

EVERYWHERE = [name for name in CLIPS if name != "mpeg2_ts"]


def without_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)  # importing it now raises ImportError


def check(samples: list[Frame], name: str, *, count: int) -> None:
    clip = CLIPS[name]
    times_s = [float(pts * clip.time_base) for pts in clip.frame_pts]
    assert len(samples) == min(count, clip.num_frames)
    assert [sample.index for sample in samples] == list(range(len(samples)))
    assert [sample.pts for sample in samples] == sorted({sample.pts for sample in samples})
    for sample in samples:
        assert sample.time_s in times_s
        assert (sample.width_px, sample.height_px) == (clip.width_px, clip.height_px)


@pytest.mark.parametrize("name", ["h264", "late_start", "hevc_10_bit", "odd_size_vp9", "long", "rotated", "one_frame"])
def test_samples_are_spread_over_the_clip(name: str, tmp_path: Path) -> None:
    check(sample_frames(CLIPS[name].make(tmp_path), 4), name, count=4)


@pytest.mark.parametrize("name", ["h264", "b_frames", "long"])
def test_pyav_serves_where_decord_is_not_installed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_decord(monkeypatch)
    samples = sample_frames(CLIPS[name].make(tmp_path), 4)
    check(samples, name, count=4)
    assert {sample.layout.name for sample in samples} == {"yuv420p"}  # the source's own planes


@pytest.mark.parametrize("missing", [False, True])
def test_the_picture_is_that_of_its_time(missing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing:
        without_decord(monkeypatch)
    for sample in sample_frames(CLIPS["rgb"].make(tmp_path), 3):
        rgb = rgb_picture(sample.planes, sample.layout)
        error = np.abs(rgb.astype(int) - picture_rgb(round(sample.time_s * 25), 64, 48)).mean()
        assert error < 1  # levels; the next frame is 8 away


@pytest.mark.parametrize("name", ["h264", "rotated", "half_turn"])
def test_a_picture_is_as_stored_even_if_players_turn_it(name: str, tmp_path: Path) -> None:
    for sample in sample_frames(CLIPS[name].make(tmp_path), 3):
        rgb = rgb_picture(sample.planes, sample.layout)
        error = np.abs(rgb.astype(int) - picture_rgb(round(sample.time_s * 25), 64, 48)).mean()
        assert error < 10  # levels; upside down it is 64 off and more


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_clip_gives_at_least_one_sample(name: str, tmp_path: Path) -> None:
    assert sample_frames(CLIPS[name].make(tmp_path), 2)


def test_decord_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sample_frames(CLIPS["h264"].make(tmp_path), 2)
    sample_frames(CLIPS["damaged"].make(tmp_path), 2)
    assert capfd.readouterr().err == ""


def test_bad_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("dear diary, " * 200)
    with pytest.raises(SourceError, match="not a readable video"):
        sample_frames(tmp_path / "text.mp4", 2)
    with pytest.raises(ValueError, match="num_frames is 0"):
        sample_frames(tmp_path / "text.mp4", 0)
