"""What the user asks of the encoder, and what the picture asks of it, as options of one encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from vidrestore.errors import OptionsError
from vidrestore.frame import Fields, VideoInfo
from vidrestore.layout import PixelLayout
from vidrestore.video.color_tags import CENTERED_CHROMA, CHROMA_LOCATIONS
from vidrestore.video.containers import FRAME_COUNTING_CONTAINERS
from vidrestore.video.encoders import INTERLACING_CODECS, Encoder
from vidrestore.video.hdr_light import encoder_options

CRF_STEPS: Mapping[str, int] = {"master": -5, "share": 6}
"""From the default. A master is encoded again, perhaps more than once, and so starts finer; for sharing, x264's 21 lies
between 18, taken for transparent, and its own default of 23. Measured on the first 3 s of six web clips, against the
default: master has 1.8 to 2.0 times the bytes with x264, 1.9 to 2.2 with x265, 1.6 to 2.0 with VP9 and AV1, and 2.0 to
4.2 dB more luma PSNR with the first two, 1.0 to 2.5 with the others; share has 0.45 to 0.56, 0.37 to 0.50, 0.38 to 0.56
of the bytes, and 1.3 to 3.6 dB less, 41.5 dB at worst."""
COARSER_CRF_STEPS = 2
"""Rate factors that count to 63 take this many times the steps up: 24 is near what VP9 and AV1 are used with."""
PRORES_422_HQ, PRORES_4444 = "3", "4"
"""By number, which all of FFmpeg's ProRes encoders understand."""


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


def options_for(
    settings: EncodeSettings, encoder: Encoder, layout: PixelLayout, like: VideoInfo, container: str
) -> dict[str, str]:
    """All that an encoder is told beside what PyAV has properties for: `layout` is that of the samples it gets, `like`
    the source's picture, `container` as `container_format` names it.

    Raises OptionsError for a crf or preset that the encoder does not have.
    """
    options = _asked_for(settings, encoder, layout, container)
    _add(options, _picture_options(encoder, layout, like))
    _add(options, _reproducible(encoder))
    fields_fit = like.height_px % (2 << layout.log2_chroma_h) == 0  # whole chroma rows in each field
    if like.fields and encoder.codec in INTERLACING_CODECS and fields_fit and not encoder.is_hardware:
        _add(options, _interlacing(encoder, options, like.fields))
    return options


def _asked_for(settings: EncodeSettings, encoder: Encoder, layout: PixelLayout, container: str) -> dict[str, str]:
    """What the settings mean to the encoder, and what its profile and the container want."""
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
        options["profile"] = PRORES_4444 if layout.log2_chroma_w == 0 else PRORES_422_HQ
    if encoder.name == "dnxhd":
        options["profile"] = {(8, 1): "dnxhr_hq", (10, 1): "dnxhr_hqx"}.get(
            (layout.depth_bits, layout.log2_chroma_w), "dnxhr_444"
        )
    if container in FRAME_COUNTING_CONTAINERS:
        options["bf"] = "0"
    return options


def _interlacing(encoder: Encoder, options: Mapping[str, str], fields: Fields) -> dict[str, str]:
    """The options that code field by field."""
    flags = {"flags": options.get("flags", "") + "+ildct+ilme"}
    if encoder.codec != "h264":
        return flags
    return {**flags, "x264-params": "tff=1" if fields == "top first" else "bff=1"}


def _picture_options(encoder: Encoder, layout: PixelLayout, like: VideoInfo) -> dict[str, str]:
    """Where chroma lies and how bright the brightest light is."""
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
def has_avx512() -> bool:
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return any(name == "X86_V4" or name.startswith("AVX512") for name in found)


def _add(options: dict[str, str], more: Mapping[str, str]) -> None:
    """Add options; texts of the kind key=value:key=value are joined."""
    for key, value in more.items():
        options[key] = f"{options[key]}:{value}" if key.endswith("-params") and key in options else value
