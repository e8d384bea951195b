"""Marks by which a container tells players to leave out the edges of its pictures."""

import contextlib
import io
from collections.abc import Iterator

import av

from vidrestore.video.source import KEPT_BYTES

MATROSKA_PATH = ("18538067", "1654ae6b", "ae", "e0")
"""Segment, Tracks, TrackEntry, Video (RFC 9559)."""
CROPPING_IDS = {"top": "54bb", "bottom": "54aa", "left": "54cc", "right": "54dd"}
"""PixelCrop*, in Video."""


def cropping_px(stream: av.VideoStream) -> str:
    """What a container tells players to leave out at the edges, in words; "" for nothing.

    PyAV cannot read it. But a copy of the track in Matroska has it too, in four elements of one to eight bytes.
    """
    file = io.BytesIO()
    with (
        contextlib.suppress(ValueError, OSError, av.FFmpegError),
        av.open(file, "w", format="matroska", metadata_errors=KEPT_BYTES) as copy,
    ):
        copy.add_stream_from_template(stream, opaque=True)
        copy.start_encoding()
    inside = file.getvalue()
    for wanted in MATROSKA_PATH:
        inside = next((content for identifier, content in _elements(inside) if identifier == wanted), b"")
    marks = {identifier: int.from_bytes(content, "big") for identifier, content in _elements(inside)}
    return ", ".join(
        f"{side} {marks[identifier]} px" for side, identifier in CROPPING_IDS.items() if identifier in marks
    )


def _elements(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(identifier, content) of the elements of EBML (RFC 8794) in a row; one of unknown length goes to the end."""
    at = 0
    while at < len(data):
        id_bytes = 9 - data[at].bit_length()
        size_at = at + id_bytes
        if id_bytes > 4 or size_at >= len(data) or not data[size_at]:
            return
        size_bytes = 9 - data[size_at].bit_length()
        content_at = size_at + size_bytes
        size = int.from_bytes(data[size_at:content_at], "big") & (1 << 7 * size_bytes) - 1
        yield data[at:size_at].hex(), data[content_at : content_at + size]
        at = content_at + size
