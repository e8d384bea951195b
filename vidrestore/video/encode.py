"""Which encoder, pixel format and options a target gets. Everything is decided, or refused, before any work."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from typing import Literal

import av
import numpy as np

from vidrestore.errors import OptionsError, TargetError
from vidrestore.frame import Fields, VideoInfo
from vidrestore.layout import PixelLayout
from vidrestore.video.color_tags import CENTERED_CHROMA, CHROMA_LOCATIONS, UNSPECIFIED, UNSPECIFIED_RANGE
from vidrestore.video.hdr_light import MATROSKA_CODECS, encoder_options
from vidrestore.video.planes import packing_of, planar_layout

X264_CRF = 15
"""Visually transparent. 17 to 18 is commonly taken for it (trac.ffmpeg.org/wiki/Encode/H.264); restored faces add fine
texture that a second look dwells on, so we stay three below. Measured on six web clips: luma PSNR of 45 to 53 dB, at
0.4 to 2.5 times the size of the source."""
X265_CRF = 15
"""Measured on three clips: 14 and 16 lie on either side of x264's 15 in PSNR."""
CRF_STEPS: Mapping[str, int] = {"master": -5, "share": 6}
"""From the default. A master is encoded again, perhaps more than once, and so starts finer; for sharing, x264's 21 lies
between 18, taken for transparent, and its own default of 23. Measured on the first 3 s of six web clips, against the
default: master has 1.8 to 2.0 times the bytes with x264, 1.9 to 2.2 with x265, 1.6 to 2.0 with VP9 and AV1, and 2.0 to
4.2 dB more luma PSNR with the first two, 1.0 to 2.5 with the others; share has 0.45 to 0.56, 0.37 to 0.50, 0.38 to 0.56
of the bytes, and 1.3 to 3.6 dB less, 41.5 dB at worst."""
COARSER_CRF_STEPS = 2
"""Rate factors that count to 63 take this many times the steps up: 24 is near what VP9 and AV1 are used with."""
VP9_CRF = 12
AV1_CRF = 12
"""Of 63. Measured on three clips: within 1.3 dB of x264's 15."""
X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
SVT_PRESETS = tuple(str(level) for level in range(14))
FINEST_QUANTISER = {"flags": "+qscale", "global_quality": str(2 * 118)}
"""Codecs without a rate factor: quantiser 2, the finest that FFmpeg advises (times FF_QP2LAMBDA)."""


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """What the user asks of the encoder."""

    codec: str = "auto"
    """auto, source, a codec such as "hevc", or one of `ENCODERS` by name."""
    crf: int | None = None
    """Lower is better; None takes the encoder's visually transparent default."""
    preset: str | None = None
    lossless: bool = False
    quality: Literal["master", "share"] | None = None
    """Finer or coarser than the default, where no crf is given; a master in .mov is ProRes, which editors expect."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """What one FFmpeg encoder can do for us."""

    name: str
    codec: str
    crf: int | None = None
    """Default rate factor; None where the encoder has no such thing."""
    max_crf: int = 51
    presets: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    lossless: Mapping[str, str] | None = None
    """Options that make it exact; None where nothing does."""
    even_chroma: bool = False
    """Subsampled pictures need even sizes: the codec can crop in whole chroma samples only."""
    keeps_alpha: bool = False
    keeps_sample_aspect: bool = False
    """Writes the shape of pixels into its own stream. Matroska has only that, as PyAV cannot set the container's."""
    rounds_from_bits: int = 0
    """Samples of up to this depth are rounded to the encoder's own where it has no deeper format; 0: none are."""
    min_width_px: int = 1
    min_height_px: int = 1
    says_range: bool = False
    """Writes into its own stream that samples use all levels, or can hold nothing else."""
    fixed_rate: bool = False
    """Counts time in frames of one nominal rate; the writer puts the real time stamps back."""
    quality_option: str = "crf"
    """What its rate factor is called."""
    formats: frozenset[str] = frozenset()
    """The pixel formats that it keeps, where it takes others and drops bits; empty: all that it takes."""
    is_hardware: bool = False
    """Works in a graphics card, and is used only when asked for by its own name."""


