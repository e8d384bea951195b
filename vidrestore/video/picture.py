"""Pictures in, encoded packets out: what becomes of a frame before it goes into a container."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias, cast

import av
import av.container
import numpy as np
from av.codec.context import Flags
from av.packet import Packet
from av.stream import Stream

from vidrestore.errors import RestoreError, TargetError
from vidrestore.frame import Fields, Frame, VideoInfo
from vidrestore.layout import PixelLayout, Plane
from vidrestore.target import writing
from vidrestore.video.carrier import carrier
from vidrestore.video.color_tags import FULL_RANGE, UNSPECIFIED_RANGE, range_tag
from vidrestore.video.containers import (
    FRAME_COUNTING_CONTAINERS,
    PACK_BYTES,
    PACK_TIMING_CONTAINERS,
    QUICKTIME_CONTAINERS,
    container_format,
)
from vidrestore.video.encode import WAY_OUT, Encoding
from vidrestore.video.encoders import INTERLACING_CODECS
from vidrestore.video.marks import CAPTIONED_CODECS, FIELD_MARKING_CODECS, FieldMarker, captioned
from vidrestore.video.planes import av_frame_of, planes_of
from vidrestore.video.source import FALLBACK_RATE_HZ

Encoded: TypeAlias = "Packet[av.VideoStream]"

ENCODER_THREADS = 8
"""On every machine: what most encoders write depends on the number of their threads, and a run must not on its cores.
With two cores, eight threads are as fast as FFmpeg's own choice."""


class PictureEncoder:
    """Encodes frames, in the order of time, that look like `like`; the packets fit into a stream that
    `add_picture_stream` makes for the same encoding.

    The first packet is a keyframe, and nothing refers to what another encoder made: what several encode one after the
    other may be joined. Each frame's pts stays as it is, less `offset` ticks. `warnings` says what could not be kept.
    Raises RestoreError when the encoder fails, TargetError when it does at the beginning, naming `target`.
    """

    def __init__(
        self, encoding: Encoding, like: VideoInfo, target: Path, *, offset: int = 0, is_first: bool = True
    ) -> None:
        self.warnings: list[str] = []
        self._encoding, self._like, self._target, self._offset = encoding, like, target, offset
        self._field_marker = FieldMarker()
        self._fills_packs = container_format(target.suffix) in PACK_TIMING_CONTAINERS
        self._num_written = 0
        self._first_pts = 0
        self._waiting_pts: deque[int] = deque()
        """With a fixed rate: the times of frames that the encoder still has, in order."""
        self._num_before = 0
        """How many frames came before the first in `_waiting_pts`."""
        with translated_errors(target, encoding, like, begun=not is_first):
            # Never written to: encoders ask what the container wants. What only its header says is not asked for.
            like = replace(like, light=None, cropping=None)
            self._container = av.open(os.devnull, mode="w", format=container_format(target.suffix))
            self._stream = add_picture_stream(self._container, encoding, like, target.suffix)

    def encode(self, frame: Frame) -> list[Encoded]:
        """The packets that are ready with this frame."""
        like = self._like
        if (frame.width_px, frame.height_px) != (like.width_px, like.height_px):
            raise ValueError(
                f"frame is {frame.width_px}x{frame.height_px}; the writer was made for {like.width_px}x{like.height_px}"
            )
        with translated_errors(self._target, self._encoding, like, begun=True):
            picture = encodable_frame(frame.planes, frame.layout, self._encoding, fields=frame.fields)
            if isinstance(frame.captions, av.VideoFrame):
                if self._encoding.encoder.codec in CAPTIONED_CODECS:
                    picture = captioned(picture, frame.captions)
                else:
                    self._warn_of_captions()
            fields = self._fields_to_mark(frame)
            if fields:
                picture = self._field_marker.marked(picture, fields)
            picture.color_range = color_range_of(self._encoding, like)
            # ProRes takes them from each picture, not from the stream.
            picture.colorspace, picture.color_primaries = like.color.matrix, like.color.primaries
            picture.color_trc = like.color.transfer
            pts = frame.pts - self._offset
            if self._num_written == 0:
                self._first_pts = pts
            if self._encoding.encoder.fixed_rate:
                picture.pts, picture.time_base = self._num_written, 1 / rate_of(like)
                self._waiting_pts.append(pts)
            else:
                picture.pts, picture.time_base = pts, like.time_base
            self._num_written += 1
            return self._timed(self._stream.encode(picture))

    def finish(self) -> list[Encoded]:
        """The packets that are still inside. Nothing can be encoded after that."""
        with translated_errors(self._target, self._encoding, self._like, begun=True):
            return self._timed(self._stream.encode(None))

    def close(self) -> None:
        """Give the encoder's memory back, in whatever state it is."""
        with contextlib.suppress(OSError, ValueError, av.FFmpegError):
            self._container.close()

    def _timed(self, packets: Sequence[Encoded]) -> list[Encoded]:
        if self._encoding.encoder.fixed_rate:
            for packet in packets:
                self._restore_times(packet)
        return [_filling_a_pack(packet) for packet in packets] if self._fills_packs else list(packets)

    def _warn_of_captions(self) -> None:
        warning = (
            f"{self._target}: {self._encoding.encoder.name} loses the closed captions inside the picture; "
            "use --codec h264 to keep them"
        )
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _fields_to_mark(self, frame: Frame) -> Fields:
        """A codec that codes fields needs all pictures marked; else each is, as far as the source's codec did it."""
        like = self._like
        if self._encoding.encoder.codec in INTERLACING_CODECS:
            return like.fields
        return frame.fields if like.coded_fields or like.codec in FIELD_MARKING_CODECS else ""

    def _restore_times(self, packet: Encoded) -> None:
        """Replace a frame count by the frame's own time, and the decoding order likewise."""
        assert packet.pts is not None
        assert packet.dts is not None
        frame_ticks = max(1, round(1 / (rate_of(self._like) * self._like.time_base)))
        # Decoding times only rise and no packet is shown before it is decoded: earlier frames are done with.
        while self._num_before < packet.dts:
            self._waiting_pts.popleft()
            self._num_before += 1
        dts = self._waiting_pts[0] if packet.dts >= 0 else self._first_pts + packet.dts * frame_ticks
        packet.pts, packet.dts = self._waiting_pts[packet.pts - self._num_before], dts
        packet.duration = frame_ticks
        packet.time_base = self._like.time_base


