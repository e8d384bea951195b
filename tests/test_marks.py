"""Where chroma lies and which field comes first survive from the source's pictures into the output's."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import CLIPS, picture_rgb
from vidrestore.frame import VideoInfo
from vidrestore.video.color_tags import CHROMA_LOCATIONS
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.marks import FieldMarker, marks_of
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter


def info_of(path: Path) -> VideoInfo:
    with VideoReader(path) as reader:
        return reader.info


@pytest.mark.parametrize(
    ("name", "siting"),
    [("h264", "left"), ("chroma_center", "center"), ("chroma_topleft", "topleft"), ("chroma_bottom", "bottomleft")]
    + [("dv", "topleft"), ("mjpeg", "center")],
)
def test_where_chroma_lies_is_read(name: str, siting: str, tmp_path: Path) -> None:
    assert info_of(CLIPS[name].make(tmp_path)).layout.siting == siting


@pytest.mark.parametrize("location", CHROMA_LOCATIONS)
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", ".mp4"), ("hevc", ".mp4"), ("ffv1", ".mkv"), ("ffv1", ".mp4"), ("av1", ".mkv"), ("vp9", ".mkv")]
    + [("mpeg2video", ".mkv"), ("mjpeg", ".mov"), ("mpeg4", ".avi"), ("ffv1", ".avi")],
)
def test_chroma_lies_where_it_did_or_a_warning_says_that_it_does_not(
    codec: str, suffix: str, location: int, tmp_path: Path
) -> None:
    source, target = CLIPS["silent"].make(tmp_path), tmp_path / f"copy{suffix}"
    with VideoReader(source) as reader:
        siting = CHROMA_LOCATIONS[location]
        layout = replace(reader.info.layout, siting=siting)
        like = replace(reader.info, chroma_location=location, layout=layout)
        with VideoWriter(target, like=like, source=source, encode=EncodeSettings(codec)) as writer:
            for frame in reader.frames():
                writer.write(replace(frame, layout=layout))
    is_kept = info_of(target).layout.siting == siting
    assert is_kept or writer.warnings == [
        f"{target}: {writer._encoding.encoder.name} in {suffix} cannot say that chroma samples lie at {siting}"
    ]
    assert is_kept != bool(writer.warnings)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("silent", ""), ("interlaced", "bottom first"), ("interlaced_top", "top first"), ("dv", "bottom first")]
    + [("interlaced_ffv1", "bottom first"), ("interlaced_outside", "top first")],
)
def test_every_picture_says_which_field_comes_first(name: str, fields: str, tmp_path: Path) -> None:
    with VideoReader(CLIPS[name].make(tmp_path)) as reader:
        assert reader.info.fields == fields
        assert {frame.fields for frame in reader.frames()} == {fields}


@pytest.mark.parametrize("name", ["interlaced", "interlaced_top", "interlaced_ffv1", "dv", "silent"])
@pytest.mark.parametrize("settings", [EncodeSettings("h264"), EncodeSettings("ffv1"), EncodeSettings("prores")])
def test_a_player_deinterlaces_the_output_as_the_source(name: str, settings: EncodeSettings, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    target = tmp_path / ("copy.mov" if settings.codec == "prores" else "copy.mkv")
    with (
        VideoReader(source) as reader,
        VideoWriter(target, like=reader.info, source=source, encode=settings) as writer,
    ):
        for frame in reader.frames():
            writer.write(frame)
    before, after = info_of(source), info_of(target)
    assert after.coded_fields == before.coded_fields
    assert after.fields == before.fields
    with av.open(str(target)) as container:
        pictures = list(container.decode(video=0))
    assert {picture.interlaced_frame for picture in pictures} == {bool(before.coded_fields)}


def test_marking_copies_no_sample() -> None:
    marker, picture = FieldMarker(), av.VideoFrame(64, 48, "yuv420p")
    marked = marker.marked(picture, "top first")
    assert marks_of(marked) == (0, "top first")
    assert marked.planes[0].buffer_ptr == picture.planes[0].buffer_ptr
    assert marks_of(marker.marked(picture, "bottom first")) == (0, "bottom first")
    assert marks_of(marker.marked(picture, "")) == (0, "")


def test_reading_marks_leaves_the_log_as_it_was() -> None:
    level = av.logging.get_level()
    marks_of(av.VideoFrame(64, 48, "yuv420p"))
    assert av.logging.get_level() == level


CAPTION = b"\0\0\1\xb2GA94\3\x41\xff\xfc\x94\x20\xff"
"""A command of CEA-608 (EIA-708 in the user data of an MPEG-2 picture, ATSC A/53 part 4)."""
FIRST_SLICE = b"\0\0\1\1"


def captioned_clip(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg2video", rate=25)
        stream.width, stream.height = 64, 48
        for index in range(6):
            picture = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24")
            output.mux(stream.encode(picture.reformat(format="yuv420p")))
        output.mux(stream.encode(None))
    pictures = path.read_bytes().split(FIRST_SLICE)
    # Each picture its own word of the caption.
    words = [CAPTION[:-2] + bytes([index]) + CAPTION[-1:] + FIRST_SLICE for index in range(len(pictures))]
    joined = zip(pictures, words, strict=True)
    path.write_bytes(b"".join(part + word for part, word in joined)[: -len(words[-1])])
    return path


def captions_in(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [
            bytes(side_data)
            for picture in container.decode(video=0)
            for side_data in picture.side_data
            if side_data.type.name == "A53_CC"
        ]


@pytest.mark.parametrize("codec", ["h264", "mpeg2video"])
def test_captions_inside_the_picture_are_kept_picture_by_picture(codec: str, tmp_path: Path) -> None:
    source, target = captioned_clip(tmp_path / "captioned.m2v"), tmp_path / "copy.mkv"
    with VideoReader(source) as reader:
        settings = EncodeSettings(codec, lossless=codec != "mpeg2video")
        with VideoWriter(target, like=reader.info, source=source, encode=settings) as writer:
            frames = list(reader.frames())
            for frame in frames:
                writer.write(frame)
    assert writer.warnings == []
    assert len(captions_in(source)) == 6
    assert captions_in(target) == captions_in(source)
    if settings.lossless:
        with VideoReader(target) as reader:
            for before, after in zip(frames, reader.frames(), strict=True):
                assert all(map(np.array_equal, before.planes, after.planes))


def test_where_captions_have_no_place_a_warning_says_so_once(tmp_path: Path) -> None:
    source, target = captioned_clip(tmp_path / "captioned.m2v"), tmp_path / "copy.mkv"
    with VideoReader(source) as reader:
        settings = EncodeSettings("ffv1")
        with VideoWriter(target, like=reader.info, source=source, encode=settings) as writer:
            for frame in reader.frames():
                writer.write(frame)
    assert writer.warnings == [
        f"{target}: ffv1 loses the closed captions inside the picture; use --codec h264 to keep them"
    ]
