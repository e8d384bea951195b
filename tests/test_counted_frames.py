"""A container that only counts frames shows each in time, or the source is refused."""

from fractions import Fraction
from pathlib import Path

import av
import av.container
import pytest

from tests.clips import CLIPS
from tests.copies import read, refused, times_s
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("variable_rate", "frames of a variable rate"),
        ("late_start", "that audio track 1 starts 0.850 s before it"),
        ("mpeg2_ps", "a picture that starts at 0.540 s"),
    ],
)
def test_a_clock_that_a_container_without_times_cannot_keep_is_refused(name: str, trouble: str, tmp_path: Path) -> None:
    message = refused(CLIPS[name].make(tmp_path), tmp_path / "copy.avi", EncodeSettings())
    assert message.split(": ", 1)[1].startswith(f".avi counts frames and cannot say {trouble}")
    assert message.endswith("; end the output in .mp4 or .mkv or .mov or .webm")


@pytest.mark.parametrize("name", ["h264", "b_frames", "silent", "damaged"])
def test_avi_shows_every_frame_in_time_with_the_sound(name: str, tmp_path: Path) -> None:
    source, target = CLIPS[name].make(tmp_path), tmp_path / "copy.avi"
    with VideoReader(source) as reader, VideoWriter(target, like=reader.info, source=source) as writer:
        frames = []
        for frame in reader.frames():
            writer.write(frame)
            frames.append(frame)
    assert times_s(read(target)) == times_s(frames)
    with av.open(str(target)) as container:
        assert container.streams.video[0].time_base == Fraction(1, 25)  # not the 600 frames/s that FFmpeg would write
        assert all(abs((stream.start_time or 0) * stream.time_base) < Fraction(1, 25) for stream in container.streams)


def test_h264_does_not_go_into_avi(tmp_path: Path) -> None:
    message = refused(CLIPS["silent"].make(tmp_path), tmp_path / "copy.avi", EncodeSettings("h264"))
    assert message.endswith(".avi cannot hold h264; end the output in .mp4 or .mkv or .mov, or use --codec auto")
