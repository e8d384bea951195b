"""A reader gives every frame of a clip, with its own samples and its own time, or says in one line why it cannot."""

import errno
import io
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from tests.clips import CLIPS, picture_rgb
from tests.copies import copy
from vidrestore.errors import InputError, OptionsError, SourceError
from vidrestore.frame import ColorTags, Frame
from vidrestore.video import read
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.probe import probe
from vidrestore.video.read import VideoReader
from vidrestore.video.sample import sample_frames
from vidrestore.video.source import packets_of

UNDAMAGED = [name for name, clip in CLIPS.items() if not clip.damage]
SAME_CLOCK = [name for name in UNDAMAGED if name != "mpeg2_ts"]
"""A transport stream starts its clock where its muxer likes."""


def frames_of(path: Path, **span: float) -> list[Frame]:
    with VideoReader(path, **span) as reader:  # type: ignore[arg-type]
        return list(reader.frames())


@pytest.mark.parametrize("name", UNDAMAGED)
def test_every_frame_comes_out_once_and_in_order(name: str, tmp_path: Path) -> None:
    clip = CLIPS[name]
    with VideoReader(clip.make(tmp_path)) as reader:
        frames = list(reader.frames())
        assert [frame.index for frame in frames] == list(range(clip.num_frames))
        assert (reader.info.width_px, reader.info.height_px) == (clip.width_px, clip.height_px)
        assert len(reader.warnings) == clip.num_other_pictures  # which are only copied


@pytest.mark.parametrize("name", SAME_CLOCK)
def test_every_time_stamp_is_the_containers(name: str, tmp_path: Path) -> None:
    clip = CLIPS[name]
    times_s = [frame.pts * frame.time_base for frame in frames_of(clip.make(tmp_path))]
    assert times_s == [pts * clip.time_base for pts in clip.frame_pts]


@pytest.mark.parametrize(
    "name", ["h264", "hevc_10_bit", "yuv444", "gray_10_bit", "rgb_12_bit", "odd_size", "full_range"]
)
def test_samples_are_those_that_ffmpeg_decoded(name: str, tmp_path: Path) -> None:
    path = CLIPS[name].make(tmp_path)
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    for frame, picture in zip(frames_of(path), decoded, strict=True):
        for ours, stored in zip(frame.planes, picture.planes, strict=True):
            rows = np.frombuffer(memoryview(stored), dtype=ours.dtype).reshape(stored.height, -1)
            assert np.array_equal(ours, rows[:, : stored.width])


def test_packed_rgb_reaches_us_as_the_very_colours_that_were_written(tmp_path: Path) -> None:
    clip = CLIPS["rgb"]
    for index, frame in enumerate(frames_of(clip.make(tmp_path))):
        green, blue, red = frame.planes
        assert np.array_equal(np.stack([red, green, blue], axis=-1), picture_rgb(index, clip.width_px, clip.height_px))


def test_a_picture_stored_bottom_up_is_not_upside_down(tmp_path: Path) -> None:
    path = tmp_path / "raw.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "bgr24"
        frame = av.VideoFrame.from_ndarray(picture_rgb(0, 32, 16), format="rgb24").reformat(format="bgr24")
        frame.pts = 0
        output.mux([*stream.encode(frame), *stream.encode(None)])
    content = path.read_bytes()
    # A bitmap header with a positive height says that the bottom row comes first.
    path.write_bytes(content.replace(struct.pack("<ii", 32, -16), struct.pack("<ii", 32, 16)))
    green, blue, red = frames_of(path)[0].planes
    assert np.array_equal(np.stack([red, green, blue], axis=-1), picture_rgb(0, 32, 16)[::-1])


@pytest.mark.parametrize(
    ("name", "layout", "depth_bits", "full_range"),
    [
        ("h264", "yuv420p", 8, False),
        ("hevc_10_bit", "yuv420p10le", 10, False),
        ("hevc_12_bit", "yuv422p12le", 12, False),
        ("yuv_16_bit", "yuv420p16le", 16, False),
        ("full_range", "yuv420p", 8, True),
        ("mjpeg", "yuv422p", 8, True),
        ("gray", "gray", 8, True),
        ("rgb", "gbrp", 8, True),
        ("alpha", "gbrap", 8, True),
    ],
)
def test_the_layout_says_what_the_samples_mean(
    name: str, layout: str, depth_bits: int, full_range: bool, tmp_path: Path
) -> None:
    with VideoReader(CLIPS[name].make(tmp_path)) as reader:
        found = reader.info.layout
    assert (found.name, found.depth_bits, found.full_range) == (layout, depth_bits, full_range)


