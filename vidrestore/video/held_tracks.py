"""Which tracks a container can hold beside the picture: found out by writing them to memory."""

import contextlib
import io
import itertools
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import av
import av.container
from av.stream import Disposition, Stream

from vidrestore.errors import TargetError
from vidrestore.video.containers import (
    MATROSKA_CONTAINERS,
    QUICKTIME_CONTAINERS,
    SUGGESTED_SUFFIXES,
    container_format,
)
from vidrestore.video.source import KEPT_BYTES, open_source, packets_of

HELD_TRACKS: Mapping[str, frozenset[str]] = {
    "mpegts": frozenset(
        ("mp1", "mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus", "s302m")
        + ("dvb_subtitle", "dvb_teletext", "h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video")
    ),
    "mpeg": frozenset({"mp1", "mp2", "mp3", "ac3", "dts", "pcm_dvd", "dvd_subtitle"} | {"mpeg2video", "mpeg1video"}),
}
"""Codecs of sound, subtitles and further videos that the MPEG containers have names and times for. FFmpeg's muxers take
any other too, as bytes of no known kind, which no player finds again."""
MUST_KEEP = ("audio", "subtitle", "video")
"""Kinds of tracks whose loss is an error; others (time code, fonts), and cover pictures, are dropped with a warning."""
NUM_TRIAL_PACKETS = 3
"""Enough for a muxer to object."""
COVER_CONTAINERS = frozenset({"mp4", "ipod"})
"""Beside Matroska, which attaches them. Others leave them out, or (AVI) make a second video of them."""
CHAPTER_CONTAINERS = MATROSKA_CONTAINERS | QUICKTIME_CONTAINERS | {"nut", "asf"}
MARKING_CONTAINERS = MATROSKA_CONTAINERS | QUICKTIME_CONTAINERS - {"mov"} | {"nut"}
"""They say what a track is: a comment, forced, for the hard of hearing."""
TEXT_CONTAINERS: Mapping[str, frozenset[str]] = {
    "title": MATROSKA_CONTAINERS | {"mp4", "mov", "ipod", "nut", "avi"},
    "comment": MATROSKA_CONTAINERS | {"nut"},
    "creation_time": frozenset({"nut"}),
}
"""What people say of a single track, and where it is kept. In MP4 and MOV tracks get the time of the whole file."""
LANGUAGELESS_CONTAINERS = frozenset({"avi", "mxf", "mpeg", "flv"})
OTHER_SUFFIXES = (".ts", ".avi", ".mxf")
"""Of containers that are named where none of `SUGGESTED_SUFFIXES` will do."""
UNKNOWN_LANGUAGE = "und"
TWO_SPELLINGS = (
    "alb sqi,arm hye,baq eus,bur mya,chi zho,cze ces,dut nld,fre fra,geo kat,ger deu,gre ell,ice isl,mac mkd,mao mri,"
    "may msa,per fas,rum ron,slo slk,tib bod,wel cym"
)
"""The twenty languages that have two codes in ISO 639-2."""
OTHER_SPELLINGS: Mapping[str, str] = {
    code: other for pair in TWO_SPELLINGS.split(",") for code, other in itertools.permutations(pair.split())
}
"""Either one's other."""


def can_hold(suffix: str, stream: Stream, source: Path) -> bool:
    """Whether a copy of this track of the source in the container that the suffix names is the same track."""
    return _takes_header(suffix, stream) and _passes_trial(suffix, stream, source)


def other_suffixes_for(stream: Stream, source: Path, suffix: str) -> list[str]:
    """Endings other than this one for which `can_hold` is true: among those we suggest, or if none, among the rest."""
    for suffixes in (SUGGESTED_SUFFIXES, OTHER_SUFFIXES):
        fitting = [other for other in suffixes if other != suffix.lower() and can_hold(other, stream, source)]
        if fitting:
            return fitting
    return []


