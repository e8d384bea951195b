"""Static HDR metadata from the source's pictures into the output: PyAV reads them, but has no property to write them.

Encoders of H.264, HEVC and AV1 take them as text. For the others the container holds them (`carrier.py`).
"""

import struct
from fractions import Fraction

import av
from av.sidedata.sidedata import Type as SideDataType

from vidrestore.frame import HdrLight, MasteringDisplay
from vidrestore.video.source import side_data_of

XY_PER_UNIT, CD_M2_PER_UNIT = Fraction(1, 50_000), Fraction(1, 10_000)
"""The whole numbers of SMPTE ST 2086, which H.264 and HEVC store."""
MAX_XY, MAX_CD_M2 = 65535 * XY_PER_UNIT, (2**32 - 1) * CD_M2_PER_UNIT
"""What their 16 and 32 bits hold; anything beyond is damage."""
NUM_RATIONALS = 10
"""In FFmpeg's AVMasteringDisplayMetadata: x and y of red, green, blue and white, then the least and the most light."""


def hdr_light_of(picture: av.VideoFrame, codec: str) -> HdrLight | None:
    """What a decoded picture carries, from its stream or its container; None without any."""
    display, content = None, None
    for side_data in side_data_of(picture, codec):
        if side_data.type is SideDataType.MASTERING_DISPLAY_METADATA:
            display = _display_of(bytes(side_data))
        if side_data.type is SideDataType.CONTENT_LIGHT_LEVEL:
            content = struct.unpack("=2I", bytes(side_data)[:8])
            content = content if any(content) and max(content) < 1 << 16 else None  # 0 is unknown (CTA-861.3)
    if display is None and content is None:
        return None
    return HdrLight(display, *(content or ()))


def _display_of(stored: bytes) -> MasteringDisplay | None:
    """None when only half of it is known: no encoder takes that."""
    numbers = struct.unpack(f"={2 * NUM_RATIONALS + 2}i", stored[: 4 * (2 * NUM_RATIONALS + 2)])
    has_colors, has_light = numbers[-2:]
    if not (has_colors and has_light):
        return None
    pairs = zip(numbers[0:-2:2], numbers[1:-2:2], strict=True)
    red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y, least, most = (
        Fraction(numerator, denominator or 1) for numerator, denominator in pairs
    )
    chromaticities = (red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y)
    if not all(0 <= each <= MAX_XY for each in chromaticities) or not 0 <= least <= most <= MAX_CD_M2:
        return None
    return MasteringDisplay((red_x, red_y), (green_x, green_y), (blue_x, blue_y), (white_x, white_y), least, most)


def encoder_options(light: HdrLight, encoder_name: str) -> dict[str, str] | None:
    """{option: text} that makes an encoder write it into its stream; None where the encoder has no such thing."""
    display = light.display
    content = None
    if light.max_content_cd_m2 is not None:
        content = f"{light.max_content_cd_m2},{light.max_average_cd_m2}"
    if encoder_name in ("libx264", "libx264rgb"):
        keys = ("x264-params", "mastering-display", "cll")
    elif encoder_name == "libx265":
        keys = ("x265-params", "master-display", "max-cll")
    elif encoder_name == "libsvtav1":
        keys = ("svtav1-params", "mastering-display", "content-light")
    else:
        return None
    texts = []
    if display is not None:
        whole = encoder_name != "libsvtav1"
        texts.append(f"{keys[1]}={_display_text(display, whole_numbers=whole)}")
    if content is not None:
        texts.append(f"{keys[2]}={content}")
    return {keys[0]: ":".join(texts)}


def _display_text(display: MasteringDisplay, *, whole_numbers: bool) -> str:
    """G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min), in units of ST 2086 or as decimal fractions."""

    def pair(letter: str, first: Fraction, second: Fraction, unit: Fraction) -> str:
        if whole_numbers:
            return f"{letter}({round(first / unit)},{round(second / unit)})"
        return f"{letter}({float(first):.6f},{float(second):.6f})"

    colors = (("G", display.green_xy), ("B", display.blue_xy), ("R", display.red_xy), ("WP", display.white_xy))
    chromaticities = "".join(pair(letter, *xy, XY_PER_UNIT) for letter, xy in colors)
    return chromaticities + pair("L", display.max_cd_m2, display.min_cd_m2, CD_M2_PER_UNIT)
