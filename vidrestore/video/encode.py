"""Which encoder, pixel format and options a target gets. Everything is decided, or refused, before any work."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import av

from vidrestore.errors import OptionsError, TargetError
from vidrestore.frame import VideoInfo
from vidrestore.layout import PixelLayout
from vidrestore.video.color_tags import UNSPECIFIED, UNSPECIFIED_RANGE
from vidrestore.video.containers import (
    MATROSKA_CONTAINERS,
    PACK_TIMING_CONTAINERS,
    QUICKTIME_CONTAINERS,
    SUGGESTED_SUFFIXES,
    container_format,
    holds_encoder,
)
from vidrestore.video.encode_options import EncodeSettings, options_for
from vidrestore.video.encoders import ENCODERS, Encoder, can_open
from vidrestore.video.planes import packing_of, planar_layout

AUTO_8_BIT: tuple[str, ...] = ("libx264", "libx264rgb", "libx265", "libvpx-vp9", "libsvtav1", "ffv1", "mpeg2video")
AUTO_DEEPER: tuple[str, ...] = ("libx265", "libx264", "libsvtav1", "ffv1", "prores_ks")
AUTO_AVI: tuple[str, ...] = ("mpeg4", "ffv1", "mjpeg")
"""AVI stores no presentation times: H.264 from it is shown a frame late by FFmpeg's own reader."""
AUTO_MXF: tuple[str, ...] = ("mpeg2video", "dnxhd", "prores_ks", "ffv1")
"""What broadcasters have in MXF; FFV1 for the rest, and for archives (SMPTE RDD 48)."""
AUTO_LOSSLESS_MP4: tuple[str, ...] = ("libx264", "libx264rgb", "libx265", "libvpx-vp9", "ffv1")
AUTO_LOSSLESS: tuple[str, ...] = ("ffv1", "libx264", "libx264rgb", "libx265", "libvpx-vp9")
"""Order of trial when the user leaves the choice to us: the first that holds the picture in that container."""
PLAYER_SUFFIXES = frozenset({".mp4", ".m4v", ".mov"})
"""Where players expect H.264 even when it is lossless."""
SHAPELESS_CONTAINERS = MATROSKA_CONTAINERS | {"avi", "mpegts", "mpeg"}
"""Only the encoder's own stream says there that pixels are not square. (Matroska could, but PyAV cannot set it.)"""
MPEG2_SHAPES = (Fraction(4, 3), Fraction(16, 9), Fraction(221, 100))
"""Of the whole picture: MPEG-2 has words for these alone (ISO/IEC 13818-2, table 6-3)."""
LIMITED_CODECS = frozenset({"mpeg2video", "prores"})
"""Their levels are limited by definition, whatever a container says, and FFmpeg's decoders see it so."""
WAY_OUT = "use --codec ffv1 with an output ending in .mkv"
"""It holds every picture that we can read."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoder that fits target and picture, and how it is to be used."""

    encoder: Encoder
    pix_fmt: str
    """As the encoder takes it; may be a packing of `layout`, such as bgr0."""
    layout: PixelLayout
    """Of the samples that are encoded."""
    options: Mapping[str, str]


def resolve_encoding(settings: EncodeSettings, like: VideoInfo, suffix: str) -> Encoding:
    """Choose for a picture like `like` in a container named by its suffix.

    A format that holds every level of the source is required; where the encoder lacks the source's own, the nearest
    larger one is taken (finer chroma, more bits, colour for gray), except with `lossless`, which wants the same one.
    Only ProRes may round 12 bits to the 10 of its encoder.
    Raises OptionsError for a crf or preset that the encoder does not have, TargetError when nothing fits, naming
    what would.
    """
    container = container_format(suffix)
    candidates = _candidates(settings, like, suffix)
    says_no_range = ""
    for encoder in candidates:
        if not holds_encoder(suffix, encoder.name) or (settings.lossless and encoder.lossless is None):
            continue
        fitted = _fitted_format(encoder, like, exactly=settings.lossless)
        if fitted is None:
            continue
        pix_fmt, layout = fitted
        if settings.codec == "auto" and not _says_range(encoder, layout, like, container):
            says_no_range = says_no_range or encoder.codec
            continue  # players would show other colours, and nobody has asked for this codec
        if container in PACK_TIMING_CONTAINERS:
            encoder = replace(encoder, fixed_rate=True)  # so that its stream names the rate
        return Encoding(encoder, pix_fmt, layout, options_for(settings, encoder, layout, like, container))
    if says_no_range:
        raise TargetError(
            f"{says_no_range} in {suffix} cannot say that the source's levels are full range; end the output in .mkv, "
            f"or accept other colours with --codec {says_no_range}"
        )
    raise TargetError(_refusal(settings, like, suffix, candidates))


