"""A few frames from anywhere in a clip: for previews, contact sheets and a first look at the faces."""

import contextlib
import importlib
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container

from vidrestore.errors import SourceError
from vidrestore.frame import Frame
from vidrestore.video.color_tags import default_siting, tell, told_by_container
from vidrestore.video.planes import layout_in, planes_of
from vidrestore.video.read_sequence import SequenceReader
from vidrestore.video.sequence import is_sequence
from vidrestore.video.source import (
    SEEK_MARGIN_S,
    chosen_video_stream,
    display_matrix_of,
    first_picture,
    first_video_stream,
    open_source,
    packets_of,
    presentation_times,
)

log = logging.getLogger("vidrestore")

NUM_SAMPLED_FRAMES = 8
"""Enough to see who is in a clip and how large the faces are; one second of work."""
DECORD_QUIET = -8
"""Below every level of decord's log, which would else go to stderr (AV_LOG_QUIET)."""


def sample_frames(path: Path, num_frames: int = NUM_SAMPLED_FRAMES, *, stream: int | None = None) -> list[Frame]:
    """Up to `num_frames` frames, evenly spaced over the clip, in order of time. A frame's index is that in the list;
    its pts is the clip's. Pictures are as stored: rotation is not applied. `stream` chooses one of several videos.

    PyAV reads them, in the source's own planes; decord is not asked, because a damaged file can abort the whole process
    in it. Raises SourceError when the file holds no video that can be decoded.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; it must be at least 1")
    if is_sequence(path):
        with SequenceReader(path) as reader:
            return reader.sampled(num_frames)
    frames = list(_sampled_with_pyav(path, num_frames, stream))
    if not frames:
        raise SourceError(f"{path}: no frame can be decoded; check that the recording was completed")
    return frames


def matching_decord_reader(path: Path) -> tuple[Any, list[int]] | None:
    """decord's reader of a clip and the pts of its frames, where it shows what PyAV shows: the same stream, size,
    depth and number of frames.

    None elsewhere, and where decord is not installed (it has wheels for x86-64 only) or cannot open the clip. The pts
    are the packets', of the whole clip: decord's own times ignore start offsets.
    """
    with open_source(path) as container:
        stream = first_video_stream(container, path)
        size = (stream.codec_context.height, stream.codec_context.width)
        video_format = stream.codec_context.format
        if video_format is None or any(component.bits != 8 for component in video_format.components):
            return None  # decord reads 10 bits as 8, three levels off
        if len(container.streams.video) != 1:
            return None  # decord would pick another stream
        pts: list[int] = []
        with contextlib.suppress(av.FFmpegError):
            pts = presentation_times(packets_of(container, path, [stream]))
        first = first_picture(path, stream.index)
    if first is None or display_matrix_of(first, stream.codec_context.name) is not None:
        return None  # decord turns the picture, after half a turn even without a change of size
    try:
        decord = importlib.import_module("decord")  # late: 0.2 s, and optional
    except (ImportError, OSError):
        return None
    decord.logging.set_level(DECORD_QUIET)
    try:
        reader = decord.VideoReader(str(path.absolute()))
        same_size = len(reader) > 0 and reader[0].shape[:2] == size
    except Exception as exc:  # decord raises its own errors, RuntimeError and OSError alike
        log.debug("%s: decord cannot open it (%s)", path, exc)
        return None
    reader.seek(0)
    return (reader, pts) if same_size and len(reader) == len(pts) == len(set(pts)) else None


def _sampled_with_pyav(path: Path, num_frames: int, number: int | None) -> Iterator[Frame]:
    """Seek before each wanted time and decode up to it."""
    with open_source(path) as container:
        stream = chosen_video_stream(container, path, number)
        stream.thread_type = "AUTO"
        assert stream.time_base is not None, "every demuxed stream has a time base"
        # The picture's own span, where it is known: the sound may begin earlier or last longer.
        duration_s = float(stream.duration * stream.time_base) if stream.duration else _whole_s(container.duration)
        begin = stream.start_time
        origin_s = _whole_s(container.start_time) if begin is None else float(begin * stream.time_base)
        wanted_s = [origin_s + duration_s * (index + 0.5) / num_frames for index in range(num_frames)]
        siting, tags = default_siting(stream.codec_context.name), told_by_container(stream)
        index, last_pts = 0, None
        for time_s in wanted_s:
            picture = _picture_at(container, path, stream, time_s)
            if picture is not None and (last_pts is None or (picture.pts or 0) > last_pts):
                last_pts = picture.pts or 0
                tell(picture, tags)
                layout = layout_in(path, picture, siting=siting)
                yield Frame(index, last_pts, stream.time_base, planes_of(picture), layout)
                index += 1


def _whole_s(ticks: int | None) -> float:
    """Of the container's clock; 0 where it says nothing."""
    return (ticks or 0) / av.time_base


def _picture_at(
    container: av.container.InputContainer, path: Path, stream: av.VideoStream, time_s: float
) -> av.VideoFrame | None:
    """The frame on screen at a time: the last one that begins by then, or the first of all."""
    assert stream.time_base is not None
    with contextlib.suppress(av.FFmpegError):  # a container that cannot seek is read on
        seek_s = Fraction(max(time_s - SEEK_MARGIN_S, 0))
        container.seek(int(seek_s / stream.time_base), stream=stream)
    shown: av.VideoFrame | None = None
    with contextlib.suppress(av.FFmpegError):  # a container that breaks off
        for packet in packets_of(container, path, [stream]):
            with contextlib.suppress(av.FFmpegError, EOFError):
                for picture in packet.decode():
                    if picture.pts is None or (shown is not None and picture.pts * stream.time_base > time_s):
                        return shown
                    shown = picture
    return shown
