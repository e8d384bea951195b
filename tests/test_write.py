"""What is written holds what was given: every frame at its time, and everything else of the source as it was."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.clips import CLIPS, picture_rgb
from vidrestore.errors import RestoreError, SourceError, TargetError
from vidrestore.frame import ColorTags, Frame
from vidrestore.video import write
from vidrestore.video.read import VideoReader
from vidrestore.video.write import EncodeSettings, VideoWriter

LOSSLESS = EncodeSettings(lossless=True, preset=None)
CONTAINER_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder"}


def copy(source: Path, target: Path, encode: EncodeSettings = LOSSLESS, **span: float) -> list[Frame]:
    """Read everything, write it unchanged; the frames that went through."""
    frames = []
    with (
        VideoReader(source, **span) as reader,  # type: ignore[arg-type]
        VideoWriter(target, like=reader.info, source=source, encode=encode, **span) as writer,  # type: ignore[arg-type]
    ):
        for frame in reader.frames():
            writer.write(frame)
            frames.append(frame)
    assert writer.warnings == []
    return frames


def read(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader.frames())


def times_s(frames: list[Frame]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


def same_samples(first: list[Frame], second: list[Frame]) -> bool:
    return all(
        len(one.planes) == len(other.planes) and all(map(np.array_equal, one.planes, other.planes))
        for one, other in zip(first, second, strict=True)
    )


def other_packets(path: Path) -> list[tuple[str, str | None, list[tuple[Any, ...]]]]:
    """(kind, language, [(pts, dts, duration, bytes)]) of every track beside the picture, times in seconds."""
    tracks = []
    with av.open(str(path)) as container:
        main = container.streams.video[0].index
        indices = [stream.index for stream in container.streams if stream.index != main and stream.type != "data"]
    for index in indices:
        with av.open(str(path)) as container:
            stream = container.streams[index]
            packets = [
                (
                    None if packet.pts is None else packet.pts * packet.time_base,
                    None if packet.dts is None else packet.dts * packet.time_base,
                    (packet.duration or 0) * packet.time_base,
                    bytes(packet),
                )
                for packet in container.demux(stream)
                if packet.size
            ]
            tracks.append((f"{stream.type} {int(stream.disposition)}", stream.metadata.get("language"), packets))
    return tracks


def spelled_out(color: ColorTags) -> ColorTags:
    """No range means limited, and H.264 says nothing where MPEG-2 and HEVC say limited."""
    return replace(color, range=color.range or 1)


def without_durations(path: Path) -> list[Any]:
    return [(*track[:2], [(pts, dts, data) for pts, dts, _, data in track[2]]) for track in other_packets(path)]


def container_facts(path: Path) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    with av.open(str(path)) as container:
        metadata = {key: value for key, value in container.metadata.items() if key not in CONTAINER_KEYS}
        chapters = [
            (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"], chapter["metadata"])
            for chapter in container.chapters()
            if chapter["time_base"]
        ]
    return metadata, chapters


LOSSLESS_ROWS = [name for name in CLIPS if name != "mpeg2_ts"]


@pytest.mark.parametrize("name", LOSSLESS_ROWS)
def test_a_lossless_copy_has_every_sample_every_time_stamp_and_every_tag(name: str, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    target = tmp_path / f"copy{source.suffix}"
    frames = copy(source, target)
    copied = read(target)
    assert len(copied) == len(frames)
    assert times_s(copied) == times_s(frames)
    assert same_samples(copied, frames)
    with VideoReader(source) as before, VideoReader(target) as after:
        for fact in ("rotation_deg", "display_matrix", "sample_aspect", "time_base", "field_order"):
            assert getattr(after.info, fact) == getattr(before.info, fact), fact
        # PyAV cannot read where chroma lies; it is written.
        assert replace(after.info.layout, siting="left") == replace(before.info.layout, siting="left")
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


def test_sound_and_picture_move_together_into_matroska(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)  # its sound begins 1024 samples before 0, which Matroska cannot say
    target = tmp_path / "copy.mkv"
    frames = copy(source, target)
    (_, _, before), (_, _, after) = other_packets(source)[0], other_packets(target)[0]
    drift_s = [
        (new[0] - old[0]) - (new_time_s - old_time_s)
        for old, new in zip(before, after, strict=True)
        for old_time_s, new_time_s in zip(times_s(frames), times_s(read(target)), strict=True)
    ]
    assert max(map(abs, drift_s)) <= 0.001  # Matroska counts in ms
    assert [old[3] for old in before] == [new[3] for new in after]


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
        VideoWriter(target, like=reader.info, source=source, size_px=(128, 48)) as writer,
    ):
        for frame in reader.frames():
            planes = tuple(np.concatenate([plane, plane], axis=1) for plane in frame.planes)
            writer.write(Frame(frame.index, frame.pts, frame.time_base, planes, frame.layout))
    with VideoReader(target) as reader:
        assert (reader.info.width_px, reader.info.height_px) == (128, 48)


def test_a_cut_starts_at_zero_with_sound_and_subtitles_in_sync(tmp_path: Path) -> None:
    source = CLIPS["long"].make(tmp_path)
    target = tmp_path / "cut.mp4"
    frames = copy(source, target, start_s=2.0, end_s=4.0)
    assert [float(time_s) for time_s in times_s(read(target))] == [index / 25 for index in range(50)]
    assert same_samples(read(target), frames)
    before = {kind: packets for kind, _, packets in other_packets(source)}
    after = {kind: packets for kind, _, packets in other_packets(target)}
    sound_before, sound_after = (next(t for k, t in each.items() if k.startswith("audio")) for each in (before, after))
    # Whole packets that begin in [2 s, 4 s), moved by 2 s.
    expected = [(pts - 2, content) for pts, _, _, content in sound_before if 2 <= pts < 4]
    assert [content for _, content in expected] == [packet[3] for packet in sound_after]
    assert [pts for pts, _ in expected] == [packet[0] for packet in sound_after]
    subtitles = next(packets for kind, packets in after.items() if kind.startswith("subtitle"))
    texts = [(packet[0], packet[3][2:]) for packet in subtitles if packet[3] != b"\0\0"]
    assert texts == [(Fraction(index, 5), f"line {index + 10}".encode()) for index in range(10)]
    chapters = [(float(start), float(end), data["title"]) for start, end, data in container_facts(target)[1]]
    assert chapters == [(0.0, 1.0, "one"), (1.0, 2.0, "two")]


def test_a_subtitle_that_is_on_screen_when_the_cut_begins_stays_on_screen(tmp_path: Path) -> None:
    source = CLIPS["long"].make(tmp_path)
    target = tmp_path / "cut.mp4"
    copy(source, target, start_s=2.08, end_s=3.0)
    texts = [packet for packet in other_packets(target)[1][2] if packet[3] != b"\0\0"]
    assert texts[0] == (0, 0, Fraction(70, 1000), b"\0\7line 10")  # 2.00 to 2.15 s in the source


def test_an_end_alone_moves_nothing(tmp_path: Path) -> None:
    source = CLIPS["late_start"].make(tmp_path)
    target = tmp_path / "cut.mp4"
    frames = copy(source, target, end_s=1.0)
    assert times_s(read(target)) == times_s(frames)
    assert frames[0].pts == 10880


@pytest.mark.parametrize("name", ["damaged", "cut_off"])
def test_sound_stays_in_sync_around_damage(name: str, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    target = tmp_path / "copy.mp4"
    frames = copy(source, target, EncodeSettings())
    assert times_s(read(target)) == times_s(frames)
    assert other_packets(target) == other_packets(source)


def written_with(path: Path, metadata: dict[str, str], **container_options: str) -> Path:
    """A short clip with these global metadata; the key timecode makes a time code track."""
    with av.open(str(path), "w", container_options=container_options) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        if "timecode" in metadata:
            stream.metadata["timecode"] = metadata["timecode"]
        output.metadata.update(metadata)
        if path.suffix == ".mkv":
            output.add_attachment("font.ttf", "font/ttf", b"glyphs")
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24")
            output.mux(stream.encode(frame.reformat(format="yuv420p")))
        output.mux(stream.encode(None))
    return path


def test_a_phones_own_metadata_are_kept(tmp_path: Path) -> None:
    metadata = {"title": "Überführung", "com.apple.quicktime.make": "Maker", "foo": "bar"}
    source = written_with(tmp_path / "phone.mp4", metadata, movflags="use_metadata_tags")
    target = tmp_path / "copy.mp4"
    copy(source, target)
    assert container_facts(source)[0] == metadata
    assert container_facts(target)[0] == metadata


def test_the_time_code_is_kept_once(tmp_path: Path) -> None:
    source = written_with(tmp_path / "camera.mov", {"timecode": "01:00:00:00"})
    target = tmp_path / "copy.mov"
    copy(source, target)
    for path in (source, target):
        with av.open(str(path)) as container:
            assert [stream.metadata["timecode"] for stream in container.streams] == ["01:00:00:00"] * 2


def test_a_cut_has_no_false_time_code(tmp_path: Path) -> None:
    source = written_with(tmp_path / "camera.mov", {"timecode": "01:00:00:00"})
    target = tmp_path / "cut.mov"
    with (
        VideoReader(source, start_s=0.04) as reader,
        VideoWriter(target, like=reader.info, source=source, start_s=0.04) as writer,
    ):
        for frame in reader.frames():
            writer.write(frame)
    assert writer.warnings == [f"{source}: the time code is left out, because the cut begins elsewhere"]
    with av.open(str(target)) as container:
        assert [dict(stream.metadata).get("timecode") for stream in container.streams] == [None]


def test_text_in_another_encoding_passes_through_byte_for_byte(tmp_path: Path) -> None:
    source, target = tmp_path / "latin.mkv", tmp_path / "copy.mkv"
    written = written_with(source, {"title": "caf\u00e9!"})
    written.write_bytes(written.read_bytes().replace("caf\u00e9".encode(), b"caf\xe9_"))
    copy(source, target)
    assert b"caf\xe9_!" in target.read_bytes()


def test_attached_fonts_are_kept_in_matroska_and_missed_aloud_elsewhere(tmp_path: Path) -> None:
    source = written_with(tmp_path / "fonts.mkv", {})
    copy(source, tmp_path / "copy.mkv")
    with av.open(str(tmp_path / "copy.mkv")) as container:
        (attachment,) = container.streams.attachments
        assert (attachment.metadata["filename"], attachment.data) == ("font.ttf", b"glyphs")
    with VideoReader(source) as reader:
        writer = VideoWriter(tmp_path / "copy.mp4", like=reader.info, source=source)
        writer.__exit__(KeyboardInterrupt, None, None)
    assert writer.warnings == [f"{tmp_path / 'copy.mp4'}: .mp4 cannot hold the source's attachment track 1"]


def test_a_cover_picture_is_kept_as_each_container_keeps_covers(tmp_path: Path) -> None:
    source = CLIPS["cover"].make(tmp_path)
    covers = []
    for target in (source, tmp_path / "copy.mp4", tmp_path / "copy.mkv"):
        if target != source:
            copy(source, target)
        with av.open(str(target)) as container:
            stream = next(each for each in container.streams.video if each.disposition & Disposition.attached_pic)
            covers.append(next(bytes(packet) for packet in container.demux(stream) if packet.size))
    assert covers[0] == covers[1] == covers[2]


def hidden_files(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


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
    with pytest.raises(TargetError, match=r"copy\.mp4: cannot be written \(.*\); free space or choose another folder"):
        copy(source, target)
    assert not target.exists()
    assert hidden_files(tmp_path) == []


def test_no_space_left_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = CLIPS["h264"].make(tmp_path)

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(write.os, "replace", no_space)
    with pytest.raises(TargetError, match="No space left on device"):
        copy(source, tmp_path / "copy.mp4")
    assert hidden_files(tmp_path) == []


def refused(source: Path, target: Path, encode: EncodeSettings = LOSSLESS) -> str:
    """The message of the TargetError that making a writer must raise; nothing may be left."""
    with VideoReader(source) as reader, pytest.raises(TargetError) as caught:
        VideoWriter(target, like=reader.info, source=source, encode=encode)
    assert not target.exists()
    if target.parent.is_dir():
        assert hidden_files(target.parent) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_cannot_be_written_to_is_found_before_any_work(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    assert "No such file or directory); choose another with -o" in refused(source, tmp_path / "none" / "copy.mp4")
    (tmp_path / "file").write_text("")
    assert "the folder cannot be written to" in refused(source, tmp_path / "file" / "copy.mp4")


def test_a_folder_without_permission_is_found_before_any_work(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert "Permission denied" in refused(source, folder / "copy.mp4")


def test_a_track_that_the_container_cannot_hold_is_found_before_any_work(tmp_path: Path) -> None:
    source = CLIPS["many_tracks"].make(tmp_path)
    message = refused(source, tmp_path / "copy.mkv")
    assert "cannot hold the source's subtitle track 4 (mov_text); end the output in .mp4 or .mov" in message
    source = CLIPS["h264"].make(tmp_path)
    message = refused(source, tmp_path / "copy.webm", EncodeSettings())
    assert "cannot hold the source's audio track 1 (aac); end the output in .mp4 or .mkv or .mov" in message


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
