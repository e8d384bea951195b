"""How bright an HDR picture was mastered reaches the output, whatever codec and container hold it."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.clips import CLIPS
from tests.copies import copy, read, same_samples
from vidrestore.frame import HdrLight, MasteringDisplay
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.hdr_light import encoder_options, hdr_light_of
from vidrestore.video.read import VideoReader
from vidrestore.video.source import first_picture
from vidrestore.video.write import VideoWriter

P3_DISPLAY = MasteringDisplay(
    red_xy=(Fraction("0.68"), Fraction("0.32")),
    green_xy=(Fraction("0.265"), Fraction("0.69")),
    blue_xy=(Fraction("0.15"), Fraction("0.06")),
    white_xy=(Fraction("0.3127"), Fraction("0.329")),
    min_cd_m2=Fraction("0.005"),
    max_cd_m2=Fraction(1000),
)
"""What the clip hdr10 was made with."""
LIGHT = HdrLight(P3_DISPLAY, 1000, 400)


def light_of(path: Path) -> HdrLight | None:
    with VideoReader(path) as reader:
        return reader.info.light


def test_the_source_s_light_is_read(tmp_path: Path) -> None:
    assert light_of(CLIPS["hdr10"].make(tmp_path)) == LIGHT
    assert light_of(CLIPS["hlg"].make(tmp_path)) is None


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("hevc", ".mp4"), ("hevc", ".mkv"), ("hevc", ".ts"), ("h264", ".mp4"), ("h264", ".mov")]
    + [("ffv1", ".mkv"), ("ffv1", ".mp4")],
)
def test_mastering_display_and_light_levels_are_kept_to_the_last_digit(codec: str, suffix: str, tmp_path: Path) -> None:
    source, target = CLIPS["hdr10"].make(tmp_path), tmp_path / f"copy{suffix}"
    unsaid = "chroma samples lie at topleft" if (codec, suffix) == ("ffv1", ".mp4") else None
    frames = copy(source, target, EncodeSettings(codec, lossless=True), warns=unsaid)
    assert light_of(target) == LIGHT
    assert same_samples(read(target), frames)
    again = tmp_path / f"again{suffix}"
    copy(target, again, EncodeSettings(codec, lossless=True))
    assert light_of(again) == LIGHT


def test_av1_keeps_them_in_its_coarser_units(tmp_path: Path) -> None:
    source, target = CLIPS["hdr10"].make(tmp_path), tmp_path / "copy.mp4"
    copy(source, target, EncodeSettings("av1"))
    light = light_of(target)
    assert light is not None
    assert light.display is not None
    assert (light.max_content_cd_m2, light.max_average_cd_m2) == (1000, 400)
    for name in ("red_xy", "green_xy", "blue_xy", "white_xy"):
        assert getattr(light.display, name) == pytest.approx(getattr(P3_DISPLAY, name), abs=1 / 65536)
    assert light.display.max_cd_m2 == 1000
    assert light.display.min_cd_m2 == pytest.approx(P3_DISPLAY.min_cd_m2, abs=1 / 16384)


def test_where_they_have_no_place_a_warning_says_so(tmp_path: Path) -> None:
    source, target = CLIPS["hdr10"].make(tmp_path), tmp_path / "copy.mov"
    with VideoReader(source) as reader:
        like = replace(reader.info, chroma_location=0)
        with VideoWriter(target, like=like, source=source, encode=EncodeSettings("prores")) as writer:
            for frame in reader.frames():
                writer.write(frame)
    (warning,) = writer.warnings
    assert warning == (
        f"{target}: prores_ks in .mov loses the HDR metadata (mastering display, light levels); "
        "use --codec hevc or an output ending in .mkv"
    )


@pytest.mark.parametrize("light", [LIGHT, HdrLight(P3_DISPLAY), HdrLight(None, 1000, 400)])
@pytest.mark.parametrize("codec", ["h264", "hevc", "ffv1"])
def test_one_of_the_two_alone_is_kept_alone(light: HdrLight, codec: str, tmp_path: Path) -> None:
    source, target = CLIPS["hdr10"].make(tmp_path), tmp_path / "copy.mkv"
    with VideoReader(source) as reader:
        like = replace(reader.info, light=light)
        with VideoWriter(target, like=like, source=source, encode=EncodeSettings(codec)) as writer:
            for frame in reader.frames():
                writer.write(frame)
    assert writer.warnings == []
    assert light_of(target) == light


def test_the_texts_for_encoders_are_in_their_units() -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    assert encoder_options(LIGHT, "libx264") == {"x264-params": f"mastering-display={display}:cll=1000,400"}
    assert encoder_options(LIGHT, "libx265") == {"x265-params": f"master-display={display}:max-cll=1000,400"}
    assert encoder_options(LIGHT, "mpeg4") is None


def test_a_picture_without_them_has_none(tmp_path: Path) -> None:
    picture = first_picture(CLIPS["silent"].make(tmp_path), 0)
    assert picture is not None
    assert hdr_light_of(picture, "h264") is None
