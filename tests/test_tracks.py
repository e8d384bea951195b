"""Sound, subtitles and everything else of the source reach the output untouched, in time with the picture."""

import io
from fractions import Fraction
from pathlib import Path

import av
import av.container
import pytest
from av.stream import Disposition

from tests.clips import CLIPS, picture_rgb
from tests.copies import container_facts, copy, other_packets, read, refused, same_samples, times_s
from vidrestore.errors import OptionsError
from vidrestore.video.encode import EncodeSettings
from vidrestore.video.hdr_light import _element, _whole
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter


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


@pytest.mark.parametrize("start_s", [1.0, 4.52])
def test_a_long_subtitle_outlives_a_cut_far_behind_its_beginning(start_s: float, tmp_path: Path) -> None:
    source, target = tmp_path / "subtitle.mkv", tmp_path / "cut.mkv"
    with av.open(str(CLIPS["long"].make(tmp_path))) as pictures, av.open(str(source), "w") as output:
        video = output.add_stream_from_template(pictures.streams.video[0])
        subtitles = output.add_mux_stream("subrip")
        subtitles.time_base = Fraction(1, 1000)
        output.start_encoding()
        text = av.Packet(b"still here")
        text.stream, text.time_base = subtitles, Fraction(1, 1000)
        text.pts = text.dts = 500
        text.duration = 5400
        output.mux(text)
        for packet in pictures.demux(pictures.streams.video[0]):
            if packet.size:
                packet.stream = video
                output.mux(packet)
    copy(source, target, start_s=start_s)
    ((_, _, texts),) = other_packets(target)
    end_s = Fraction("5.9") - Fraction(str(start_s))
    assert texts == [(0, 0, end_s, b"still here")]


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


def test_a_track_that_the_container_cannot_hold_is_found_before_any_work(tmp_path: Path) -> None:
    source = CLIPS["many_tracks"].make(tmp_path)
    message = refused(source, tmp_path / "copy.mkv")
    assert "cannot hold the source's subtitle track 4 (mov_text); end the output in .mp4 or .mov" in message
    source = CLIPS["h264"].make(tmp_path)
    message = refused(source, tmp_path / "copy.webm", EncodeSettings())
    assert "cannot hold the source's audio track 1 (aac); end the output in .mp4 or .mkv or .mov" in message


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


def with_track(folder: Path, codec: str) -> Path:
    """A short Matroska clip with one track of text (any codec of subtitles) or of sound."""
    path = folder / f"{codec}.mkv"
    is_text = codec in ("subrip", "ass", "webvtt", "dvd_subtitle", "hdmv_pgs_subtitle")
    with av.open(str(CLIPS["silent"].make(folder))) as clip, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(clip.streams.video[0], opaque=True)
        track = output.add_mux_stream(codec) if is_text else output.add_stream(codec, rate=48000)
        track.time_base = Fraction(1, 1000)
        output.start_encoding()
        if is_text:
            for index in range(2):
                text = av.Packet(b"0,0,Default,,0,0,0,,hello" if codec == "ass" else b"hello")
                text.stream, text.time_base = track, Fraction(1, 1000)
                text.pts = text.dts = 100 * index
                text.duration = 80
                output.mux(text)
        else:
            sound = av.AudioFrame(format="fltp", layout="stereo", samples=9600)
            for plane in sound.planes:
                plane.update(bytes(plane.buffer_size))
            sound.sample_rate, sound.pts, sound.time_base = 48000, 0, Fraction(1, 48000)
            output.mux([*track.encode(sound), *track.encode(None)])
        for packet in clip.demux(clip.streams.video[0]):
            if packet.size:
                packet.stream = video
                output.mux(packet)
    return path


