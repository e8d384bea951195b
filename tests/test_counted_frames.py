"""A container that only counts frames shows each in time, or the source is refused."""

from fractions import Fraction
from pathlib import Path

import av
import av.container
import pytest

from tests.clips import CLIPS, picture_rgb
from tests.copies import copy, read, refused, times_s
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


@pytest.mark.parametrize("codec", ["h264", "mpeg2video"])
def test_a_variable_rate_is_refused_by_mpg_which_has_no_time_for_every_frame(codec: str, tmp_path: Path) -> None:
    times_ms = [index * 40 + 20 * (index % 2) for index in range(12)]  # as of film shown on television
    source = film(tmp_path / "clip.mkv", [Fraction(ms, 1000) for ms in times_ms], rate_hz=Fraction(25))
    message = refused(source, tmp_path / "copy.mpg", EncodeSettings(codec))
    assert message.endswith(
        ".mpg has no time for every frame and cannot say frames of a variable rate (at 0.000 s); end the output in "
        ".mp4 or .mkv or .mov or .webm"
    )


@pytest.mark.parametrize("rate_hz", [Fraction(25), Fraction(15), Fraction(24000, 1001), Fraction(30000, 1001)])
@pytest.mark.parametrize("codec", ["h264", "mpeg2video"])
@pytest.mark.parametrize(("suffix", "first_s"), [(".mp4", 0), (".mkv", 2)])
def test_mpg_shows_every_frame_of_a_constant_rate_in_time(
    suffix: str, first_s: int, codec: str, rate_hz: Fraction, tmp_path: Path
) -> None:
    """Also where frames are small, and with B-frames; it may move all as a whole."""
    times = [first_s + index / rate_hz for index in range(40)]
    source, target = film(tmp_path / f"clip{suffix}", times, rate_hz=rate_hz), tmp_path / "copy.mpg"
    copy(source, target, EncodeSettings(codec))
    before, after = times_s(read(source)), times_s(read(target))
    moved_s = after[0] - before[0]
    assert len(after) == len(before) == 40
    assert max(abs(ours - theirs - moved_s) for ours, theirs in zip(after, before, strict=True)) < Fraction(1, 900)
    with av.open(str(target)) as container:  # whatever a player makes of frames without
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
        assert None not in times
    copy(target, tmp_path / "again.mpg", EncodeSettings(codec))


def film(path: Path, times: list[Fraction], *, rate_hz: Fraction) -> Path:
    """With B-frames, shown at these times in s."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=rate_hz, options={"preset": "ultrafast", "bf": "2"})
        stream.width, stream.height = 64, 48
        stream.time_base = stream.codec_context.time_base = Fraction(1, 120000)
        for index, time_s in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(time_s * 120000), Fraction(1, 120000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
