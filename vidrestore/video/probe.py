"""What a file says about itself, for `vidrestore info`. No picture is decoded except the first."""

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.container
from av.stream import Disposition, Stream

from vidrestore.video.color_tags import MATRIX_NAMES, PRIMARIES_NAMES, RANGE_NAMES, TRANSFER_NAMES
from vidrestore.video.source import display_matrix_of, first_picture, open_source, packets_of, rotation_deg_of

NUM_RATE_PACKETS = 1000
"""Packets looked at to tell a constant from a variable frame rate: 40 s at 25 frames/s, read in milliseconds."""
MAX_REORDERED_FRAMES = 32
"""More than any codec reorders (16 in H.264)."""
UNSPECIFIED = "unspecified"


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One track of a container; what does not apply to its kind is None."""

    index: int
    kind: str
    """video, audio, subtitle, data or attachment."""
    codec: str
    language: str | None
    title: str | None
    duration_s: float | None
    start_s: float | None
    dispositions: tuple[str, ...]
    is_attached_picture: bool
    pixel_format: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    sample_aspect: Fraction | None = None
    rotation_deg: int | None = None
    """Clockwise, as a player turns it."""
    is_mirrored: bool | None = None
    """Left to right, after the turn."""
    average_rate_hz: Fraction | None = None
    frame_rate: Literal["constant", "variable", "unknown"] | None = None
    """Judged from the time stamps of the first `NUM_RATE_PACKETS` packets."""
    num_frames_from_header: int | None = None
    color_range: str | None = None
    color_matrix: str | None = None
    color_primaries: str | None = None
    color_transfer: str | None = None
    """Colour tags by name; "unspecified" where the stream says nothing."""
    sample_rate_hz: int | None = None
    num_channels: int | None = None
    channel_layout: str | None = None


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """What a file holds."""

    path: Path
    format_name: str
    duration_s: float | None
    start_s: float | None
    bit_rate_bps: int | None
    metadata: Mapping[str, str]
    num_chapters: int
    streams: tuple[StreamInfo, ...]


def probe(path: Path) -> ContainerInfo:
    """Describe every stream of a file. Raises SourceError when it cannot be opened."""
    with open_source(path) as container:
        return ContainerInfo(
            path=path,
            format_name=container.format.name,
            duration_s=container.duration / av.time_base if container.duration else None,
            start_s=container.start_time / av.time_base if container.start_time is not None else None,
            bit_rate_bps=container.bit_rate or None,
            # Text that is not UTF-8 is shown with question marks.
            metadata={k: v.encode(errors="replace").decode() for k, v in container.metadata.items()},
            num_chapters=len(container.chapters()),
            streams=tuple(_describe(stream, path) for stream in container.streams),
        )


def _describe(stream: Stream, path: Path) -> StreamInfo:
    time_base = stream.time_base or Fraction(0)
    context = stream.codec_context
    is_attached_picture = bool(stream.disposition & Disposition.attached_pic)
    common = StreamInfo(
        index=stream.index,
        kind=str(stream.type),
        codec=context.codec.canonical_name if context else "unknown",
        language=stream.metadata.get("language"),
        title=stream.metadata.get("title"),
        duration_s=float(stream.duration * time_base) if stream.duration else None,
        start_s=float(stream.start_time * time_base) if stream.start_time is not None else None,
        dispositions=tuple(flag.name or "" for flag in Disposition if flag & stream.disposition),
        is_attached_picture=is_attached_picture,
    )
    if isinstance(stream, av.VideoStream) and context is not None:
        return _with_picture(common, stream, path)
    if isinstance(stream, av.AudioStream) and context is not None:
        return replace(
            common,
            sample_rate_hz=stream.codec_context.sample_rate,
            num_channels=stream.codec_context.layout.nb_channels,
            channel_layout=stream.codec_context.layout.name,
        )
    return common


def _with_picture(common: StreamInfo, stream: av.VideoStream, path: Path) -> StreamInfo:
    context = stream.codec_context
    picture = None if common.is_attached_picture else first_picture(path, stream.index)
    matrix = display_matrix_of(picture, context.name) if picture else None
    tags = picture or context
    return replace(
        common,
        pixel_format=context.pix_fmt,
        width_px=context.width,
        height_px=context.height,
        sample_aspect=stream.sample_aspect_ratio or Fraction(1),
        rotation_deg=rotation_deg_of(picture, context.name) if picture else 0,
        # A negative determinant of the upper left 2 x 2 turns the picture inside out.
        is_mirrored=matrix is not None and matrix[0] * matrix[4] - matrix[1] * matrix[3] < 0,
        average_rate_hz=stream.average_rate or None,
        frame_rate=None if common.is_attached_picture else _frame_rate_kind(path, stream.index),
        num_frames_from_header=stream.frames or None,
        color_range=RANGE_NAMES.get(int(tags.color_range), UNSPECIFIED),
        color_matrix=MATRIX_NAMES.get(int(tags.colorspace), UNSPECIFIED),
        color_primaries=PRIMARIES_NAMES.get(int(tags.color_primaries), UNSPECIFIED),
        color_transfer=TRANSFER_NAMES.get(int(tags.color_trc), UNSPECIFIED),
    )


def _frame_rate_kind(path: Path, stream_index: int) -> Literal["constant", "variable", "unknown"]:
    """Constant when all steps between presentation times are equal within one tick of rounding."""
    with open_source(path) as container:
        packets = itertools.islice(packets_of(container, path, [container.streams[stream_index]]), NUM_RATE_PACKETS)
        times = []
        with contextlib.suppress(av.FFmpegError):
            times = [packet.pts for packet in packets if packet.pts is not None]
    # The last few packets may still lack a neighbour that is stored later.
    times = sorted(times)[: -MAX_REORDERED_FRAMES if len(times) == NUM_RATE_PACKETS else None]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    if not steps:
        return "unknown"
    return "constant" if max(steps) - min(steps) <= 1 else "variable"
