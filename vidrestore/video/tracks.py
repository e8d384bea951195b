"""Everything in the source that is not the restored picture, copied packet for packet: sound, subtitles, the rest."""

import io
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import av.container
from av.packet import Packet
from av.stream import Disposition, Stream

from vidrestore.errors import SourceError, TargetError
from vidrestore.video.encode import (
    MATROSKA_CONTAINERS,
    QUICKTIME_CONTAINERS,
    SUGGESTED_SUFFIXES,
    container_format,
)
from vidrestore.video.source import (
    MAX_DAMAGED_IN_A_ROW,
    MAX_STEP_BACK_S,
    ONE_CLOCK_FIRST,
    SEEK_MARGIN_S,
    chosen_video_stream,
    open_source,
    packets_of,
)

log = logging.getLogger("vidrestore")

MUST_KEEP = ("audio", "subtitle")
"""Kinds of tracks whose loss is an error; others (time code, cover picture, fonts) are dropped with a warning."""
HELD_TRACKS: Mapping[str, frozenset[str]] = {
    "mpegts": frozenset(
        ("mp1", "mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus", "s302m")
        + ("dvb_subtitle", "dvb_teletext")
    ),
    "mpeg": frozenset({"mp1", "mp2", "mp3", "ac3", "dts", "pcm_dvd", "dvd_subtitle"}),
}
"""Codecs of sound and subtitles that the MPEG containers have names for. FFmpeg's muxers take any other too, as bytes
of no known kind, which no player finds again."""
CONTAINER_KEYS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
"""Metadata that describes the old file, not the work."""
STATISTICS_PREFIXES = ("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION", "ENCODER", "encoder")
"""Matroska's figures about the old picture stream."""
MS_PER_S = 1000
"""The MOV muxer's own movie time scale."""
MAX_MOVIE_TICKS_PER_S = 2**31 - 1
"""Stored in 32 bits."""
TIMECODE = "timecode"
"""Key of the metadata by which FFmpeg's readers and writers pass on a time code track."""
NUM_TRIAL_PACKETS = 3
"""Enough for a muxer to object."""
MAX_INTERLEAVING_S = 10
"""A packet this far behind the end of a span ends the reading: by then every other track has passed it too."""
DOLBY_SYNC = b"\x0b\x77"
"""How every packet of AC-3 begins. The MOV muxer drops those that do not, and reports no error."""
EMPTY_TEXT = b"\0\0"
"""A mov_text sample that clears the screen. The MOV muxer writes these itself, so copies would double them."""
IMAGE_TYPES = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}
"""Codecs of cover pictures: suffix and media type for Matroska's attachments."""


