"""Which encoder and pixel format a picture gets: nothing is lost, or it is refused before any work."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.clips import CLIPS
from tests.copies import copy, read, refused, same_samples, times_s
from tests.encodings import info, resolve
from vidrestore.errors import TargetError
from vidrestore.frame import ColorTags, VideoInfo
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.planes import planar_layout
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter


@pytest.mark.parametrize(
    ("pix_fmt", "suffix", "encoder", "encoded_as"),
    [
        ("yuv420p", ".mp4", "libx264", "yuv420p"),
        ("yuv420p", ".MP4", "libx264", "yuv420p"),
        ("yuv422p", ".mov", "libx264", "yuv422p"),
        ("yuv444p", ".mkv", "libx264", "yuv444p"),
        ("gray", ".mp4", "libx264", "gray"),
        ("gbrp", ".mp4", "libx264rgb", "bgr0"),
        ("yuv440p", ".mp4", "libx264", "yuv444p"),
        ("yuv411p", ".mp4", "libx264", "yuv422p"),
        ("yuv420p10le", ".mp4", "libx265", "yuv420p10le"),
        ("yuv420p9le", ".mp4", "libx265", "yuv420p10le"),
        ("yuv422p12le", ".mp4", "libx265", "yuv422p12le"),
        ("yuv420p10le", ".m4v", "libx264", "yuv420p10le"),
        ("yuv420p16le", ".mkv", "ffv1", "yuv420p16le"),
        ("gbrap", ".mkv", "ffv1", "bgra"),
        ("yuva444p10le", ".mov", "prores_ks", "yuva444p10le"),
        ("yuv420p", ".webm", "libvpx-vp9", "yuv420p"),
        ("yuv420p10le", ".webm", "libsvtav1", "yuv420p10le"),
        ("gray", ".webm", "libvpx-vp9", "yuv420p"),
        ("yuv420p", ".avi", "mpeg4", "yuv420p"),
        ("yuv420p", ".ts", "libx264", "yuv420p"),
    ],
)
def test_the_default_fits_picture_and_container_and_loses_no_level(
    pix_fmt: str, suffix: str, encoder: str, encoded_as: str
) -> None:
    encoding = resolve(info(pix_fmt), suffix)
    assert (encoding.encoder.name, encoding.pix_fmt) == (encoder, encoded_as)
    source = planar_layout(pix_fmt)
    assert source is not None
    assert encoding.layout.depth_bits >= source.depth_bits


@pytest.mark.parametrize(
    ("pix_fmt", "suffix", "encoder"),
    [
        ("yuv420p", ".mp4", "libx264"),
        ("yuv420p", ".mkv", "ffv1"),
        ("yuv420p10le", ".mp4", "libx264"),
        ("yuv420p12le", ".mp4", "libx265"),
        ("gbrp", ".mp4", "libx264rgb"),
        ("gbrap12le", ".mp4", "ffv1"),
        ("yuv420p", ".webm", "libvpx-vp9"),
        ("yuv420p", ".avi", "ffv1"),
        ("yuv420p", ".mov", "libx264"),
    ],
)
def test_lossless_takes_the_very_format(pix_fmt: str, suffix: str, encoder: str) -> None:
    encoding = resolve(info(pix_fmt), suffix, lossless=True)
    assert encoding.encoder.name == encoder
    assert encoding.layout.name == pix_fmt


def test_odd_sizes_get_full_chroma_where_the_codec_crops_in_pairs() -> None:
    odd = info(width_px=63, height_px=47)
    assert (resolve(odd).encoder.name, resolve(odd).pix_fmt) == ("libx264", "yuv444p")
    assert resolve(info(width_px=64, height_px=47)).pix_fmt == "yuv422p"
    assert resolve(odd, lossless=True).encoder.name == "libvpx-vp9"  # holds odd 4:2:0, in MP4 too
    assert resolve(odd, ".mkv", lossless=True).encoder.name == "ffv1"


@pytest.mark.parametrize(
    ("codec", "encoder"),
    [("h264", "libx264"), ("hevc", "libx265"), ("mpeg4", "mpeg4"), ("vp9", "libvpx-vp9"), ("av1", "libsvtav1")]
    + [("mjpeg", "mjpeg"), ("mpeg2video", "mpeg2video"), ("ffv1", "ffv1")],
)
def test_source_means_the_sources_codec(codec: str, encoder: str) -> None:
    assert resolve(info(codec=codec), codec="source").encoder.name == encoder


def test_source_rgb_in_h264_stays_rgb() -> None:
    assert resolve(info("gbrp", codec="h264"), codec="source").encoder.name == "libx264rgb"


@pytest.mark.parametrize(
    ("like", "suffix", "settings", "message"),
    [
        (info(), ".xyz", {}, r"\.xyz is no container for a restored video; end the output in \.mp4 or \.mkv"),
        (info(), "", {}, "no suffix is no container"),
        (info(), ".gif", {}, r"\.gif is no container"),
        (info(), ".m3u8", {}, r"\.m3u8 is no container"),
        (info(), ".webm", {"codec": "h264"}, r"\.webm cannot hold h264; end the output in \.mp4 or \.mkv or \.mov"),
        (info("yuv420p12le"), ".mp4", {"codec": "h264"}, r"cannot hold 64x48 yuv420p12le; use --codec ffv1 .* \.mkv"),
        (info("yuv420p10le"), ".mp4", {"codec": "vp9"}, "cannot hold 64x48 yuv420p10le; use --codec ffv1"),
        (info("gbrap"), ".mov", {}, "cannot hold 64x48 gbrap; use --codec ffv1"),
        (info(), ".mov", {"codec": "prores", "lossless": True}, "cannot hold 64x48 yuv420p without loss; use --codec"),
        (info(codec="wmv3"), ".mp4", {"codec": "source"}, "codec wmv3 has no encoder here; use --codec auto"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_way_out(
    like: VideoInfo, suffix: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        resolve(like, suffix, **settings)


def test_pixels_that_are_not_square_prefer_an_encoder_that_can_say_so() -> None:
    wide = replace(info(), sample_aspect=Fraction(16, 11))
    assert resolve(wide, ".mkv", lossless=True).encoder.name == "libx264"
    assert resolve(wide, ".mp4").encoder.name == "libx264"


def full(pix_fmt: str = "yuv420p", tags: tuple[int, int, int] = (5, 5, 6)) -> VideoInfo:
    layout = planar_layout(pix_fmt, full_range=True)
    assert layout is not None
    return replace(info(pix_fmt), layout=layout, color=ColorTags(2, *tags))


@pytest.mark.parametrize(
    ("like", "suffix", "settings", "encoder"),
    [
        (full(), ".mov", {"quality": "master"}, "libx264"),  # ProRes means limited
        (full("yuv420p10le"), ".mov", {"quality": "master"}, "libx265"),
        (full(), ".avi", {}, "mjpeg"),
        (full(), ".mkv", {"lossless": True}, "ffv1"),  # Matroska says it
        (full(), ".mxf", {}, "ffv1"),
        (full("gbrp"), ".avi", {"lossless": True}, "ffv1"),
        (full(), ".mov", {"codec": "prores"}, "prores_ks"),  # as asked for, with a warning
    ],
)
def test_levels_of_full_range_go_where_players_are_told_so(
    like: VideoInfo, suffix: str, settings: dict[str, object], encoder: str
) -> None:
    assert resolve(like, suffix, **settings).encoder.name == encoder


def test_full_range_that_no_codec_of_the_container_can_tell_is_refused() -> None:
    message = r"ffv1 in \.avi cannot say that .* full range; end the output in \.mkv, or accept .* --codec ffv1"
    with pytest.raises(TargetError, match=message):
        resolve(full(), ".avi", lossless=True)


def facts(path: Path) -> dict[str, object]:
    with VideoReader(path) as reader:
        found = reader.info
        tags = {"matrix": found.layout.matrix, "primaries": found.color.primaries, "transfer": found.color.transfer}
        return {
            "range": found.layout.full_range,
            "shape": round(float(found.sample_aspect), 2),
            "rotation": found.display_matrix,
            "fields": found.fields,
            **tags,
        }


WORDS = {
    "range": "loses the mark of full range",
    "shape": "loses the pixel shape",
    "rotation": "loses the rotation",
    "fields": "loses the mark that pictures are interlaced",
    **{tag: "loses the colour tags" for tag in ("matrix", "primaries", "transfer")},
}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".mxf"])
@pytest.mark.parametrize(
    "codec", ["auto", "h264", "hevc", "ffv1", "vp9", "prores", "dnxhd", "mjpeg", "mpeg4", "mpeg2video"]
)
def test_what_the_picture_says_of_itself_is_kept_or_named_in_a_warning(codec: str, suffix: str, tmp_path: Path) -> None:
    """Levels, shape of pixels, rotation, fields, colours: nothing is lost in silence."""
    for name in ("full_range", "anamorphic", "rotated", "interlaced_top", "hlg"):
        source, target = CLIPS[name].make(tmp_path), tmp_path / f"copy{suffix}"
        try:
            with (
                VideoReader(source) as reader,
                VideoWriter(target, like=reader.info, source=source, encode=EncodeSettings(codec)) as writer,
            ):
                for frame in reader.frames():
                    writer.write(frame)
        except TargetError:
            continue  # said before any work
        before, after = facts(source), facts(target)
        if CLIPS[name].color[1] == 2:
            before |= dict.fromkeys(("matrix", "primaries", "transfer"))
        for fact, value in before.items():
            if value is not None and after[fact] != value:
                assert any(WORDS[fact] in warning for warning in writer.warnings), (name, fact, value, after[fact])


def test_prores_says_which_colours_it_has(tmp_path: Path) -> None:
    source, target = CLIPS["hlg"].make(tmp_path), tmp_path / "copy.mov"
    copy(source, target, EncodeSettings("prores"))
    with VideoReader(target) as reader:
        assert reader.info.color == ColorTags(1, 9, 9, 18)


@pytest.mark.parametrize(
    ("name", "lossless", "codec"),
    [("mpeg2_mxf", False, "mpeg2video"), ("mpeg2_mxf", True, "ffv1"), ("dnxhd_mxf", True, "ffv1")]
    + [("hevc_10_bit", False, "prores"), ("anamorphic", False, "prores")],
)
def test_mxf_is_written_with_its_sound_time_code_and_clock(
    name: str, lossless: bool, codec: str, tmp_path: Path
) -> None:
    source, target = CLIPS[name].make(tmp_path), tmp_path / "copy.mxf"
    frames = copy(source, target, EncodeSettings(lossless=lossless))
    copied = read(target)
    assert times_s(copied) == times_s(frames)
    assert not lossless or same_samples(copied, frames)
    with VideoReader(target) as reader, VideoReader(source) as original:
        assert reader.info.codec == codec
        assert reader.info.sample_aspect == original.info.sample_aspect
    with av.open(str(source)) as before, av.open(str(target)) as after:
        sounds = [
            b"".join(bytes(each) for each in file.demux(audio=0)) for file in (before, after) if file.streams.audio
        ]
        assert len(set(sounds)) <= 1
        assert len(sounds) == (2 if name.endswith("mxf") else 0)
        if name.endswith("mxf"):
            assert after.metadata["timecode"] == before.metadata["timecode"]


def test_mxf_refuses_sound_that_it_has_no_name_for(tmp_path: Path) -> None:
    message = refused(CLIPS["h264"].make(tmp_path), tmp_path / "copy.mxf")
    assert ".mxf cannot hold the source's audio track 1 (aac); end the output in .mp4 or .mkv or .mov" in message


def test_a_size_that_codecs_crop_to_is_kept(tmp_path: Path) -> None:
    """62x46 is coded as 64x48 with a note on what to leave out."""
    source = CLIPS["codec_cropped"].make(tmp_path)
    for codec in ("h264", "hevc", "ffv1", "mpeg2video"):
        target = tmp_path / f"{codec}.mkv"
        copy(source, target, EncodeSettings(codec))
        assert {(frame.width_px, frame.height_px) for frame in read(target)} == {(62, 46)}
