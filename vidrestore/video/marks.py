"""What a picture says of itself that PyAV has no property for: where chroma lies, and which field comes first.

FFmpeg's own filters read and write it. And what a picture brings along that cannot be written.
"""

import re
from collections.abc import Mapping

import av
import av.filter
import av.logging
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from vidrestore.frame import Fields
from vidrestore.video.color_tags import CHROMA_LOCATIONS
from vidrestore.video.ffmpeg_log import logged_lines
from vidrestore.video.source import side_data_of

FIELD_LETTERS: Mapping[str, Fields] = {"P": "", "T": "top first", "B": "bottom first"}
"""As FFmpeg's filter showinfo prints them."""
FIELD_MODES: Mapping[Fields, str] = {"": "prog", "top first": "tff", "bottom first": "bff"}
"""As FFmpeg's filter setfield takes them."""

FIELD_MARKING_CODECS = frozenset(
    {"dnxhd", "dvvideo", "h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "prores", "vc1"}
)
"""Their pictures say whether they are interlaced; for all others the container's word counts for every picture."""
LEFT_OUT: Mapping[SideDataType, str] = {
    SideDataType.AFD: "active format descriptions",
    SideDataType.DOVI_RPU_BUFFER: "Dolby Vision metadata",
    SideDataType.DOVI_METADATA: "Dolby Vision metadata",
    SideDataType.DYNAMIC_HDR_PLUS: "HDR10+ metadata",
    SideDataType.DYNAMIC_HDR_VIVID: "HDR Vivid metadata",
    SideDataType.ICC_PROFILE: "colour profiles",
    SideDataType.S12M_TIMECODE: "time codes inside the picture",
    SideDataType.SPHERICAL: "marks of a 360 degree video",
    SideDataType.STEREO3D: "marks of a 3D video",
}
"""What pictures may bring along and PyAV cannot write, in words."""


PICTURE_CODING_EXTENSION = b"\0\0\1\xb5"
"""MPEG-2's start code of extensions; the first four bits say which (ISO/IEC 13818-2, 6.2.3.1): 8 is this one."""
CAPTIONED_CODECS = frozenset({"h264", "mpeg2video"})
"""Whose encoders take closed captions from pictures and write them into the stream."""
TINY_PX = 16


def captions_of(picture: av.VideoFrame, codec: str) -> av.VideoFrame | None:
    """Closed captions (CEA-608, CEA-708) inside a decoded picture, on a tiny copy of it: PyAV can read them and cannot
    attach them, but scaling a picture passes them on."""
    if not any(side_data.type is SideDataType.A53_CC for side_data in side_data_of(picture, codec)):
        return None
    return picture.reformat(width=TINY_PX, height=TINY_PX)


def captioned(picture: av.VideoFrame, captions: av.VideoFrame) -> av.VideoFrame:
    """A copy of a picture that carries these captions."""
    carrier = captions.reformat(width=picture.width, height=picture.height, format=picture.format.name)
    for target, source in zip(carrier.planes, picture.planes, strict=True):
        rows = [
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
            for plane in (target, source)
        ]
        width_bytes = min(target.line_size, source.line_size)
        rows[0][:, :width_bytes] = rows[1][:, :width_bytes]
    return carrier


def left_out_of(picture: av.VideoFrame, codec: str) -> set[str]:
    """What of this picture the output will not have, in words."""
    return {LEFT_OUT[each.type] for each in side_data_of(picture, codec) if each.type in LEFT_OUT}


class FilteredPictures:
    """Pictures of one size and format, each sent through one filter. The samples are not copied."""

    def __init__(self, like: av.VideoFrame, filter_name: str, arguments: str) -> None:
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        # The time base means nothing here: a picture keeps its own.
        size = f"video_size={like.width}x{like.height}:pix_fmt={like.format.name}"
        self._source = self._graph.add("buffer", f"{size}:time_base=1/1:pixel_aspect=1/1")
        middle = self._graph.add(filter_name, arguments)
        self._sink = self._graph.add("buffersink")
        self._source.link_to(middle)
        middle.link_to(self._sink)
        self._graph.configure()

    def filtered(self, picture: av.VideoFrame) -> av.VideoFrame:
        self._source.push(picture)
        result = self._sink.pull()
        assert isinstance(result, av.VideoFrame)
        return result


def marks_of(picture: av.VideoFrame) -> tuple[int, Fields]:
    """(AVChromaLocation, fields) of a decoded picture; 0 and "" where it does not say.

    Read off the line that FFmpeg's filter showinfo logs, so FFmpeg's log is on for a moment.
    """
    try:
        filtering = FilteredPictures(picture, "showinfo", "checksum=0")
    except (ValueError, av.FFmpegError):  # a format that filters do not know: `layout_of` will have a word on it
        return 0, ""
    with logged_lines(av.logging.INFO) as lines:
        filtering.filtered(picture)
    found = re.search(r" cl:(\w+) .* i:([PTB]) ", "".join(text for _, _, text in lines))
    if not found:
        return 0, ""
    location = next((number for number, name in CHROMA_LOCATIONS.items() if name == found[1]), 0)
    return location, FIELD_LETTERS[found[2]]


def repeats_field(packet: bytes) -> bool:
    """Whether an MPEG-2 packet has a picture of which a field is to be shown twice, as film on video has."""
    at = packet.find(PICTURE_CODING_EXTENSION)
    while at >= 0:
        content = packet[at + len(PICTURE_CODING_EXTENSION) :][:4]
        if len(content) == 4 and content[0] >> 4 == 8 and content[3] & 2:
            return True
        at = packet.find(PICTURE_CODING_EXTENSION, at + 1)
    return False


class FieldMarker:
    """Tells the encoder of each picture which field comes first; PyAV can only read whether there are two."""

    def __init__(self) -> None:
        self._markers: dict[Fields, FilteredPictures] = {}

    def marked(self, picture: av.VideoFrame, fields: Fields) -> av.VideoFrame:
        """The same samples. All pictures have one size and format."""
        if fields not in self._markers:
            self._markers[fields] = FilteredPictures(picture, "setfield", f"mode={FIELD_MODES[fields]}")
        return self._markers[fields].filtered(picture)
