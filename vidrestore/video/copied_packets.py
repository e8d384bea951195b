"""The packets of the source's other tracks: which of them go into the output, and at what time."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import av.container
from av.packet import Packet
from av.stream import Disposition, Stream

from vidrestore.errors import SourceError
from vidrestore.video.source import MAX_DAMAGED_IN_A_ROW, MAX_STEP_BACK_S, ONE_CLOCK_FIRST, SEEK_MARGIN_S, packets_of

log = logging.getLogger("vidrestore")

MAX_INTERLEAVING_S = 10
"""A packet this far behind the end of a span ends the reading: by then every other track has passed it too."""
DOLBY_SYNC = b"\x0b\x77"
"""How every packet of AC-3 begins. The MOV muxer drops those that do not, and reports no error."""
LATE_KEYFRAME_S = Fraction(1, 10)
"""A track that is cut here and not restored begins at most so much late without a word: two frames or three."""
EMPTY_TEXT = b"\0\0"
"""A mov_text sample that clears the screen. The MOV muxer writes these itself, so copies would double them."""


class CopiedPackets:
    """(packet in the output's time, its due time in the source's, in s) each, in the source's order.

    `outputs` gives the output's track for the number of the source's. All move back by `shift_s`. Those that begin
    ahead of `begin_s` (on the source's clock), or at `end_s` or later, are left out; so are pictures ahead of the first
    keyframe from there on, which nothing could show.

    Raises SourceError for a packet that the container would leave out or show at another time.
    """

    def __init__(
        self,
        source: av.container.InputContainer,
        path: Path,
        outputs: Mapping[int, Stream],
        *,
        shift_s: Fraction,
        begin_s: Fraction | None,
        end_s: Fraction | None,
        into_quicktime: bool,
        warn: Callable[[str], None],
    ) -> None:
        self._source, self._path, self._outputs = source, path, outputs
        self._shift_s, self._begin_s, self._end_s = shift_s, begin_s, end_s
        self._keyframes: dict[int, int] = {}
        """With `begin_s`: by number of a track of pictures, when its first keyframe is shown."""
        self._into_quicktime = into_quicktime
        self._warn = warn
        self._last_dts: dict[int, int] = {}

    def hidden(self) -> list[int]:
        """With `begin_s`: numbers of the source's tracks of pictures of which no keyframe has been met."""
        videos = [stream for stream in self._source.streams.video if stream.index in self._outputs]
        moving = [stream.index for stream in videos if not stream.disposition & Disposition.attached_pic]
        return [] if self._begin_s is None else [index for index in moving if index not in self._keyframes]

    def silent(self) -> list[int]:
        """Numbers of the source's audio tracks that are copied and of which no packet has been met."""
        copied = [stream.index for stream in self._source.streams.audio if stream.index in self._outputs]
        return [index for index in copied if index not in self._last_dts]

    def __iter__(self) -> Iterator[tuple["Packet[Stream]", Fraction]]:
        for packet in self._demuxed():
            if packet.size == 0 or self._is_empty_text(packet):
                continue  # the demuxer's end marks have no content
            self._check_dolby(packet)
            index, time_base = packet.stream.index, packet.time_base
            output = self._outputs[index]
            if packet.stream.disposition & Disposition.attached_pic:
                packet.pts = packet.dts = 0  # a cover has no time
                packet.stream = output
                yield packet, Fraction(0)
                continue
            is_text = packet.stream.type == "subtitle"
            pts, dts = self._times(packet)
            due_s = dts * time_base
            if self._end_s is not None and pts * time_base >= self._end_s:
                if due_s > self._end_s + MAX_INTERLEAVING_S:
                    return
                continue
            if self._begin_s is not None:
                begin = round(self._begin_s / time_base)
                end = pts + (packet.duration or 0)
                if is_text and pts < begin < end:
                    # Its text is still on screen when the output begins.
                    packet.duration = end - begin
                    pts = dts = begin
                if pts < begin or (packet.stream.type == "video" and not self._can_be_shown(packet, pts)):
                    continue
            shift = round(self._shift_s / time_base)
            pts, dts = pts - shift, dts - shift
            last = self._last_dts.get(index)
            if last is not None and dts <= last:
                if (last - dts) * time_base > MAX_STEP_BACK_S:
                    raise SourceError(
                        f"{self._path}: time steps back by {float((last - dts) * time_base):.1f} s in track "
                        f"{index}; {ONE_CLOCK_FIRST}"
                    )
                pts, dts = pts + last + 1 - dts, last + 1  # containers want rising times
            if last is not None and not packet.duration and self._into_quicktime and not is_text:
                packet.duration = dts - last  # else the last packet of all would lie behind the track's end
            self._last_dts[index] = dts
            packet.pts, packet.dts = pts, dts
            packet.stream = output
            yield packet, due_s

    def _demuxed(self) -> Iterator["Packet[Stream]"]:
        streams = [stream for stream in self._source.streams if stream.index in self._outputs]
        if not streams:
            return
        # A subtitle may have come on screen any time ago, and a seek would pass over it.
        if self._begin_s is not None and not any(stream.type == "subtitle" for stream in streams):
            start_s = max(self._begin_s - Fraction(SEEK_MARGIN_S), Fraction(self._source.start_time or 0, av.time_base))
            try:
                self._source.seek(math.floor(start_s * av.time_base))
            except av.FFmpegError as exc:
                log.debug("%s: cannot seek (%s), reading from the beginning", self._path, exc)
        for _ in range(MAX_DAMAGED_IN_A_ROW):
            try:
                yield from packets_of(self._source, self._path, streams)
                return
            except av.FFmpegError as exc:
                log.debug("%s: %s", self._path, exc)
        self._warn(f"{self._path}: cannot be read to its end; sound and subtitles may be missing there")

    def _times(self, packet: "Packet[Stream]") -> tuple[int, int]:
        """Its pts and dts by the source's clock. One without any, of a damaged file, goes behind the one before it."""
        dts = packet.dts if packet.dts is not None else packet.pts
        if dts is None:
            last = self._last_dts.get(packet.stream.index)
            moved = round(self._shift_s / packet.time_base)
            dts = (packet.stream.start_time or 0) if last is None else last + moved + max(packet.duration or 0, 1)
        return packet.pts if packet.pts is not None else dts, dts

    def _can_be_shown(self, packet: "Packet[Stream]", pts: int) -> bool:
        """Whether a picture of a cut track comes with a keyframe to decode it from."""
        assert self._begin_s is not None
        index, late_s = packet.stream.index, pts * packet.time_base - self._begin_s
        if index not in self._keyframes:
            if not packet.is_keyframe:
                return False
            self._keyframes[index] = pts
            if late_s > LATE_KEYFRAME_S:
                self._warn(
                    f"{self._path}: video track {index} begins {float(late_s):.3f} s late, at its first keyframe"
                )
        return pts >= self._keyframes[index]

    def _is_empty_text(self, packet: "Packet[Stream]") -> bool:
        is_small_text = packet.stream.type == "subtitle" and packet.size == len(EMPTY_TEXT)
        return self._into_quicktime and is_small_text and bytes(packet) == EMPTY_TEXT

    def _check_dolby(self, packet: "Packet[Stream]") -> None:
        """Raise SourceError for one that the MOV muxer would drop."""
        is_dolby = packet.stream.type == "audio" and packet.stream.codec_context.name in ("ac3", "eac3")
        if self._into_quicktime and is_dolby and not bytes(packet).startswith(DOLBY_SYNC):
            raise SourceError(
                f"{self._path}: a packet of audio track {packet.stream.index} is damaged, which MP4 and MOV leave "
                "out without a word; end the output in .mkv"
            )
