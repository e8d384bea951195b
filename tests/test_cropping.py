"""Marks by which players leave out the edges stay, or a warning says that they are lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.clips import CLIPS
from tests.copies import copy, read, same_samples
from vidrestore.frame import Cropping
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter

MARKS = Cropping(top_px=2, bottom_px=4, left_px=6, right_px=0)


def marked(folder: Path, suffix: str) -> Path:
    source, path = CLIPS["silent"].make(folder), folder / f"marked{suffix}"
    with VideoReader(source) as reader:
        like = replace(reader.info, cropping=MARKS)
        encode = EncodeSettings("ffv1", lossless=True)
        with VideoWriter(path, like=like, source=source, encode=encode) as writer:
            for frame in reader.frames():
                writer.write(frame)
    return path


def cropping(path: Path) -> Cropping | None:
    with VideoReader(path) as reader:
        return reader.info.cropping


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_they_are_read_and_all_samples_are_there(suffix: str, tmp_path: Path) -> None:
    path = marked(tmp_path, suffix)
    assert cropping(path) == MARKS
    assert same_samples(read(path), read(CLIPS["silent"].make(tmp_path)))


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", ".mp4"), ("h264", ".mkv"), ("h264", ".mov"), ("hevc", ".mp4"), ("hevc", ".mkv"), ("ffv1", ".mkv")]
    + [("vp9", ".webm"), ("vp9", ".mp4"), ("mpeg2", ".mkv"), ("mpeg2", ".mov"), ("mpeg4", ".mp4")]
    + [("mjpeg", ".mkv"), ("prores", ".mov"), ("prores", ".mkv")],
)
def test_they_are_kept(codec: str, suffix: str, tmp_path: Path) -> None:
    source, target = marked(tmp_path, ".mkv"), tmp_path / f"copy{suffix}"
    codec = {"mpeg2": "mpeg2video"}.get(codec, codec)
    frames = copy(source, target, EncodeSettings(codec), warns="chroma samples lie at" if codec == "mjpeg" else None)
    assert cropping(target) == MARKS
    assert len(read(target)) == len(frames)


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".ts"), ("mpeg4", ".avi"), ("av1", ".mp4"), ("auto", ".mxf")])
def test_where_they_have_no_place_a_warning_names_them(codec: str, suffix: str, tmp_path: Path) -> None:
    marks = "loses the cropping marks (top 2 px, bottom 4 px, left 6 px): players will show the whole picture"
    copy(marked(tmp_path, ".mkv"), tmp_path / f"copy{suffix}", EncodeSettings(codec), warns=marks)
    assert cropping(tmp_path / f"copy{suffix}") is None