def track_of(path: Path) -> tuple[str, str, bytes]:
    """(kind, codec, all packets joined: sound without frames is cut elsewhere by each container)."""
    with av.open(str(path)) as container:
        (stream,) = [stream for stream in container.streams if stream.type != "video"]
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
        content = b"".join(bytes(packet) for packet in container.demux(stream))
        return stream.type, "mp2" if codec == "mp3" else codec, content  # one name in MP4


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts"])
@pytest.mark.parametrize(
    "codec",
    ["subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle"]
    + ["flac", "pcm_s24le", "alac", "libopus", "ac3", "mp2"],
)
def test_a_track_is_kept_as_it_is_or_refused_before_any_work_with_containers_that_keep_it(
    codec: str, suffix: str, tmp_path: Path
) -> None:
    source = with_track(tmp_path, codec)
    if suffix in kept_in(codec):
        target = tmp_path / f"copy{suffix}"
        copy(source, target, EncodeSettings())
        kind, name, content = track_of(source)
        after = track_of(target)
        assert after[:2] == (kind, name)
        assert after[2].replace(b"\0\0", b"") == content.replace(b"\0\0", b"")  # less MP4's own empty texts
        return
    message = refused(source, tmp_path / f"copy{suffix}", EncodeSettings())
    named = {word for word in message.split("; ")[-1].split() if word.startswith(".")}
    assert named
    assert named == kept_in(codec) & {".mp4", ".mkv", ".mov", ".webm"}


def kept_in(codec: str) -> set[str]:
    """What each container can hold, by its own standard and FFmpeg's muxer."""
    everywhere = {".mp4", ".mov", ".mkv", ".avi", ".ts"}
    return {
        "webvtt": {".mkv", ".webm"},
        "dvd_subtitle": {".mp4", ".mkv"},
        "flac": {".mp4", ".mkv", ".avi"},
        "pcm_s24le": {".mov", ".mkv", ".avi"},  # from Matroska, which does not name its channels
        "alac": {".mp4", ".mov", ".mkv"},
        "libopus": {".mp4", ".mkv", ".webm", ".ts"},
        "ac3": everywhere,
        "mp2": everywhere,
    }.get(codec, {".mkv"})


@pytest.mark.parametrize("suffix", [".mov", ".ts", ".avi", ".webm"])
def test_a_cover_that_the_container_cannot_hold_is_named_in_a_warning(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / "cover.mp4"
    with av.open(str(CLIPS["cover"].make(tmp_path))) as clip:
        silent = {stream.index for stream in clip.streams if stream.type == "audio"}  # WebM has no AAC
        with av.open(str(tmp_path / "silent.mp4"), "w") as output:
            copies = {
                stream.index: output.add_stream_from_template(stream, opaque=True)
                for stream in clip.streams
                if stream.index not in silent
            }
            for stream, kept in ((clip.streams[index], kept) for index, kept in copies.items()):
                kept.disposition = stream.disposition
            for packet in clip.demux([clip.streams[index] for index in copies]):
                if packet.size:
                    packet.stream = copies[packet.stream.index]
                    output.mux(packet)
    source = tmp_path / "silent.mp4"
    target = tmp_path / f"copy{suffix}"
    copy(source, target, EncodeSettings(), warns=f"{suffix} cannot hold the source's video track 1 (cover picture)")
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_quicktime_gets_languages_by_the_name_it_knows_and_what_it_has_no_word_for_is_said(tmp_path: Path) -> None:
    source, target = CLIPS["many_tracks"].make(tmp_path), tmp_path / "copy.mov"
    with VideoReader(source) as reader, VideoWriter(target, like=reader.info, source=source) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert writer.warnings == [
        f"{target}: .mov loses the mark as comment of the source's track {number} (audio)" for number in (2, 3)
    ]
    with av.open(str(target)) as container:
        languages = [stream.metadata.get("language") for stream in container.streams if stream.type != "data"]
        assert languages[1:] == ["eng", "ger", "jpn", "fra"]  # fre is the same language's other code


def test_a_language_without_a_number_in_quicktime_is_named(tmp_path: Path) -> None:
    source, target = tmp_path / "maori.mp4", tmp_path / "copy.mov"
    with av.open(str(CLIPS["h264"].make(tmp_path))) as clip, av.open(str(source), "w") as output:
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in clip.streams]
        copies[1].metadata["language"] = "mao"
        for packet in clip.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    copy(source, target, warns=".mov loses the language mao of the source's track 1 (audio)")


