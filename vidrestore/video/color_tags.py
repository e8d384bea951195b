"""FFmpeg's numbers for what samples mean as colours (ITU-T H.273), and the names that go with them."""

from collections.abc import Mapping

import av

from vidrestore.frame import ColorTags
from vidrestore.layout import ChromaSiting, Matrix, PixelLayout

UNSPECIFIED_RANGE, LIMITED_RANGE, FULL_RANGE = 0, 1, 2
"""AVColorRange."""
UNSPECIFIED = 2
"""Of matrix, primaries and transfer (H.273)."""
RGB_MATRIX = 0
"""AVColorSpace: no matrix at all."""
KNOWN_MATRICES: Mapping[int, Matrix] = {
    1: "bt709",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
"""AVColorSpace numbers (H.273, table 4) whose luma weights we know."""
CENTERED_CHROMA_CODECS = frozenset({"mjpeg", "mjpegb", "mpeg1video", "jpeg2000"})
"""JPEG and MPEG-1 put 4:2:0 chroma between luma samples (JFIF 1.02; ISO/IEC 11172-2); later codecs default to left."""

RANGE_NAMES: Mapping[int, str] = {1: "limited", 2: "full"}
MATRIX_NAMES: Mapping[int, str] = {
    0: "rgb",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    14: "ictcp",
}
PRIMARIES_NAMES: Mapping[int, str] = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
}
TRANSFER_NAMES: Mapping[int, str] = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    11: "iec61966-2-4",
    13: "srgb",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}
"""For people, as FFmpeg spells them; a number that is not there is shown as unspecified."""


CHROMA_LOCATIONS: Mapping[int, ChromaSiting] = {
    1: "left",
    2: "center",
    3: "topleft",
    4: "top",
    5: "bottomleft",
    6: "bottom",
}
"""AVChromaLocation: FFmpeg's spelling is ours."""
CENTERED_CHROMA = 2
PQ_TRANSFER = 16
"""AVColorTransferCharacteristic: SMPTE ST 2084."""


def range_tag(layout: PixelLayout) -> int:
    """AVColorRange of a layout's samples."""
    return FULL_RANGE if layout.full_range else LIMITED_RANGE


def siting_of(chroma_location: int, codec_name: str) -> ChromaSiting:
    """Where chroma samples lie by the stream's own word, or by its codec's habit."""
    return CHROMA_LOCATIONS.get(chroma_location) or default_siting(codec_name)


def default_siting(codec_name: str) -> ChromaSiting:
    """Where a codec puts chroma samples when the stream does not say."""
    return "center" if codec_name in CENTERED_CHROMA_CODECS else "left"


def told_by_container(stream: av.VideoStream) -> ColorTags:
    """The colour tags that a source's container has, before its decoder has seen a packet."""
    context = stream.codec_context
    return ColorTags(
        range=int(context.color_range),
        matrix=int(context.colorspace),
        primaries=int(context.color_primaries),
        transfer=int(context.color_trc),
    )


def tell(picture: av.VideoFrame, tags: ColorTags) -> None:
    """Give a decoded picture the container's word for what its own stream leaves open, as ProRes' headers often do."""
    if picture.color_range == UNSPECIFIED_RANGE:
        picture.color_range = tags.range
    if picture.colorspace == UNSPECIFIED:
        picture.colorspace = tags.matrix
    if picture.color_primaries == UNSPECIFIED:
        picture.color_primaries = tags.primaries
    if picture.color_trc == UNSPECIFIED:
        picture.color_trc = tags.transfer