def prores_told_by_its_container_alone(path: Path) -> Path:
    """PQ in BT.2020, as QuickTime says it and the pictures themselves do not."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("prores_ks", rate=25, options={"profile": "3"})
        context = stream.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = 64, 48, "yuv422p10le", Fraction(1, 25)
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 9, 9, 16
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24").reformat(
                format="yuv422p10le", dst_colorspace="ITU709"
            )
            frame.color_range = frame.colorspace = frame.color_primaries = frame.color_trc = 2
            frame.color_range, frame.pts, frame.time_base = 0, index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_colours_that_only_the_container_tells_are_known_and_kept(tmp_path: Path) -> None:
    source = prores_told_by_its_container_alone(tmp_path / "graded.mov")
    tags = ColorTags(range=1, matrix=9, primaries=9, transfer=16)
    for path in (source, tmp_path / "copy.mkv", tmp_path / "copy.mov"):
        if path != source:
            copy(source, path, EncodeSettings("prores" if path.suffix == ".mov" else "ffv1"))
        with VideoReader(path) as reader:
            assert reader.info.color == tags
            assert reader.info.layout.is_pq
            assert [frame.layout.matrix for frame in reader.frames()] == ["bt2020"] * 3
    assert next(iter(sample_frames(source))).layout.is_pq
    assert probe(source).streams[0].color_transfer == "smpte2084"


def test_info_has_the_facts_of_the_stream(tmp_path: Path) -> None:
    with VideoReader(CLIPS["hevc_10_bit"].make(tmp_path)) as reader:
        info = reader.info
        assert info.color == ColorTags(range=1, matrix=9, primaries=9, transfer=16)
        assert (info.codec, info.average_rate, info.time_base) == ("hevc", 25, Fraction(1, 12800))
        assert (info.num_frames_from_header, reader.num_frames_expected) == (12, 12)
        assert info.layout.matrix == "bt2020"
    with VideoReader(CLIPS["rotated"].make(tmp_path)) as reader:
        assert reader.info.rotation_deg == 90
        assert reader.info.display_matrix is not None
    with VideoReader(CLIPS["anamorphic"].make(tmp_path)) as reader:
        assert reader.info.sample_aspect == Fraction(16, 11)
    with VideoReader(CLIPS["mjpeg"].make(tmp_path)) as reader:
        assert reader.info.layout.siting == "center"


@pytest.mark.parametrize(
    "matrix",
    [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
    + [(-1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 0, -1), (0, -1, -1, 0)],
)
def test_the_turn_stands_every_picture_upright_mirrored_or_not(matrix: tuple[int, ...], tmp_path: Path) -> None:
    """A detector knows mirrored faces, but no faces upside down."""
    a, b, c, d = matrix  # a stored (x, y) is shown at (a x + c y, b x + d y)
    stored = np.arange(9).reshape(3, 3)
    shown = np.empty_like(stored)
    for y, x in np.ndindex(3, 3):
        shown[1 + b * (x - 1) + d * (y - 1), 1 + a * (x - 1) + c * (y - 1)] = stored[y, x]
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        stream.set_display_matrix((a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30))
        frame = av.VideoFrame.from_ndarray(picture_rgb(0, 16, 16), format="rgb24")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    with VideoReader(path) as reader:
        turned = np.rot90(stored, k=-reader.info.rotation_deg // 90)
    is_mirrored = a * d - b * c < 0
    assert np.array_equal(turned[:, ::-1] if is_mirrored else turned, shown)


def test_marks_of_repeated_fields_that_are_left_out_are_told(tmp_path: Path) -> None:
    """Film on video (3:2 pulldown) in MPEG-2 says of pictures that a field is shown twice; no encoder of ours can."""
    plain, film = CLIPS["mpeg2_ts"].make(tmp_path), tmp_path / "film.ts"
    with av.open(str(plain)) as source, av.open(str(film), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            content = bytearray(bytes(packet))
            for at in range(len(content) - 9):
                if content[at : at + 4] == b"\0\0\1\xb5" and content[at + 4] >> 4 == 8:  # picture coding extension
                    content[at + 7] |= 0x82  # top field first, repeat first field (ISO/IEC 13818-2, 6.2.3.1)
                    content[at + 8] |= 0x80  # of a progressive picture
            if content:
                marked = av.Packet(bytes(content))
                marked.stream, marked.time_base = stream, packet.time_base
                marked.pts, marked.dts, marked.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
                output.mux(marked)
    told = f"{film}: marks of repeated fields (pulldown) are left out; every picture keeps its time"
    for path, warnings in ((plain, []), (film, [told])):
        with VideoReader(path) as reader:
            assert len(list(reader.frames())) == CLIPS["mpeg2_ts"].num_frames
            assert reader.warnings == warnings


def test_a_kind_of_pixels_that_cannot_be_kept_is_refused_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "old.mov"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb555be"
        frame = av.VideoFrame.from_ndarray(picture_rgb(0, 64, 48), format="rgb24").reformat(format="rgb555be")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(SourceError, match=rf"^{re.escape(str(path))}: pixel format rgb555.e is not supported"):
        VideoReader(path)


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    with VideoReader(CLIPS["cover"].make(tmp_path)) as reader:
        assert reader.info.codec == "h264"
        assert len(list(reader.frames())) == 12


@pytest.mark.parametrize(
    ("start_s", "end_s", "first", "count"),
    [(2.0, 3.0, 50, 25), (0.04, 0.08, 1, 1), (0.0, 1.0, 0, 25), (5.0, 99.0, 125, 25), (2.999, 3.001, 75, 1)],
)
def test_a_span_is_half_open_and_frame_exact(
    start_s: float, end_s: float, first: int, count: int, tmp_path: Path
) -> None:
    path = CLIPS["long"].make(tmp_path)
    whole, part = frames_of(path), frames_of(path, start_s=start_s, end_s=end_s)
    assert [frame.pts for frame in part] == [frame.pts for frame in whole[first : first + count]]
    assert all(np.array_equal(ours.planes[0], whole[first + i].planes[0]) for i, ours in enumerate(part))


def test_a_span_counts_from_the_beginning_as_players_show_it(tmp_path: Path) -> None:
    path = CLIPS["mpeg2_ts"].make(tmp_path)
    frames = frames_of(path)
    with av.open(str(path)) as container:
        origin_s = Fraction(container.start_time or 0, av.time_base)
    begin_s = float(frames[5].pts * frames[5].time_base - origin_s)
    assert frames_of(path, start_s=begin_s)[0].pts == frames[5].pts


def test_the_expected_number_of_frames_follows_the_span(tmp_path: Path) -> None:
    with VideoReader(CLIPS["long"].make(tmp_path), start_s=1.0, end_s=3.0) as reader:
        assert reader.num_frames_expected == 50


def test_a_start_after_the_end_is_refused_at_once(tmp_path: Path) -> None:
    path = CLIPS["h264"].make(tmp_path)
    with pytest.raises(
        OptionsError, match=r"h264\.mp4: no frame lies from --start 60 s to the end; the video lasts 0\.4"
    ):
        VideoReader(path, start_s=60.0)


def test_damaged_packets_are_skipped_and_counted_and_the_rest_keeps_its_time(tmp_path: Path) -> None:
    clip = CLIPS["damaged"]
    with VideoReader(clip.make(tmp_path)) as reader:
        pts = [frame.pts for frame in reader.frames()]
        assert reader.num_damaged_packets == 3
        assert reader.warnings == [f"{reader.path}: 3 damaged packets were left out"]
    # Packet 20 was a keyframe, so pictures are missing until the next one at 30; the others are where they were.
    assert set(pts) < set(clip.frame_pts)
    assert set(clip.frame_pts) - set(pts) <= set(clip.frame_pts[19:30])


@pytest.mark.parametrize("name", ["cut_off", "cut_off_mkv"])
def test_of_a_file_that_breaks_off_everything_that_decodes_is_kept(name: str, tmp_path: Path) -> None:
    clip = CLIPS[name]
    with VideoReader(clip.make(tmp_path)) as reader:
        times_s = [frame.pts * frame.time_base for frame in reader.frames()]
        assert len(times_s) >= clip.num_frames // 2
        assert times_s == [pts * clip.time_base for pts in clip.frame_pts[: len(times_s)]]
        assert reader.missing_at_end_s == pytest.approx(clip.duration_s - 0.04 - float(times_s[-1]), abs=0.03)
        assert "breaks off 0." in reader.warnings[-1]


def test_a_span_that_the_file_promises_and_does_not_have_is_told(tmp_path: Path) -> None:
    clip = CLIPS["cut_off"]
    source = clip.make(tmp_path)
    with VideoReader(source) as reader:
        end_s = float(list(reader.frames())[-1].time_s)
    with VideoReader(source, end_s=end_s + 0.8) as reader:
        list(reader.frames())
        assert "breaks off 0." in reader.warnings[-1]
    with VideoReader(source, end_s=end_s - 0.2) as reader:
        list(reader.frames())
        assert not any("breaks off" in warning for warning in reader.warnings)


def test_a_disk_that_cannot_be_read_is_an_error_and_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg says the same of both."""

    class Demuxer:
        def demux(self, *_: object) -> Iterator[object]:
            yield "packet"
            raise av.error.OSError(errno.EIO, "Input/output error", "clip.mp4")

    path = tmp_path / "clip.mp4"
    path.write_bytes(b"readable")
    packets = packets_of(Demuxer(), path, [])  # type: ignore[arg-type]
    assert next(packets) == "packet"
    with pytest.raises(av.error.OSError):
        next(packets)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse)
    packets = packets_of(Demuxer(), path, [])  # type: ignore[arg-type]
    next(packets)
    with pytest.raises(SourceError, match=r"clip\.mp4: cannot be read \(Input/output error\); copy what can be read"):
        next(packets)


