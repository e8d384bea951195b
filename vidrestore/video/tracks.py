"""Everything in the source that is not the restored picture, copied packet for packet: sound, subtitles, the rest."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import av.container
from av.stream import Disposition, Stream

from vidrestore.errors import SourceError, TargetError
from vidrestore.video.containers import (
    FRAME_COUNTING_CONTAINERS,
    PACK_TIMING_CONTAINERS,
    QUICKTIME_CONTAINERS,
    container_format,
)
from vidrestore.video.copied_packets import CopiedPackets
from vidrestore.video.counted_frames import check_clock
from vidrestore.video.held_tracks import (
    CHAPTER_CONTAINERS,
    COVER_CONTAINERS,
    MUST_KEEP,
    UNKNOWN_LANGUAGE,
    can_hold,
    lost_texts,
    lost_words,
    other_suffixes_for,
    spelled,
)
from vidrestore.video.source import chosen_video_stream, open_source, packets_of

CONTAINER_KEYS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
"""Metadata that describes the old file, not the work."""
STATISTICS_PREFIXES = ("_STATISTICS", "BPS", "NUMBER_OF_", "DURATION", "ENCODER", "encoder")
"""Matroska's figures about the old picture stream."""
MS_PER_S = 1000
"""The MOV muxer's own movie time scale."""
MAX_MOVIE_TICKS_PER_S = 2**31 - 1
"""Stored in 32 bits."""
TITLE, QUICKTIME_TITLE = "title", "name"
"""Keys of a track's title: FFmpeg's writers', and its MOV reader's."""
TIMECODE = "timecode"
"""Key of the metadata by which FFmpeg's readers and writers pass on a time code track."""
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

    Raises TargetError, before any work, when the container cannot hold a track of sound, subtitles or
    video.
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
        self._target, self._suffix, self._container = target, target.suffix, container_format(target.suffix)
        self._source = open_source(source)
        try:
            origin_s = Fraction(self._source.start_time or 0, av.time_base)
            self._end_s = None if end_s is None else origin_s + Fraction(end_s)
            self._span_start_s = origin_s + Fraction(start_s) if start_s else None
            self._main = chosen_video_stream(self._source, source, picture_number)
            self._outputs: dict[int, Stream] = {}
            for stream in self._source.streams:
                if stream.index == self._main.index:
                    self._describe_picture(add_picture())
                else:
                    self._add(stream)
            if self._container in FRAME_COUNTING_CONTAINERS | PACK_TIMING_CONTAINERS:
                check_clock(source, self._source, self._main, target, start_s=self._span_start_s, end_s=self._end_s)
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
        stream.metadata.update(self._words(self._main, metadata))
        stream.disposition = self._main.disposition

    def _words(self, stream: Stream, metadata: Mapping[str, str]) -> dict[str, str]:
        """What the output's track is to say in place of the source's; what its container has no place for is named."""
        words = self._still_true(metadata)
        if QUICKTIME_TITLE in words:
            words.setdefault(TITLE, words.pop(QUICKTIME_TITLE))
        for what in lost_texts(words, self._source.metadata, self._container):
            self._warn_of_loss(what, stream)
        return words

    def _warn_of_loss(self, what: str, stream: Stream) -> None:
        self.warnings.append(
            f"{self._target}: {self._suffix} loses the {what} of the source's track {stream.index} ({stream.type})"
        )

    def _still_true(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """Without the time code (in capitals in Matroska), where a cut begins elsewhere."""
        kept = {k: v for k, v in metadata.items() if self._span_start_s is None or k.lower() != TIMECODE}
        warning = f"{self._path}: the time code is left out, because the cut begins elsewhere"
        if len(kept) < len(metadata) and warning not in self.warnings:
            self.warnings.append(warning)
        return kept

    @property
    def texts(self) -> dict[str, str]:
        """What the output is to say of the whole work, and its time code."""
        texts = dict(self._output.metadata)
        for stream in self._output.streams:
            if TIMECODE in stream.metadata:
                texts.setdefault(TIMECODE, stream.metadata[TIMECODE])
        return texts

    def movie_ticks_per_s(self) -> int:
        """The time scale for MP4's start offsets, in which every track begins exactly where it does in the source.

        FFmpeg stores how late a track starts in ms, rounded down. That is exact for what was made so; otherwise, and
        for a cut and others that move, whose tracks begin anywhere, we take a scale that all tracks' clocks divide.
        """
        starts = [(stream.start_time or 0, stream.time_base or Fraction(1)) for stream in self._source.streams]
        in_ms = all(round(Fraction(math.floor(start * base * 1000), 1000) / base) == start for start, base in starts)
        common = math.lcm(*(base.denominator for _, base in starts))
        moved = self._span_start_s is not None or (self._main.start_time or 0) < 0
        return MS_PER_S if (in_ms and not moved) or common > MAX_MOVIE_TICKS_PER_S else common

    @property
    def start_s(self) -> Fraction:
        """When the first of all tracks begins, by the source's clock."""
        return Fraction(self._source.start_time or 0, av.time_base)

    def begin(self, first_picture_s: Fraction, shift_s: Fraction) -> None:
        """Start copying: the source's first picture that is restored is shown at this time of its clock, and all
        packets move back by `shift_s`."""
        self._packets = CopiedPackets(
            self._source,
            self._path,
            self._outputs,
            shift_s=shift_s,
            begin_s=None if self._span_start_s is None else first_picture_s,
            end_s=self._end_s,
            into_quicktime=self._container in QUICKTIME_CONTAINERS,
            warn=self.warnings.append,
        )
        self._coming = iter(self._packets)
        self._next = next(self._coming, None)

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
            self._next = next(self._coming, None)
        if time_s is None:
            self._warn_of_silence()
            for index in self._packets.hidden():
                self.warnings.append(f"{self._path}: video track {index} has no keyframe in the cut, and is empty")

    def _warn_of_silence(self) -> None:
        """Sound of which a damaged file has nothing but the announcement; muxers leave such tracks out."""
        if self._span_start_s is None and self._end_s is None:
            for index in self._packets.silent():
                self.warnings.append(f"{self._path}: audio track {index} holds no packet that can be read")

    def close(self) -> None:
        self._source.close()

    def _add(self, stream: Stream) -> None:
        """Declare the copy of a track in the output, or say why there is none."""
        target, suffix, container = self._target, self._suffix, self._container
        is_cover = bool(stream.disposition & Disposition.attached_pic)
        if is_cover and container == "matroska" and stream.codec_context is not None:
            self._attach_cover(stream)
        elif is_cover and container not in COVER_CONTAINERS:
            self.warnings.append(
                f"{target}: {suffix} cannot hold the source's {stream.type} track {stream.index} (cover picture)"
            )
        elif stream.type == "data" and TIMECODE in stream.metadata:
            pass  # the muxer makes this track again from the picture's metadata; a copy would be a second one
        elif can_hold(suffix, stream, self._path):
            copy = self._output.add_stream_from_template(stream, opaque=True)
            metadata = self._words(stream, stream.metadata)
            if "language" in metadata:
                metadata["language"] = spelled(metadata["language"], container)
            copy.metadata.update(metadata)
            copy.disposition = stream.disposition
            self._outputs[stream.index] = copy
            for what in lost_words(stream, metadata.get("language", UNKNOWN_LANGUAGE), container):
                self._warn_of_loss(what, stream)
        elif stream.type in MUST_KEEP and not is_cover:
            fitting = other_suffixes_for(stream, self._path, suffix)
            codec = stream.codec_context.name if stream.codec_context else "unknown codec"
            way_out = f"end the output in {' or '.join(fitting)}" if fitting else "no container of ours can; remove it"
            raise TargetError(
                f"{target}: {suffix} cannot hold the source's {stream.type} track {stream.index} ({codec}); {way_out}"
            )
        elif not (stream.type == "data" and self._source.chapters()):  # MP4 has chapters twice, once as a track
            self.warnings.append(f"{target}: {suffix} cannot hold the source's {stream.type} track {stream.index}")

    def _attach_cover(self, stream: Stream) -> None:
        """Matroska keeps cover pictures as attachments."""
        suffix, media_type = IMAGE_TYPES.get(stream.codec_context.name, ("img", "application/octet-stream"))
        with open_source(self._path) as source:
            for packet in packets_of(source, self._path, [source.streams[stream.index]]):
                if packet.size:
                    name = stream.metadata.get("filename", f"cover.{suffix}")
                    self._output.add_attachment(name, stream.metadata.get("mimetype", media_type), bytes(packet))
                    return
