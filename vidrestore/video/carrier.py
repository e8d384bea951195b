"""What a container says of its pictures and PyAV has no property for: passed on by a stream that is to be resembled.

Such a stream is read from a Matroska header in memory that says no more than these things.
"""

import io
from collections.abc import Mapping

import av
import av.container

from vidrestore.frame import Cropping, HdrLight, VideoInfo
from vidrestore.video.containers import MATROSKA_CONTAINERS, QUICKTIME_CONTAINERS, container_format
from vidrestore.video.cropping import CROPPING_IDS
from vidrestore.video.ebml import element, real, whole
from vidrestore.video.encoders import Encoder

MATROSKA_CODECS: Mapping[str, str] = {
    "libx264": "V_MPEG4/ISO/AVC",
    "libx265": "V_MPEGH/ISO/HEVC",
    "libvpx-vp9": "V_VP9",
    "ffv1": "V_FFV1",
    "mpeg2video": "V_MPEG2",
    "mpeg4": "V_MPEG4/ISO/ASP",
    "mjpeg": "V_MJPEG",
    "prores_ks": "V_PRORES",
}
"""Encoders that such a stream can be made for: those that FFmpeg takes when only the codec is named (for ProRes a twin,
with the same header). Matroska's names of their codecs."""
LIGHTLESS_ENCODERS = frozenset({"ffv1", "libvpx-vp9"})
"""Their own stream does not hold static HDR metadata, so that the container must."""
NO_PICTURE = b"\0\0\0\1\x09\xf0"
"""A header alone is no file. This is never decoded, and just enough like H.264 and HEVC for FFmpeg to let it pass."""


def carrier(like: VideoInfo, encoder: Encoder, suffix: str) -> av.container.InputContainer | None:
    """A file in memory whose video stream is of the encoder's codec and has what the container is to say: a template to
    add a stream from. None where there is nothing to say, or no way."""
    container = container_format(suffix)
    if encoder.name not in MATROSKA_CODECS or container not in MATROSKA_CONTAINERS | QUICKTIME_CONTAINERS:
        return None
    inside = []
    if like.light is not None and encoder.name in LIGHTLESS_ENCODERS:
        inside.append(element("55B0", *_light(like.light)))  # Colour
    if like.cropping is not None:
        inside += _marks(like.cropping)
    if not inside:
        return None
    video = element("E0", whole("B0", like.width_px), whole("BA", like.height_px), *inside)
    codec = element("86", MATROSKA_CODECS[encoder.name].encode())
    track = element("AE", whole("D7", 1), whole("73C5", 1), whole("83", 1), codec, video)
    header = element("1A45DFA3", element("4282", b"matroska"))
    clock = element("1549A966", whole("2AD7B1", 1_000_000))
    cluster = element("1F43B675", whole("E7", 0), element("A3", b"\x81\0\0\x80" + NO_PICTURE + bytes(10)))
    segment = element("18538067", clock, element("1654AE6B", track), cluster)
    return av.open(io.BytesIO(header + segment), "r", format="matroska")


def _light(light: HdrLight) -> list[bytes]:
    inside = []
    if light.max_content_cd_m2 is not None:
        inside += [whole("55BC", light.max_content_cd_m2), whole("55BD", light.max_average_cd_m2 or 0)]
    display = light.display
    if display is not None:
        numbers = (*display.red_xy, *display.green_xy, *display.blue_xy, *display.white_xy)
        ids = ("55D1", "55D2", "55D3", "55D4", "55D5", "55D6", "55D7", "55D8", "55D9", "55DA")
        values = (*numbers, display.max_cd_m2, display.min_cd_m2)
        inside.append(element("55D0", *(real(name, float(value)) for name, value in zip(ids, values, strict=True))))
    return inside


def _marks(cropping: Cropping) -> list[bytes]:
    return [whole(identifier, getattr(cropping, side)) for side, identifier in CROPPING_IDS.items()]