class CopiedTracks:
    """The source's other tracks, on their way into `output`, read through a handle of their own.

    Tracks keep their order: `add_picture` is called when the turn of the restored one comes (`picture_number` among the
    source's streams; None: its first video stream), which is then given the source's language, title, time code and
    disposition.

    Without a span every packet is copied with its time. With one, a track keeps the packets that begin inside it, and
    all move by the same time: `begin` tells where the output's clock starts. A subtitle that is on screen then is kept
    too, shortened.

    Raises TargetError, before any work, when the container cannot hold a sound or subtitle track.
    """

    def __init__(
        self,
        source: Path,
        output: av.container.OutputContainer,
        target: Path,
        *,
        add_picture: Callable[[], av.VideoStream],
        picture_number: int | None,
        start_s: float | None,
        end_s: float | None,
    ) -> None:
        self.warnings: list[str] = []
        self._path = source
        self._output = output
        self._is_quicktime = container_format(target.suffix) in QUICKTIME_CONTAINERS
        self._source = open_source(source)
        try:
            self._origin_s = Fraction(self._source.start_time or 0, av.time_base)
            self._end_s = None if end_s is None else self._origin_s + Fraction(end_s)
            self._span_start_s = self._origin_s + Fraction(start_s) if start_s else None
            self._begin_s: Fraction | None = None
            self._main = chosen_video_stream(self._source, source, picture_number)
            self._outputs: dict[int, Stream] = {}
            self._last_dts: dict[int, int] = {}
            for stream in self._source.streams:
                if stream.index == self._main.index:
                    self._describe_picture(add_picture())
                else:
                    self._add(stream, target)
            metadata = self._still_true(self._source.metadata)
            output.metadata.update({k: v for k, v in metadata.items() if k not in CONTAINER_KEYS})
        except BaseException:
            self.close()
            raise

    def _describe_picture(self, stream: av.VideoStream) -> None:
        """Give the new picture stream the old one's language, title, time code and disposition."""
        metadata = {k: v for k, v in self._main.metadata.items() if not k.startswith(STATISTICS_PREFIXES)}
        for other in self._source.streams.data:
            if TIMECODE in other.metadata:
                metadata.setdefault(TIMECODE, other.metadata[TIMECODE])
        stream.metadata.update(self._still_true(metadata))
        stream.disposition = self._main.disposition

    def _still_true(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """Without the time code (in capitals in Matroska), where a cut begins elsewhere."""
        kept = {k: v for k, v in metadata.items() if self._span_start_s is None or k.lower() != TIMECODE}
        warning = f"{self._path}: the time code is left out, because the cut begins elsewhere"
        if len(kept) < len(metadata) and warning not in self.warnings:
            self.warnings.append(warning)
        return kept

    def movie_ticks_per_s(self) -> int:
        """The time scale for MP4's start offsets, in which every track begins exactly where it does in the source.

        FFmpeg stores how late a track starts in ms, rounded down. That is exact for what was made so; otherwise, and
        for a cut, whose tracks begin anywhere, we take a scale that all tracks' clocks divide.
        """
        starts = [(stream.start_time or 0, stream.time_base or Fraction(1)) for stream in self._source.streams]
        in_ms = all(round(Fraction(math.floor(start * base * 1000), 1000) / base) == start for start, base in starts)
        common = math.lcm(*(base.denominator for _, base in starts))
        moved = self._span_start_s is not None
        return MS_PER_S if (in_ms and not moved) or common > MAX_MOVIE_TICKS_PER_S else common

    def begin(self, first_picture_s: Fraction) -> None:
        """Start copying. With a span, the picture shown at this time of the source's clock opens the output."""
        if self._span_start_s is not None:
            self._begin_s = first_picture_s
        self._packets = self._kept_packets()
        self._next = next(self._packets, None)

    def copy_chapters(self) -> None:
        """Chapters that overlap the span, moved and cut like the rest. Before the header is written."""
        begin_s = self._span_start_s or Fraction(0)
        kept: list[av.container.core.Chapter] = []
        for chapter in self._source.chapters():
            time_base = chapter["time_base"]
            if time_base is None:
                continue
            start, end, begin = chapter["start"], chapter["end"], round(begin_s / time_base)
            if self._end_s is not None:
                end = min(end, math.floor(self._end_s / time_base))
            if end > max(start, begin):
                kept.append({**chapter, "start": max(start, begin) - begin, "end": end - begin})
        self._output.set_chapters(kept)

    def copy_before(self, time_s: Fraction | None) -> None:
        """Mux, in the source's order, what is due by the picture of that time (source's clock); None: all the rest."""
        while self._next is not None:
            packet, due_s = self._next
            if time_s is not None and due_s > time_s:
                return
            index = packet.stream.index  # of the output; the muxer takes the packet's content away
            try:
                self._output.mux(packet)
            except av.FFmpegError as exc:
                if isinstance(exc, OSError):
                    raise  # the disk's fault, not the packet's
                raise SourceError(
                    f"{self._path}: a packet of track {index} at {float(due_s):.3f} s is too damaged to be copied "
                    f"({exc.strerror}); repair the file first, e.g. ffmpeg -err_detect ignore_err -i IN OUT.mkv"
                ) from exc
            self._next = next(self._packets, None)
        if time_s is None:
            self._warn_of_silence()

    def _warn_of_silence(self) -> None:
        """Sound of which a damaged file has nothing but the announcement; muxers leave such tracks out."""
        for stream in self._source.streams.audio if self._begin_s is None and self._end_s is None else ():
            if stream.index in self._outputs and stream.index not in self._last_dts:
                self.warnings.append(f"{self._path}: audio track {stream.index} holds no packet that can be read")

    def close(self) -> None:
        self._source.close()

    def _add(self, stream: Stream, target: Path) -> None:
        suffix = target.suffix
        is_matroska = container_format(suffix) in MATROSKA_CONTAINERS
        if stream.disposition & Disposition.attached_pic and is_matroska and stream.codec_context is not None:
            self._attach_cover(stream)
        elif stream.type == "data" and TIMECODE in stream.metadata:
            pass  # the muxer makes this track again from the picture's metadata; a copy would be a second one
        elif self._can_hold(suffix, stream):
            copy = self._output.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(self._still_true(stream.metadata))
            copy.disposition = stream.disposition
            self._outputs[stream.index] = copy
        elif stream.type in MUST_KEEP:
            others = [other for other in SUGGESTED_SUFFIXES if other != suffix.lower()]
            fitting = [other for other in others if self._can_hold(other, stream)]
            codec = stream.codec_context.name if stream.codec_context else "unknown codec"
            way_out = f"end the output in {' or '.join(fitting)}" if fitting else "no container of ours can; remove it"
            raise TargetError(
                f"{target}: {suffix} cannot hold the source's {stream.type} track {stream.index} ({codec}); {way_out}"
            )
        elif not (stream.type == "data" and self._source.chapters()):  # MP4 has chapters twice, once as a track
            self.warnings.append(f"{target}: {suffix} cannot hold the source's {stream.type} track {stream.index}")

    def _can_hold(self, suffix: str, stream: Stream) -> bool:
        """Whether a copy of this track in the container is the same track."""
        return _takes_header(suffix, stream) and self._passes_trial(suffix, stream)

    def _passes_trial(self, suffix: str, stream: Stream) -> bool:
        """Whether a track's first packets survive: muxers accept some in the header and fail hours later, at the end.

        Subtitles are spared: a few may be spread over the whole file.
        """
        if stream.type not in ("audio", "data"):
            return True
        try:
            with (
                open_source(self._path) as source,
                av.open(io.BytesIO(), "w", format=container_format(suffix)) as trial,
            ):
                copy = trial.add_stream_from_template(source.streams[stream.index], opaque=True)
                for packet in itertools.islice(
                    packets_of(source, self._path, [source.streams[stream.index]]), NUM_TRIAL_PACKETS
                ):
                    if packet.size:
                        packet.stream = copy
                        trial.mux(packet)
        except (ValueError, OSError, av.FFmpegError):
            return False
        return True

    def _attach_cover(self, stream: Stream) -> None:
        """Matroska keeps cover pictures as attachments."""
        suffix, media_type = IMAGE_TYPES.get(stream.codec_context.name, ("img", "application/octet-stream"))
        with open_source(self._path) as source:
            for packet in packets_of(source, self._path, [source.streams[stream.index]]):
                if packet.size:
                    name = stream.metadata.get("filename", f"cover.{suffix}")
                    self._output.add_attachment(name, stream.metadata.get("mimetype", media_type), bytes(packet))
                    return

    def _demuxed(self) -> Iterator["Packet[Stream]"]:
        streams = [stream for stream in self._source.streams if stream.index in self._outputs]
        if not streams:
            return
        # A subtitle may have come on screen any time ago, and a seek would pass over it.
        if self._begin_s is not None and not any(stream.type == "subtitle" for stream in streams):
            start_s = max(self._begin_s - Fraction(SEEK_MARGIN_S), self._origin_s)
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
        self.warnings.append(f"{self._path}: cannot be read to its end; sound and subtitles may be missing there")

    def _kept_packets(self) -> Iterator[tuple["Packet[Stream]", Fraction]]:
        """Packets in the output's time with their due time in the source's, in the source's order."""
        for packet in self._demuxed():
            if packet.size == 0:
                continue  # the demuxer's end marks
            is_text = packet.stream.type == "subtitle"
            if is_text and self._is_quicktime and packet.size == len(EMPTY_TEXT) and bytes(packet) == EMPTY_TEXT:
                continue
            time_base = packet.time_base
            is_dolby = packet.stream.type == "audio" and packet.stream.codec_context.name in ("ac3", "eac3")
            if self._is_quicktime and is_dolby and not bytes(packet).startswith(DOLBY_SYNC):
                raise SourceError(
                    f"{self._path}: a packet of audio track {packet.stream.index} is damaged, which MP4 and MOV leave "
                    "out without a word; end the output in .mkv"
                )
            output = self._outputs[packet.stream.index]
            if packet.stream.disposition & Disposition.attached_pic:
                packet.pts = packet.dts = 0  # a cover has no time
                packet.stream = output
                yield packet, Fraction(0)
                continue
            dts = packet.dts if packet.dts is not None else packet.pts
            if dts is None:  # of a damaged file: it goes behind the one before it
                last = self._last_dts.get(packet.stream.index)
                moved = 0 if self._begin_s is None else round(self._begin_s / time_base)
                dts = (packet.stream.start_time or 0) if last is None else last + moved + max(packet.duration or 0, 1)
            pts = packet.pts if packet.pts is not None else dts
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
                if pts < begin:
                    continue
                pts, dts = pts - begin, dts - begin
            last = self._last_dts.get(packet.stream.index)
            if last is not None and dts <= last:
                if (last - dts) * time_base > MAX_STEP_BACK_S:
                    raise SourceError(
                        f"{self._path}: time steps back by {float((last - dts) * time_base):.1f} s in track "
                        f"{packet.stream.index}; {ONE_CLOCK_FIRST}"
                    )
                pts, dts = pts + last + 1 - dts, last + 1  # containers want rising times
            if last is not None and not packet.duration and self._is_quicktime and not is_text:
                packet.duration = dts - last  # else the last packet of all would lie behind the track's end
            self._last_dts[packet.stream.index] = dts
            packet.pts, packet.dts = pts, dts
            packet.stream = output
            yield packet, due_s


def _takes_header(suffix: str, stream: Stream) -> bool:
    """Whether the container knows this kind of track: its header is written to memory to find out."""
    container = container_format(suffix)
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    if stream.type in MUST_KEEP and codec not in HELD_TRACKS.get(container, {codec}):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            copy = trial.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(stream.metadata)
            trial.start_encoding()
    except (ValueError, OSError, av.FFmpegError, TargetError):
        return False
    return True
