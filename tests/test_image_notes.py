"""What scanners and programs wrote into an image file beside its samples is still there, and is understood."""

import struct
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from tests.scans import HEIGHT_PX, WIDTH_PX, make_images, picture, restore, write_dpx
from vidrestore.video.read_sequence import SequenceReader


def test_png_files_keep_text_profile_and_resolution(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans", "png, 8 bits", 2)
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Reel 7")
    for path in source.iterdir():
        with Image.open(path) as image:
            image.save(path, pnginfo=text, dpi=(300, 300), icc_profile=b"a profile of 20 bytes")
    restore(source, f"{tmp_path}/out/")
    with Image.open(tmp_path / "out" / "frame_000102.png") as image:
        image.load()
        assert image.info["Title"] == "Reel 7"
        assert image.info["icc_profile"] == b"a profile of 20 bytes"
        assert round(image.info["dpi"][0]) == 300


def test_tiff_files_keep_their_resolution_and_tell_what_they_lose(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans", "tiff, 8 bits", 2)
    for path in source.iterdir():
        with Image.open(path) as image:
            image.save(path, dpi=(400, 400), description="aunt Mary")
    report = restore(source, f"{tmp_path}/out/")
    assert any("beside the samples" in line for line in report.warnings)
    with Image.open(tmp_path / "out" / "frame_000102.tif") as image:
        assert image.info["dpi"] == (400, 400)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 10])
def test_dpx_files_keep_key_code_time_code_and_what_their_levels_mean(tmp_path: Path, order: str, bits: int) -> None:
    source = make_images(tmp_path / "scans", f"dpx, {bits} bits", 2)
    for index, path in enumerate(sorted(source.iterdir())):
        write_dpx(path, picture(index, bits, 3), bits, order=order, rate_hz=23.976)
    restore(source, f"{tmp_path}/out/")
    content = (tmp_path / "out" / "frame_000102.dpx").read_bytes()
    kept = ">" if content[:4] == b"SDPX" else "<"
    assert content[36:42] == b"reel 7"
    assert content[1664:1680] == b"KK1234567890KEYC"
    assert struct.unpack_from(f"{kept}I", content, 1920) == (0x01020304,)
    assert struct.unpack_from(f"{kept}f", content, 1724)[0] == pytest.approx(23.976)
    assert struct.unpack_from(f"{kept}IfIf", content, 784) == (95, 0.0, 685, 2.0)
    assert content[801:803] == b"\x01\x01"
    assert content[2048:2057] == b"user data"
    with SequenceReader(tmp_path / "out") as reader:
        assert reader.info.average_rate == Fraction(24000, 1001)
        assert [frame.index for frame in reader.frames()] == [0, 1]


@pytest.mark.parametrize("kind", ["png, 8 bits", "tiff, 8 bits"])
@pytest.mark.parametrize(("orientation", "rotation_deg"), [(1, 0), (2, 0), (3, 180), (4, 180), (6, 90), (8, 270)])
def test_images_are_looked_at_as_a_viewer_turns_them(
    tmp_path: Path, kind: str, orientation: int, rotation_deg: int
) -> None:
    source = make_images(tmp_path / "scans", kind, 1)
    (path,) = source.iterdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.save(path, exif=exif)
    with SequenceReader(source) as reader:
        assert reader.info.rotation_deg == rotation_deg
        (frame,) = reader.frames()
    assert (frame.width_px, frame.height_px) == (WIDTH_PX, HEIGHT_PX)