def _filling_a_pack(packet: Encoded) -> Encoded:
    """With zeros behind a small picture, as H.264 and MPEG-2 allow, so that it does not share another one's time."""
    if packet.size >= PACK_BYTES:
        return packet
    filled = cast(Encoded, Packet(bytes(packet).ljust(PACK_BYTES, b"\0")))
    filled.pts, filled.dts, filled.time_base = packet.pts, packet.dts, packet.time_base
    filled.duration, filled.is_keyframe = packet.duration, packet.is_keyframe
    return filled


def add_picture_stream(
    output: av.container.OutputContainer, encoding: Encoding, like: VideoInfo, suffix: str
) -> av.VideoStream:
    """A stream for such pictures, with everything that the container's header says of them."""
    rate = rate_of(like)
    if encoding.encoder.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it prints to stderr and has no other switch
    template = carrier(like, encoding.encoder, suffix)
    if template is not None:
        with template:
            stream: Stream = output.add_stream_from_template(template.streams.video[0], opaque=False)
        stream.codec_context.options = dict(encoding.options)
        stream.codec_context.flags |= Flags.global_header  # as all containers want it that have a template
    else:
        stream = output.add_stream(encoding.encoder.name, rate=rate, options=dict(encoding.options))
    assert isinstance(stream, av.VideoStream)
    context = stream.codec_context
    context.framerate = rate
    stream.time_base = like.time_base
    if container_format(suffix) in FRAME_COUNTING_CONTAINERS:
        stream.time_base = 1 / rate
        output.container_options["avoid_negative_ts"] = "disabled"  # sound that begins before 0 would move the picture
    context.time_base = 1 / rate if encoding.encoder.fixed_rate else like.time_base
    context.width, context.height = like.width_px, like.height_px
    context.pix_fmt = encoding.pix_fmt
    context.sample_aspect_ratio = like.sample_aspect
    context.color_range = color_range_of(encoding, like)
    context.colorspace = like.color.matrix
    context.color_primaries = like.color.primaries
    context.color_trc = like.color.transfer
    context.field_order = like.field_order
    context.thread_type = "AUTO"
    context.thread_count = ENCODER_THREADS
    if encoding.encoder.codec == "hevc" and container_format(suffix) in QUICKTIME_CONTAINERS:
        context.codec_tag = "hvc1"  # Apple's players refuse the other spelling, hev1
    stream.set_display_matrix(like.display_matrix)
    context.open()  # one that is made from a template would otherwise be left closed in the header's eyes
    return stream


def rate_of(like: VideoInfo) -> Fraction:
    """Frames per second, as far as headers can be believed: more than one frame to a tick cannot be."""
    return min(like.average_rate or FALLBACK_RATE_HZ, 1 / like.time_base)


def color_range_of(encoding: Encoding, like: VideoInfo) -> int:
    """The source's tag; full where the source needs none (gray, RGB), but this codec would mean limited."""
    if like.color.range == UNSPECIFIED_RANGE and like.layout.full_range and encoding.encoder.codec != "ffv1":
        return FULL_RANGE
    return like.color.range


@contextlib.contextmanager
def translated_errors(target: Path, encoding: Encoding, like: VideoInfo, *, begun: bool) -> Iterator[None]:
    """Turn FFmpeg's and the system's errors into ours. Before work has begun, they are the user's to mend."""
    try:
        with writing(target):
            yield
    except (av.FFmpegError, ValueError) as exc:
        picture = f"{like.width_px}x{like.height_px} {encoding.pix_fmt}"
        reason = getattr(exc, "strerror", exc)
        message = f"{target}: {encoding.encoder.name} failed on {picture} ({reason})"
        if begun and getattr(exc, "filename", None):  # it was the container's muxer, not the encoder
            raise TargetError(
                f"{target}: {target.suffix} cannot hold all of this source, whose time stamps or packets may be "
                f"damaged ({reason}); {WAY_OUT}"
            ) from exc
        if begun:
            raise RestoreError(message) from exc
        raise TargetError(f"{message}; {WAY_OUT}") from exc


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
