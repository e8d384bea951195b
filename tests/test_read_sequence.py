"""Images become frames without a sample changed, on the clock that was meant."""

import math
import re
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import CLIPS
from tests.copies import read
from tests.scans import SEGMENT_FRAMES, UNTOUCHED, contents, flip, make_images, models, names, picture, restore
from vidrestore import work
from vidrestore.cli import main
from vidrestore.errors import OptionsError, SourceError
from vidrestore.options import Options
from vidrestore.pipeline import analyze_video
from vidrestore.video.read_sequence import SequenceReader, exact_rate


def test_images_become_a_video_without_a_sample_changed(tmp_path: Path) -> None:
    source, target = make_images(tmp_path / "scans", "dpx, 10 bits"), tmp_path / "out.mkv"
    restore(source / "frame_%06d.dpx", target, lossless=True)
    frames = read(target)
    assert len(frames) == 12
    for index, frame in enumerate(frames):
        assert frame.layout.name == "gbrp10le"
        assert frame.time_s == pytest.approx(index / 18, abs=0.0006)  # the header says 18 frames/s
        green, _, red = frame.planes
        was = picture(index, 10, 3)
        assert np.array_equal(red[UNTOUCHED], was[..., 0][UNTOUCHED])
        assert np.array_equal(green[UNTOUCHED], was[..., 1][UNTOUCHED])


def test_start_and_end_count_on_the_clock_of_the_rate(tmp_path: Path) -> None:
    source, target = make_images(tmp_path / "scans", count=24), tmp_path / "out"
    report = restore(source, f"{target}/", rate=12, start=0.5, end=1.25)
    assert report.num_frames == 9
    assert names(target) == [f"frame_{number:06}.png" for number in range(107, 116)]
    with pytest.raises(OptionsError, match=r"24 images at 24 frames/s last 1\.000 s"):
        restore(source, f"{tmp_path}/other/", start=2.0)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(23.976, Fraction(24000, 1001)), (29.97, Fraction(30000, 1001)), (24, 24), (16.5, Fraction(33, 2))],
)
def test_rates_are_taken_for_what_they_mean(given: float, meant: Fraction) -> None:
    assert exact_rate(given) == meant


def test_an_image_damaged_in_the_middle_ends_the_command_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_images(tmp_path / "scans")
    flip("frame_000101.png")(source)
    with pytest.raises(SystemExit) as left:
        main(["restore", str(source), "-o", f"{tmp_path}/out/", "--quiet"])
    assert left.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "frame_000101.png: is no whole PNG image" in line


@pytest.mark.parametrize("kind", ["png, 8 bits", "tiff, 8 bits", "dpx, 10 bits"])
def test_an_image_cut_off_anywhere_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    (image,) = make_images(tmp_path / "scans", kind, 1).iterdir()
    content = bytearray(image.read_bytes())
    if kind.startswith("dpx"):
        content[16:20] = b"\xff" * 4  # some scanners do not say how long the file is
    for num_bytes in [*range(0, min(2100, len(content)), 3), len(content) - 100]:
        image.write_bytes(content[:num_bytes])
        with pytest.raises(SourceError, match=re.escape(image.name)), SequenceReader(image.parent) as reader:
            list(reader.frames())


@pytest.mark.parametrize("number", [math.nan, math.inf, 0.5])
def test_a_turn_that_means_nothing_leaves_the_picture_upright(number: float, tmp_path: Path) -> None:
    image = tmp_path / "1.tif"
    Image.fromarray(picture(0, 8, 3).astype(np.uint8)).save(image, tiffinfo={274: 6})
    turn = struct.pack("<HHIHH", 274, 3, 1, 6, 0)  # a tag, a whole number of 16 bits, one of them
    content = image.read_bytes()
    assert content.count(turn) == 1
    with SequenceReader(tmp_path) as reader:
        assert reader.info.rotation_deg == 90
    image.write_bytes(content.replace(turn, struct.pack("<HHIf", 274, 11, 1, number)))
    with SequenceReader(tmp_path) as reader:
        assert reader.info.rotation_deg == 0


def test_a_rate_is_for_images_only(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="leave --rate out"):
        restore(CLIPS["silent"].make(tmp_path), tmp_path / "out.mp4", rate=24)


def test_transparent_colours_of_a_palette_stay_transparent(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    colours = Image.fromarray(picture(0, 8, 1).astype(np.uint8) // 32, mode="L").convert("P")
    colours.save(tmp_path / "scans" / "1.png", transparency=3)
    restore(tmp_path / "scans", f"{tmp_path}/out/")
    with Image.open(tmp_path / "scans" / "1.png") as was, Image.open(tmp_path / "out" / "1.png") as now:
        assert np.array_equal(np.asarray(was.convert("RGBA"))[..., 3], np.asarray(now)[..., 3])


def test_images_can_be_analysed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SEGMENT_FRAMES", SEGMENT_FRAMES)
    source = make_images(tmp_path / "scans", count=6)
    analyze_video(source, tmp_path / "faces.json", Options(device="cpu"), models=models())
    restore(source, f"{tmp_path}/direct/")
    restore(source, f"{tmp_path}/listed/", from_faces=tmp_path / "faces.json", compare=tmp_path / "both.mkv")
    assert contents(tmp_path / "direct") == contents(tmp_path / "listed")
    assert len(read(tmp_path / "both.mkv")) == 6