X265_PARAMS = "log-level=error:frame-threads=3"
"""Quiet; and with the number of pictures in work that x265 chooses for 4 to 15 cores, so that what it writes does not
depend on the machine."""
INTERLACING_CODECS = frozenset({"h264", "mpeg2video", "prores"})
"""Coded field by field, so that players deinterlace as before. For the others only the container says so."""
FFV1_OPTIONS = {"level": "3", "slicecrc": "1", "g": "1"}
"""Version 3, each slice with a checksum, every frame a keyframe: what archives use. The number of slices is left to
FFmpeg, because a given number fails on odd sizes."""

NVENC_PRESETS = tuple(f"p{level}" for level in range(1, 8))
NVENC_LOSSLESS = {"tune": "lossless", "rc": "constqp", "qp": "0"}
"""NVIDIA's encoders, by FFmpeg's documentation; not measured: the machines that we have lack the hardware."""

ENCODERS: tuple[Encoder, ...] = (
    Encoder(
        "libx264",
        "h264",
        X264_CRF,
        51,
        X264_PRESETS,
        lossless={"qp": "0"},
        even_chroma=True,
        keeps_sample_aspect=True,
        says_range=True,
    ),
    Encoder(
        *("libx264rgb", "h264", X264_CRF, 51, X264_PRESETS),
        lossless={"qp": "0"},
        keeps_sample_aspect=True,
        says_range=True,
    ),
    Encoder(
        "libx265",
        "hevc",
        X265_CRF,
        51,
        X264_PRESETS,
        {"x265-params": X265_PARAMS},
        lossless={"x265-params": f"{X265_PARAMS}:lossless=1"},
        even_chroma=True,
        keeps_sample_aspect=True,
        says_range=True,
    ),
    Encoder("ffv1", "ffv1", options=FFV1_OPTIONS, lossless=FFV1_OPTIONS, keeps_alpha=True),
    Encoder(
        *("libvpx-vp9", "vp9", VP9_CRF, 63),
        options={"b": "0", "row-mt": "1", "cpu-used": "2"},
        lossless={"lossless": "1"},
        says_range=True,
    ),
    Encoder("libsvtav1", "av1", AV1_CRF, 63, SVT_PRESETS, says_range=True),
    # ProRes knows no depth: FFmpeg's decoder gives 4444 as 12 bits, its encoder takes 10.
    Encoder("prores_ks", "prores", keeps_alpha=True, rounds_from_bits=12),
    Encoder("dnxhd", "dnxhd", min_width_px=256, min_height_px=120),
    Encoder("mjpeg", "mjpeg", options={**FINEST_QUANTISER, "strict": "-1"}, says_range=True),
    Encoder("mpeg4", "mpeg4", options=FINEST_QUANTISER, keeps_sample_aspect=True, fixed_rate=True),
    Encoder(
        "mpeg2video",
        "mpeg2video",
        options=FINEST_QUANTISER,
        even_chroma=True,
        keeps_sample_aspect=True,
        fixed_rate=True,
    ),
    *(
        Encoder(
            *(f"{codec}_nvenc", codec, crf, max_crf, NVENC_PRESETS),
            options={"preset": "p7", "rc": "vbr", "b": "0"},
            lossless=NVENC_LOSSLESS if codec != "av1" else None,
            even_chroma=True,
            keeps_sample_aspect=codec != "av1",
            says_range=True,
            quality_option="cq",
            formats=frozenset({"yuv420p", "p010le"} | ({"yuv444p"} if codec != "av1" else set())),
            is_hardware=True,
        )
        for codec, crf, max_crf in (("h264", X264_CRF, 51), ("hevc", X265_CRF, 51), ("av1", AV1_CRF, 63))
    ),
)
"""Every encoder we use; of several for one codec, the first that fits is taken."""
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
MATROSKA_CONTAINERS = frozenset({"matroska", "webm"})
QUICKTIME_CONTAINERS = frozenset({"mp4", "mov", "ipod", "3gp", "3g2"})
"""FFmpeg's names of the containers that its two large muxers write."""
CONTAINERS: Mapping[str, frozenset[str] | None] = {
    **dict.fromkeys(("mp4", "ipod", "3gp", "3g2", "matroska", "webm", "nut", "flv", "asf")),
    "avi": frozenset(AUTO_AVI),
    "mov": frozenset({"h264", "hevc", "prores", "dnxhd", "mjpeg", "mpeg4", "mpeg2video"}),
    "mpegts": frozenset({"h264", "hevc", "mpeg2video", "mpeg4"}),
    "mpeg": frozenset({"h264", "mpeg2video"}),
    "mxf": frozenset({"mpeg2video", "dnxhd", "prores", "ffv1", "h264"}),
}
"""Where we write to: FFmpeg's name and the codecs it can hold. None: ask the muxer; the others accept any codec at
first and fail in the header, or write what no reader finds again, or (AVI) shows at other times."""
FRAME_COUNTING_CONTAINERS = frozenset({"avi", "mxf"})
"""They have no times but the number of a frame: no reordered frames, no variable rate, no late start."""
SHAPELESS_CONTAINERS = MATROSKA_CONTAINERS | {"avi", "mpegts", "mpeg"}
"""Only the encoder's own stream says there that pixels are not square. (Matroska could, but PyAV cannot set it.)"""
MPEG2_SHAPES = (Fraction(4, 3), Fraction(16, 9), Fraction(221, 100))
"""Of the whole picture: MPEG-2 has words for these alone (ISO/IEC 13818-2, table 6-3)."""
LIMITED_CODECS = frozenset({"mpeg2video", "prores"})
"""Their levels are limited by definition, whatever a container says, and FFmpeg's decoders see it so."""
SUGGESTED_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")
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
        if holds_encoder(suffix, encoder.name) and (encoder.lossless is not None or not settings.lossless):
            fitted = _fitted_format(encoder, like, exactly=settings.lossless)
            if fitted:
                pix_fmt, layout = fitted
                if settings.codec == "auto" and not _says_range(encoder, layout, like, container):
                    says_no_range = says_no_range or encoder.codec
                    continue  # players would show other colours, and nobody has asked for this codec
                options = _options(settings, encoder, layout, container)
                _add(options, _picture_options(encoder, layout, like))
                _add(options, _reproducible(encoder))
                fields_fit = like.height_px % (2 << layout.log2_chroma_h) == 0  # whole chroma rows in each field
                if like.fields and encoder.codec in INTERLACING_CODECS and fields_fit and not encoder.is_hardware:
                    _add(options, _interlacing(encoder, options, like.fields))
                return Encoding(encoder, pix_fmt, layout, options)
    if says_no_range:
        raise TargetError(
            f"{says_no_range} in {suffix} cannot say that the source's levels are full range; end the output in .mkv, "
            f"or accept other colours with --codec {says_no_range}"
        )
    raise TargetError(_refusal(settings, like, suffix, candidates))


