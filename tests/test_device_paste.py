"""Faces are pasted alike wherever it is done."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.device_pictures import DEVICES, LAYOUTS, exact_opencv, layout, picture, queues_of
from tests.faces import aligned, face_at, inside_crop, yuv_frame
from vidrestore.device.paste import Places, copied_color_planes, jobs_of, masked_changes, patch_region
from vidrestore.device.planes import upload_patches
from vidrestore.face import AlignedFace, PlacedFace, RestoredFace
from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout
from vidrestore.stages.paste import clear_border_px, color_kept_layers, feather_mask, paste_into

CROP_PX = 64
FACES = [
    ((60.3, 50.7), 40.0, 0.0),
    ((210.0, 70.0), 64.0, 25.0),
    ((250.0, 90.0), 90.0, -15.0),  # overlaps the one before
    ((90.0, 190.0), 150.0, 10.0),  # larger than its crop
    ((312.0, 232.0), 60.0, 5.0),  # partly outside
    ((200.0, 200.0), 9.0, 0.0),
    ((226.0, 201.0), 2.0, 0.0),
    ((160.0, 20.0), 18.0, 90.0),
]


def faces_in(frame: Frame, places: list[tuple[tuple[float, float], float, float]]) -> tuple[AlignedFace, ...]:
    faces = [face_at(*place, track_id=number + 1) for number, place in enumerate(places)]
    return aligned(frame, *faces, crop_px=CROP_PX)


def sharpened(crop: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """A change of about 20 levels in every sample."""
    noise = np.random.default_rng(seed).normal(0, 20, crop.shape)
    return np.clip(np.rint(crop + noise), 0, 255).astype(np.uint8)


def pasted_on(
    device: str, faces: dict[Frame, list[RestoredFace]], *, strength: float = 1.0, at_once: int = 1000
) -> dict[Frame, tuple[NDArray[np.generic], ...]]:
    """The planes of each frame, pasted so many faces at once."""
    jobs, crops, restored = [], [], []
    for frame, own in faces.items():
        placed = [PlacedFace(face.aligned.face, face.aligned.crop_from_frame, CROP_PX) for face in own]
        of_matrix = {id(face.aligned.crop_from_frame): face for face in own}
        for job in jobs_of(frame, placed):
            jobs.append(job)
            crops += [of_matrix[id(member.crop_from_frame)].aligned.crop for member in job.members]
            restored += [of_matrix[id(member.crop_from_frame)].restored for member in job.members]
    queues = queues_of(device)
    patches = upload_patches(queues, [(job.frame, patch_region(job)) for job in jobs])
    with queues.computing():
        there = [queues.upload_array(np.stack(stack)) for stack in (crops, restored)]
        places = Places(patches, jobs)
        members = [(number, member) for number, job in enumerate(jobs) for member in job.members]
        for start in range(0, len(members), at_once):
            part = slice(start, start + at_once)
            places.add(members[part], *(stack[part] for stack in there))
        changed = places.changed(strength=strength)
    queues.mark().wait()
    planes = {frame: copied_color_planes(frame) for frame in faces}
    for part in changed:
        for number, job in enumerate(part.jobs):
            part.write_into(planes[job.frame], number)
    return planes


@exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", LAYOUTS, ids=lambda of: of.name)
@pytest.mark.parametrize("size", [(320, 240), (317, 239)])
def test_planes_are_within_a_level_and_mostly_the_same(of: PixelLayout, size: tuple[int, int], device: str) -> None:
    frame = picture(of, *size)
    faces = [RestoredFace(face, sharpened(face.crop, n)) for n, face in enumerate(faces_in(frame, FACES))]
    expected = paste_into(frame, faces, strength=0.8)
    planes = pasted_on(device, {frame: faces}, strength=0.8)[frame]
    for before, one, other in zip(frame.planes, expected.planes, planes, strict=True):
        error = np.abs(one.astype(int) - other)
        assert error.max() <= 1
        touched = before != one
        assert (error > 0).sum() <= (0.005 if of.depth_bits <= 10 else 0.1) * max(touched.sum(), 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("of", LAYOUTS, ids=lambda of: of.name)
def test_an_untouched_crop_changes_no_sample(of: PixelLayout, device: str) -> None:
    frame = picture(of, 317, 239, grain=40)
    faces = [RestoredFace(face, face.crop.copy()) for face in faces_in(frame, FACES)]
    for before, after in zip(frame.planes, pasted_on(device, {frame: faces})[frame], strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("side_px", [12.0, 40.0, 64.0, 230.0])
def test_nothing_outside_the_crop_square_changes(side_px: float, device: str) -> None:
    frame = yuv_frame()
    (face,) = faces_in(frame, [((150.0, 120.0), side_px, 15.0)])
    planes = pasted_on(device, {frame: [RestoredFace(face, sharpened(face.crop, 1))]})[frame]
    for before, after, inside in zip(frame.planes, planes, inside_crop(frame, face), strict=True):
        assert np.array_equal(before[~inside], after[~inside])
        assert (before[inside] != after[inside]).mean() > 0.1


@pytest.mark.parametrize("device", DEVICES)
def test_many_frames_at_once_are_each_as_alone(device: str) -> None:
    frames = [picture(layout(), seed=seed) for seed in range(4)]
    faces = {
        frame: [RestoredFace(face, sharpened(face.crop, n)) for n, face in enumerate(faces_in(frame, FACES[n::2]))]
        for n, frame in enumerate(frames)
    }
    together = pasted_on(device, faces)
    for frame, own in faces.items():
        alone = pasted_on(device, {frame: own})[frame]
        for one, other in zip(together[frame], alone, strict=True):
            error = np.abs(one.astype(int) - other)
            assert error.max() <= 1
            assert (error > 0).mean() <= 1e-4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("at_once", [1, 3])
def test_faces_that_touch_are_the_same_however_many_are_added_at_once(at_once: int, device: str) -> None:
    """Nine in a row, each over the next; several sizes, so that some are reduced and some enlarged."""
    frame = picture(layout())
    places = [((40.0 + 28 * n, 120.0), 40.0 + 20 * (n % 5), 5.0 * n) for n in range(9)]
    faces = [RestoredFace(face, sharpened(face.crop, n)) for n, face in enumerate(faces_in(frame, places))]
    placed = [PlacedFace(face.aligned.face, face.aligned.crop_from_frame, CROP_PX) for face in faces]
    assert [len(job.members) for job in jobs_of(frame, placed)] == [9]
    together, apart = (pasted_on(device, {frame: faces}, at_once=num)[frame] for num in (9, at_once))
    for one, other in zip(together, apart, strict=True):
        error = np.abs(one.astype(int) - other)
        assert error.max() <= 1
        assert (error > 0).mean() <= 1e-4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("chroma", [128, 131])
def test_the_change_keeps_the_colour_and_is_grey_on_grey(chroma: int, device: str) -> None:
    source = yuv_frame()
    planes = (source.planes[0], *(np.full_like(plane, chroma) for plane in source.planes[1:]))
    frame = Frame(0, 0, source.time_base, planes, source.layout)
    (face,) = faces_in(frame, [((150.0, 120.0), 100.0, 0.0)])
    restored = sharpened(face.crop, 1)
    (job,) = jobs_of(frame, [PlacedFace(face.face, face.crop_from_frame, CROP_PX)])
    patches = upload_patches(queues_of(device), [(frame, patch_region(job))])
    crops, better = (torch.from_numpy(stack[None]).to(device) for stack in (face.crop, restored))
    found = masked_changes(patches, job.members, crops, better).cpu()[0].permute(1, 2, 0).numpy()
    mask = feather_mask(CROP_PX, clear_border_px(face.crop_from_frame, CROP_PX))
    assert np.abs(found - color_kept_layers(face.crop, restored, mask)).max() < 1e-3
    assert np.allclose(found[..., 0], found[..., 1]) == (chroma == 128)
