"""Frames in, a video file out: the new picture with everything else of the source, in the source's time."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream

from vidrestore.errors import RestoreError, TargetError
from vidrestore.frame import Fields, Frame, VideoInfo
from vidrestore.layout import PixelLayout, Plane
from vidrestore.target import replaced_when_complete, writing
from vidrestore.video.color_tags import CHROMA_LOCATIONS, FULL_RANGE, UNSPECIFIED_RANGE, range_tag
from vidrestore.video.encode import (
    INTERLACING_CODECS,
    QUICKTIME_CONTAINERS,
    WAY_OUT,
    EncodeSettings,
    Encoding,
    container_format,
    light_goes_into_container,
    loses_chroma_location,
    loses_light,
    loses_sample_aspect,
    resolve_encoding,
)
from vidrestore.video.hdr_light import carrier
from vidrestore.video.marks import CAPTIONED_CODECS, FIELD_MARKING_CODECS, FieldMarker, captioned
from vidrestore.video.planes import av_frame_of, planes_of
from vidrestore.video.source import FALLBACK_RATE_HZ
from vidrestore.video.tracks import CopiedTracks

ENCODER_THREADS = 8
"""On every machine: what most encoders write depends on the number of their threads, and a run must not on its cores.
With two cores, eight threads are as fast as FFmpeg's own choice."""
PLAIN_MP4_KEYS = frozenset(
    ("title", "artist", "album_artist", "album", "composer", "date", "comment", "genre", "copyright", "description")
    + ("synopsis", "grouping", "lyrics", "show", "episode_id", "network", "keywords", "track", "disc", "creation_time")
    + ("location", "location-eng")
)
"""Metadata that the MOV muxer writes where players look for it. With any other key (a phone's, say), all go to the
newer place that has room for them."""