def container_format(suffix: str) -> str:
    """FFmpeg's name of the container that a suffix stands for. Raises TargetError for one that we do not write."""
    name = None
    with (
        contextlib.suppress(ValueError, av.FFmpegError),
        av.open(f"target{suffix}", "w") as container,  # nothing is created before the header is written
    ):
        name = container.format.name
    if name is None or name not in CONTAINERS:
        choices = " or ".join(SUGGESTED_SUFFIXES)
        raise TargetError(f"{suffix or 'no suffix'} is no container for a restored video; end the output in {choices}")
    return name


def holds_encoder(suffix: str, encoder_name: str) -> bool:
    """Whether the container can hold what an encoder makes."""
    with av.open(f"target{suffix}", "w") as container:
        codecs = CONTAINERS.get(container.format.name)
        if codecs is not None:
            return av.Codec(encoder_name, "w").canonical_name in codecs
        try:
            container.add_stream(encoder_name)
        except (ValueError, av.FFmpegError):
            return False
    return True


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


def light_goes_into_container(like: VideoInfo, encoder: Encoder, suffix: str) -> bool:
    """Whether static HDR metadata are the container's to hold, and it does."""
    holds = container_format(suffix) in MATROSKA_CONTAINERS | QUICKTIME_CONTAINERS
    return like.light is not None and encoder.name in MATROSKA_CODECS and holds


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


def _interlacing(encoder: Encoder, options: Mapping[str, str], fields: Fields) -> dict[str, str]:
    """The options that code field by field."""
    flags = {"flags": options.get("flags", "") + "+ildct+ilme"}
    if encoder.codec != "h264":
        return flags
    return {**flags, "x264-params": "tff=1" if fields == "top first" else "bff=1"}


