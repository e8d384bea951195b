"""Detection sees every frame once, in order, and speaks in frame pixels, whatever it looked at."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from vidrestore.face import Detection
from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout
from vidrestore.models.spec import ModelSpec
from vidrestore.stages.detect import MAX_LONG_SIDE_PX, detect_faces, detection_image, detection_size

LAYOUT = PixelLayout("gray", "gray", 8, 0, 0, False, True, "bt709", "center")


class BrightSpot:
    """Finds one face at the centroid of what is bright; remembers the batches."""

    spec = ModelSpec("test", "detector", "test", None, None, None, "none", "none")
    sha256 = ""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        assert images.dtype == np.uint8
        self.shapes.append(images.shape)
        found = []
        for image in images:
            weight = image[:, :, 0].astype(np.float64)
            if not weight.any():
                found.append(())
                continue
            y, x = (float((grid * weight).sum() / weight.sum()) for grid in np.indices(weight.shape))
            box = np.array([x - 1, y - 1, x + 1, y + 1], np.float32)
            found.append((Detection(box, 0.9, np.tile(np.float32([x, y]), (5, 1))),))
        return found


def frames_with_spots(sizes: Sequence[tuple[int, int]], spots: Sequence[tuple[int, int] | None]) -> list[Frame]:
    """Black frames of (width, height) with a bright 9 x 9 px square around (x, y)."""
    frames = []
    for index, ((width_px, height_px), spot) in enumerate(zip(sizes, spots, strict=True)):
        plane = np.zeros((height_px, width_px), np.uint8)
        if spot is not None:
            plane[spot[1] - 4 : spot[1] + 5, spot[0] - 4 : spot[0] + 5] = 255
        frames.append(Frame(index, index, Fraction(1, 25), (plane,), LAYOUT))
    return frames


@pytest.mark.parametrize(("width_px", "height_px"), [(1920, 1080), (3841, 2161), (640, 360), (101, 75)])
def test_faces_are_where_they_are_in_the_frame(width_px: int, height_px: int) -> None:
    """Within 0.25 px, in reduced, native and enlarged frames, with even and odd sides."""
    spot = (width_px // 3, height_px // 2)
    (found,) = detect_faces(frames_with_spots([(width_px, height_px)], [spot]), BrightSpot(), batch_frames=4)
    np.testing.assert_allclose(found.faces[0].landmarks_px, np.tile(spot, (5, 1)), atol=0.25)
    center = (found.faces[0].box_xyxy_px[:2] + found.faces[0].box_xyxy_px[2:]) / 2
    np.testing.assert_allclose(center, spot, atol=0.25)


@pytest.mark.parametrize("batch_frames", range(1, 9))
def test_batches_keep_order_and_ownership(batch_frames: int) -> None:
    """11 frames of three sizes, some empty: each comes back once, in order, with its own face."""
    sizes = [(64, 64)] * 5 + [(80, 48)] * 4 + [(64, 64)] * 2
    spots = [None if index % 3 == 1 else (10 + 2 * index, 20 + index) for index in range(11)]
    detector = BrightSpot()
    results = list(detect_faces(frames_with_spots(sizes, spots), detector, batch_frames=batch_frames))
    assert [found.frame.index for found in results] == list(range(11))
    for found, spot in zip(results, spots, strict=True):
        assert len(found.faces) == (spot is not None)
        if spot is not None:
            np.testing.assert_allclose(found.faces[0].landmarks_px[0], spot, atol=0.5)
    assert max(shape[0] for shape in detector.shapes) <= batch_frames
    assert sum(shape[0] for shape in detector.shapes) == 11


def test_a_full_batch_does_not_wait_for_another_frame() -> None:
    """A live source shows its frame as soon as the batch is full."""
    frames = iter(frames_with_spots([(64, 64)] * 3, [None] * 3))
    results = detect_faces(frames, BrightSpot(), batch_frames=2)
    next(results)
    assert len(list(frames)) == 1


@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
def test_a_video_stored_on_its_side_is_shown_upright(rotation_deg: int) -> None:
    """The detector sees the turned picture; what it finds comes back at its place in the stored one."""
    frames = frames_with_spots([(500, 301)], [(120, 40)])
    detector = BrightSpot()
    (found,) = detect_faces(frames, detector, batch_frames=1, rotation_deg=rotation_deg)
    assert detector.shapes[0][1:3] == ((301, 500) if rotation_deg == 180 else (500, 301))
    np.testing.assert_allclose(found.faces[0].landmarks_px, np.tile((120, 40), (5, 1)), atol=0.25)
    np.testing.assert_allclose(found.faces[0].box_xyxy_px, [119, 39, 121, 41], atol=0.25)


def test_the_copy_is_large_enough_for_small_faces_and_no_larger() -> None:
    """1080p keeps its faces of 24 px; larger frames are bounded; small ones are enlarged, but not without end."""
    assert detection_size(1920, 1080) == (1920, 1080)
    assert detection_size(2160, 3840) == (1080, MAX_LONG_SIDE_PX)
    assert detection_size(640, 360) == (640, 360)
    assert detection_size(320, 240) == (480, 360)
    assert detection_size(16, 16) == (64, 64)
    (frame,) = frames_with_spots([(3840, 2160)], [(100, 100)])
    assert detection_image(frame).shape == (1080, MAX_LONG_SIDE_PX, 3)
