"""A disk that cannot hold the output is found before the first frame, and no run is refused that would have fitted."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.clips import CLIPS
from tests.copies import copy
from vidrestore.errors import TargetError
from vidrestore.frame import VideoInfo
from vidrestore.space import NUM_COPIES, check_space, samples_per_frame
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.read import VideoReader

GB = 10**9
FreeDisk = Callable[[float], None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FreeDisk:
    """Sets how many bytes are free."""

    def has_free(num_bytes: float) -> None:
        usage = SimpleNamespace(total=1000 * GB, used=0, free=int(num_bytes))
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)

    return has_free


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    """Two hours of 1080p at 24 frames/s."""
    with VideoReader(CLIPS["silent"].make(tmp_path)) as reader:
        return replace(reader.info, width_px=1920, height_px=1080, num_frames_from_header=172_800, duration_s=7200.0)


def test_a_lossless_film_of_two_hours_needs_gigabytes_and_the_line_says_how_many(
    disk: FreeDisk, info: VideoInfo
) -> None:
    arguments = {"info": info, "num_frames": 172_800, "source_bytes": 8 * GB, "is_lossless": True}
    disk(10 * GB)
    with pytest.raises(TargetError) as caught:
        check_space(Path("/archive"), **arguments)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith("/archive: 10 GB are free, and at least 12.8 GB are needed; free space")
    assert "\n" not in message
    disk(100 * GB)
    warning = check_space(Path("/archive"), **arguments)  # type: ignore[arg-type]
    assert warning is not None
    assert "about 134 GB will be needed" in warning  # 1 bit a sample, twice
    disk(200 * GB)
    assert check_space(Path("/archive"), **arguments) is None  # type: ignore[arg-type]


def test_a_lossy_film_needs_less(disk: FreeDisk, info: VideoInfo) -> None:
    disk(1 * GB)
    with pytest.raises(TargetError, match="at least 2.4 GB"):
        check_space(Path("d"), info=info, num_frames=172_800, source_bytes=8 * GB, is_lossless=False)
    disk(5 * GB)
    warning = check_space(Path("d"), info=info, num_frames=172_800, source_bytes=8 * GB, is_lossless=False)
    assert warning is not None
    assert "about 8 GB" in warning
    disk(0)
    coarse = check_space(
        Path("d"), info=info, num_frames=172_800, source_bytes=8 * GB, is_lossless=False, is_coarse=True
    )
    assert coarse is None


def test_a_span_needs_its_share_and_finished_parts_count(disk: FreeDisk, info: VideoInfo) -> None:
    disk(0.2 * GB)
    assert check_space(Path("d"), info=info, num_frames=172, source_bytes=8 * GB, is_lossless=True) is None
    with pytest.raises(TargetError):
        check_space(Path("d"), info=info, num_frames=None, source_bytes=8 * GB, is_lossless=True)
    done = 13 * GB
    line = check_space(Path("d"), info=info, num_frames=None, source_bytes=8 * GB, is_lossless=True, done_bytes=done)
    assert line is not None


def test_what_nobody_knows_is_not_held_against_a_run(
    disk: FreeDisk, info: VideoInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(0)
    unknown = replace(info, num_frames_from_header=None, duration_s=None)
    assert check_space(Path("d"), info=unknown, num_frames=None, source_bytes=GB, is_lossless=True) is None
    silent = SimpleNamespace(total=0, used=0, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: silent)
    assert check_space(Path("d"), info=info, num_frames=None, source_bytes=GB, is_lossless=True) is None
    monkeypatch.undo()
    assert check_space(Path("/no/such"), info=info, num_frames=None, source_bytes=GB, is_lossless=True) is None


def encoded_bytes(source: Path, folder: Path, encode: EncodeSettings, suffix: str, **span: float) -> int:
    output = folder / f"encoded{suffix}"
    copy(source, output, encode, **span)
    return output.stat().st_size


ENCODINGS = (
    (EncodeSettings(lossless=True), ".mkv"),
    (EncodeSettings(lossless=True), ".mp4"),
    (EncodeSettings(), ".mp4"),
    (EncodeSettings(codec="hevc"), ".mp4"),
    (EncodeSettings(quality="share"), ".mp4"),
)


@pytest.mark.parametrize("name", ["silent", "b_frames", "long", "hevc_10_bit", "yuv444", "gray", "rgb", "huffyuv_avi"])
@pytest.mark.parametrize("encode", range(len(ENCODINGS)))
def test_no_made_clip_is_refused_on_a_disk_where_it_fits_twice(
    name: str, encode: int, disk: FreeDisk, tmp_path: Path
) -> None:
    """Smooth, tiny pictures: what compresses best. One is uncompressed."""
    settings, suffix = ENCODINGS[encode]
    source = CLIPS[name].make(tmp_path)
    if CLIPS[name].has_subtitles and suffix == ".mkv":
        suffix = ".mp4"
    size = encoded_bytes(source, tmp_path, settings, suffix)
    with VideoReader(source) as reader:
        like, num_frames = reader.info, reader.num_frames_expected
    disk(NUM_COPIES * size)
    check_space(
        tmp_path, info=like, num_frames=num_frames, source_bytes=source.stat().st_size, is_lossless=settings.lossless
    )


def told(folder: Path, **arguments: Any) -> str | None:
    """What the user reads: a refusal or a warning."""
    with contextlib.suppress(TargetError):
        return check_space(folder, **arguments)
    return "refused"


@pytest.mark.parametrize("encode", [0, 1, 2, 4])
def test_real_clips_fit_where_they_fit_and_a_tenth_of_that_is_refused_or_warned_of(
    encode: int, shared: Path, disk: FreeDisk, tmp_path: Path
) -> None:
    settings, suffix = ENCODINGS[encode]
    for source in sorted((shared / "clips").glob("*.mp4"))[::3]:
        size = encoded_bytes(source, tmp_path, settings, suffix, end_s=1.3)
        with VideoReader(source, end_s=1.3) as reader:
            like, num_frames = reader.info, reader.num_frames_expected
        arguments = {"info": like, "num_frames": num_frames, "is_lossless": settings.lossless}
        whole = source.stat().st_size
        disk(NUM_COPIES * size)
        check_space(tmp_path, source_bytes=whole, **arguments)  # type: ignore[arg-type]
        disk(0.1 * NUM_COPIES * size)
        assert told(tmp_path, source_bytes=whole, **arguments)


def test_chroma_counts_by_its_size(info: VideoInfo) -> None:
    assert samples_per_frame(info) == 1920 * 1080 * 3 // 2
