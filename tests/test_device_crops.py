"""A crop is the same wherever it is cut."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.device_pictures import DEVICES, LAYOUTS, exact_opencv, layout, picture, queues_of
from tests.faces import face_at
from vidrestore.device.crops import cut_crops
from vidrestore.device.planes import Piece, upload_patches, with_chroma_around
from vidrestore.face import template_px
from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout
from vidrestore.stages.align import cut_crop
from vidrestore.stages.crop_geometry import sampled_region, similarity

CROP_PX = 64
PLACES = [
    ((150.3, 120.7), 64.0, 0.0),  # as large as the crop
    ((140.0, 110.0), 90.0, 25.0),
    ((160.0, 100.0), 133.0, -40.0),  # blocks of 2
    ((150.0, 120.0), 230.0, 10.0),  # blocks of 3
    ((150.0, 120.0), 900.0, 5.0),  # larger than the picture, blocks of 14
    ((150.0, 120.0), 40.0, 70.0),  # enlarged
    ((33.3, 200.2), 6.0, 180.0),
    ((5.0, 8.0), 120.0, 12.0),  # partly outside, at each corner
    ((318.0, 5.0), 50.0, 12.0),
    ((310.0, 235.0), 200.0, -12.0),
    ((2.0, 238.0), 30.0, 0.0),
]


def matrix_of(center_px: tuple[float, float], side_px: float, roll_deg: float) -> NDArray[np.float64]:
    landmarks = face_at(center_px, side_px, roll_deg).landmarks_px.astype(np.float64)
    return similarity(landmarks, template_px("tight", CROP_PX))


def cut_on(device: str, frame: Frame, matrices: list[NDArray[np.float64]]) -> NDArray[np.uint8]:
    regions = [sampled_region(frame, matrix, CROP_PX) for matrix in matrices]
    places = [(frame, with_chroma_around(region, frame)) for region in regions if region is not None]
    pieces = [Piece(number, region) for number, region in enumerate(regions) if region is not None]
    crops: NDArray[np.uint8] = (
        cut_crops(upload_patches(queues_of(device), places), pieces, matrices, CROP_PX).cpu().numpy()
    )
    return crops


def assert_alike(found: NDArray[np.uint8], expected: NDArray[np.uint8], share: float) -> None:
    """At most a level apart, in at most that share of the samples."""
    error = np.abs(found.astype(int) - expected)
    assert error.max() <= 1
    assert (error > 0).mean() <= share


@exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", LAYOUTS, ids=lambda of: of.name)
@pytest.mark.parametrize("size", [(320, 240), (317, 239)])
def test_crops_are_the_same_but_for_a_level_in_a_hundredth(of: PixelLayout, size: tuple[int, int], device: str) -> None:
    frame = picture(of, *size)
    matrices = [matrix_of(*place) for place in PLACES]
    crops = cut_on(device, frame, matrices)
    for matrix, crop in zip(matrices, crops, strict=True):
        expected = cut_crop(frame, matrix, CROP_PX)
        assert expected is not None
        assert_alike(crop, expected, share=0.01)


@exact_opencv
@pytest.mark.parametrize("device", DEVICES)
def test_even_in_noise(device: str) -> None:
    frame = picture(layout("rgb", chroma=(0, 0), full=True), grain=200)
    matrices = [matrix_of(*place) for place in PLACES]
    for matrix, crop in zip(matrices, cut_on(device, frame, matrices), strict=True):
        expected = cut_crop(frame, matrix, CROP_PX)
        assert expected is not None
        assert_alike(crop, expected, share=0.01)


@pytest.mark.parametrize("device", DEVICES)
def test_a_crop_does_not_depend_on_those_beside_it(device: str) -> None:
    frame = picture(layout())
    matrices = [matrix_of(*place) for place in PLACES]
    together = cut_on(device, frame, matrices)
    alone = np.concatenate([cut_on(device, frame, [matrix]) for matrix in matrices])
    assert_alike(together, alone, share=1e-4)