def test_avi_names_languages_and_chapters_that_it_loses(tmp_path: Path) -> None:
    source = tmp_path / "chapters.mkv"
    with av.open(str(CLIPS["h264"].make(tmp_path))) as clip, av.open(str(source), "w") as output:
        copied = output.add_stream_from_template(clip.streams.video[0], opaque=True)
        chapter = {"id": 1, "start": 0, "end": 300, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
        output.set_chapters([chapter])  # type: ignore[list-item]
        for packet in clip.demux(video=0):
            if packet.size:
                packet.stream = copied
                output.mux(packet)
    target = tmp_path / "copy.avi"
    with VideoReader(source) as reader, VideoWriter(target, like=reader.info, source=source) as writer:
        for frame in reader.frames():
            writer.write(frame)
    assert any("1 chapters are left out, as .avi has none" in warning for warning in writer.warnings)


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


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_cropping_marks_that_are_left_out_are_named(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"cropped{suffix}", tmp_path / "copy.mkv"
    with marked_to_be_cropped(top=2, bottom=4, left=6, right=8) as template, av.open(str(source), "w") as output:
        stream = output.add_stream_from_template(template.streams.video[0], opaque=False)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = 64, 48, "yuv420p", Fraction(1, 25)
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    marks = "the cropping marks (top 2 px, bottom 4 px, left 6 px, right 8 px) are left out"
    frames = copy(source, target, warns=marks)
    assert (frames[0].width_px, frames[0].height_px) == (64, 48)


def marked_to_be_cropped(**sides: int) -> av.container.InputContainer:
    """A Matroska header of an FFV1 track with PixelCrop elements, for a stream to be made from; PyAV cannot."""
    ids = {"top": "54BB", "bottom": "54AA", "left": "54CC", "right": "54DD"}
    marks = [_whole(ids[side], size_px) for side, size_px in sides.items()]
    video = _element("E0", _whole("B0", 64), _whole("BA", 48), *marks)
    track = _element("AE", _whole("D7", 1), _whole("73C5", 1), _whole("83", 1), _element("86", b"V_FFV1"), video)
    cluster = _element("1F43B675", _whole("E7", 0), _element("A3", b"\x81\0\0\x80" + bytes(16)))
    clock = _element("1549A966", _whole("2AD7B1", 1_000_000))
    segment = _element("18538067", clock, _element("1654AE6B", track), cluster)
    return av.open(io.BytesIO(_element("1A45DFA3", _element("4282", b"matroska")) + segment), format="matroska")


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_subtitles_of_television_are_copied(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / "tv.ts", tmp_path / f"copy{suffix}"
    segments = bytes.fromhex("0f100001000205010f80000100000f")  # a page and an end of display set, EN 300 743
    with av.open(str(CLIPS["mpeg2_ts"].make(tmp_path))) as clip, av.open(str(source), "w") as output:
        video = output.add_stream_from_template(clip.streams.video[0], opaque=True)
        track = output.add_mux_stream("dvb_subtitle")
        track.metadata["language"] = "fre"
        output.start_encoding()
        for packet in clip.demux(video=0):
            if packet.size:
                if packet.is_keyframe:
                    text = av.Packet(segments)
                    text.stream, text.time_base, text.pts, text.dts = track, Fraction(1, 90000), packet.pts, packet.pts
                    output.mux(text)
                packet.stream = video
                output.mux(packet)
    copy(source, target, EncodeSettings())
    packets = []
    for path in (source, target):
        with av.open(str(path)) as container:
            track = container.streams.subtitles[0]
            assert (track.codec_context.name, track.metadata["language"]) == ("dvbsub", "fre")
            packets.append([bytes(packet) for packet in container.demux(track) if packet.size])
    assert packets[0]
    assert packets[0] == packets[1]
