"""Batching is invisible: every face gets its own crop back, in order, whatever the batch size."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from vidrestore.errors import OutOfDeviceMemory
from vidrestore.face import AlignedFace, TrackedFace
from vidrestore.frame import Frame, FrameFaces
from vidrestore.layout import PixelLayout
from vidrestore.models.spec import ModelSpec
from vidrestore.report import Report
from vidrestore.stages.restore import Parts, restore_faces

SPEC = ModelSpec("test", "restorer", "test", None, None, None, "none", "none", crop_px=16, template="tight")
LAYOUT = PixelLayout("gray", "gray", 8, 0, 0, False, True, "bt709", "center")


class Negative:
    """255 - crop; refuses batches that are empty or above `fits`."""

    spec = SPEC
    sha256 = engine_name = device_name = dtype_name = ""

    def __init__(self, fits: int = 1000) -> None:
        self.fits = fits
        self.batches: list[int] = []

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert len(crops) >= 1
        if len(crops) > self.fits:
            raise OutOfDeviceMemory("too many")
        self.batches.append(len(crops))
        return 255 - crops


def made_up(num_faces: list[int]) -> list[FrameFaces[AlignedFace]]:
    """Frames with so many faces; a crop's value tells its frame and face."""
    found = []
    for index, count in enumerate(num_faces):
        frame = Frame(index, index, Fraction(1, 25), (np.zeros((8, 8), np.uint8),), LAYOUT)
        faces = []
        for k in range(count):
            tracked = TrackedFace(k + 1, np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0, None, 0.0)
            faces.append(AlignedFace(tracked, np.full((16, 16, 3), index * 4 + k, np.uint8), np.zeros((2, 3))))
        found.append(FrameFaces(frame, tuple(faces)))
    return found


@pytest.mark.parametrize("batch_size", range(1, 10))
@pytest.mark.parametrize("max_wait_frames", [1, 3, 16])
def test_order_and_ownership_never_change(batch_size: int, max_wait_frames: int) -> None:
    counts = [int(n) for n in np.random.default_rng(6).integers(0, 4, 40)]
    restorer, report = Negative(), Report("", "")
    results = list(
        restore_faces(made_up(counts), restorer, report, batch_size=batch_size, max_wait_frames=max_wait_frames)
    )
    assert [found.frame.index for found in results] == list(range(40))
    for index, (found, count) in enumerate(zip(results, counts, strict=True)):
        assert [int(face.restored[0, 0, 0]) for face in found.faces] == [255 - (index * 4 + k) for k in range(count)]
    assert max(restorer.batches) <= batch_size


@pytest.mark.parametrize(("num_faces", "batch_size", "most"), [([0] * 50, 8, 1), ([1] + [0, 1] * 25, 8, 4)])
def test_frames_are_not_held_back_longer_than_asked(num_faces: list[int], batch_size: int, most: int) -> None:
    """Those without faces not at all, unless they stand behind a face."""
    taken = 0

    def frames() -> Iterator[FrameFaces[AlignedFace]]:
        nonlocal taken
        for found in made_up(num_faces):
            taken += 1
            yield found

    results = restore_faces(frames(), Negative(), Report("", ""), batch_size=batch_size, max_wait_frames=4)
    for given, _ in enumerate(results):
        assert taken - given <= most


def test_the_first_face_is_restored_without_waiting_for_a_batch() -> None:
    restorer = Negative()
    results = restore_faces(iter(made_up([1] * 20)), restorer, Report("", ""), batch_size=8, max_wait_frames=16)
    next(results)
    assert restorer.batches == [1]
    list(results)
    assert restorer.batches == [1, 8, 8, 3]


def test_out_of_memory_halves_the_batch_goes_on_and_is_reported() -> None:
    restorer, report = Negative(fits=3), Report("", "")
    results = list(restore_faces(made_up([3] * 10), restorer, report, batch_size=8, max_wait_frames=16))
    assert [int(face.restored[0, 0, 0]) for face in results[9].faces] == [255 - 36, 255 - 37, 255 - 38]
    assert max(restorer.batches) <= 3
    assert len(report.warnings) == 1
    assert "batch size of 2" in report.warnings[-1]


def test_a_single_face_that_does_not_fit_is_an_error_not_an_unrestored_face() -> None:
    with pytest.raises(OutOfDeviceMemory):
        list(restore_faces(made_up([1]), Negative(fits=0), Report("", ""), batch_size=8, max_wait_frames=1))


def test_work_in_parts_of_parts_never_makes_the_batch_larger_again() -> None:
    """On a GPU places are cut into parts, and in each its faces; both may run out of memory."""
    report = Report("", "")
    parts = Parts(report, 8)
    sizes: list[int] = []
    done: list[int] = []

    def work(start: int, stop: int) -> None:
        def inner(_: int, __: int) -> None:
            sizes.append(parts.batch_size)
            if stop - start > 1:
                raise OutOfDeviceMemory("what is around the faces leaves no room for one")

        parts.run(8, inner)
        done.extend(range(start, stop))

    parts.run(8, work)
    assert done == list(range(8))
    assert sizes == sorted(sizes, reverse=True)
    assert report.warnings == [f"out of memory: going on with a batch size of {size}" for size in (4, 2, 1)]
