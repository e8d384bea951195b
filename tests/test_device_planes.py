"""Colours are the same wherever they are computed."""

import numpy as np
import pytest
import torch

from tests.device_pictures import DEVICES, LAYOUTS, picture, queues_of
from vidrestore.device.planes import (
    Patches,
    Piece,
    changed_samples,
    color_components,
    plane_region,
    rgb_pieces,
    upload_patches,
    with_chroma_around,
)
from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout
from vidrestore.pixels import Region, add_rgb_delta, rgb_region, whole_chroma_samples

REGIONS: list[Region] = [(13, 7, 60, 58), (0, 0, 33, 21), (90, 40, 131, 101), (50, 3, 51, 4), (0, 0, 131, 101)]


def uploaded(device: str, frame: Frame, regions: list[Region]) -> tuple[Patches, list[Piece]]:
    places = [(frame, with_chroma_around(region, frame)) for region in regions]
    return upload_patches(queues_of(device), places), [Piece(number, region) for number, region in enumerate(regions)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", LAYOUTS, ids=lambda of: of.name)
def test_a_region_has_the_same_colours_to_a_thousandth_of_a_level(of: PixelLayout, device: str) -> None:
    frame = picture(of, 131, 101, grain=30)
    patches, pieces = uploaded(device, frame, REGIONS)
    rgb = rgb_pieces(patches, pieces, 140, 110).cpu().permute(0, 2, 3, 1).numpy()
    for found, (x0, y0, x1, y1) in zip(rgb, REGIONS, strict=True):
        expected = rgb_region(frame.planes, of, (x0, y0, x1, y1))
        assert np.abs(found[: y1 - y0, : x1 - x0] - expected).max() < 1e-3
        assert np.array_equal(found[: y1 - y0, x1 - x0 :], np.repeat(found[: y1 - y0, [x1 - x0 - 1]], 140 - x1 + x0, 1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", LAYOUTS, ids=lambda of: of.name)
def test_a_change_of_colour_gives_the_same_samples(of: PixelLayout, device: str, rng: np.random.Generator) -> None:
    frame = picture(of, 131, 101)
    places = [whole_chroma_samples(region, of, 131, 101) for region in REGIONS]
    patches, pieces = uploaded(device, frame, places)
    delta = rng.normal(0, 25, (len(places), 104, 132, 3)).astype(np.float32)
    delta[:, 20:30] = 0
    there = torch.from_numpy(delta).permute(0, 3, 1, 2).contiguous().to(device)
    changed = [samples.cpu().numpy() for samples in changed_samples(patches, pieces, there)]
    differing = samples = 0
    for number, place in enumerate(places):
        x0, y0, x1, y1 = place
        planes = tuple(plane.copy() for plane in frame.planes)
        add_rgb_delta(planes, of, place, delta[number, : y1 - y0, : x1 - x0])
        for component, plane, found in zip(color_components(of), planes, changed, strict=False):
            left, top, right, bottom = plane_region(place, of, component)
            error = plane[top:bottom, left:right].astype(int) - found[number, : bottom - top, : right - left]
            assert np.abs(error).max() <= 1
            differing, samples = differing + np.count_nonzero(error), samples + error.size
    assert differing <= 1e-3 * samples  # sums that end at one half, to the last bit


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", LAYOUTS, ids=lambda of: of.name)
def test_without_a_change_every_sample_is_kept(of: PixelLayout, device: str) -> None:
    frame = picture(of, 131, 101, grain=80)
    patches, pieces = uploaded(device, frame, [(0, 0, 131, 101)])
    changed = changed_samples(patches, pieces, torch.zeros(1, 3, 104, 132, device=device))
    for plane, samples in zip(frame.planes, changed, strict=False):
        assert samples.cpu().numpy().dtype == plane.dtype
        assert np.array_equal(plane, samples.cpu().numpy()[0, : plane.shape[0], : plane.shape[1]])
