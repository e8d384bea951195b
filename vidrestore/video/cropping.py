"""Marks by which a container tells players to leave out the edges of its pictures."""

import contextlib
import io

import av

from vidrestore.frame import Cropping
from vidrestore.video.ebml import elements
from vidrestore.video.source import KEPT_BYTES

MATROSKA_PATH = ("18538067", "1654ae6b", "ae", "e0")
"""Segment, Tracks, TrackEntry, Video (RFC 9559)."""
CROPPING_IDS = {"top_px": "54bb", "bottom_px": "54aa", "left_px": "54cc", "right_px": "54dd"}
"""PixelCrop*, in Video."""


def cropping_of(stream: av.VideoStream) -> Cropping | None:
    """What the container of this stream of a source says; None for nothing.

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
        inside = next((content for identifier, content in elements(inside) if identifier == wanted), b"")
    marks = {identifier: int.from_bytes(content, "big") for identifier, content in elements(inside)}
    cropping = Cropping(**{side: marks.get(identifier, 0) for side, identifier in CROPPING_IDS.items()})
    return cropping if any(marks.get(identifier) for identifier in CROPPING_IDS.values()) else None
