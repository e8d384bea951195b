"""Samples come out of FFmpeg's frames exactly as they are stored, whatever the packing."""

import av
import numpy as np
import pytest

from vidrestore.errors import SourceError
from vidrestore.video.planes import COLOR_TABLE_FORMATS, PACKINGS, av_frame_of, layout_of, planar_layout, planes_of

ODD_WIDTH_PX, ODD_HEIGHT_PX = 37, 21
PLANAR = (
    "yuv420p",
    "yuv422p10le",
    "yuv444p16le",
    "yuv410p",
    "yuv440p",
    "yuva420p",
    "gbrp",
    "gbrap12le",
    "gray",
    "gray9le",
)


def noise(pix_fmt: str, width_px: int = ODD_WIDTH_PX, height_px: int = ODD_HEIGHT_PX) -> av.VideoFrame:
    frame = av.VideoFrame(width_px, height_px, pix_fmt)
    rng = np.random.default_rng(1)
    for plane in frame.planes:
        stored = np.frombuffer(memoryview(plane), dtype=np.uint8)
        stored[:] = rng.integers(0, 256, len(stored))
    return frame


def full_name(base: str, order: str) -> str | None:
    try:
        return av.VideoFormat(base + order, 16, 16).name
    except ValueError:
        return None


PACKED = [name for base in PACKINGS for order in ("", "le", "be") if (name := full_name(base, order))]


@pytest.mark.parametrize("pix_fmt", [*PACKED, *PLANAR])
def test_taking_a_frame_apart_and_putting_it_together_changes_no_sample(pix_fmt: str) -> None:
    frame = noise(pix_fmt)
    layout, planes = layout_of(frame), planes_of(frame)
    layout.check_planes(planes)
    again = planes_of(av_frame_of(planes, layout, pix_fmt if not pix_fmt.endswith("be") else None))
    assert all(np.array_equal(first, second) for first, second in zip(planes, again, strict=True))


