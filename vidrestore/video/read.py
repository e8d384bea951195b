"""A source video as Frames. All decisions about time stamps and damage are made here."""

import contextlib
import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import av
from av.packet import Packet

from vidrestore.errors import OptionsError, SourceError
from vidrestore.frame import ColorTags, Fields, Frame, VideoInfo
from vidrestore.video.color_tags import FULL_RANGE, RGB_MATRIX, siting_of
from vidrestore.video.cropping import cropping_of
from vidrestore.video.decode import PatientDecoder
from vidrestore.video.hdr_light import hdr_light_of
from vidrestore.video.marks import FIELD_MARKING_CODECS, captions_of, left_out_of, marks_of, repeats_field
from vidrestore.video.planes import layout_in, planes_of
from vidrestore.video.read_sequence import SequenceReader
from vidrestore.video.sample import matching_decord_reader
from vidrestore.video.sequence import is_sequence
from vidrestore.video.source import (
    FALLBACK_RATE_HZ,
    MAX_DAMAGED_IN_A_ROW,
    MAX_STEP_BACK_S,
    ONE_CLOCK_FIRST,
    SEEK_MARGIN_S,
    UNFINISHED,
    chosen_video_stream,
    display_matrix_of,
    moving_pictures,
    open_source,
    packets_of,
    rotation_deg_of,
)

log = logging.getLogger("vidrestore")

BREAKS_OFF_S = 0.5
"""A picture that ends this much before its promised end counts as broken off; less is rounding in the header."""
PYAV_INSTEAD = "use --decoder pyav"


def open_reader(
    path: Path,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    decoder: Literal["auto", "pyav", "decord"] = "auto",
    stream: int | None = None,
    rate_hz: float | None = None,
) -> "VideoReader | SequenceReader":
    """The reader of a video, or of a sequence of images, which has a rate and no streams. Raises as they do."""
    if is_sequence(path):
        if decoder == "decord" or stream is not None:
            raise OptionsError(f"{path}: is a sequence of images, without streams; leave --stream and decord out")
        return SequenceReader(path, start_s=start_s, end_s=end_s, rate_hz=rate_hz)
    if rate_hz is not None:
        raise OptionsError(f"{path}: is no sequence of images and has its own clock; leave --rate out")
    return VideoReader(path, start_s=start_s, end_s=end_s, decoder=decoder, stream=stream)


