"""A track goes into a container that can hold it; what would be lost is refused or said, before any work."""

from fractions import Fraction
from pathlib import Path

import av
import av.container
import pytest

from tests.clips import CLIPS, picture_rgb
from tests.copies import copy, refused
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter


def test_a_track_that_the_container_cannot_hold_is_found_before_any_work(tmp_path: Path) -> None:
    source = CLIPS["many_tracks"].make(tmp_path)
    message = refused(source, tmp_path / "copy.mkv")
    assert "cannot hold the source's subtitle track 4 (mov_text); end the output in .mp4 or .mov" in message
    source = CLIPS["h264"].make(tmp_path)
    message = refused(source, tmp_path / "copy.webm", EncodeSettings())
    assert "cannot hold the source's audio track 1 (aac); end the output in .mp4 or .mkv or .mov" in message


@pytest.mark.parametrize(
    ("suffix", "codec", "ways_out"),
    [
        (".avi", "libx264", ".mp4 or .mkv or .mov"),
        (".webm", "libx264", ".mp4 or .mkv or .mov"),
        (".ts", "ffv1", ".mp4 or .mkv"),
    ],
)
def test_a_second_video_that_the_container_cannot_hold_is_refused_like_sound(
    suffix: str, codec: str, ways_out: str, tmp_path: Path
) -> None:
    source = tmp_path / "cameras.mkv"
    with av.open(str(source), "w") as output:
        streams = [output.add_stream(codec, rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(3):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24")
                output.mux(stream.encode(frame.reformat(format="yuv420p")))
        for stream in streams:
            output.mux(stream.encode(None))
    message = refused(source, tmp_path / f"copy{suffix}", EncodeSettings())
    name = codec.removeprefix("libx").replace("264", "h264")
    assert message.endswith(f"{suffix} cannot hold the source's video track 1 ({name}); end the output in {ways_out}")


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


def described(path: Path, words: dict[str, str], of_file: dict[str, str], *, codec: str = "mp2") -> Path:
    """A clip of a picture and a track of sound that both say so of themselves."""
    with av.open(str(path), "w") as output:
        output.metadata.update(of_file)
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height = 64, 48
        audio = output.add_stream(codec, rate=48000)
        assert isinstance(audio, av.AudioStream)
        for stream in (video, audio):
            stream.metadata.update(words)
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24")
            output.mux(video.encode(frame.reformat(format="yuv420p")))
        sound = av.AudioFrame(format="s16", layout="stereo", samples=1152)
        sound.planes[0].update(bytes(sound.planes[0].buffer_size))
        sound.sample_rate, sound.pts, sound.time_base = 48000, 0, Fraction(1, 48000)
        for packet in [*video.encode(None), *audio.encode(sound), *audio.encode(None)]:
            output.mux(packet)
    return path


FILM_TIME, TRACK_TIME = "2020-01-02T03:04:05.000000Z", "1999-01-02T03:04:05.000000Z"


@pytest.mark.parametrize(
    ("suffix", "title", "lost"),
    [
        (".mp4", "name", ["comment (wet)", f"creation time ({TRACK_TIME})"]),
        (".mov", "name", ["comment (wet)", f"creation time ({TRACK_TIME})"]),
        (".mkv", "title", [f"creation time ({TRACK_TIME})"]),
        (".avi", "title", ["comment (wet)", f"creation time ({TRACK_TIME})"]),
        (".ts", None, ["title (Aunt Mary)", "comment (wet)", f"creation time ({TRACK_TIME})"]),
    ],
)
def test_what_people_say_of_a_track_is_kept_or_named(
    suffix: str, title: str | None, lost: list[str], tmp_path: Path
) -> None:
    words = {"title": "Aunt Mary", "comment": "wet", "creation_time": TRACK_TIME, "handler_name": "Handler"}
    codec = "pcm_s16le" if suffix == ".avi" else "mp2"  # AVI wants picture and sound to begin together
    source, target = described(tmp_path / "film.nut", words, {}, codec=codec), tmp_path / f"copy{suffix}"
    with VideoReader(source) as reader, VideoWriter(target, like=reader.info, source=source) as writer:
        for frame in reader.frames():
            writer.write(frame)
    said = [warning for warning in writer.warnings if "loses the" in warning and "colour tags" not in warning]
    assert said == [
        f"{target}: {suffix} loses the {each} of the source's track {index} ({kind})"
        for index, kind in enumerate(("video", "audio"))
        for each in lost
    ]
    with av.open(str(target)) as container:
        assert [stream.metadata.get(title or "title") for stream in container.streams] == [
            "Aunt Mary" if title else None
        ] * 2


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_phones_track_titles_are_kept_and_its_tracks_times_are_the_files(suffix: str, tmp_path: Path) -> None:
    source = described(tmp_path / "phone.mp4", {"title": "Aunt Mary"}, {"creation_time": FILM_TIME})
    target = tmp_path / f"copy{suffix}"
    copy(source, target, EncodeSettings())
    for path in (source, target):
        with av.open(str(path)) as container:
            key = "title" if path.suffix == ".mkv" else "name"
            assert container.metadata["creation_time"] == FILM_TIME
            assert [stream.metadata[key] for stream in container.streams] == ["Aunt Mary"] * 2
