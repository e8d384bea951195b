"""What is written holds what was given: every frame at its time, and everything else of the source as it was."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from tests.clips import CLIPS, picture_rgb
from tests.copies import (
    container_facts,
    copy,
    hidden_files,
    other_packets,
    read,
    refused,
    same_samples,
    times_s,
)
from vidrestore.errors import RestoreError, SourceError, TargetError
from vidrestore.frame import ColorTags, Frame
from vidrestore.verify.output import verify_output
from vidrestore.video.encode import Encoding
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.encoders import ENCODERS
from vidrestore.video.picture import encodable_frame
from vidrestore.video.planes import planar_layout, planes_of
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter


def spelled_out(color: ColorTags) -> ColorTags:
    """No range means limited, and H.264 says nothing where MPEG-2 and HEVC say limited."""
    return replace(color, range=color.range or 1)


def without_durations(path: Path) -> list[Any]:
    return [(*track[:2], [(pts, dts, data) for pts, dts, _, data in track[2]]) for track in other_packets(path)]


ENCODE_NOISE = """
import hashlib, sys
import av, numpy as np
from pathlib import Path
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter

source, target = Path(sys.argv[1]), Path(sys.argv[2])
with VideoReader(source) as reader, VideoWriter(target, like=reader.info, source=source) as writer:
    for frame in reader.frames():
        writer.write(frame)
with av.open(str(target)) as file:
    print(hashlib.sha256(b"".join(bytes(packet) for packet in file.demux(video=0))).hexdigest())