def _candidates(settings: EncodeSettings, like: VideoInfo, suffix: str) -> list[Encoder]:
    by_name = {encoder.name: encoder for encoder in ENCODERS}
    if settings.codec == "auto":
        order = AUTO_8_BIT if like.layout.depth_bits == 8 else AUTO_DEEPER
        container = container_format(suffix)
        if container in ("avi", "mxf"):
            order = AUTO_AVI if container == "avi" else AUTO_MXF
        if settings.quality == "master" and container == "mov":
            order = ("prores_ks", *order)
        if settings.lossless:
            order = AUTO_LOSSLESS_MP4 if suffix.lower() in PLAYER_SUFFIXES else AUTO_LOSSLESS
        candidates = [by_name[name] for name in order]
        if like.sample_aspect != 1:
            candidates.sort(key=lambda encoder: not _says_shape(encoder, like, container))
        return candidates
    wanted = like.codec if settings.codec == "source" else settings.codec
    found = [
        encoder
        for encoder in ENCODERS
        if wanted == encoder.name or (wanted == encoder.codec and not encoder.is_hardware)
    ]
    if found and found[0].is_hardware and not can_open(found[0].name):
        raise OptionsError(
            f"codec is {wanted!r}, which needs an NVIDIA card with a video encoder and its driver; neither "
            f"answers here: use --codec {found[0].codec}"
        )
    if not found and settings.codec == "source":
        raise TargetError(f"the source's codec {like.codec} has no encoder here; use --codec auto or --codec ffv1")
    if not found:
        names = sorted({encoder.codec for encoder in ENCODERS} | set(by_name))  # all that are known, here or elsewhere
        raise OptionsError(f"codec is {wanted!r}; it must be auto, source, or one of {', '.join(names)}")
    return found


def _fitted_format(encoder: Encoder, like: VideoInfo, *, exactly: bool) -> tuple[str, PixelLayout] | None:
    """(pixel format, its layout) nearest to the source's among those that lose nothing; ProRes may round."""
    layout = like.layout
    fitting: list[tuple[tuple[int, ...], str, PixelLayout]] = []
    for video_format in av.Codec(encoder.name, "w").video_formats or []:
        if encoder.formats and video_format.name not in encoder.formats:
            continue
        packing = packing_of(video_format.name)
        planar = planar_layout(packing.planar if packing else video_format.name)
        if planar is None or video_format.name.startswith("yuvj") or planar.has_alpha != layout.has_alpha:
            continue
        if planar.has_alpha and not encoder.keeps_alpha:
            continue
        if like.width_px < encoder.min_width_px or like.height_px < encoder.min_height_px:
            continue
        odd_w = like.width_px % (1 << planar.log2_chroma_w)
        odd_h = like.height_px % (1 << planar.log2_chroma_h)
        if encoder.even_chroma and (odd_w or odd_h):
            continue
        rounded_bits = max(0, layout.depth_bits - planar.depth_bits)
        larger = (
            max(0, planar.depth_bits - layout.depth_bits),
            layout.log2_chroma_w - planar.log2_chroma_w if layout.family != "gray" else 0,
            layout.log2_chroma_h - planar.log2_chroma_h if layout.family != "gray" else 0,
        )
        gray_in_color = layout.family == "gray" and planar.family == "yuv"
        if min(larger) < 0 or not (planar.family == layout.family or gray_in_color):
            continue
        if rounded_bits and (layout.depth_bits > encoder.rounds_from_bits or any(larger) or gray_in_color):
            continue
        cost = (rounded_bits, *larger, gray_in_color, packing is not None)
        if exactly and planar.name != layout.name:
            continue
        meaning = {name: getattr(layout, name) for name in ("full_range", "matrix", "siting", "is_pq")}
        fitting.append((cost, video_format.name, replace(planar, **meaning)))
    if not fitting:
        return None
    _, pix_fmt, fitted = min(fitting, key=lambda choice: choice[0])
    return pix_fmt, fitted


def _says_shape(encoder: Encoder, like: VideoInfo, container: str) -> bool:
    """Whether a player of the output learns what shape pixels have."""
    if encoder.codec == "mpeg2video" and container in SHAPELESS_CONTAINERS | {"mxf"}:
        picture_shape = like.sample_aspect * like.width_px / like.height_px
        return like.sample_aspect == 1 or any(abs(picture_shape / shape - 1) < 0.005 for shape in MPEG2_SHAPES)
    if container == "mxf":
        return encoder.codec != "dnxhd"
    return container not in SHAPELESS_CONTAINERS or encoder.keeps_sample_aspect


def _says_range(encoder: Encoder, layout: PixelLayout, like: VideoInfo, container: str) -> bool:
    """Whether a player of the output learns that samples use all levels, where they do."""
    is_understood = layout.family == "rgb" or (layout.family == "gray" and like.color.range == UNSPECIFIED_RANGE)
    if not like.layout.full_range or is_understood or encoder.says_range:
        return True
    if encoder.codec in LIMITED_CODECS:
        return False
    if container in QUICKTIME_CONTAINERS - {"mov"}:  # its colr box is written when all of these are told
        return UNSPECIFIED not in (like.color.matrix, like.color.primaries, like.color.transfer)
    return container in MATROSKA_CONTAINERS | {"mxf"}


def _refusal(settings: EncodeSettings, like: VideoInfo, suffix: str, candidates: list[Encoder]) -> str:
    """One line on what does not fit and what would."""
    picture = f"{like.width_px}x{like.height_px} {like.layout.name}"
    names = " or ".join(sorted({encoder.codec for encoder in candidates}))
    exactly = " without loss" if settings.lossless else ""
    if any(holds_encoder(suffix, encoder.name) for encoder in candidates) or settings.codec == "auto":
        return f"{names} in {suffix} cannot hold {picture}{exactly}; {WAY_OUT}"
    fitting = [other for other in SUGGESTED_SUFFIXES if any(holds_encoder(other, each.name) for each in candidates)]
    return f"{suffix} cannot hold {names}; end the output in {' or '.join(fitting) or '.mkv'}, or use --codec auto"
