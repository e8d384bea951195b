"""The containers that we write: which are alike, which codecs of pictures each can hold, and what it lacks."""

import contextlib
from collections.abc import Iterable, Mapping

import av

from vidrestore.errors import TargetError

MATROSKA_CONTAINERS = frozenset({"matroska", "webm"})
QUICKTIME_CONTAINERS = frozenset({"mp4", "mov", "ipod", "3gp", "3g2"})
"""FFmpeg's names of the containers that its two large muxers write."""
CONTAINERS: Mapping[str, frozenset[str] | None] = {
    **dict.fromkeys(("mp4", "ipod", "3gp", "3g2", "matroska", "webm", "nut", "flv", "asf")),
    "avi": frozenset({"mpeg4", "ffv1", "mjpeg"}),
    "mov": frozenset({"h264", "hevc", "prores", "dnxhd", "mjpeg", "mpeg4", "mpeg2video"}),
    "mpegts": frozenset({"h264", "hevc", "mpeg2video", "mpeg4"}),
    "mpeg": frozenset({"h264", "mpeg2video"}),
    "mxf": frozenset({"mpeg2video", "dnxhd", "prores", "ffv1", "h264"}),
}
"""Where we write to: FFmpeg's name and the codecs it can hold. None: ask the muxer; the others accept any codec at
first and fail in the header, or write what no reader finds again, or (AVI) shows at other times."""
FRAME_COUNTING_CONTAINERS = frozenset({"avi", "mxf"})
"""They have no times but the number of a frame: no reordered frames, no variable rate, no late start."""
PACK_TIMING_CONTAINERS = frozenset({"mpeg"})
"""They have a time for every pack of 2 KB. What a frame has whose pack belongs to another, players count on by the rate
that the picture's codec names."""
PACK_BYTES = 2048
"""What FFmpeg writes. A frame as large as this, or larger, begins in a pack of its own."""
PLAIN_MP4_KEYS = frozenset(
    ("title", "artist", "album_artist", "album", "composer", "date", "comment", "genre", "copyright", "description")
    + ("synopsis", "grouping", "lyrics", "show", "episode_id", "network", "keywords", "track", "disc", "creation_time")
    + ("location", "location-eng")
)
"""Metadata that the MOV muxer writes where players look for it. With any other key (a phone's, say), all go to the
newer place that has room for them."""
SUGGESTED_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")


def container_format(suffix: str) -> str:
    """FFmpeg's name of the container that a suffix stands for. Raises TargetError for one that we do not write."""
    name = None
    with (
        contextlib.suppress(ValueError, av.FFmpegError),
        av.open(f"target{suffix}", "w") as container,  # nothing is created before the header is written
    ):
        name = container.format.name
    if name is None or name not in CONTAINERS:
        choices = " or ".join(SUGGESTED_SUFFIXES)
        raise TargetError(f"{suffix or 'no suffix'} is no container for a restored video; end the output in {choices}")
    return name


def holds_encoder(suffix: str, encoder_name: str) -> bool:
    """Whether the container can hold what an encoder makes."""
    with av.open(f"target{suffix}", "w") as container:
        codecs = CONTAINERS.get(container.format.name)
        if codecs is not None:
            return av.Codec(encoder_name, "w").canonical_name in codecs
        try:
            container.add_stream(encoder_name)
        except (ValueError, av.FFmpegError):
            return False
    return True


def text_options(suffix: str, keys: Iterable[str]) -> dict[str, str]:
    """What the muxer is to be told so that it writes texts with these keys."""
    is_plain = container_format(suffix) not in QUICKTIME_CONTAINERS or PLAIN_MP4_KEYS.issuperset(keys)
    return {} if is_plain else {"movflags": "use_metadata_tags"}
