"""The encoders that we use: what each can do, and how it is to be set for what can be seen and no more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache

import av

X264_CRF = 15
"""Visually transparent. 17 to 18 is commonly taken for it (trac.ffmpeg.org/wiki/Encode/H.264); restored faces add fine
texture that a second look dwells on, so we stay three below. Measured on six web clips: luma PSNR of 45 to 53 dB, at
0.4 to 2.5 times the size of the source."""
X265_CRF = 15
"""Measured on three clips: 14 and 16 lie on either side of x264's 15 in PSNR."""
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
X265_PARAMS = "log-level=error:frame-threads=3"
"""Quiet; and with the number of pictures in work that x265 chooses for 4 to 15 cores, so that what it writes does not
depend on the machine."""
FFV1_OPTIONS = {"level": "3", "slicecrc": "1", "g": "1"}
"""Version 3, each slice with a checksum, every frame a keyframe: what archives use. The number of slices is left to
FFmpeg, because a given number fails on odd sizes."""
NVENC_PRESETS = tuple(f"p{level}" for level in range(1, 8))
NVENC_LOSSLESS = {"tune": "lossless", "rc": "constqp", "qp": "0"}
"""NVIDIA's encoders, by FFmpeg's documentation; not measured: the machines that we have lack the hardware."""


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
INTERLACING_CODECS = frozenset({"h264", "mpeg2video", "prores"})
"""Coded field by field, so that players deinterlace as before. For the others only the container says so."""


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
