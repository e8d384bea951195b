"""The picture stays as it came: what is not changed is not touched, and colours are those of the standard."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vidrestore.layout import PixelLayout, Plane
from vidrestore.pixels import Region, add_rgb_delta, rgb_picture, rgb_reduced, rgb_region, whole_chroma_samples


def layout(
    family: str = "yuv",
    *,
    depth: int = 8,
    chroma: tuple[int, int] = (1, 1),
    full: bool = False,
    siting: str = "left",
    is_pq: bool = False,
) -> PixelLayout:
    return PixelLayout("test", family, depth, *chroma, False, full, "bt709", siting, is_pq)  # type: ignore[arg-type]


def flat(of: PixelLayout, values: tuple[int, ...], width_px: int = 32, height_px: int = 24) -> tuple[Plane, ...]:
    dtype = np.uint8 if of.depth_bits == 8 else np.uint16
    return tuple(
        np.full(of.plane_shape(component, width_px, height_px), value, dtype)
        for component, value in zip(of.components, values, strict=True)
    )


def added(planes: tuple[Plane, ...], of: PixelLayout, region: Region, delta: NDArray[np.float32]) -> tuple[Plane, ...]:
    """New planes; the given ones stay."""
    changed = tuple(plane.copy() for plane in planes)
    add_rgb_delta(changed, of, region, delta)
    return changed


def noise(of: PixelLayout, width_px: int, height_px: int) -> tuple[Plane, ...]:
    rng = np.random.default_rng(1)
    dtype = np.uint8 if of.depth_bits == 8 else np.uint16
    shapes = [of.plane_shape(component, width_px, height_px) for component in of.components]
    return tuple(rng.integers(0, 1 << of.depth_bits, shape).astype(dtype) for shape in shapes)


LAYOUTS = [
    layout(),
    layout(siting="center"),
    layout(siting="topleft"),
    layout(siting="top"),
    layout(siting="bottomleft"),
    layout(siting="bottom"),
    layout(depth=10, is_pq=True),
    layout(depth=10),
    layout(chroma=(0, 0)),
    layout(chroma=(1, 0), full=True),
    layout("rgb", chroma=(0, 0), full=True),
    layout("gray", chroma=(0, 0), full=True),
]


@pytest.mark.parametrize(
    ("samples", "rgb"),
    [((16, 128, 128), (0, 0, 0)), ((235, 128, 128), (255, 255, 255)), ((63, 102, 240), (255, 0, 0))],
    ids=["black", "white", "red"],
)
def test_bt709_limited_range_has_the_colours_of_the_standard(samples: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    picture = rgb_picture(flat(layout(), samples), layout())
    assert np.abs(picture.astype(int) - rgb).max() <= 1


@pytest.mark.parametrize("of", LAYOUTS)
@pytest.mark.parametrize("size", [(32, 24), (31, 23)])
def test_a_zero_change_keeps_every_sample(of: PixelLayout, size: tuple[int, int]) -> None:
    planes = noise(of, *size)
    region = (3, 5, 20, 17)
    delta = np.zeros((12, 17, 3), np.float32)
    for before, after in zip(planes, added(planes, of, region, delta), strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("of", LAYOUTS)
def test_a_flat_change_of_colour_arrives_within_a_level(of: PixelLayout) -> None:
    mid = 1 << (of.depth_bits - 1)
    planes = flat(of, (mid,) * len(of.components))
    change = np.float32([10, 10, 10]) if of.family == "gray" else np.float32([12, -8, 5])
    height_px, width_px = planes[0].shape
    delta = np.broadcast_to(change, (height_px, width_px, 3)).copy()
    before = rgb_region(planes, of, (0, 0, width_px, height_px))
    after = rgb_region(added(planes, of, (0, 0, width_px, height_px), delta), of, (0, 0, width_px, height_px))
    # Rounding Y, Cb and Cr to whole levels costs at most about 1.6 levels of RGB.
    assert np.abs(after - before - change).max() < 1.7


@pytest.mark.parametrize("of", LAYOUTS)
def test_samples_outside_the_region_are_identical(of: PixelLayout) -> None:
    planes = noise(of, 31, 23)
    region = (4, 6, 20, 18)  # on whole chroma samples
    changed = added(planes, of, region, np.full((12, 16, 3), 40, np.float32))
    for component, before, after in zip(of.components, planes, changed, strict=True):
        outside = np.ones(before.shape, bool)
        steps = (1 << of.log2_chroma_w, 1 << of.log2_chroma_h) if component in ("Cb", "Cr") else (1, 1)
        outside[6 // steps[1] : 18 // steps[1], 4 // steps[0] : 20 // steps[0]] = False
        assert np.array_equal(before[outside], after[outside])
        if component not in ("Cb", "Cr"):  # an equal change of R, G and B has no chroma
            assert (before[~outside] != after[~outside]).mean() > 0.5


def test_a_region_grows_to_whole_chroma_samples_and_not_beyond_the_picture() -> None:
    assert whole_chroma_samples((3, 5, 20, 17), layout(), 31, 23) == (2, 4, 20, 18)
    assert whole_chroma_samples((3, 5, 31, 23), layout(), 31, 23) == (2, 4, 31, 23)
    assert whole_chroma_samples((3, 5, 20, 17), layout(chroma=(0, 0)), 31, 23) == (3, 5, 20, 17)


@pytest.mark.parametrize("of", LAYOUTS)
def test_a_region_has_the_same_colours_as_the_whole_picture(of: PixelLayout) -> None:
    planes = noise(of, 31, 23)
    whole = rgb_region(planes, of, (0, 0, 31, 23))
    part = rgb_region(planes, of, (5, 3, 22, 20))
    assert np.abs(whole[3:20, 5:22] - part).max() < 1e-3


@pytest.mark.parametrize(("siting", "offset_px"), [("left", 0.0), ("center", 0.5)])
def test_chroma_is_read_where_it_lies(siting: str, offset_px: float) -> None:
    of = layout(chroma=(1, 0), siting=siting)
    luma, cb, cr = flat(of, (128, 128, 128))
    cr = np.tile((100 + 2 * np.arange(16)).astype(np.uint8), (24, 1))  # sample k lies at luma column 2k + offset
    rgb = rgb_region((luma, cb, cr), of, (0, 0, 32, 24))
    expected = 100 + (np.arange(2, 28) - offset_px)
    cr_gain = 2 * (1 - 0.2126) * 255 / 224
    read: NDArray[np.float64] = (rgb[10, 2:28, 0] - (128 - 16) * 255 / 219) / cr_gain + 128
    assert np.abs(read - expected).max() < 0.1


@pytest.mark.parametrize(
    ("siting", "offset_px"), [("topleft", 0.0), ("top", 0.0), ("left", 0.5), ("center", 0.5), ("bottomleft", 1.0)]
)
def test_chroma_is_read_in_the_row_where_it_lies(siting: str, offset_px: float) -> None:
    of = layout(chroma=(0, 1), siting=siting)
    luma, cb, cr = flat(of, (128, 128, 128))
    cr = np.repeat((100 + 2 * np.arange(12)).astype(np.uint8)[:, None], 32, axis=1)  # sample k: row 2k + offset
    rgb = rgb_region((luma, cb, cr), of, (0, 0, 32, 24))
    cr_gain = 2 * (1 - 0.2126) * 255 / 224
    read: NDArray[np.float64] = (rgb[2:20, 10, 0] - (128 - 16) * 255 / 219) / cr_gain + 128
    assert np.abs(read - (100 + np.arange(2, 20) - offset_px)).max() < 0.1


@pytest.mark.parametrize("of", LAYOUTS)
def test_the_reduced_copy_has_the_picture_s_colours(of: PixelLayout) -> None:
    mid = 5 << (of.depth_bits - 4)
    planes = flat(of, (mid,) * len(of.components), 64, 48)
    reduced = rgb_reduced(planes, of, 32, 24)
    assert reduced.shape == (24, 32, 3)
    assert reduced.dtype == np.uint8
    assert np.abs(reduced.astype(int) - rgb_picture(planes, of)[:24, :32].astype(int)).max() <= 1
