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

from vidrestore.errors import RestoreError, TargetError
from vidrestore.frame import Frame, VideoInfo
from vidrestore.layout import PixelLayout, Plane
from vidrestore.target import replaced_when_complete, writing
from vidrestore.video.color_tags import FULL_RANGE, UNSPECIFIED_RANGE, range_tag
from vidrestore.video.encode import (
    QUICKTIME_CONTAINERS,
    WAY_OUT,
    EncodeSettings,
    Encoding,
    container_format,
    loses_sample_aspect,
    resolve_encoding,
)
from vidrestore.video.planes import av_frame_of
from vidrestore.video.source import FALLBACK_RATE_HZ
from vidrestore.video.tracks import CopiedTracks

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
        self._like = like
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
            self._stream = self._add_picture_stream()
            self._tracks = CopiedTracks(source, self._output, target, start_s=start_s, end_s=end_s)
            files.callback(self._tracks.close)
            self._tracks.describe_picture(self._stream)
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
            picture = encodable_frame(frame.planes, frame.layout, self._encoding)
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
        return self._like.average_rate or FALLBACK_RATE_HZ

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
        stream = self._output.add_stream(encoding.encoder.name, rate=self._rate, options=dict(encoding.options))
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
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
        if encoding.encoder.codec == "hevc" and container_format(self.target.suffix) in QUICKTIME_CONTAINERS:
            context.codec_tag = "hvc1"  # Apple's players refuse the other spelling, hev1
        stream.set_display_matrix(like.display_matrix)
        return stream

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
            if self._begun:
                raise RestoreError(message) from exc
            raise TargetError(f"{message}; {WAY_OUT}") from exc

    def _close_output(self) -> None:
        """Whatever state it is in after an error; without one it is closed already, and this does nothing."""
        with contextlib.suppress(OSError, ValueError, av.FFmpegError):
            self._output.close()


def encodable_frame(planes: Sequence[Plane], layout: PixelLayout, encoding: Encoding) -> av.VideoFrame:
    """An FFmpeg frame in the encoder's format: the same samples where it can hold them.

    Elsewhere samples are spread out: more bits and gray as colour hold the very same levels; finer chroma is
    interpolated between the source's samples (bilinearly, by FFmpeg's scaler), so that chroma may differ by some
    levels once it is made coarse again. Fewer bits (ProRes) are rounded to the nearest level.
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
    # Finer chroma or more bits: FFmpeg's scaler, told to leave range and matrix alone.
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
