"""Pictures from packets: what a decoder refuses is told, and costs no picture but its own."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import av
from av.packet import Packet

from vidrestore.video.color_tags import tell, told_by_container
from vidrestore.video.source import open_source

log = logging.getLogger("vidrestore")

MAX_THREADS = 32
"""More than FFmpeg takes for one stream (16), and so more than the packets that are being decoded at a time."""
MAX_KEPT_BYTES = 2**26
"""64 MiB: five seconds of the densest 4K recordings (100 Mbit/s), or minutes of what people send each other."""


class PatientDecoder:
    """Decodes one stream in FFmpeg's threads, and its end once more in one where they lose something.

    With a thread for each picture, FFmpeg is still busy with some when the packets end. It hands those out one by one,
    and PyAV (18) stops asking at the first that failed. Then the packets since the last keyframe, which are kept here,
    go through a second decoder without threads, which gives the pictures that are still to come.

    `on_damage` is called once for each packet that is refused.
    """

    def __init__(self, stream: av.VideoStream, path: Path, on_damage: Callable[[av.FFmpegError], None]) -> None:
        self._stream, self._path, self._on_damage = stream, path, on_damage
        self._tags = told_by_container(stream)
        self._kept: list[Packet[av.VideoStream]] = []
        self._kept_bytes = 0
        self._next_start: int | None = None
        """Where in `_kept` a later keyframe is."""
        self._last_sent_pts: int | None = None
        self._last_pts: int | None = None

    def decode(self, packet: "Packet[av.VideoStream]") -> list[av.VideoFrame]:
        """The pictures that are ready; none when the packet (or an earlier one, with threads) is refused."""
        if packet.size == 0:
            return []  # a decoder takes an empty packet for the end of the stream, and nothing after it
        self._keep(packet)
        try:
            pictures = self._stream.codec_context.decode(packet)
        except av.FFmpegError as exc:
            self._on_damage(exc)
            return []
        return [self._noted(picture) for picture in pictures]

    def finish(self) -> Iterator[av.VideoFrame]:
        """What is still inside, after the last packet."""
        damage: av.FFmpegError | None = None
        try:
            for picture in self._stream.codec_context.decode(None):
                yield self._noted(picture)
        except EOFError:
            return
        except av.FFmpegError as exc:
            damage = exc
        num_in_threads = self._stream.codec_context.delay
        is_last = self._last_sent_pts is None or self._last_pts is None or self._last_pts >= self._last_sent_pts
        if self._kept and num_in_threads and (damage or not is_last):
            yield from self._again(num_in_threads)
        elif damage:
            self._on_damage(damage)

    def _again(self, num_in_threads: int) -> Iterator[av.VideoFrame]:
        """Decode the last packets once more. Damage of all but those in the threads has been told before."""
        last_pts = self._last_pts
        first_untold = len(self._kept) - num_in_threads
        with open_source(self._path) as container:  # for a decoder with the same parameters
            stream = container.streams[self._stream.index]
            assert isinstance(stream, av.VideoStream), "the same file has the same streams"
            stream.thread_type = "NONE"
            for index, packet in enumerate([*self._kept, None]):
                pictures: list[av.VideoFrame] = []
                try:
                    pictures = stream.codec_context.decode(packet)
                except av.FFmpegError as exc:
                    if index >= first_untold:
                        self._on_damage(exc)
                for picture in pictures:
                    if last_pts is None or (picture.pts is not None and picture.pts > last_pts):
                        tell(picture, self._tags)
                        yield picture

    def _noted(self, picture: av.VideoFrame) -> av.VideoFrame:
        self._last_pts = picture.pts if picture.pts is not None else self._last_pts
        tell(picture, self._tags)
        return picture

    def _keep(self, packet: "Packet[av.VideoStream]") -> None:
        """Keep the packet, and let go of those before a keyframe that is old enough."""
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is not None and not packet.is_discard and (self._last_sent_pts is None or pts > self._last_sent_pts):
            self._last_sent_pts = pts
        if packet.is_keyframe and self._next_start is None:
            self._next_start = len(self._kept)
        self._kept.append(packet)
        self._kept_bytes += packet.size
        if self._next_start is not None and len(self._kept) - self._next_start > MAX_THREADS:
            self._forget(self._next_start)
        while self._kept_bytes > MAX_KEPT_BYTES:
            self._forget(1)

    def _forget(self, count: int) -> None:
        self._kept_bytes -= sum(packet.size for packet in self._kept[:count])
        del self._kept[:count]
        left = None if self._next_start is None else self._next_start - count
        self._next_start = left if left is not None and left > 0 else None
