"""Everything in the source that is not the restored picture, copied packet for packet: sound, subtitles, the rest."""

import contextlib
import io
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import av.container
from av.packet import Packet
from av.stream import Disposition, Stream

from vidrestore.errors import SourceError, TargetError
from vidrestore.video.encode import (
    FRAME_COUNTING_CONTAINERS,
    MATROSKA_CONTAINERS,
    QUICKTIME_CONTAINERS,
    SUGGESTED_SUFFIXES,
    container_format,
)
from vidrestore.video.source import (
    FALLBACK_RATE_HZ,
    KEPT_BYTES,
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
COVER_CONTAINERS = frozenset({"mp4", "ipod"})
"""Beside Matroska, which attaches them. Others leave them out, or (AVI) make a second video of them."""
LANGUAGELESS_CONTAINERS = frozenset({"avi", "mxf", "mpeg", "flv"})
MARKING_CONTAINERS = MATROSKA_CONTAINERS | QUICKTIME_CONTAINERS - {"mov"} | {"nut"}
"""They say what a track is: a comment, forced, for the hard of hearing."""
CHAPTER_CONTAINERS = MATROSKA_CONTAINERS | QUICKTIME_CONTAINERS | {"nut", "asf"}
MATROSKA_PATH = ("18538067", "1654ae6b", "ae", "e0")
"""Segment, Tracks, TrackEntry, Video (RFC 9559)."""
CROPPING_IDS = {"top": "54bb", "bottom": "54aa", "left": "54cc", "right": "54dd"}
"""PixelCrop*, in Video."""
UNKNOWN_LANGUAGE = "und"
OTHER_SUFFIXES = (".ts", ".avi", ".mxf")
"""Of containers that are named where none of `SUGGESTED_SUFFIXES` will do."""
TWO_SPELLINGS = (
    "alb sqi,arm hye,baq eus,bur mya,chi zho,cze ces,dut nld,fre fra,geo kat,ger deu,gre ell,ice isl,mac mkd,mao mri,"
    "may msa,per fas,rum ron,slo slk,tib bod,wel cym"
)
"""The twenty languages that have two codes in ISO 639-2."""
OTHER_SPELLINGS: Mapping[str, str] = {
    code: other for pair in TWO_SPELLINGS.split(",") for code, other in itertools.permutations(pair.split())
}
"""Either one's other."""
MAX_OFF_GRID_FRAMES = 0.25
"""How far a frame's time may be from a whole number of frames for a container that only counts them."""
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
        self._suffix, self._container = target.suffix, container_format(target.suffix)
        self._is_quicktime = self._container in QUICKTIME_CONTAINERS
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
            if self._container in FRAME_COUNTING_CONTAINERS:
                self._check_clock(target)
            cropped = _cropping_px(self._main)
            if cropped:
                self.warnings.append(
                    f"{source}: the cropping marks ({cropped}) are left out: players will show the whole picture"
                )
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

    def _check_clock(self, target: Path) -> None:
        """Raise TargetError where a container that only counts frames would show them, or let hear the sound, at other
        times: a variable rate, a start other than 0, sound that begins elsewhere than the picture."""
        base = self._main.time_base or Fraction(1)
        # As the picture's encoder has it; see `rate_of`.
        rate = min(self._main.average_rate or FALLBACK_RATE_HZ, 1 / base)
        begin_s = self._span_start_s or Fraction(-(2**40))
        times_s = []
        with open_source(self._path) as source, contextlib.suppress(av.FFmpegError):
            stream = chosen_video_stream(source, self._path, self._main.index)
            for packet in packets_of(source, self._path, [stream]):
                time_s = None if packet.pts is None else packet.pts * base
                if time_s is not None and begin_s <= time_s and (self._end_s is None or time_s < self._end_s):
                    times_s.append(time_s)
        if not times_s:
            return  # no time stamps: what AVI itself has
        first_s, trouble = min(times_s), ""
        places = [(time_s - first_s) * rate for time_s in times_s]
        uneven = [place for place in places if abs(place - round(place)) > MAX_OFF_GRID_FRAMES]
        starts_s = {
            stream.index: max((stream.start_time or 0) * (stream.time_base or 0), begin_s)
            for stream in self._source.streams.audio
            if stream.start_time is not None
        }
        apart = [index for index, start_s in starts_s.items() if abs(start_s - first_s) > 1 / rate]
        if uneven or len({round(place) for place in places}) < len(places):
            trouble = f"frames of a variable rate (at {float(first_s + min(uneven, default=0) / rate):.3f} s)"
        elif apart:
            late_s = float(starts_s[apart[0]] - first_s)
            trouble = f"that audio track {apart[0]} starts {abs(late_s):.3f} s {'after' if late_s > 0 else 'before'} it"
        elif self._span_start_s is None and abs(first_s) * rate > MAX_OFF_GRID_FRAMES:
            trouble = f"a picture that starts at {float(first_s):.3f} s"
        if trouble:
            ways_out = " or ".join(each for each in SUGGESTED_SUFFIXES if each != self._suffix.lower())
            raise TargetError(
                f"{target}: {self._suffix} counts frames and cannot say {trouble}; end the output in {ways_out}"
            )

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
        if kept and self._container not in CHAPTER_CONTAINERS:
            self.warnings.append(f"{self._path}: {len(kept)} chapters are left out, as {self._suffix} has none")
            return
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
        is_cover = bool(stream.disposition & Disposition.attached_pic)
        if is_cover and container_format(suffix) == "matroska" and stream.codec_context is not None:
            self._attach_cover(stream)
        elif is_cover and container_format(suffix) not in COVER_CONTAINERS:
            self.warnings.append(
                f"{target}: {suffix} cannot hold the source's {stream.type} track {stream.index} (cover picture)"
            )
        elif stream.type == "data" and TIMECODE in stream.metadata:
            pass  # the muxer makes this track again from the picture's metadata; a copy would be a second one
        elif self._can_hold(suffix, stream):
            copy = self._output.add_stream_from_template(stream, opaque=True)
            metadata = self._still_true(stream.metadata)
            if "language" in metadata:
                metadata["language"] = _spelled(metadata["language"], container_format(suffix))
            copy.metadata.update(metadata)
            copy.disposition = stream.disposition
            self._outputs[stream.index] = copy
            self._warn_of_marks(stream, metadata.get("language", UNKNOWN_LANGUAGE), target)
        elif stream.type in MUST_KEEP:
            others = [other for other in SUGGESTED_SUFFIXES if other != suffix.lower()]
            fitting = [other for other in others if self._can_hold(other, stream)]
            if not fitting:
                fitting = [
                    other for other in OTHER_SUFFIXES if other != suffix.lower() and self._can_hold(other, stream)
                ]
            codec = stream.codec_context.name if stream.codec_context else "unknown codec"
            way_out = f"end the output in {' or '.join(fitting)}" if fitting else "no container of ours can; remove it"
            raise TargetError(
                f"{target}: {suffix} cannot hold the source's {stream.type} track {stream.index} ({codec}); {way_out}"
            )
        elif not (stream.type == "data" and self._source.chapters()):  # MP4 has chapters twice, once as a track
            self.warnings.append(f"{target}: {suffix} cannot hold the source's {stream.type} track {stream.index}")

    def _warn_of_marks(self, stream: Stream, language: str, target: Path) -> None:
        """Language and dispositions, where the container has no words for them."""
        container = container_format(target.suffix)
        lost = []
        if language != UNKNOWN_LANGUAGE and not _holds_language(language, container):
            lost.append(f"language {stream.metadata['language']}")
        marks = stream.disposition & ~(Disposition.default | Disposition.attached_pic)
        names = [flag.name for flag in Disposition if flag & marks and flag.name]
        if names and container not in MARKING_CONTAINERS:
            lost.append(f"mark as {' and '.join(names).replace('_', ' ')}")
        for what in lost:
            self.warnings.append(
                f"{target}: {target.suffix} loses the {what} of the source's track {stream.index} ({stream.type})"
            )

    def _can_hold(self, suffix: str, stream: Stream) -> bool:
        """Whether a copy of this track in the container is the same track."""
        return _takes_header(suffix, stream) and self._passes_trial(suffix, stream)

    def _passes_trial(self, suffix: str, stream: Stream) -> bool:
        """Whether a track's first packets survive: muxers accept some in the header and fail hours later, at the end.

        Subtitles are spared: a few may be spread over the whole file.
        """
        if stream.type not in ("audio", "data", "video") or container_format(suffix) == "mxf":
            return True  # MXF says all in the header, and writes nothing before there is a picture
        try:
            with (
                open_source(self._path) as source,
                av.open(io.BytesIO(), "w", format=container_format(suffix), metadata_errors=KEPT_BYTES) as trial,
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


def _cropping_px(stream: av.VideoStream) -> str:
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


def _trial_output(container: str) -> av.container.OutputContainer:
    """A file in memory; MXF wants a picture first."""
    output = av.open(io.BytesIO(), "w", format=container, metadata_errors=KEPT_BYTES)
    if container == "mxf":
        picture = output.add_stream("mpeg2video", rate=25)
        assert isinstance(picture, av.VideoStream)
        picture.width, picture.height, picture.pix_fmt = 720, 576, "yuv422p"
    return output


def _spelled(language: str, container: str) -> str:
    """The other of a language's two codes (ISO 639-2), where the container has a word for that one only."""
    if container != "mov" or _holds_language(language, container):
        return language
    other = OTHER_SPELLINGS.get(language, language)
    return other if _holds_language(other, container) else language


@cache
def _holds_language(language: str, container: str) -> bool:
    """QuickTime has numbers for those of the Macintosh: found out by writing a track and reading it back."""
    if container != "mov":
        return container not in LANGUAGELESS_CONTAINERS
    file = io.BytesIO()
    with av.open(file, "w", format=container, metadata_errors=KEPT_BYTES) as output:
        track = output.add_stream("pcm_s16le", rate=48000)
        track.metadata["language"] = language
        sound = av.AudioFrame(format="s16", layout="stereo", samples=64)
        sound.sample_rate, sound.pts = 48000, 0
        output.mux([*track.encode(sound), *track.encode(None)])
    file.seek(0)
    with av.open(file, format=container) as written:
        return written.streams[0].metadata.get("language") == language


def _takes_header(suffix: str, stream: Stream) -> bool:
    """Whether the container knows this kind of track: its header is written to memory to find out."""
    container = container_format(suffix)
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    if stream.type in MUST_KEEP and codec not in HELD_TRACKS.get(container, {codec}):
        return False
    with contextlib.ExitStack() as files:
        try:
            trial = _trial_output(container)
            files.callback(_close, trial)
            copy = trial.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(stream.metadata)
            trial.start_encoding()
        except (ValueError, OSError, av.FFmpegError, TargetError):
            return False
    return True


def _close(output: av.container.OutputContainer) -> None:
    """MXF objects that it got no picture."""
    with contextlib.suppress(OSError, ValueError, av.FFmpegError):
        output.close()