def lost_words(stream: Stream, language: str, container: str) -> list[str]:
    """Language and dispositions of a track that the container has no words for; `language` as it is spelled there."""
    lost = []
    if language != UNKNOWN_LANGUAGE and not _holds_language(language, container):
        lost.append(f"language {stream.metadata['language']}")
    marks = stream.disposition & ~(Disposition.default | Disposition.attached_pic)
    names = [flag.name for flag in Disposition if flag & marks and flag.name]
    if names and container not in MARKING_CONTAINERS:
        lost.append(f"mark as {' and '.join(names).replace('_', ' ')}")
    return lost


def lost_texts(words: Mapping[str, str], of_file: Mapping[str, str], container: str) -> list[str]:
    """Of the metadata of a track, what the container has no place for and that of the whole file does not say too."""
    said = {key.lower(): value for key, value in words.items() if value.strip()}
    also_of_file = {key.lower(): value for key, value in of_file.items()}
    return [
        f"{key.replace('_', ' ')} ({said[key]})"
        for key, containers in TEXT_CONTAINERS.items()
        if key in said and container not in containers and said[key] != also_of_file.get(key)
    ]


def spelled(language: str, container: str) -> str:
    """The other of a language's two codes (ISO 639-2), where the container has a word for that one only."""
    if container != "mov" or _holds_language(language, container):
        return language
    other = OTHER_SPELLINGS.get(language, language)
    return other if _holds_language(other, container) else language


def _takes_header(suffix: str, stream: Stream) -> bool:
    """Whether the container knows this kind of track: its header is written to memory to find out."""
    container = container_format(suffix)
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    if stream.type in MUST_KEEP and codec not in HELD_TRACKS.get(container, {codec}):
        return False
    with contextlib.ExitStack() as files:
        try:
            trial = _trial_output(container)
            files.callback(_close, trial)
            copy = trial.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(stream.metadata)
            trial.start_encoding()
        except (ValueError, OSError, av.FFmpegError, TargetError):
            return False
    return True


def _passes_trial(suffix: str, stream: Stream, source: Path) -> bool:
    """Whether a track's first packets survive: muxers accept some in the header and fail hours later, at the end.

    Subtitles are spared: a few may be spread over the whole file.
    """
    if stream.type not in ("audio", "data", "video") or container_format(suffix) == "mxf":
        return True  # MXF says all in the header, and writes nothing before there is a picture
    try:
        with (
            open_source(source) as opened,
            av.open(io.BytesIO(), "w", format=container_format(suffix), metadata_errors=KEPT_BYTES) as trial,
        ):
            copy = trial.add_stream_from_template(opened.streams[stream.index], opaque=True)
            for packet in itertools.islice(
                packets_of(opened, source, [opened.streams[stream.index]]), NUM_TRIAL_PACKETS
            ):
                if packet.size:
                    packet.stream = copy
                    trial.mux(packet)
    except (ValueError, OSError, av.FFmpegError):
        return False
    return True


def _trial_output(container: str) -> av.container.OutputContainer:
    """A file in memory; MXF wants a picture first."""
    output = av.open(io.BytesIO(), "w", format=container, metadata_errors=KEPT_BYTES)
    if container == "mxf":
        picture = output.add_stream("mpeg2video", rate=25)
        assert isinstance(picture, av.VideoStream)
        picture.width, picture.height, picture.pix_fmt = 720, 576, "yuv422p"
    return output


def _close(output: av.container.OutputContainer) -> None:
    """MXF objects that it got no picture."""
    with contextlib.suppress(OSError, ValueError, av.FFmpegError):
        output.close()


@cache
def _holds_language(language: str, container: str) -> bool:
    """QuickTime has numbers for those of the Macintosh: found out by writing a track and reading it back."""
    if container != "mov":
        return container not in LANGUAGELESS_CONTAINERS
    file = io.BytesIO()
    with av.open(file, "w", format=container, metadata_errors=KEPT_BYTES) as output:
        track = output.add_stream("pcm_s16le", rate=48000)
        track.metadata["language"] = language
        sound = av.AudioFrame(format="s16", layout="stereo", samples=64)
        sound.sample_rate, sound.pts = 48000, 0
        output.mux([*track.encode(sound), *track.encode(None)])
    file.seek(0)
    with av.open(file, format=container) as written:
        return written.streams[0].metadata.get("language") == language