"""


def test_the_same_pictures_are_written_in_the_same_bytes_whatever_memory_held_before(tmp_path: Path) -> None:
    source = tmp_path / "moving.mkv"
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (960, 960), dtype=np.uint8), (0, 0), 2)
    with av.open(str(source), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        # Rows of 44 macroblocks; x264's AVX-512 code counted on multiples of 16.
        stream.width, stream.height, stream.pix_fmt = 704, 704, "yuv420p"
        chroma = np.full((352, 704), 128, np.uint8)
        for index in range(40):
            picture = ground[index : index + 704, 2 * index : 2 * index + 704] // 2 + 64
            picture = picture + rng.integers(0, 4, picture.shape, dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.vstack([picture, chroma]), format="yuv420p")))
        file.mux(stream.encode(None))
    hashes = set()
    for filling in ("0", "90", "200"):
        environment = {**os.environ, "MALLOC_PERTURB_": filling}
        command = [sys.executable, "-c", ENCODE_NOISE, str(source), str(tmp_path / f"{filling}.mp4")]
        hashes.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(hashes) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".nut"])
def test_the_same_run_gives_the_same_file(suffix: str, tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    for target in (first, second):
        with VideoReader(source) as reader, VideoWriter(target, like=reader.info, source=source) as writer:
            for frame in reader.frames():
                writer.write(frame)
    assert first.read_bytes() == second.read_bytes()


LOSSLESS_ROWS = [name for name, clip in CLIPS.items() if name != "mpeg2_ts" and clip.suffix != ".mxf"]
NO_CENTERED_422 = {"mjpeg": "libx264 in .mov cannot say that chroma samples lie at center"}


@pytest.mark.parametrize("name", LOSSLESS_ROWS)
def test_a_lossless_copy_has_every_sample_every_time_stamp_and_every_tag(name: str, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    target = tmp_path / f"copy{source.suffix}"
    frames = copy(source, target, warns=NO_CENTERED_422.get(name))
    copied = read(target)
    assert len(copied) == len(frames)
    assert times_s(copied) == times_s(frames)
    assert same_samples(copied, frames)
    with VideoReader(source) as before, VideoReader(target) as after:
        for fact in ("rotation_deg", "display_matrix", "sample_aspect", "time_base", "light"):
            assert getattr(after.info, fact) == getattr(before.info, fact), fact
        # Some codecs say nothing where H.264 says "progressive".
        assert after.info.field_order == (before.info.field_order or after.info.field_order)
        assert before.info.coded_fields in (after.info.coded_fields, "")
        if name not in NO_CENTERED_422:
            assert after.info.layout == before.info.layout  # and so where chroma lies
        assert spelled_out(after.info.color) == spelled_out(before.info.color)
    assert without_durations(target) == without_durations(source)
    if source.suffix != ".mkv":  # which stores a spacing instead of durations, and only where it knows one
        assert other_packets(target) == other_packets(source)
    assert container_facts(target) == container_facts(source)


@pytest.mark.parametrize(
    "name", ["h264", "variable_rate", "b_frames", "late_start", "many_tracks", "many_tracks_mkv", "tiny"]
)
def test_the_default_keeps_the_clock_and_the_sound_and_looks_the_same(name: str, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    target = tmp_path / f"copy{source.suffix}"
    frames = copy(source, target, EncodeSettings())
    copied = read(target)
    assert times_s(copied) == times_s(frames)
    assert other_packets(target) == other_packets(source)
    error = [np.square(a.planes[0].astype(float) - b.planes[0]).mean() for a, b in zip(frames, copied, strict=True)]
    assert 10 * np.log10(255**2 / np.mean(error)) > 42  # dB; real clips, with larger pictures, reach 45 to 53


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("h264", ".mkv"),
        ("many_tracks_mkv", ".mkv"),
        ("hevc_10_bit", ".mkv"),
        ("odd_size", ".mp4"),
        ("odd_size_vp9", ".mkv"),
    ]
    + [
        ("gray_10_bit", ".mp4"),
        ("yuv_16_bit", ".mkv"),
        ("alpha", ".mp4"),
        ("hevc_12_bit", ".mp4"),
        ("anamorphic", ".mkv"),
    ],
)
def test_lossless_is_exact_in_other_containers_too(name: str, suffix: str, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    target = tmp_path / f"copy{suffix}"
    frames = copy(source, target)
    copied = read(target)
    if name == "gray_10_bit":  # FFmpeg's H.264 decoder adds neutral chroma
        assert all((plane == 512).all() for frame in copied for plane in frame.planes[1:])
        copied = [replace(frame, planes=frame.planes[:1], layout=frames[0].layout) for frame in copied]
    assert same_samples(copied, frames)
    with VideoReader(source) as before, VideoReader(target) as after:
        assert after.info.sample_aspect == before.info.sample_aspect


@pytest.mark.parametrize(
    ("name", "codec"),
    [("mpeg4_avi", "mpeg4"), ("mpeg2_ts", "mpeg2video"), ("mjpeg", "mjpeg"), ("odd_size_vp9", "vp9"), ("rgb", "ffv1")]
    + [("hevc_12_bit", "hevc"), ("yuv444", "h264")],
)
def test_the_sources_own_codec_is_used_when_asked_for(name: str, codec: str, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    target = tmp_path / f"copy{source.suffix}"
    frames = copy(source, target, EncodeSettings("source"))
    with VideoReader(target) as reader:
        assert reader.info.codec == codec
    assert times_s(read(target)) == times_s(frames)


def test_frame_counting_codecs_keep_a_variable_rate(tmp_path: Path) -> None:
    source = CLIPS["variable_rate"].make(tmp_path)
    target = tmp_path / "copy.mp4"
    frames = copy(source, target, EncodeSettings("mpeg4"))
    assert times_s(read(target)) == times_s(frames)


def test_a_frame_counting_codec_remembers_only_the_frames_that_it_still_holds(tmp_path: Path) -> None:
    source = CLIPS["long"].make(tmp_path)
    with (
        VideoReader(source) as reader,
        VideoWriter(tmp_path / "a.mp4", like=reader.info, source=source, encode=EncodeSettings("mpeg4")) as writer,
    ):
        for frame in reader.frames():
            writer.write(frame)
            assert writer._own_encoder is not None
            assert len(writer._own_encoder._waiting_pts) <= 40  # of 150: one for each encoder's thread, and a few


def test_the_default_keeps_prores_with_its_alpha(tmp_path: Path) -> None:
    source, target = tmp_path / "alpha.mov", tmp_path / "copy.mov"
    alpha = np.linspace(0, 1023, 64 * 48).astype(np.uint16).reshape(48, 64)  # every level of 10 bits
    with av.open(str(source), "w") as output:
        stream = output.add_stream("prores_ks", rate=25, options={"profile": "4444"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva444p10le"
        for index in range(3):
            rgb = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24")
            frame = rgb.reformat(format="yuva444p10le")
            stored = np.frombuffer(memoryview(frame.planes[3]), dtype="<u2").reshape(48, -1)
            stored[:, :64] = alpha
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    frames = copy(source, target, EncodeSettings())
    copied = read(target)
    assert times_s(copied) == times_s(frames)
    assert [frame.layout.name for frame in copied] == ["yuva444p12le"] * 3
    for before, after in zip(frames, copied, strict=True):
        *colors, alpha_before = before.planes
        *colors_after, alpha_after = after.planes
        assert np.array_equal(alpha_after, alpha_before)
        assert len(np.unique(alpha_after)) == 1024
        error = [np.square(a.astype(float) - b).mean() for a, b in zip(colors, colors_after, strict=True)]
        assert 10 * np.log10(4095**2 / np.mean(error)) > 50  # dB


def test_hevc_in_mp4_is_marked_as_apples_players_want_it(tmp_path: Path) -> None:
    source = CLIPS["hevc_10_bit"].make(tmp_path)
    target = tmp_path / "copy.mp4"
    copy(source, target, EncodeSettings())
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_untagged_gray_keeps_its_range_in_a_codec_that_means_limited(tmp_path: Path) -> None:
    source = CLIPS["gray_10_bit"].make(tmp_path)
    target = tmp_path / "copy.mkv"
    copy(source, target, EncodeSettings("hevc"))
    with VideoReader(target) as reader:
        assert reader.info.layout.full_range


def test_odd_sizes_keep_their_size_by_default(tmp_path: Path) -> None:
    source = CLIPS["odd_size"].make(tmp_path)
    target = tmp_path / "copy.mp4"
    frames = copy(source, target, EncodeSettings())
    copied = read(target)
    assert (copied[0].width_px, copied[0].height_px) == (63, 47)
    assert np.abs(copied[5].planes[0].astype(int) - frames[5].planes[0]).mean() < 1


@pytest.mark.parametrize("codec", ["h264", "mpeg2video"])
def test_an_interlaced_picture_is_still_deinterlaced_by_players(codec: str, tmp_path: Path) -> None:
    source = CLIPS["interlaced"].make(tmp_path)
    target = tmp_path / "copy.mov"
    copy(source, target, EncodeSettings(codec))
    with av.open(str(target)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    with VideoReader(target) as reader:
        assert reader.info.field_order == 3  # bottom field first


def test_a_wider_picture_can_be_written_for_comparison(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    target = tmp_path / "double.mp4"
    with (
        VideoReader(source) as reader,
        VideoWriter(target, like=replace(reader.info, width_px=128), source=source) as writer,
    ):
        for frame in reader.frames():
            planes = tuple(np.concatenate([plane, plane], axis=1) for plane in frame.planes)
            writer.write(Frame(frame.index, frame.pts, frame.time_base, planes, frame.layout))
    with VideoReader(target) as reader:
        assert (reader.info.width_px, reader.info.height_px) == (128, 48)


def test_an_end_alone_moves_nothing(tmp_path: Path) -> None:
    source = CLIPS["late_start"].make(tmp_path)
    target = tmp_path / "cut.mp4"
    frames = copy(source, target, end_s=1.0)
    assert times_s(read(target)) == times_s(frames)
    assert frames[0].pts == 10880


def copy_until(frame_index: int, trouble: BaseException, source: Path, target: Path) -> None:
    with VideoReader(source) as reader, VideoWriter(target, like=reader.info, source=source) as writer:
        for frame in reader.frames():
            writer.write(frame)
            if frame.index == frame_index:
                assert not target.exists()
                assert len(hidden_files(target.parent)) == 1
                raise trouble


@pytest.mark.parametrize("trouble", [RuntimeError("boom"), KeyboardInterrupt()])
def test_after_an_error_in_the_middle_nothing_is_left(trouble: BaseException, tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    with pytest.raises(type(trouble)):
        copy_until(5, trouble, source, tmp_path / "copy.mp4")
    assert not (tmp_path / "copy.mp4").exists()
    assert hidden_files(tmp_path) == []


def test_an_existing_target_survives_a_failure_and_is_replaced_by_success(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    target = tmp_path / "copy.mp4"
    target.write_text("old")
    with VideoReader(source) as reader:
        with pytest.raises(ZeroDivisionError), VideoWriter(target, like=reader.info, source=source):
            raise ZeroDivisionError
        assert target.read_text() == "old"
    copy(source, target)
    assert len(read(target)) == 12
    assert hidden_files(tmp_path) == []


@pytest.fixture
def small_disk() -> Iterator[None]:
    """A limit on file size stands for the full disk: FFmpeg's own writes fail in the middle."""
    resource = pytest.importorskip("resource")  # not on Windows
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_fills_up_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = CLIPS["long"].make(tmp_path)
    target = tmp_path / "copy.mp4"
    request.getfixturevalue("small_disk")
    with pytest.raises(TargetError, match=r"copy\.mp4: cannot be written \(.*\); free space or choose another place"):
        copy(source, target)
    assert not target.exists()
    assert hidden_files(tmp_path) == []


