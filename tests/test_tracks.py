"""Metadata, time code, covers, fonts and every track of the source reach the output, in their order."""

from pathlib import Path

import av
import av.container
import pytest
from av.stream import Disposition

from tests.clips import CLIPS, picture_rgb
from tests.copies import container_facts, copy, same_samples
from vidrestore.errors import OptionsError
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter


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


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [(".mkv", None), (".mp4", None), (".avi", None)]
    + [(".mxf", "comment, date, title"), (".ts", "comment, date, timecode, title")],
)
def test_texts_without_a_place_are_named(suffix: str, lost: str | None, tmp_path: Path) -> None:
    texts = {"title": "Reel 7", "date": "1931", "comment": "aunt Mary", "timecode": "01:00:00:00"}
    source = written_with(tmp_path / "camera.mov", texts)
    copy(
        source,
        tmp_path / f"copy{suffix}",
        EncodeSettings(),
        warns=lost and f"no place for what the source says as {lost}",
    )


def test_the_time_code_is_kept_once(tmp_path: Path) -> None:
    source = written_with(tmp_path / "camera.mov", {"timecode": "01:00:00:00"})
    target = tmp_path / "copy.mov"
    copy(source, target)
    for path in (source, target):
        with av.open(str(path)) as container:
            assert [stream.metadata["timecode"] for stream in container.streams] == ["01:00:00:00"] * 2


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_a_cut_has_no_false_time_code(suffix: str, tmp_path: Path) -> None:
    source = written_with(tmp_path / f"camera{suffix}", {"timecode": "01:00:00:00"})
    target = tmp_path / "cut.mov"
    with (
        VideoReader(source, start_s=0.04) as reader,
        VideoWriter(target, like=reader.info, source=source, start_s=0.04) as writer,
    ):
        for frame in reader.frames():
            writer.write(frame)
    assert writer.warnings.count(f"{source}: the time code is left out, because the cut begins elsewhere") == 1
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


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("number", [0, 1])
def test_of_several_videos_the_chosen_one_is_restored_and_the_other_copied(
    number: int, suffix: str, tmp_path: Path
) -> None:
    source, target = CLIPS["two_pictures"].make(tmp_path), tmp_path / f"copy{suffix}"
    with (
        VideoReader(source, stream=number) as reader,
        VideoWriter(target, like=reader.info, source=source, encode=EncodeSettings(lossless=True)) as writer,
    ):
        frames = list(reader.frames())
        for frame in frames:
            writer.write(frame)
        assert reader.warnings == []
    assert writer.warnings == []
    with VideoReader(target, stream=number) as reader:
        assert same_samples(list(reader.frames()), frames)
    other = 1 - number
    assert packets_of(target, other) == packets_of(source, other)
    assert packets_of(target, 2) == packets_of(source, 2)  # the sound
    assert packets_of(target, number) != packets_of(source, number)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert [stream.type for stream in after.streams] == [stream.type for stream in before.streams]
        assert [stream.disposition for stream in after.streams] == [stream.disposition for stream in before.streams]


def packets_of(path: Path, number: int) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams[number]) if packet.size]


def test_a_video_that_nobody_chose_is_named_in_a_warning(tmp_path: Path) -> None:
    source = CLIPS["two_pictures"].make(tmp_path)
    with VideoReader(source) as reader:
        pass
    assert reader.warnings == [f"{source}: video stream 1 is only copied; --stream restores it instead"]


@pytest.mark.parametrize("number", [2, 7])
def test_a_stream_that_is_no_video_is_refused_with_those_that_are(number: int, tmp_path: Path) -> None:
    source = CLIPS["two_pictures"].make(tmp_path)
    with pytest.raises(
        OptionsError, match=f"stream {number} is no video to restore; choose with --stream from 0 and 1"
    ):
        VideoReader(source, stream=number)


def test_tracks_keep_their_order(tmp_path: Path) -> None:
    """Sound that comes before the picture stays there: players and scripts count tracks."""
    source, target = tmp_path / "sound_first.mkv", tmp_path / "copy.mkv"
    with av.open(str(CLIPS["h264"].make(tmp_path))) as clip, av.open(str(source), "w") as output:
        copies = {
            stream.index: output.add_stream_from_template(stream, opaque=True)
            for stream in reversed(tuple(clip.streams))
        }
        for packet in clip.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    copy(source, target)
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["audio", "video"]


def test_a_second_video_with_a_time_code_is_copied_too(tmp_path: Path) -> None:
    source, target = tmp_path / "cameras.mov", tmp_path / "copy.mov"
    with av.open(str(source), "w") as output:
        streams = [output.add_stream("libx264", rate=25) for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.width, stream.height = 64, 48
            stream.metadata["timecode"] = f"0{number + 1}:00:00:00"
        for index in range(3):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24")
                output.mux(stream.encode(frame.reformat(format="yuv420p")))
        for stream in streams:
            output.mux(stream.encode(None))
    copy(source, target)
    assert packets_of(target, 1) == packets_of(source, 1)
    for path in (source, target):
        with av.open(str(path)) as container:
            codes = [stream.metadata.get("timecode") for stream in container.streams]
            assert codes == ["01:00:00:00", "02:00:00:00"] * 2