def test_a_video_of_nothing_but_damage_is_an_error_and_not_an_empty_output(tmp_path: Path) -> None:
    path = CLIPS["silent"].make(tmp_path)
    with av.open(str(path)) as container:
        spots = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in spots:
        assert position is not None
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises(SourceError, match="every video packet is damaged; get another copy"):
        VideoReader(path)


def test_reading_stops_after_too_many_damaged_packets_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_DAMAGED_IN_A_ROW", 2)
    with (
        VideoReader(CLIPS["damaged"].make(tmp_path)) as reader,
        pytest.raises(SourceError, match="3 damaged packets in a"),
    ):
        list(reader.frames())


class FakePicture:
    """Stands for a decoded frame where only its time matters."""

    def __init__(self, pts: int | None) -> None:
        self.pts = pts


def timed(pts: list[int | None], tmp_path: Path) -> tuple[list[int], VideoReader]:
    """The reader's clock policy on made-up time stamps, in ticks of 1/12800 s at 25 frames/s (512 ticks a frame)."""
    with VideoReader(CLIPS["silent"].make(tmp_path)) as reader:
        pictures = (FakePicture(value) for value in pts)
        return [value for value, _ in reader._with_pts(pictures)], reader  # type: ignore[arg-type]


def test_a_missing_time_stamp_is_filled_with_the_average_spacing(tmp_path: Path) -> None:
    times, reader = timed([None, 512, None, 1536], tmp_path)
    assert times == [0, 512, 1024, 1536]
    assert reader.num_missing_pts == 2


