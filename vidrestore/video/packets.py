"""Encoded pictures in a file of their own, until all of a video are there and go into its container.

A container would round their times, or know no name for their codec. So: one record after the other, each a header
(pts, dts, duration, flags, size; ticks of the stream's own time base) and the bytes.
"""

import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from av.packet import Packet

from vidrestore.errors import RestoreError
from vidrestore.video.picture import Encoded

HEADER = struct.Struct("<qqqIQ")
"""pts, dts, duration, flags, size in bytes."""
NO_TIME = -(2**63)
"""Stands for None, as in FFmpeg."""
IS_KEYFRAME = 1
"""In the flags. PyAV cannot set the other one that encoders use, which says that no picture refers to this one."""


class PacketsFile:
    """Takes packets until it is closed. Raises OSError when they cannot be written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, packets: Iterable[Encoded]) -> None:
        for packet in packets:
            flags = IS_KEYFRAME * packet.is_keyframe
            times = (NO_TIME if ticks is None else ticks for ticks in (packet.pts, packet.dts, packet.duration))
            self._file.write(HEADER.pack(*times, flags, packet.size))
            self._file.write(packet)


def read_packets(path: Path, time_base: Fraction) -> Iterator[Encoded]:
    """The packets of a `PacketsFile`, in ticks of `time_base`. Raises RestoreError for a file that is damaged."""
    with path.open("rb") as file:
        while header := file.read(HEADER.size):
            if len(header) < HEADER.size:
                raise RestoreError(f"{path}: ends in the middle of a packet; delete the folder and begin anew")
            pts, dts, duration, flags, size = HEADER.unpack(header)
            content = file.read(size)
            if len(content) < size:
                raise RestoreError(f"{path}: ends in the middle of a packet; delete the folder and begin anew")
            packet = cast(Encoded, Packet(content))
            packet.pts = None if pts == NO_TIME else pts
            packet.dts = None if dts == NO_TIME else dts
            packet.duration = None if duration == NO_TIME else duration
            packet.time_base = time_base
            packet.is_keyframe = bool(flags & IS_KEYFRAME)
            yield packet