class VideoReader:
    """Decodes one video stream: `with VideoReader(path) as reader: for frame in reader.frames(): ...`.

    The stream is the first that is no attached picture, or the one of number `stream` (counted among all streams).
    Frames keep the source's own samples (`planes_of`).

    Time stamps. A frame's pts is the container's, except that output needs strictly rising ones:
    - missing: the previous frame's plus one frame at the average rate; counted in `num_missing_pts`.
    - not after the previous one (by up to `MAX_STEP_BACK_S`): moved to one tick after it; counted in
      `num_repeated_pts`. No frame is dropped, and the container's clock rules again as soon as it is ahead.
    - further back: SourceError, because audio would lose its sync silently.

    Damage. A packet that the decoder refuses is skipped and counted in `num_damaged_packets`, and so is a container
    that breaks off. Frames that the decoder has patched up are kept and counted in `num_damaged_frames`. What a cut
    off file lacks is in `missing_at_end_s`. `warnings` has all of it in words.

    `start_s` and `end_s` (half-open) count seconds from the beginning as a player shows it (the container's start
    time). Kept frames keep the source's pts; `VideoWriter` moves the clock of a cut output to its first frame.

    `decoder="decord"` passes the picture through decord's 8-bit RGB: colours of YUV sources are then no longer the
    source's own samples. It needs decord, and a clip that is not turned for viewing and where decord finds as many
    frames as the container holds.

    Raises SourceError for a file that holds no video we can decode, OptionsError when nothing lies in the span.
    """

    def __init__(
        self,
        path: Path,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        decoder: Literal["auto", "pyav", "decord"] = "auto",
        stream: int | None = None,
    ) -> None:
        self.path = path
        self.num_damaged_packets = 0
        self.num_damaged_frames = 0
        self.num_missing_pts = 0
        self.num_repeated_pts = 0
        self._left_out: set[str] = set()
        self._repeats_fields = False
        self._interlaced_fields: Fields = ""
        self.missing_at_end_s = 0.0
        """Known after the last frame: from its end to where the container says that the picture ends."""
        self._container = open_source(path)
        try:
            self._stream = chosen_video_stream(self._container, path, stream)
            others = [] if stream is not None else moving_pictures(self._container)[1:]
            self._other_videos = [other.index for other in others]
            self._stream.thread_type = "AUTO"
            time_base = self._stream.time_base
            assert time_base is not None, "every demuxed stream has a time base"
            self._time_base = time_base
            self._origin_s = Fraction(self._container.start_time or 0, av.time_base)
            self._start_s, self._end_s = start_s, end_s
            self._seek_before_start()
            if decoder == "decord":
                self._timed_frames = self._in_span(self._decord_frames())
            else:
                self._timed_frames = self._in_span(self._with_pts(self._decoded()))
            self._first = next(self._timed_frames, None)
            if self._first is None:
                raise self._nothing_decoded()
            self.info = self._describe(self._first[1])
            if decoder == "decord":
                self.info = self._as_seen_by_decord()
        except BaseException:
            self._container.close()
            raise

    def frames(self) -> Iterator[Frame]:
        """The frames in order of time, once. Raises SourceError when the picture changes size or format on the way."""
        assert self._first is not None, "frames() can be read only once"
        first, self._first = self._first, None
        pts = duration = 0
        for index, (pts, picture) in enumerate(itertools.chain([first], self._timed_frames)):
            planes, duration = planes_of(picture), picture.duration
            height_px, width_px = planes[0].shape
            layout = layout_in(self.path, picture)
            wanted = (self.info.width_px, self.info.height_px, self.info.layout.name, self.info.layout.full_range)
            if (width_px, height_px, layout.name, layout.full_range) != wanted:
                at_s = float(pts * self._time_base - self._origin_s)
                raise SourceError(
                    f"{self.path}: the picture changes from {self.info.width_px}x{self.info.height_px} "
                    f"{self.info.layout.name} to {width_px}x{height_px} {layout.name} at {at_s:.3f} s; "
                    f"restore the parts separately, with --end {at_s:.3f} and --start {at_s:.3f}"
                )
            self._left_out |= left_out_of(picture, self.info.codec)
            yield Frame(
                index=index,
                pts=pts,
                time_base=self._time_base,
                planes=planes,
                layout=self.info.layout,
                fields=self._fields_of(picture),
                captions=captions_of(picture, self.info.codec),
            )
        if self._promised_end_s is not None and duration:
            end_s = math.inf if self._end_s is None else float(self._origin_s) + float(self._end_s)
            wanted_s = min(self._promised_end_s, end_s)
            self.missing_at_end_s = max(0.0, wanted_s - float((pts + duration) * self._time_base))

    @property
    def first_s(self) -> Fraction:
        """Time of the first frame on the source's clock; before `frames` is called."""
        assert self._first is not None, "its frames have been read"
        return self._first[0] * self._time_base

    @property
    def num_frames_expected(self) -> int | None:
        """About how many frames `frames()` will give, from header, duration and span, for a progress bar."""
        info = self.info
        num_frames = info.num_frames_from_header
        if num_frames is None and info.duration_s and info.average_rate:
            num_frames = round(info.duration_s * info.average_rate)
        if num_frames is None or not info.duration_s or not (self._start_s or self._end_s):
            return num_frames
        span_s = min(self._end_s or math.inf, info.duration_s) - (self._start_s or 0)
        return max(1, round(num_frames * span_s / info.duration_s))

    @property
    def warnings(self) -> list[str]:
        """One line for each kind of trouble met so far, for the report."""
        found = [
            (self.num_damaged_packets, "damaged packets were left out"),
            (self.num_damaged_frames, "frames were damaged and patched up by the decoder"),
            (self.num_missing_pts, "frames had no time stamp and got the average spacing"),
            (self.num_repeated_pts, "frames repeated a time stamp and were moved by a tick"),
        ]
        lines = [f"{self.path}: {count} {what}" for count, what in found if count]
        lines += [f"{self.path}: {what} are left out" for what in sorted(self._left_out)]
        if self._repeats_fields:
            lines.append(f"{self.path}: marks of repeated fields (pulldown) are left out; every picture keeps its time")
        if self._other_videos:
            numbers = " and ".join(map(str, self._other_videos))
            lines.append(f"{self.path}: video stream {numbers} is only copied; --stream restores it instead")
        if self.missing_at_end_s > BREAKS_OFF_S:
            lines.append(f"{self.path}: breaks off {self.missing_at_end_s:.1f} s before its promised end")
        return lines

    @property
    def _promised_end_s(self) -> float | None:
        """When the last frame should be over, by the container's header; None where it does not say."""
        stream = self._stream
        if stream.duration:
            return float(((stream.start_time or 0) + stream.duration) * self._time_base)
        # Matroska's header has the longest track's duration, and as a tag that of each one.
        hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
        minutes, _, seconds = rest.partition(":")
        try:
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return None

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _describe(self, picture: av.VideoFrame) -> VideoInfo:
        stream, context = self._stream, self._stream.codec_context
        chroma_location, coded_fields = marks_of(picture)
        layout = layout_in(self.path, picture, siting=siting_of(chroma_location, context.name))
        duration_s = None
        if stream.duration:
            duration_s = float(stream.duration * self._time_base)
        elif self._container.duration:
            duration_s = self._container.duration / av.time_base
        return VideoInfo(
            width_px=picture.width,
            height_px=picture.height,
            layout=layout,
            time_base=self._time_base,
            average_rate=stream.average_rate or None,
            num_frames_from_header=stream.frames or None,
            duration_s=duration_s,
            codec=context.codec.canonical_name,
            rotation_deg=rotation_deg_of(picture, context.codec.canonical_name),
            # The container's word first; FFV1 in Matroska has it in the bitstream only.
            sample_aspect=stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1),
            color=ColorTags(
                range=int(picture.color_range),
                matrix=int(picture.colorspace),
                primaries=int(picture.color_primaries),
                transfer=int(picture.color_trc),
            ),
            display_matrix=display_matrix_of(picture, context.codec.canonical_name),
            field_order=context.field_order,
            coded_fields=coded_fields,
            chroma_location=chroma_location,
            light=hdr_light_of(picture, context.codec.canonical_name),
            cropping=cropping_of(stream),
            stream_number=stream.index,
        )

    def _fields_of(self, picture: av.VideoFrame) -> Fields:
        """Whether this picture is interlaced: by its own word, or by the container's where the codec has none."""
        if picture.interlaced_frame:
            # The order is that of the first such picture: one file is not cut together from two orders.
            self._interlaced_fields = self._interlaced_fields or self.info.coded_fields or marks_of(picture)[1]
            return self._interlaced_fields
        return "" if self.info.codec in FIELD_MARKING_CODECS else self.info.fields

    def _seek_before_start(self) -> None:
        if not self._start_s:
            return
        target_s = self._origin_s + Fraction(self._start_s) - Fraction(SEEK_MARGIN_S)
        if target_s <= self._origin_s:
            return
        with contextlib.suppress(av.FFmpegError):  # a container that cannot seek is read from its beginning
            self._container.seek(math.floor(target_s / self._time_base), stream=self._stream)

    def _packets(self) -> Iterator["Packet[av.VideoStream]"]:
        """Packets of the stream. A container that breaks off counts as a damaged packet."""
        is_mpeg2 = self._stream.codec_context.name == "mpeg2video"
        for _ in range(MAX_DAMAGED_IN_A_ROW):
            try:
                for packet in packets_of(self._container, self.path, [self._stream]):
                    if is_mpeg2 and not self._repeats_fields:
                        self._repeats_fields = repeats_field(bytes(packet))
                    yield packet
                return
            except av.FFmpegError as exc:
                # The generator is finished after it raises; a new one goes on behind the damage.
                self.num_damaged_packets += 1
                log.debug("%s: %s", self.path, exc)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        in_a_row = 0
        last_pts: int | None = None

        def count(exc: av.FFmpegError) -> None:
            nonlocal in_a_row
            in_a_row += 1
            self.num_damaged_packets += 1
            log.debug("%s: %s", self.path, exc)

        decoder = PatientDecoder(self._stream, self.path, on_damage=count)
        for pictures in itertools.chain(map(decoder.decode, self._packets()), [decoder.finish()]):
            for picture in pictures:
                assert isinstance(picture, av.VideoFrame)
                in_a_row = 0
                self.num_damaged_frames += picture.is_corrupt
                last_pts = picture.pts if picture.pts is not None else last_pts
                yield picture
            if in_a_row > MAX_DAMAGED_IN_A_ROW:
                if last_pts is None:
                    raise self._nothing_decoded()
                good_s = float(last_pts * self._time_base - self._origin_s)
                raise SourceError(
                    f"{self.path}: {in_a_row} damaged packets in a row after {good_s:.3f} s; "
                    f"keep what comes before with --end {good_s:.3f}"
                )

    def _with_pts(self, pictures: Iterator[av.VideoFrame]) -> Iterator[tuple[int, av.VideoFrame]]:
        rate = self._stream.average_rate or FALLBACK_RATE_HZ
        frame_ticks = max(1, round(1 / (rate * self._time_base)))
        previous: int | None = None
        for picture in pictures:
            pts = picture.pts
            if pts is None:
                self.num_missing_pts += 1
                pts = (self._stream.start_time or 0) if previous is None else previous + frame_ticks
            if previous is not None and pts <= previous:
                if (previous - pts) * self._time_base > MAX_STEP_BACK_S:
                    at_s = float(previous * self._time_base - self._origin_s)
                    raise SourceError(
                        f"{self.path}: time steps back by {float((previous - pts) * self._time_base):.1f} s after "
                        f"{at_s:.3f} s; {ONE_CLOCK_FIRST}"
                    )
                self.num_repeated_pts += 1
                pts = previous + 1
            previous = pts
            yield pts, picture

    def _in_span(self, timed: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[tuple[int, av.VideoFrame]]:
        for pts, picture in timed:
            if self._end_s is not None and self._time_in_span_s(pts) >= self._end_s:
                return
            if not self._is_before_span(pts):
                yield pts, picture

    def _is_before_span(self, pts: int) -> bool:
        return bool(self._start_s) and self._time_in_span_s(pts) < (self._start_s or 0)

    def _time_in_span_s(self, pts: int) -> Fraction:
        """From the beginning as a player shows it, later by half a tick of slack: a time read off this very clock and
        typed in again must find its frame."""
        return (Fraction(pts) + Fraction(1, 2)) * self._time_base - self._origin_s

    def _nothing_decoded(self) -> SourceError | OptionsError:
        if self._start_s or self._end_s is not None:
            start_s, end = self._start_s or 0, "the end" if self._end_s is None else f"{self._end_s:g} s"
            duration_s = (self._container.duration or 0) / av.time_base
            return OptionsError(
                f"{self.path}: no frame lies from --start {start_s:g} s to {end}; the video lasts {duration_s:.3f} s"
            )
        if self.num_damaged_packets:
            return SourceError(f"{self.path}: every video packet is damaged; get another copy of the file")
        return SourceError(f"{self.path}: the video stream holds no frames; {UNFINISHED}")

    def _as_seen_by_decord(self) -> VideoInfo:
        """The stream's own facts, with decord's pictures: full-range RGB."""
        with VideoReader(self.path) as own:
            color = replace(own.info.color, range=FULL_RANGE, matrix=RGB_MATRIX)
            return replace(own.info, layout=self.info.layout, color=color)

    def _decord_frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        match = matching_decord_reader(self.path)
        if match is None:
            raise SourceError(f"{self.path}: decord is not installed or does not see the same frames; {PYAV_INSTEAD}")
        reader, pts = match
        for index, frame_pts in enumerate(pts):
            if self._is_before_span(frame_pts):
                continue  # decord seeks by itself
            try:
                rgb = reader[index].asnumpy()
            except Exception as exc:  # decord raises its own errors
                raise SourceError(f"{self.path}: decord cannot decode frame {index}; {PYAV_INSTEAD}") from exc
            yield frame_pts, av.VideoFrame.from_ndarray(rgb, format="rgb24")