def test_a_repeated_time_stamp_moves_by_one_tick_and_no_frame_is_lost(tmp_path: Path) -> None:
    times, reader = timed([0, 512, 512, 500, 1024], tmp_path)
    assert times == [0, 512, 513, 514, 1024]
    assert reader.num_repeated_pts == 2


def test_a_clock_that_jumps_back_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"time steps back by 10\.0 s after 10\.000 s; give it one clock first"):
        timed([0, 128000, 512], tmp_path)


def test_a_change_of_size_on_the_way_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "changes.ts"
    parts = []
    for width_px in (64, 96):
        part = tmp_path / f"{width_px}.ts"
        with av.open(str(part), "w") as output:
            stream = output.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = width_px, 48, "yuv420p"
            for index in range(5):
                frame = av.VideoFrame.from_ndarray(picture_rgb(index, width_px, 48), format="rgb24")
                output.mux(stream.encode(frame.reformat(format="yuv420p")))
            output.mux(stream.encode(None))
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    with (
        VideoReader(path) as reader,
        pytest.raises(
            SourceError, match=r"changes from 64x48 yuv420p to 96x48 yuv420p at .* restore the parts separately"
        ),
    ):
        list(reader.frames())


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as output:
        mux_silence(output)


def mux_silence(output: Any) -> None:
    stream = output.add_stream("aac", rate=44100)
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
    frame.sample_rate = 44100
    output.mux([*stream.encode(frame), *stream.encode(None)])


def audio_with_cover(path: Path) -> None:
    with av.open(str(CLIPS["cover"].make(path.parent))) as source, av.open(str(path), "w") as output:
        kept = [stream for stream in source.streams if stream != source.streams.video[0]]
        copies = {stream.index: output.add_stream_from_template(stream) for stream in kept}
        for stream in kept:
            copies[stream.index].disposition = stream.disposition
        for packet in source.demux(kept):
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)