@pytest.mark.parametrize(
    ("pix_fmt", "planar"),
    [("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("uyvy422", "yuv422p"), ("nv24", "yuv444p"), ("bgr24", "gbrp")]
    + [("rgba", "gbrap"), ("argb", "gbrap"), ("rgb48be", "gbrp16le"), ("yuv422p10be", "yuv422p10le")],
)
def test_planes_agree_with_ffmpegs_own_rearrangement(pix_fmt: str, planar: str) -> None:
    frame = noise(pix_fmt, 32, 16)  # even: FFmpeg's scaler copies these without computing
    by_ffmpeg = planes_of(frame.reformat(format=planar))
    assert layout_of(frame).name == planar
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(planes_of(frame), by_ffmpeg, strict=True))


def test_p010_keeps_its_ten_bits() -> None:
    frame = noise("p010le")
    luma = np.frombuffer(memoryview(frame.planes[0]), dtype="<u2").reshape(ODD_HEIGHT_PX, -1)[:, :ODD_WIDTH_PX]
    assert np.array_equal(planes_of(frame)[0], luma >> 6)


def test_a_palette_is_looked_up() -> None:
    frame = noise("pal8")
    indices = np.frombuffer(memoryview(frame.planes[0]), dtype=np.uint8).reshape(ODD_HEIGHT_PX, -1)[:, :ODD_WIDTH_PX]
    blue_green_red = np.frombuffer(memoryview(frame.planes[1]), dtype=np.uint8).reshape(256, 4)[indices]
    green, blue, red = planes_of(frame)
    assert np.array_equal(np.stack([blue, green, red], axis=-1), blue_green_red[..., :3])


@pytest.mark.parametrize(("pix_fmt", "dark_bit"), [("monow", 1), ("monob", 0)])
def test_one_bit_becomes_black_and_white(pix_fmt: str, dark_bit: int) -> None:
    frame = noise(pix_fmt)
    stored = np.frombuffer(memoryview(frame.planes[0]), dtype=np.uint8).reshape(ODD_HEIGHT_PX, -1)
    bits = np.unpackbits(stored, axis=1)[:, :ODD_WIDTH_PX]
    (gray,) = planes_of(frame)
    assert np.array_equal(gray, np.where(bits == dark_bit, 0, 255))


@pytest.mark.parametrize(("pix_fmt", "red_bit", "blue_bit"), [("x2rgb10le", 20, 0), ("x2bgr10le", 0, 20)])
def test_ten_bits_in_one_word_are_unpacked(pix_fmt: str, red_bit: int, blue_bit: int) -> None:
    frame = noise(pix_fmt)
    words = np.frombuffer(memoryview(frame.planes[0]), dtype="<u4").reshape(ODD_HEIGHT_PX, -1)[:, :ODD_WIDTH_PX]
    green, blue, red = planes_of(frame)
    for plane, bit in ((red, red_bit), (green, 10), (blue, blue_bit)):
        assert np.array_equal(plane, words >> bit & 1023)


@pytest.mark.parametrize("pix_fmt", ["ya8", "ya16le", "ya16be"])
def test_gray_with_alpha_becomes_three_equal_colours_and_alpha(pix_fmt: str) -> None:
    frame = noise(pix_fmt)
    dtype = np.uint8 if pix_fmt == "ya8" else (">u2" if pix_fmt.endswith("be") else "<u2")
    pairs = np.frombuffer(memoryview(frame.planes[0]), dtype=dtype).reshape(ODD_HEIGHT_PX, -1)[:, : 2 * ODD_WIDTH_PX]
    *colors, alpha = planes_of(frame)
    assert all(np.array_equal(color, pairs[:, 0::2]) for color in colors)
    assert np.array_equal(alpha, pairs[:, 1::2])


def test_every_spread_format_is_proven_above() -> None:
    proven = {"pal8", "monow", "monob", "x2rgb10le", "x2bgr10le", "ya8", "ya16le", "ya16be"}
    assert set(COLOR_TABLE_FORMATS) == proven


def test_planes_belong_to_the_caller() -> None:
    frame = noise("yuv420p")
    planes = planes_of(frame)
    before = planes[0].copy()
    np.frombuffer(memoryview(frame.planes[0]), dtype=np.uint8)[:] = 0
    assert np.array_equal(planes[0], before)
    assert planes[0].flags.writeable
    assert planes[0].flags.c_contiguous


@pytest.mark.parametrize(
    ("pix_fmt", "color_range", "full_range"),
    [("yuv420p", 0, False), ("yuv420p", 2, True), ("yuvj420p", 0, True), ("gbrp", 0, True), ("gbrp", 1, False)]
    + [("gray", 0, True), ("gray", 1, False), ("yuv420p10le", 1, False)],
)
def test_range_is_the_tags_and_otherwise_the_formats_habit(pix_fmt: str, color_range: int, full_range: bool) -> None:
    frame = av.VideoFrame(64, 48, pix_fmt)
    frame.color_range = color_range
    assert layout_of(frame).full_range is full_range


@pytest.mark.parametrize(
    ("width_px", "height_px", "tag", "matrix"),
    [(640, 480, 2, "bt601"), (1280, 534, 2, "bt709"), (540, 720, 2, "bt709"), (640, 480, 1, "bt709")]
    + [(1920, 1080, 5, "bt601"), (1920, 1080, 9, "bt2020"), (64, 48, 7, "smpte240m")],
)
def test_untagged_video_is_bt709_from_hd_upwards(width_px: int, height_px: int, tag: int, matrix: str) -> None:
    frame = av.VideoFrame(width_px, height_px, "yuv420p")
    frame.colorspace = tag
    assert layout_of(frame).matrix == matrix


@pytest.mark.parametrize("pix_fmt", ["gbrpf32le", "bayer_rggb8", "rgb565le", "xyz12le"])
def test_formats_without_whole_samples_are_refused_by_name(pix_fmt: str) -> None:
    with pytest.raises(SourceError, match=f"pixel format {pix_fmt} is not supported; convert it first"):
        layout_of(av.VideoFrame(64, 48, pix_fmt))


def test_old_full_range_names_are_the_plain_formats() -> None:
    layout = planar_layout("yuvj422p")
    assert layout is not None
    assert (layout.name, layout.full_range, layout.log2_chroma_w, layout.log2_chroma_h) == ("yuv422p", True, 1, 0)
