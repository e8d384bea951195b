"""Opening a source file, and what all its readers must agree on."""

import contextlib
import errno
import itertools
import logging
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar, cast

import av
import av.container
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition, Stream

from vidrestore.errors import OptionsError, SourceError
from vidrestore.video.color_tags import tell, told_by_container

# FFmpeg's own words on damage are for nobody: what matters of them comes as errors, and is counted.
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False

MAX_DAMAGED_IN_A_ROW = 250
"""Packets in a row that may yield nothing before we give up: ten seconds at 25 frames/s. A decoder that waits for the
next keyframe after damage needs this long; a file that is garbage from here on should not run to its end in silence."""
MAX_STEP_BACK_S = 1.0
"""Time stamps that repeat or step back by less are mended; a larger step back is another recording, spliced in."""
SEEK_MARGIN_S = 2.0
"""Seek this much before the start: containers seek by decoding time, and pictures are reordered by less than this."""
MAX_PACKETS_TO_A_PICTURE = 1000
"""Look no further for the first picture that decodes: 40 s at 25 frames/s."""
FALLBACK_RATE_HZ = Fraction(25)
"""Spacing of frames without any time stamp in a stream that names no rate."""
PLAYLIST_FORMATS = frozenset({"concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub"})
"""FFmpeg's readers of files that name other files or addresses. None of them is ever tried: a video is one file."""
PLAYLIST_MARKS = (b"#EXTM3U", b"ffconcat version", b"# VobSub", b"v=0", b"<MPD")
"""How such files begin (the last one after XML's own first lines): only for the words of the error."""
MARK_BYTES = 1024
"""Where the mark must be."""
OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(sorted(av.formats_available - PLAYLIST_FORMATS)),
    "pattern_type": "none",
}
"""For FFmpeg: no network, no reader that would open a second file, and no image's name taken for a pattern. (Outside
references in MP4 are off anyway.)"""
CRASHING_CODECS = frozenset({"apng", "libjxl", "png", "tiff", "webp"})
"""Image codecs whose files have colour profiles (see `side_data_of`)."""
TURNS = {
    90: (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30),
    180: (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
    270: (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
}
"""By FFmpeg's angle, which is counted the other way round: for pictures whose own matrix cannot be read."""
READ_BYTES = 2**22
"""At a time."""
KEPT_BYTES = "surrogateescape"
"""How metadata that is no UTF-8 is read, so that it can be written as it was."""
UNFINISHED = "check that the recording was completed"
ONE_CLOCK_FIRST = "give it one clock first, e.g. ffmpeg -i IN -c copy OUT.mkv"
"""Ways out, for error messages."""


def open_source(path: Path) -> av.container.InputContainer:
    """Open a file for demuxing: the only place where FFmpeg gets a file of the user's. It reads that file and no other.

    Raises SourceError with what is wrong.
    """
    try:
        exists = path.exists()
    except OSError as exc:  # such as a folder that must not be entered
        raise SourceError(f"{path}: cannot be opened ({exc.strerror}); check the path and its permissions") from exc
    if not exists:
        raise SourceError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise SourceError(f"{path}: is a folder; name a video file in it")
    if not path.is_file():  # it is read several times, here and there
        raise SourceError(f"{path}: is no regular file; save what it brings to a file first, and give that")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty; get another copy of it")
    try:
        # An absolute path cannot be taken for a protocol; undecodable metadata comes back out byte for byte.
        return av.open(
            str(path.absolute()),
            mode="r",
            container_options=dict(OPEN_OPTIONS),
            metadata_errors=KEPT_BYTES,
        )
    except EOFError as exc:
        raise SourceError(f"{path}: the file ends before its first frame; {UNFINISHED}") from exc
    except av.FFmpegError as exc:
        if _is_playlist(path):
            raise SourceError(f"{path}: names other files and holds no video itself; give the video file") from exc
        reason = exc.strerror or type(exc).__name__
        raise SourceError(f"{path}: not a readable video ({reason}); check that it plays elsewhere") from exc


def _is_playlist(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(MARK_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")  # a byte order mark
    return head.startswith(PLAYLIST_MARKS) or (head.startswith(b"<") and PLAYLIST_MARKS[-1] in head)


def moving_pictures(container: av.container.InputContainer) -> list[av.VideoStream]:
    """The video streams that are no attached pictures."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def chosen_video_stream(container: av.container.InputContainer, path: Path, number: int | None) -> av.VideoStream:
    """The video stream of that number, counted among all streams; None: the first that is no attached picture.

    Raises SourceError when there is none to decode, OptionsError for a number that is no video stream's.
    """
    streams = moving_pictures(container)
    if number is not None and streams:
        found = [stream for stream in streams if stream.index == number]
        if not found:
            known = " and ".join(str(stream.index) for stream in streams)
            raise OptionsError(f"{path}: stream {number} is no video to restore; choose with --stream from {known}")
        streams = found
    if not streams:
        covers = ["a cover picture"] if container.streams.video else []
        others = sorted({str(stream.type) for stream in container.streams if stream.type != "video"})
        kinds = " and ".join([*others, *covers]) or "no streams"
        raise SourceError(f"{path}: holds no video, only {kinds}; name a file with moving pictures")
    if streams[0].codec_context is None:
        raise SourceError(f"{path}: its video codec is unknown here; convert it first, e.g. with ffmpeg -c:v ffv1")
    return streams[0]


def first_video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first video stream that is no attached picture. Raises SourceError when there is none to decode."""
    return chosen_video_stream(container, path, None)


def presentation_times(packets: Iterable["Packet[av.VideoStream]"]) -> list[int]:
    """The pts of all frames to be shown, in order, read off the packets without decoding."""
    return sorted(packet.pts for packet in packets if packet.pts is not None and not packet.is_discard)


def side_data_of(picture: av.VideoFrame, codec: str) -> list[SideData]:
    """What a decoded picture carries beside its samples, as far as it can be read.

    PyAV (18) knows no name for EXIF and then gives nothing at all; with the colour profile of a PNG, the interpreter
    crashes when the picture is let go.
    """
    if codec in CRASHING_CODECS:
        return []
    try:
        # The stub declares a mapping; it yields values.
        return list(cast(Iterable[SideData], picture.side_data))
    except ValueError:
        return []


def display_matrix_of(picture: av.VideoFrame, codec: str) -> tuple[int, ...] | None:
    """The nine numbers that tell a player how to turn the picture; None when it is upright."""
    for side_data in side_data_of(picture, codec):
        if side_data.type is SideDataType.DISPLAYMATRIX:
            return struct.unpack("=9i", bytes(side_data))
    return TURNS.get(round(picture.rotation) % 360)


def rotation_deg_of(picture: av.VideoFrame, codec: str) -> int:
    """Clockwise, to the nearest of 0, 90, 180 and 270; a mirrored picture is mirrored left to right after this turn.

    Read off how the height of the shown picture grows (the matrix' second column), so that upright faces are upright
    in mirrored videos too; FFmpeg's own angle follows the width, and turns a picture in a mirror upside down.
    """
    matrix = display_matrix_of(picture, codec)
    return round(math.degrees(math.atan2(matrix[1], matrix[4])) / 90) % 4 * 90 if matrix else 0


def check_readable(path: Path) -> None:
    """Raise SourceError when the system refuses to read a byte of the file. FFmpeg has the same word for that and for a
    file that is damaged, which is read all the same."""
    try:
        with path.open("rb", buffering=0) as file:
            while file.read(READ_BYTES):
                pass
    except OSError as exc:
        raise SourceError(
            f"{path}: cannot be read ({exc.strerror}); copy what can be read to a sound disk, e.g. with ddrescue"
        ) from exc


S = TypeVar("S", bound=Stream)


def packets_of(container: av.container.InputContainer, path: Path, streams: Sequence[S]) -> Iterator["Packet[S]"]:
    """Their packets. Raises SourceError where a track begins that was not there when the file was opened: PyAV knows
    no more of them, and what follows would be lost; and where the disk cannot be read."""
    try:
        yield from cast(Iterator["Packet[S]"], container.demux(*streams))
    except av.FFmpegError as exc:
        if isinstance(exc, OSError) and exc.errno == errno.EIO:
            check_readable(path)
        raise
    except IndexError as exc:
        raise SourceError(
            f"{path}: a track begins in the middle of the file; give it a header that names all tracks, with "
            "`ffmpeg -i IN -map 0 -c copy OUT.mkv`"
        ) from exc


def first_picture(path: Path, stream_index: int) -> av.VideoFrame | None:
    """The first frame of a stream that decodes, read through a handle of its own; None when none does soon."""
    with open_source(path) as container, contextlib.suppress(av.FFmpegError):
        stream = container.streams[stream_index]
        if not isinstance(stream, av.VideoStream):
            return None
        tags = told_by_container(stream)
        for packet in itertools.islice(packets_of(container, path, [stream]), MAX_PACKETS_TO_A_PICTURE):
            with contextlib.suppress(av.FFmpegError, EOFError):
                for picture in packet.decode():
                    tell(picture, tags)
                    return picture
    return None