def test_no_space_left_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = CLIPS["h264"].make(tmp_path)

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(TargetError, match="No space left on device"):
        copy(source, tmp_path / "copy.mp4")
    assert hidden_files(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_is_found_before_any_work(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    assert "cannot be written (No such file or directory)" in refused(source, tmp_path / "none" / "copy.mp4")
    (tmp_path / "file").write_text("")
    assert "cannot be written (Not a directory)" in refused(source, tmp_path / "file" / "copy.mp4")


def test_a_folder_without_permission_is_found_before_any_work(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert "Permission denied" in refused(source, folder / "copy.mp4")


def test_a_writer_without_frames_leaves_nothing(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    target = tmp_path / "copy.mp4"
    with (
        VideoReader(source) as reader,
        pytest.raises(RestoreError, match="no frame was written"),
        VideoWriter(target, like=reader.info, source=source),
    ):
        pass
    assert not target.exists()
    assert hidden_files(tmp_path) == []


def test_the_source_is_never_written_to(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    before = source.read_bytes()
    frames = copy(source, source)  # the caller refuses this; here the old file lives until the new one is complete
    assert source.read_bytes() != before
    assert times_s(read(source)) == times_s(frames)


def test_a_source_that_vanishes_is_an_error_of_the_source(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    with VideoReader(source) as reader, pytest.raises(SourceError, match="no such file"):
        VideoWriter(tmp_path / "copy.mp4", like=reader.info, source=tmp_path / "gone.mp4")
    assert hidden_files(tmp_path) == []


def test_encoders_say_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = CLIPS["hevc_10_bit"].make(tmp_path)
    copy(source, tmp_path / "hevc.mp4", EncodeSettings())
    copy(CLIPS["h264"].make(tmp_path), tmp_path / "h264.mp4", EncodeSettings())
    assert capfd.readouterr().err == ""


def test_shared_clips_pass_through_without_a_changed_sample(shared: Path, tmp_path: Path) -> None:
    for source in sorted((shared / "clips").glob("*.mp4")):
        target = tmp_path / source.name
        frames = copy(source, target, EncodeSettings(lossless=True, preset="ultrafast"))
        copied = read(target)
        assert times_s(copied) == times_s(frames)
        assert same_samples(copied, frames)
        assert other_packets(target) == other_packets(source)
        with VideoReader(source) as before, VideoReader(target) as after:
            assert after.info.color == before.info.color
            assert after.info.time_base == before.info.time_base
        target.unlink()


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
@pytest.mark.parametrize("name", ["mpeg2_mxf", "dnxhd_mxf"])
def test_a_broadcasters_file_is_read_and_kept_in_another_container(name: str, suffix: str, tmp_path: Path) -> None:
    source, target = CLIPS[name].make(tmp_path), tmp_path / f"copy{suffix}"
    frames = copy(source, target)
    copied = read(target)
    assert times_s(copied) == times_s(frames)
    assert same_samples(copied, frames)
    (_, _, before), (_, _, after) = other_packets(source)[0], other_packets(target)[0]
    assert b"".join(packet[3] for packet in after) == b"".join(packet[3] for packet in before)
    with av.open(str(target)) as container:
        assert {key.lower(): value for key, value in container.metadata.items()}["timecode"] == "00:00:00:00"


FULL_RANGE_LOST = "prores_ks in .mov loses the mark of full range"


@pytest.mark.parametrize("name", ["prores", "dnxhd", "dv", "h264", "hevc_10_bit", "gray_10_bit"])
def test_prores_comes_out_within_its_own_rounding(name: str, tmp_path: Path) -> None:
    source, target = CLIPS[name].make(tmp_path), tmp_path / "copy.mov"
    frames = copy(source, target, EncodeSettings("prores"), warns=FULL_RANGE_LOST if name == "gray_10_bit" else None)
    copied = read(target)
    assert times_s(copied) == times_s(frames)
    depth_bits = frames[0].layout.depth_bits
    scale = 1 << (copied[0].layout.depth_bits - depth_bits)
    error = [
        np.square(a.planes[0].astype(float) * scale - b.planes[0]).mean() for a, b in zip(frames, copied, strict=True)
    ]
    peak = (1 << copied[0].layout.depth_bits) - 1
    assert 10 * np.log10(peak**2 / np.mean(error)) > 40  # dB


def test_chroma_of_interlaced_film_is_not_mixed_across_moments(tmp_path: Path) -> None:
    """Into 4:2:2, as ProRes wants it: each field's colour stays in its own rows."""
    like_420, like_422 = planar_layout("yuv420p"), planar_layout("yuv422p")
    assert like_420 is not None
    assert like_422 is not None
    planes = tuple(np.full(like_420.plane_shape(each, 64, 48), 90, np.uint8) for each in like_420.components)
    for plane in planes:
        plane[1::2] = 150
    encoding = Encoding(ENCODERS[0], "yuv422p", like_422, {})
    for plane in planes_of(encodable_frame(planes, like_420, encoding, fields="top first")):
        assert np.abs(plane[0::2].astype(int) - 90).max() <= 1
        assert np.abs(plane[1::2].astype(int) - 150).max() <= 1
    mixed = planes_of(encodable_frame(planes, like_420, encoding))[1]
    assert np.abs(mixed[0::2].astype(int) - 90).max() > 10  # a progressive picture's chroma is smooth


def wrapped(path: Path) -> Path:
    """A transport stream whose clock of 33 bits begins anew after 0.3 s, so that FFmpeg counts from -0.3 s on."""
    begin_s = Fraction(1 << 33, 90_000) - Fraction(3, 10)
    options = {"muxdelay": "0", "muxpreload": "0", "avoid_negative_ts": "disabled"}
    with av.open(str(path), "w", container_options=options) as output:
        video, sound = output.add_stream("libx264", rate=25, options={"bf": "2"}), output.add_stream("aac", rate=48000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        packets: list[Any] = []
        for index in range(16):
            frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(begin_s * 25) + index, Fraction(1, 25)
            packets += video.encode(frame)
        for index in range(30):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.time_base = 48_000, Fraction(1, 48_000)
            samples.pts = round(begin_s * 48_000) + 1024 * index
            packets += sound.encode(samples)
        packets += [*video.encode(None), *sound.encode(None)]
        output.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_begins_before_0_is_not_hidden(suffix: str, tmp_path: Path) -> None:
    source, target = wrapped(tmp_path / "wrapped.ts"), tmp_path / f"copy{suffix}"
    frames = copy(source, target)
    first_s = frames[0].time_s
    assert len(frames) == 16
    assert first_s < -0.2
    kept = read(target)
    assert same_samples(frames, kept)
    for one, other in zip(frames, kept, strict=True):
        assert other.time_s - kept[0].time_s == pytest.approx(one.time_s - first_s, abs=0.0011)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        sounds = [[packet for packet in each.demux(audio=0) if packet.size] for each in (before, after)]
        late_s = [float(packets[0].pts * packets[0].time_base) for packets in sounds]
        num_samples = sum(frame.samples for frame in av.open(str(target)).decode(audio=0))
    assert len(sounds[0]) == len(sounds[1])
    assert late_s[1] - kept[0].time_s == pytest.approx(late_s[0] - first_s, abs=0.002)
    assert num_samples >= 29 * 1024
    verify_output(source, target, [], lossless=True)