def zero_frames(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        mux_silence(output)


def header_only(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as output:
        output.add_stream("libx264", rate=25)
        output.start_encoding()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file; check the path"),
        (lambda path: path.mkdir(), "is a folder; name a video file in it"),
        (lambda path: path.write_bytes(b""), "the file is empty; get another copy"),
        (lambda path: path.write_text("dear diary, " * 200), "not a readable video"),
        (audio_only, "holds no video, only audio; name a file with moving pictures"),
        (audio_with_cover, "holds no video, only audio and a cover picture; name a file with moving pictures"),
        (zero_frames, "the video stream holds no frames; check that the recording was completed"),
        (header_only, "the file ends before its first frame; check that the recording was completed"),
    ],
    ids=["missing", "folder", "empty", "text", "audio_only", "audio_with_cover", "zero_frames", "header_only"],
)
def test_a_file_without_a_video_is_refused_in_one_line(make, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.mp4"
    make(path)
    with pytest.raises(InputError) as caught:
        VideoReader(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.skipif(os.name == "nt", reason="no such files")
def test_a_pipe_or_device_is_not_called_an_empty_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mkv")
    for path in (tmp_path / "pipe.mkv", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(SourceError, match=f"^{path}: is no regular file; save what it brings to a file first"):
            VideoReader(path)


def test_ffmpeg_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    frames_of(CLIPS["damaged"].make(tmp_path))
    frames_of(CLIPS["cut_off_mkv"].make(tmp_path))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["h264", "variable_rate", "late_start"])
def test_decord_gives_the_same_frames_at_the_same_times(name: str, tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = CLIPS[name].make(tmp_path)
    with VideoReader(path, decoder="decord") as reader:
        frames = list(reader.frames())
        assert (reader.info.layout.name, reader.info.codec) == ("gbrp", "h264")
    with av.open(str(path)) as container:
        decoded = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
    assert [frame.pts for frame in frames] == [frame.pts for frame in frames_of(path)]
    for frame, rgb in zip(frames, decoded, strict=True):
        green, blue, red = frame.planes
        assert np.abs(np.stack([red, green, blue], axis=-1).astype(int) - rgb).mean() < 2  # two scalers, one picture


def test_decord_finds_the_frames_of_a_span(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = CLIPS["long"].make(tmp_path)
    with VideoReader(path, start_s=4.0, end_s=4.4, decoder="decord") as reader:
        frames = list(reader.frames())
    assert [frame.pts for frame in frames] == list(CLIPS["long"].frame_pts[100:110])
    for index, frame in enumerate(frames, 100):
        green, blue, red = frame.planes
        error = np.abs(np.stack([red, green, blue], axis=-1).astype(int) - picture_rgb(index, 64, 48)).mean()
        assert error < 4  # levels; the next frame is 8 away


@pytest.mark.parametrize("name", ["hevc_10_bit", "rotated", "half_turn", "cover", "damaged"])
def test_decord_is_refused_where_it_would_show_something_else(name: str, tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError, match="use --decoder pyav"),
        VideoReader(CLIPS[name].make(tmp_path), decoder="decord") as r,
    ):
        list(r.frames())


def test_shared_clips_are_read_whole(shared: Path) -> None:
    counts = {}
    for path in sorted((shared / "clips").glob("*.mp4")):
        with VideoReader(path) as reader:
            counts[path.name] = sum(1 for _ in reader.frames())
            assert counts[path.name] == reader.info.num_frames_from_header
            assert reader.warnings == []
    assert counts["hamilton_short.mp4"] == 275


def test_damage_in_the_decoders_last_pictures_costs_no_other_picture(tmp_path: Path) -> None:
    """With a thread for each picture, FFmpeg is at work on several when the packets end."""
    clip = CLIPS["b_frames"]
    path = clip.make(tmp_path)
    with av.open(str(path)) as container:
        spots = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    position, size = spots[-2]
    assert position is not None
    content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    with VideoReader(path) as reader:
        pts = [frame.pts for frame in reader.frames()]
        assert reader.num_damaged_packets == 1
    assert len(pts) == clip.num_frames - 1
    assert pts[-1] == clip.frame_pts[-1]


def images_in(path: Path, codec: str, image: bytes) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24" if codec == "png" else "yuvj444p"
        for index in range(4):
            packet = av.Packet(image)
            packet.pts = packet.dts = index
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            output.mux(packet)


def test_colour_profiles_and_exif_inside_pictures_neither_crash_nor_stop_a_run(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees, clockwise
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, "PNG", icc_profile=profile)
    picture.save(jpeg, "JPEG", icc_profile=profile, exif=exif)
    images_in(tmp_path / "png.mov", "png", png.getvalue())
    images_in(tmp_path / "jpeg.avi", "mjpeg", jpeg.getvalue())
    code = f"""
from pathlib import Path
from vidrestore.video.read import VideoReader
for name in ("png.mov", "jpeg.avi"):
    with VideoReader(Path({str(tmp_path)!r}) / name) as reader:
        print(len(list(reader.frames())), reader.info.rotation_deg)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["4", "0", "4", "90"]), done.stderr
