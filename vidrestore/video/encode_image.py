"""A frame's samples as those of an image, and the image as the bytes of a file."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import av
import numpy as np

from vidrestore.errors import RestoreError, TargetError
from vidrestore.frame import Fields, Frame, VideoInfo
from vidrestore.layout import PixelLayout, Plane
from vidrestore.pixels import rgb_region
from vidrestore.video.picture import ENCODER_THREADS, Encoded
from vidrestore.video.planes import av_frame_of, packing_of, planar_layout
from vidrestore.video.sequence import IMAGE_CODECS

PIX_FMTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "png": {"gray": ("gray", "gray16be"), "rgb": ("rgb24", "rgb48be"), "rgba": ("rgba", "rgba64be")},
    "tiff": {"gray": ("gray", "gray16le"), "rgb": ("rgb24", "rgb48le"), "rgba": ("rgba", "rgba64le")},
    "dpx": {
        "gray": ("gray", "gray16be"),
        "rgb": ("rgb24", "gbrp10be", "gbrp12be", "rgb48be"),
        "rgba": ("rgba", "rgba64be"),
    },
}
"""What each encoder takes, by the kind of colours, from few bits to many. Gray with alpha goes as RGB with alpha."""
ENCODER_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "png": {"pred": "paeth"},
    "tiff": {"compression_algo": "raw"},
    "dpx": {},
}
"""PNG: with Paeth's prediction, 8-bit frames of two web clips take 20 and 38 % less than without. TIFF: uncompressed,
which every program reads."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """How images are encoded."""

    codec: str
    pix_fmt: str
    """As the encoder takes it."""
    layout: PixelLayout
    """Of the samples that are encoded."""


def image_format(like: VideoInfo, suffix: str, *, exactly: bool) -> ImageFormat:
    """The format of the fewest bits that holds every level of the source: its own, where images have it.

    Raises TargetError when it must be `exactly` the source's samples and cannot be, as for all YUV.
    """
    codec, layout = IMAGE_CODECS[suffix.lower()], like.layout
    kind = "gray" if layout.family == "gray" else "rgba" if layout.has_alpha else "rgb"
    fitted = [(pix_fmt, _layout_of_format(pix_fmt)) for pix_fmt in PIX_FMTS[codec][kind]]
    pix_fmt, planar = next(choice for choice in fitted if choice[1].depth_bits >= layout.depth_bits)
    if exactly and layout.family == "yuv":
        raise TargetError(
            f"{codec.upper()} images are RGB and cannot hold {layout.name} without loss; leave lossless out, or end "
            "the output in .mkv"
        )
    return ImageFormat(codec, pix_fmt, replace(planar, full_range=layout.family == "yuv" or layout.full_range))


def _layout_of_format(pix_fmt: str) -> PixelLayout:
    packing = packing_of(pix_fmt)
    layout = planar_layout(packing.planar if packing else pix_fmt)
    assert layout is not None, "the encoders' formats have integer samples"
    return layout


def image_planes(planes: tuple[Plane, ...], layout: PixelLayout, fitted: PixelLayout, fields: Fields) -> list[Plane]:
    """The planes of a frame as those of an image.

    RGB and gray of the same depth stay as they are. More bits hold the same levels: full range is stretched so that
    white stays white (round(v * 65535 / 255)), limited range shifted; both can be undone. YUV becomes full-range RGB by
    its own matrix and range, its chroma interpolated linearly from where it lies (within each field of an interlaced
    picture), each sample rounded to the nearest level of the image: an error of half a level, of 255 for 8-bit sources
    and of 65535 in PNG and TIFF for deeper ones. What lies beyond white or black is cut off. HDR keeps its signal.
    """
    alpha = [_stretched(planes[-1], layout.depth_bits, fitted.depth_bits)] if layout.has_alpha else []
    if layout.family != "yuv":
        colors = planes[: len(planes) - layout.has_alpha]
        if layout.full_range:
            return [*(_stretched(plane, layout.depth_bits, fitted.depth_bits) for plane in colors), *alpha]
        dtype = np.uint8 if fitted.depth_bits == 8 else np.uint16
        shift_bits = fitted.depth_bits - layout.depth_bits
        return [*(cast(Plane, np.left_shift(plane.astype(dtype), shift_bits)) for plane in colors), *alpha]
    if fields and layout.log2_chroma_h and planes[0].shape[0] % 4 == 0:
        moments = [_rgb_of([plane[row::2] for plane in planes], layout, fitted.depth_bits) for row in (0, 1)]
        woven = [np.stack(pair, axis=1).reshape(planes[0].shape) for pair in zip(*moments, strict=True)]
        return [*(cast(Plane, plane) for plane in woven), *alpha]
    return [*_rgb_of(planes, layout, fitted.depth_bits), *alpha]


def _stretched(plane: Plane, from_bits: int, to_bits: int) -> Plane:
    """Levels of all bits, white to white."""
    if from_bits == to_bits:
        return plane
    top, from_top = (1 << to_bits) - 1, (1 << from_bits) - 1
    levels = (np.arange(from_top + 1, dtype=np.uint64) * top + from_top // 2) // from_top
    return cast(Plane, levels.astype(np.uint8 if to_bits == 8 else np.uint16)[plane])


def _rgb_of(planes: Iterable[Plane], layout: PixelLayout, depth_bits: int) -> list[Plane]:
    """Green, blue and red, full range."""
    stored = [cast(Plane, np.ascontiguousarray(plane)) for plane in planes]
    height_px, width_px = stored[0].shape
    top = (1 << depth_bits) - 1
    rgb = rgb_region(stored, replace(layout, is_pq=False), (0, 0, width_px, height_px)) * np.float32(top / 255)
    levels = np.clip(np.rint(rgb), 0, top).astype(np.uint8 if depth_bits == 8 else np.uint16)
    return [cast(Plane, np.ascontiguousarray(levels[..., channel])) for channel in (1, 2, 0)]


class ImageEncoder:
    """Encodes frames that look like `like`, each to a packet that is a file. For the rest, see `PictureEncoder`."""

    def __init__(self, fitted: ImageFormat, like: VideoInfo, target: Path, options: Mapping[str, str]) -> None:
        self.warnings: list[str] = []
        self._fitted, self._like, self._target = fitted, like, target
        context = av.CodecContext.create(fitted.codec, "w")
        assert isinstance(context, av.VideoCodecContext), "it is an image's"
        context.width, context.height, context.pix_fmt = like.width_px, like.height_px, fitted.pix_fmt
        context.time_base = like.time_base
        context.sample_aspect_ratio = like.sample_aspect
        context.color_primaries, context.color_trc = like.color.primaries, like.color.transfer
        context.options = {**ENCODER_OPTIONS[fitted.codec], **options}
        context.thread_type, context.thread_count = "AUTO", ENCODER_THREADS
        self._context = context

    def encode(self, frame: Frame) -> list[Encoded]:
        """The packets that are ready with this frame."""
        fitted = self._fitted
        planes = image_planes(frame.planes, frame.layout, fitted.layout, frame.fields)
        native = fitted.pix_fmt[:-2] + "le" if fitted.pix_fmt.endswith("be") else fitted.pix_fmt
        with self._translated_errors():
            picture = av_frame_of(planes, fitted.layout, native)
            if native != fitted.pix_fmt:  # turns the bytes, and no more
                picture = picture.reformat(format=fitted.pix_fmt)
            picture.color_primaries, picture.color_trc = self._like.color.primaries, self._like.color.transfer
            picture.pts, picture.time_base = frame.pts, self._like.time_base
            return list(self._context.encode(picture))

    def finish(self) -> list[Encoded]:
        """The packets that are still inside. Nothing can be encoded after that."""
        with self._translated_errors():
            return list(self._context.encode(None))

    def close(self) -> None:
        """The encoder's memory goes with this object."""

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, ValueError) as exc:
            reason = getattr(exc, "strerror", exc)
            what = f"{self._fitted.codec} failed on {self._fitted.pix_fmt}"
            raise RestoreError(f"{self._target}: {what} ({reason})") from exc