def _picture_options(encoder: Encoder, layout: PixelLayout, like: VideoInfo) -> dict[str, str]:
    """What the encoder must know of the picture beside what PyAV has properties for."""
    options: dict[str, str] = {}
    location = like.chroma_location
    if layout.siting == "center" and layout.log2_chroma_h:
        location = location or CENTERED_CHROMA  # of a JPEG, say; untagged 4:2:0 is taken for left
    same_chroma = (layout.log2_chroma_w, layout.log2_chroma_h) == (like.layout.log2_chroma_w, like.layout.log2_chroma_h)
    if location and layout.log2_chroma_w and same_chroma:
        options["chroma_sample_location"] = CHROMA_LOCATIONS[location]
    if like.light:
        options.update(encoder_options(like.light, encoder.name) or {})
    return options


def _reproducible(encoder: Encoder) -> dict[str, str]:
    """What makes an encoder write the same bytes from the same pictures, run for run.

    x264's AVX-512 code reads memory that nobody wrote (macroblock tree with B-frames, where a row is no multiple of
    its registers): the same clip of 704x704 px came out in four versions. Without AVX-512 it is as fast within 2 %.
    """
    if encoder.name in ("libx264", "libx264rgb") and has_avx512():
        return {"x264-params": "asm=avx2"}
    return {}


@cache
def can_open(encoder_name: str) -> bool:
    """Whether an encoder in hardware is in this FFmpeg, and the driver has the card's for it."""
    try:
        context = av.CodecContext.create(encoder_name, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = 640, 360, "yuv420p"
        context.time_base = Fraction(1, 25)
        context.open()
    except (ValueError, av.FFmpegError):
        return False
    return True


@cache
def has_avx512() -> bool:
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return any(name == "X86_V4" or name.startswith("AVX512") for name in found)


def _add(options: dict[str, str], more: Mapping[str, str]) -> None:
    """Add options; texts of the kind key=value:key=value are joined."""
    for key, value in more.items():
        options[key] = f"{options[key]}:{value}" if key.endswith("-params") and key in options else value


def _options(settings: EncodeSettings, encoder: Encoder, layout: PixelLayout, container: str) -> dict[str, str]:
    options = dict(encoder.options)
    if settings.preset is not None:
        if settings.preset not in encoder.presets:
            allowed = ", ".join(encoder.presets) or "none: leave --preset out"
            raise OptionsError(f"preset is {settings.preset!r}; {encoder.name} has {allowed}")
        options["preset"] = settings.preset
    if settings.lossless:
        assert encoder.lossless is not None, "only lossless encoders come this far"
        options.update(encoder.lossless)
    elif encoder.crf is not None:
        crf = settings.crf
        if crf is None:
            steps = CRF_STEPS.get(settings.quality or "", 0)
            crf = max(1, encoder.crf + steps * (COARSER_CRF_STEPS if encoder.max_crf > 51 and steps > 0 else 1))
        if not 0 <= crf <= encoder.max_crf:
            raise OptionsError(f"crf is {crf}; {encoder.name} takes 0 to {encoder.max_crf}")
        options[encoder.quality_option] = str(crf)
    elif settings.crf is not None:
        raise OptionsError(f"crf is {settings.crf}; {encoder.name} has no such setting: leave --crf out")
    if encoder.name == "prores_ks":
        options["profile"] = "4444" if layout.log2_chroma_w == 0 else "hq"
    if encoder.name == "dnxhd":
        options["profile"] = {(8, 1): "dnxhr_hq", (10, 1): "dnxhr_hqx"}.get(
            (layout.depth_bits, layout.log2_chroma_w), "dnxhr_444"
        )
    if container in FRAME_COUNTING_CONTAINERS:
        options["bf"] = "0"
    return options


def _refusal(settings: EncodeSettings, like: VideoInfo, suffix: str, candidates: list[Encoder]) -> str:
    """One line on what does not fit and what would."""
    picture = f"{like.width_px}x{like.height_px} {like.layout.name}"
    names = " or ".join(sorted({encoder.codec for encoder in candidates}))
    exactly = " without loss" if settings.lossless else ""
    if any(holds_encoder(suffix, encoder.name) for encoder in candidates) or settings.codec == "auto":
        return f"{names} in {suffix} cannot hold {picture}{exactly}; {WAY_OUT}"
    fitting = [other for other in SUGGESTED_SUFFIXES if any(holds_encoder(other, each.name) for each in candidates)]
    return f"{suffix} cannot hold {names}; end the output in {' or '.join(fitting) or '.mkv'}, or use --codec auto"
