"""Still images keep their format, depth, transparency and metadata."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from vidrestore.errors import SourceError, TargetError
from vidrestore.images import read_image, write_image


def picture(channels: int, dtype: type = np.uint8) -> np.ndarray:
    high = 256 if dtype is np.uint8 else 65536
    shape = (21, 33) if channels == 1 else (21, 33, channels)
    return np.random.default_rng(8).integers(0, high, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossless_formats_come_back_sample_for_sample(tmp_path: Path, suffix: str, channels: int) -> None:
    if suffix == ".webp" and channels == 1:
        pytest.skip("WebP has no grey pictures")
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Image.fromarray(picture(channels)).save(source, **({"lossless": True} if suffix == ".webp" else {}))
    image = read_image(source)
    write_image(target, image.frame, image.save_options)
    assert np.array_equal(np.asarray(Image.open(target)), np.asarray(Image.open(source)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_stay_16_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    cv2.imwrite(str(source), picture(channels, np.uint16))
    image = read_image(source)
    assert image.frame.layout.depth_bits == 16
    write_image(target, image.frame, image.save_options)
    assert np.array_equal(cv2.imread(str(target), -1), cv2.imread(str(source), -1))


def test_a_jpeg_keeps_its_tables_exif_and_orientation(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jpg", tmp_path / "out.jpg"
    smooth = cv2.resize(picture(3)[:4, :6], (96, 64), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "aunt Mary"
    Image.fromarray(smooth).save(source, quality=83, exif=exif)
    image = read_image(source)
    assert image.rotation_deg == 90
    write_image(target, image.frame, image.save_options)
    with Image.open(source) as before, Image.open(target) as after:
        assert after.quantization == before.quantization
        assert after.getexif()[0x010E] == "aunt Mary"
        assert np.abs(np.asarray(after).astype(int) - np.asarray(before)).mean() < 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_shown_with_heads_up(tmp_path: Path, orientation: int) -> None:
    """What a viewer shows, possibly mirrored, is what the turn by rotation_deg gives."""
    source = tmp_path / "in.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(picture(3))
    stored.save(source, exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(source)))
    turned = np.rot90(np.asarray(stored), k=-read_image(source).rotation_deg // 90)
    assert np.array_equal(turned, shown) or np.array_equal(turned[:, ::-1], shown)


def test_what_a_16_bit_picture_loses_is_said(tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    cv2.imwrite(str(source), picture(1, np.uint16))
    with Image.open(source) as image:
        image.save(source, dpi=(300, 300))
    read = read_image(source)
    assert read.frame.layout.depth_bits == 16
    assert "resolution of a 16-bit image are not kept" in read.warnings[0]


def test_a_picture_book_is_refused_not_cut_to_its_first_page(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    pages = [Image.fromarray(picture(3)) for _ in range(3)]
    pages[0].save(source, save_all=True, append_images=pages[1:])
    with pytest.raises(SourceError, match="holds 3 pictures"):
        read_image(source)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"hello", "is not a readable image"), (None, "does not exist")]
)
def test_what_is_no_image_is_named_in_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    source = tmp_path / "in.png"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_image(source)
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="no pipes with names")
def test_a_pipe_is_not_called_absent(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    with pytest.raises(SourceError, match=f"^{path}: is no regular file; save what it brings to a file first"):
        read_image(path)


def test_a_format_that_cannot_hold_it_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    cv2.imwrite(str(source), picture(3, np.uint16))
    image = read_image(source)
    with pytest.raises(TargetError, match=r"write .png or .tif"):
        write_image(tmp_path / "out.jpg", image.frame, image.save_options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