class VideoWriter:
    """Writes a video: `with VideoWriter(...) as writer: writer.write(frame)`, frames in the order of time.

    Picture: `like`'s size, time base, pixel shape, rotation and colour tags; each frame's pts as it is.
    Beside it: the source's sound, subtitles and other tracks packet for packet, its metadata and chapters.

    With `start_s` the output's clock starts at the first frame: pictures, sound, subtitles and chapters all move by
    that frame's time. With `start_s` or `end_s` sound and subtitles are cut to whole packets that begin in the span.

    The file is written under a hidden name in the target's folder and renamed when `with` ends without an error;
    after an error or Ctrl-C nothing is left. Matroska counts time in ms and has no negative times: there, pts of finer
    clocks are rounded, and a source whose sound starts before 0 moves as a whole.

    Raises TargetError before any work when folder, container, codec or a track does not fit; TargetError in the
    middle when the disk fills up; RestoreError when the encoder fails. `warnings` lists what could not be kept.
    """

    def __init__(
        self,
        target: Path,
        *,
        like: VideoInfo,
        source: Path,
        encode: EncodeSettings | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> None:
        self.target = target
        try:
            self._encoding = resolve_encoding(encode or EncodeSettings(), like, target.suffix)
        except TargetError as exc:
            raise TargetError(f"{target}: {exc}") from exc
        self._warnings: list[str] = []
        if loses_sample_aspect(like, target.suffix) and not self._encoding.encoder.keeps_sample_aspect:
            shape = f"{like.sample_aspect.numerator}:{like.sample_aspect.denominator}"
            self._warnings.append(
                f"{target}: {self._encoding.encoder.name} in {target.suffix} loses the pixel shape {shape}"
            )
        if loses_chroma_location(like, self._encoding, target.suffix):
            self._warnings.append(
                f"{target}: {self._encoding.encoder.name} in {target.suffix} cannot say that chroma samples lie at "
                f"{CHROMA_LOCATIONS[like.chroma_location]}"
            )
        if loses_light(like, self._encoding.encoder, target.suffix):
            self._warnings.append(
                f"{target}: {self._encoding.encoder.name} in {target.suffix} loses the HDR metadata (mastering "
                f"display, light levels); use --codec hevc or an output ending in .mkv"
            )
        self._like = like
        self._field_marker = FieldMarker()
        self._moves_clock = bool(start_s)
        self._offset = 0
        self._begun = False
        self._num_written = 0
        self._first_pts = 0
        self._waiting_pts: deque[int] = deque()
        """With a fixed rate: the times of frames that the encoder still has, in order."""
        self._num_before = 0
        """How many frames came before the first in `_waiting_pts`."""
        if self._encoding.encoder.name == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only: it prints to stderr and has no other switch
        with contextlib.ExitStack() as files, self._translated_errors():
            temporary = files.enter_context(replaced_when_complete(target))
            self._output = av.open(
                str(temporary.absolute()),
                mode="w",
                format=container_format(target.suffix),
                container_options=self._container_options(),
                metadata_errors="surrogateescape",
            )
            files.callback(self._close_output)
            self._tracks = CopiedTracks(
                source,
                self._output,
                target,
                add_picture=self._add_picture_stream,
                picture_number=like.stream_number,
                start_s=start_s,
                end_s=end_s,
            )
            files.callback(self._tracks.close)
            self._tracks.copy_chapters()
            if container_format(target.suffix) in QUICKTIME_CONTAINERS:
                self._output.container_options["movie_timescale"] = str(self._tracks.movie_ticks_per_s())
                if not PLAIN_MP4_KEYS.issuperset(self._output.metadata):
                    self._output.container_options["movflags"] = "use_metadata_tags"
            self._output.start_encoding()  # writes the header: container, codec and disk are known to work
            self._files = files.pop_all()

    @property
    def warnings(self) -> list[str]:
        """What could not be kept, one line each; complete after `close`."""
        return self._warnings + self._tracks.warnings

    def write(self, frame: Frame) -> None:
        """Encode one frame, and copy the tracks' packets that are due before it."""
        width_px, height_px = self._like.width_px, self._like.height_px
        if (frame.width_px, frame.height_px) != (width_px, height_px):
            raise ValueError(
                f"frame is {frame.width_px}x{frame.height_px}; the writer was made for {width_px}x{height_px}"
            )
        with self._translated_errors():
            if not self._begun:
                self._begin(frame)
            self._tracks.copy_before(frame.pts * frame.time_base)
            picture = encodable_frame(frame.planes, frame.layout, self._encoding, fields=frame.fields)
            if isinstance(frame.captions, av.VideoFrame):
                if self._encoding.encoder.codec in CAPTIONED_CODECS:
                    picture = captioned(picture, frame.captions)
                else:
                    self._warn_of_captions()
            fields = self._fields_to_mark(frame)
            if fields:
                picture = self._field_marker.marked(picture, fields)
            picture.color_range = self._color_range
            pts = frame.pts - self._offset
            if self._encoding.encoder.fixed_rate:
                picture.pts, picture.time_base = self._num_written, 1 / self._rate
                self._waiting_pts.append(pts)
            else:
                picture.pts, picture.time_base = pts, self._like.time_base
            self._num_written += 1
            self._mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file and put it in its place. Called by leaving the `with` block without an error."""
        with self._files, self._translated_errors():
            if not self._begun:
                raise RestoreError(f"{self.target}: no frame was written; nothing is left there")
            self._mux(self._stream.encode(None))
            self._tracks.copy_before(None)
            self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self.close()
        else:
            self._files.__exit__(exc_type, exc, traceback)

    @property
    def _rate(self) -> Fraction:
        # Headers have absurd ones; more than one frame to a tick cannot be.
        return min(self._like.average_rate or FALLBACK_RATE_HZ, 1 / self._like.time_base)

    @property
    def _color_range(self) -> int:
        """The source's tag; full where the source needs none (gray, RGB), but this codec would mean limited."""
        like = self._like
        if like.color.range == UNSPECIFIED_RANGE and like.layout.full_range and self._encoding.encoder.codec != "ffv1":
            return FULL_RANGE
        return like.color.range

    def _container_options(self) -> dict[str, str]:
        if container_format(self.target.suffix) not in QUICKTIME_CONTAINERS:
            return {}
        # The MOV muxer would multiply small time bases; this keeps the very ticks.
        return {"video_track_timescale": str(self._like.time_base.denominator)}

    def _add_picture_stream(self) -> av.VideoStream:
        like, encoding = self._like, self._encoding
        if like.light and light_goes_into_container(like, encoding.encoder, self.target.suffix):
            with carrier(like.light, encoding.encoder.name) as template:
                stream: Stream = self._output.add_stream_from_template(template.streams.video[0], opaque=False)
            stream.codec_context.options = dict(encoding.options)
        else:
            stream = self._output.add_stream(encoding.encoder.name, rate=self._rate, options=dict(encoding.options))
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.framerate = self._rate
        stream.time_base = like.time_base
        context.time_base = 1 / self._rate if encoding.encoder.fixed_rate else like.time_base
        context.width, context.height = like.width_px, like.height_px
        context.pix_fmt = encoding.pix_fmt
        context.sample_aspect_ratio = like.sample_aspect
        context.color_range = self._color_range
        context.colorspace = like.color.matrix
        context.color_primaries = like.color.primaries
        context.color_trc = like.color.transfer
        context.field_order = like.field_order
        context.thread_type = "AUTO"
        context.thread_count = ENCODER_THREADS
        if encoding.encoder.codec == "hevc" and container_format(self.target.suffix) in QUICKTIME_CONTAINERS:
            context.codec_tag = "hvc1"  # Apple's players refuse the other spelling, hev1
        stream.set_display_matrix(like.display_matrix)
        context.open()  # one that is made from a template would otherwise be left closed in the header's eyes
        self._stream = stream
        return stream

    def _warn_of_captions(self) -> None:
        warning = (
            f"{self.target}: {self._encoding.encoder.name} loses the closed captions inside the picture; "
            "use --codec h264 to keep them"
        )
        if warning not in self._warnings:
            self._warnings.append(warning)

    def _fields_to_mark(self, frame: Frame) -> Fields:
        """A codec that codes fields needs all pictures marked; else each is, as far as the source's codec did it."""
        like = self._like
        if self._encoding.encoder.codec in INTERLACING_CODECS:
            return like.fields
        return frame.fields if like.coded_fields or like.codec in FIELD_MARKING_CODECS else ""

    def _begin(self, first: Frame) -> None:
        """The first frame's time tells where a cut output's clock starts."""
        self._begun = True
        self._offset = first.pts if self._moves_clock else 0
        self._first_pts = first.pts - self._offset
        self._tracks.begin(first.pts * first.time_base)

    def _mux(self, packets: Sequence["Packet[av.VideoStream]"]) -> None:
        for packet in packets:
            if self._encoding.encoder.fixed_rate:
                self._restore_times(packet)
            self._output.mux(packet)

    def _restore_times(self, packet: "Packet[av.VideoStream]") -> None:
        """Replace a frame count by the frame's own time, and the decoding order likewise."""
        assert packet.pts is not None
        assert packet.dts is not None
        frame_ticks = max(1, round(1 / (self._rate * self._like.time_base)))
        # Decoding times only rise and no packet is shown before it is decoded: earlier frames are done with.
        while self._num_before < packet.dts:
            self._waiting_pts.popleft()
            self._num_before += 1
        dts = self._waiting_pts[0] if packet.dts >= 0 else self._first_pts + packet.dts * frame_ticks
        packet.pts, packet.dts = self._waiting_pts[packet.pts - self._num_before], dts
        packet.duration = frame_ticks
        packet.time_base = self._like.time_base

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn FFmpeg's and the system's errors into ours."""
        try:
            with writing(self.target):
                yield
        except (av.FFmpegError, ValueError) as exc:
            like, encoding = self._like, self._encoding
            picture = f"{like.width_px}x{like.height_px} {encoding.pix_fmt}"
            reason = getattr(exc, "strerror", exc)
            message = f"{self.target}: {encoding.encoder.name} failed on {picture} ({reason})"
            if self._begun and getattr(exc, "filename", None):  # it was the container's muxer, not the encoder
                raise TargetError(
                    f"{self.target}: {self.target.suffix} cannot hold all of this source, whose time stamps or packets "
                    f"may be damaged ({reason}); {WAY_OUT}"
                ) from exc
            if self._begun:
                raise RestoreError(message) from exc
            raise TargetError(f"{message}; {WAY_OUT}") from exc

    def _close_output(self) -> None:
        """Whatever state it is in after an error; without one it is closed already, and this does nothing."""
        with contextlib.suppress(OSError, ValueError, av.FFmpegError):
            self._output.close()


def encodable_frame(
    planes: Sequence[Plane], layout: PixelLayout, encoding: Encoding, *, fields: Fields = ""
) -> av.VideoFrame:
    """An FFmpeg frame in the encoder's format: the same samples where it can hold them.

    Elsewhere samples are spread out: more bits and gray as colour hold the very same levels; finer chroma is
    interpolated between the source's samples (bilinearly, by FFmpeg's scaler), so that chroma may differ by some
    levels once it is made coarse again. Fewer bits (ProRes) are rounded to the nearest level. Interlaced chroma is
    interpolated within each field.
    """
    fitted = encoding.layout
    if fitted.name == layout.name:
        return av_frame_of(planes, layout, encoding.pix_fmt)
    if fitted.depth_bits < layout.depth_bits:
        rounded = [
            _rounded(plane, layout.depth_bits, fitted.depth_bits, is_alpha=layout.has_alpha and plane is planes[-1])
            for plane in planes
        ]
        return av_frame_of(rounded, fitted, encoding.pix_fmt)
    if layout.family == "gray" and fitted.family == "yuv":
        dtype = np.uint8 if fitted.depth_bits == 8 else np.uint16
        luma = cast(Plane, np.left_shift(planes[0].astype(dtype), fitted.depth_bits - layout.depth_bits))
        height_px, width_px = luma.shape
        neutral = cast(
            Plane, np.full(fitted.plane_shape("Cb", width_px, height_px), 1 << (fitted.depth_bits - 1), dtype)
        )
        return av_frame_of((luma, neutral, neutral), fitted, encoding.pix_fmt)
    if fields and layout.log2_chroma_h != fitted.log2_chroma_h and planes[0].shape[0] % 4 == 0:
        return _woven([_spread([plane[row::2] for plane in planes], layout, encoding) for row in (0, 1)], encoding)
    return _spread(planes, layout, encoding)


def _woven(halves: Sequence[av.VideoFrame], encoding: Encoding) -> av.VideoFrame:
    """The frame whose even rows are the first one's and whose odd rows are the second one's."""
    planes = []
    for upper, lower in zip(*(planes_of(half) for half in halves), strict=True):
        planes.append(cast(Plane, np.stack([upper, lower], axis=1).reshape(-1, upper.shape[1])))
    return av_frame_of(planes, encoding.layout, encoding.pix_fmt)


def _spread(planes: Sequence[Plane], layout: PixelLayout, encoding: Encoding) -> av.VideoFrame:
    """Finer chroma or more bits by FFmpeg's scaler, told to leave range and matrix alone."""
    fitted = encoding.layout
    tag = range_tag(layout)
    spread = av_frame_of(planes, layout).reformat(format=fitted.name, src_color_range=tag, dst_color_range=tag)
    return spread.reformat(format=encoding.pix_fmt)


def _rounded(plane: Plane, from_bits: int, to_bits: int, *, is_alpha: bool) -> Plane:
    """Samples of at most 15 bits as the nearest level of fewer. Colour codes are multiples of one another in all
    depths (ITU-T H.273); alpha's largest code is opaque in each."""
    top = (1 << to_bits) - 1
    if is_alpha:
        from_top = (1 << from_bits) - 1
        return cast(Plane, ((plane.astype(np.uint32) * top + from_top // 2) // from_top).astype(np.uint16))
    shift_bits = from_bits - to_bits
    return cast(Plane, np.minimum((plane + (1 << (shift_bits - 1))) >> shift_bits, top).astype(np.uint16))
