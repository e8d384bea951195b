"""Frames out of an image sequence.

Each file is read whole and handed to its decoder as one packet. FFmpeg itself opens nothing, so no name is ever taken
for a pattern, and a file that is damaged is known by name.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.logging
from av.packet import Packet

from vidrestore.errors import OptionsError, SourceError
from vidrestore.frame import ColorTags, Frame, VideoInfo
from vidrestore.layout import PixelLayout
from vidrestore.video.ffmpeg_log import logged_lines
from vidrestore.video.image_dpx import dpx_facts, dpx_rate_hz
from vidrestore.video.image_notes import display_matrix_in
from vidrestore.video.image_png import png_facts, without_profile
from vidrestore.video.image_tiff import tiff_facts
from vidrestore.video.planes import layout_of, planes_of
from vidrestore.video.sequence import IMAGE_CODECS, find_sequence

DEFAULT_RATE_HZ = Fraction(24)
"""Images have no clock, and most film runs at 24 frames/s."""
NTSC_SLACK_HZ = 0.006
"""Two digits are what people type: 23.98 is 24000/1001, which is 23.976."""
SLACK_S = Fraction(1, 2000)
"""A time read off this clock and typed in again, in ms, must find its frame."""
DECODER_OPTIONS: Mapping[str, Mapping[str, str]] = {"png": {"err_detect": "crccheck+explode"}, "tiff": {}, "dpx": {}}
"""Of a damaged PNG nothing is to be shown. With this the TIFF decoder would refuse tags that it does not know: there,
its log tells damage."""
HEADER_FACTS = {"png": png_facts, "dpx": dpx_facts, "tiff": tiff_facts}
"""(width, height, bits, kind of colours) of a file without decoding it. They raise for one that is no such image."""


def exact_rate(rate_hz: float) -> Fraction:
    """Frames per second as they are meant: 23.976 is 24000/1001."""
    ntsc = Fraction(round(rate_hz * 1.001) * 1000, 1001)
    if abs(rate_hz - round(rate_hz)) > NTSC_SLACK_HZ and abs(rate_hz - ntsc) <= NTSC_SLACK_HZ:
        return ntsc
    return Fraction(rate_hz).limit_denominator(1000)


class SequenceReader:
    """Decodes an image sequence, as `VideoReader` does a video: `with SequenceReader(path) as reader: ...`.

    Frames keep the samples as FFmpeg's decoder gives them. A frame's pts is its position in the whole sequence, one
    tick lasts as long as a frame: `rate_hz`, or what a DPX header says, or `DEFAULT_RATE_HZ`. Nothing is skipped.

    Raises SourceError that names the file when an image is damaged, or is of another size or depth than the first:
    the latter, and files that are cut off as far as their headers tell, before the first is decoded. OptionsError when
    nothing lies in the span.
    """

    def __init__(
        self, path: Path, *, start_s: float | None = None, end_s: float | None = None, rate_hz: float | None = None
    ) -> None:
        self.path = path
        self.sequence = find_sequence(path)
        self.num_damaged_packets = self.num_damaged_frames = 0
        """None: what is damaged is an error."""
        self._check_headers()
        if not rate_hz and self.sequence.codec == "dpx":
            rate_hz = dpx_rate_hz(self.sequence.file(0))
        self._rate = exact_rate(rate_hz) if rate_hz else DEFAULT_RATE_HZ
        count = self.sequence.num_images
        in_span = [
            position
            for position in range(count)
            if (not start_s or position / self._rate + SLACK_S >= start_s)
            and (end_s is None or position / self._rate + SLACK_S < end_s)
        ]
        if not in_span:
            end = "the end" if end_s is None else f"{end_s:g} s"
            raise OptionsError(
                f"{path}: no frame lies from --start {start_s or 0:g} s to {end}; {count} images at "
                f"{float(self._rate):.6g} frames/s last {float(count / self._rate):.3f} s"
            )
        self._positions = in_span
        self.info = self._describe(in_span[0])

    @property
    def num_frames_expected(self) -> int:
        """How many frames `frames()` gives."""
        return len(self._positions)

    @property
    def first_s(self) -> Fraction:
        """Time of the first frame."""
        return self._positions[0] / self._rate

    @property
    def warnings(self) -> list[str]:
        """None: what is wrong with an image is an error."""
        return []

    def frames(self) -> Iterator[Frame]:
        """The frames in order."""
        for index, position in enumerate(self._positions):
            yield self._frame(index, position)

    def sampled(self, num_frames: int) -> list[Frame]:
        """So many, evenly spaced; the index is that in the list."""
        num_frames = min(num_frames, len(self._positions))
        chosen = [(2 * index + 1) * len(self._positions) // (2 * num_frames) for index in range(num_frames)]
        return [self._frame(index, self._positions[place]) for index, place in enumerate(chosen)]

    def close(self) -> None:
        """Nothing is open between frames."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self, index: int, position: int) -> Frame:
        picture, info = self._decoded(position), self.info
        layout = self._layout(picture, position)
        wanted = (info.width_px, info.height_px, info.layout)
        if (picture.width, picture.height, layout) != wanted:
            raise SourceError(
                f"{self.sequence.file(position)}: is {picture.width}x{picture.height} {layout.name}, and the images "
                f"before it are {info.width_px}x{info.height_px} {info.layout.name}; restore the two kinds separately"
            )
        return Frame(index=index, pts=position, time_base=info.time_base, planes=planes_of(picture), layout=layout)

    def _layout(self, picture: av.VideoFrame, position: int) -> PixelLayout:
        try:
            return layout_of(picture)
        except SourceError as exc:
            raise SourceError(f"{self.sequence.file(position)}: {exc}") from exc

    def _describe(self, position: int) -> VideoInfo:
        picture, matrix = self._decoded(position), display_matrix_in(self.sequence.file(position))
        return VideoInfo(
            width_px=picture.width,
            height_px=picture.height,
            layout=self._layout(picture, position),
            time_base=1 / self._rate,
            average_rate=self._rate,
            num_frames_from_header=self.sequence.num_images,
            duration_s=float(self.sequence.num_images / self._rate),
            codec=self.sequence.codec,
            rotation_deg=round(math.degrees(math.atan2(matrix[1], matrix[4])) / 90) % 4 * 90 if matrix else 0,
            sample_aspect=self._sample_aspect or Fraction(1),
            color=ColorTags(
                range=int(picture.color_range),
                matrix=int(picture.colorspace),
                primaries=int(picture.color_primaries),
                transfer=int(picture.color_trc),
            ),
            display_matrix=matrix,
            stream_number=0,
        )

    def _decoded(self, position: int) -> av.VideoFrame:
        file, codec = self.sequence.file(position), self.sequence.codec
        try:
            content = file.read_bytes()
        except OSError as exc:
            raise _unreadable(file, exc) from exc
        if codec == "png":
            content = without_profile(content)
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, av.VideoCodecContext), "it is an image's"
        context.options = dict(DECODER_OPTIONS[codec])
        context.thread_type = "NONE"  # so that what it logs is logged in this thread
        try:
            with logged_lines(av.logging.ERROR) as lines:
                pictures = [*context.decode(Packet(content)), *context.decode(None)]
        except (av.FFmpegError, ValueError) as exc:
            raise _damaged(file) from exc
        is_damaged = codec == "tiff" and any(number <= av.logging.ERROR for number, _, _ in lines)
        if len(pictures) != 1 or pictures[0].is_corrupt or is_damaged:
            raise _damaged(file)
        self._sample_aspect = context.sample_aspect_ratio
        (picture,) = pictures
        if picture.format.name == "pal8":
            spread = picture.reformat(format="rgba")
            if planes_of(spread)[3].min() < 255:  # some colours of the palette are transparent
                return spread
        return picture

    def _check_headers(self) -> None:
        first: tuple[Any, ...] | None = None
        for position in range(self.sequence.num_images):
            file = self.sequence.file(position)
            try:
                facts = HEADER_FACTS[self.sequence.codec](file)
            except (OSError, ValueError, TypeError, LookupError, struct.error) as exc:
                raise _damaged(file) from exc
            first = first or facts
            if facts != first:
                raise SourceError(
                    f"{file}: is {_in_words(facts)}, and {self.sequence.file(0).name} is {_in_words(first)}; restore "
                    "the two kinds separately"
                )


def _in_words(facts: tuple[Any, ...]) -> str:
    width_px, height_px, bits, colors = facts
    return f"{width_px}x{height_px} px with {bits} bits, {colors}"


def _damaged(file: Path) -> SourceError:
    try:
        is_empty = file.stat().st_size == 0
    except OSError as exc:
        return _unreadable(file, exc)
    codec = IMAGE_CODECS[file.suffix.lower()].upper()
    return SourceError(f"{file}: {'is empty' if is_empty else f'is no whole {codec} image'}; get another copy of it")


def _unreadable(file: Path, exc: OSError) -> SourceError:
    return SourceError(f"{file}: cannot be read ({exc.strerror}); check the disk, or get another copy")
