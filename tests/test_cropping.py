"""Marks by which players leave out the edges are not lost in silence."""

import io
from fractions import Fraction
from pathlib import Path

import av
import av.container
import pytest

from tests.clips import picture_rgb
from tests.copies import copy
from vidrestore.video.hdr_light import _element, _whole


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_cropping_marks_that_are_left_out_are_named(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"cropped{suffix}", tmp_path / "copy.mkv"
    with marked_to_be_cropped(top=2, bottom=4, left=6, right=8) as template, av.open(str(source), "w") as output:
        stream = output.add_stream_from_template(template.streams.video[0], opaque=False)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt, context.time_base = 64, 48, "yuv420p", Fraction(1, 25)
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    marks = "the cropping marks (top 2 px, bottom 4 px, left 6 px, right 8 px) are left out"
    frames = copy(source, target, warns=marks)
    assert (frames[0].width_px, frames[0].height_px) == (64, 48)


def marked_to_be_cropped(**sides: int) -> av.container.InputContainer:
    """A Matroska header of an FFV1 track with PixelCrop elements, for a stream to be made from; PyAV cannot."""
    ids = {"top": "54BB", "bottom": "54AA", "left": "54CC", "right": "54DD"}
    marks = [_whole(ids[side], size_px) for side, size_px in sides.items()]
    video = _element("E0", _whole("B0", 64), _whole("BA", 48), *marks)
    track = _element("AE", _whole("D7", 1), _whole("73C5", 1), _whole("83", 1), _element("86", b"V_FFV1"), video)
    cluster = _element("1F43B675", _whole("E7", 0), _element("A3", b"\x81\0\0\x80" + bytes(16)))
    clock = _element("1549A966", _whole("2AD7B1", 1_000_000))
    segment = _element("18538067", clock, _element("1654AE6B", track), cluster)
    return av.open(io.BytesIO(_element("1A45DFA3", _element("4282", b"matroska")) + segment), format="matroska")
