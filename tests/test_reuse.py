"""`--reuse`: a face that has not changed is not restored twice, and one that has always is."""

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.faces import aligned, face_at, smooth_picture
from tests.fakes import FixedDetector, IdentityRestorer, fake_spec
from tests.fakes import face_at as detection_at
from vidrestore.face import AlignedFace, template_px
from vidrestore.frame import FrameFaces
from vidrestore.images import frame_from_rgb
from vidrestore.loading import Models
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.options import Options
from vidrestore.pipeline import restored_frames
from vidrestore.pixels import rgb_picture
from vidrestore.report import Report
from vidrestore.stages.align import cut_crop
from vidrestore.stages.crop_geometry import similarity
from vidrestore.stages.detect import detect_faces
from vidrestore.stages.paste import paste_into
from vidrestore.stages.restore import restore_faces
from vidrestore.stages.reuse import MAX_DIFFERENCE, allowed_difference, largest_difference
from vidrestore.video.read import VideoReader

CROP_PX = 128


class Counting:
    """Gives back the crops, each brighter at a place of its own by its number, and counts them."""

    spec = fake_spec(crop_px=CROP_PX)
    sha256 = engine_name = device_name = dtype_name = ""

    def __init__(self) -> None:
        self.num_restored = 0

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        restored = crops.copy()
        for one in restored:
            self.num_restored += 1
            one[60:68, 60:68] = self.num_restored
        return restored


def seen(pictures: list[NDArray[np.uint8]], *, track_ids: tuple[int, ...] = (1,)) -> list[FrameFaces[AlignedFace]]:
    """A frame of each picture, with a face that the tracker sees a third of a pixel to and fro."""
    found = []
    for index, picture in enumerate(pictures):
        frame = replace(frame_from_rgb(picture), index=index)
        wander_px = 0.3 * (-1) ** index
        faces = [face_at((110.0 + 100 * k + wander_px, 120.0), 90.0, track_id=id_) for k, id_ in enumerate(track_ids)]
        found.append(FrameFaces(frame, aligned(frame, *faces, crop_px=CROP_PX)))
    return found


def restored(
    found: list[FrameFaces[AlignedFace]], *, reuse: bool = True, batch_size: int = 8
) -> tuple[list[list[int]], int, int]:
    """The number of the result that each face was given, how many were restored and how many reused."""
    restorer, report = Counting(), Report("", "")
    done = restore_faces(iter(found), restorer, report, batch_size=batch_size, max_wait_frames=16, reuse=reuse)
    given = [[int(face.restored[64, 64, 0]) for face in one.faces] for one in done]
    return given, restorer.num_restored, report.num_faces_reused


def noisy(picture: NDArray[np.uint8], sigma: float, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


PICTURE = smooth_picture(320, 240)


@pytest.mark.parametrize(("reuse", "num_restored"), [(False, 30), (True, 1)])
def test_the_option_decides(reuse: bool, num_restored: int) -> None:
    frames = [
        replace(frame_from_rgb(PICTURE), index=index, pts=index, time_base=Fraction(1, 25)) for index in range(30)
    ]
    restorer, report = IdentityRestorer(), Report("", "")
    models = Models(FixedDetector((detection_at(160, 120, 90),)), restorer)
    done = list(restored_frames(frames, models, Options(reuse=reuse, device="cpu"), report, rotation_deg=0))
    assert [len(one.faces) for one in done] == [1] * 30
    assert sum(restorer.batch_sizes) == num_restored
    assert report.num_faces_reused == 30 - num_restored


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_still_face_is_restored_once_whatever_the_batch(batch_size: int) -> None:
    pictures = [noisy(PICTURE, 0.7, seed) for seed in range(12)]
    given, num_restored, num_reused = restored(seen(pictures), batch_size=batch_size)
    assert given == [[1]] * 12
    assert (num_restored, num_reused) == (1, 11)


def test_without_the_option_every_face_is_restored() -> None:
    given, num_restored, num_reused = restored(seen([PICTURE] * 12), reuse=False)
    assert given == [[number] for number in range(1, 13)]
    assert (num_restored, num_reused) == (12, 0)


def test_a_face_that_changes_in_a_place_as_small_as_an_eye_is_restored_anew() -> None:
    winking = PICTURE.copy()
    winking[100:108, 90:102] //= 2  # of a crop square of 90 px
    given, _, num_reused = restored(seen([PICTURE, PICTURE, winking, winking, PICTURE]))
    assert given == [[1], [1], [2], [2], [3]]
    assert num_reused == 2


def test_grain_that_can_be_seen_is_never_frozen() -> None:
    pictures = [noisy(PICTURE, 3.0, seed) for seed in range(6)]
    assert restored(seen(pictures))[1:] == (6, 0)


def test_a_slow_change_does_not_creep_in() -> None:
    """Half a level a frame: never further from what was restored than the threshold."""
    pictures = [np.clip(PICTURE + 0.5 * index, 0, 255).astype(np.uint8) for index in range(30)]
    given, num_restored, _ = restored(seen(pictures))
    assert num_restored >= 30 * 0.5 / (MAX_DIFFERENCE + 1)
    assert max(given.count([number]) for number in range(1, num_restored + 1)) <= MAX_DIFFERENCE / 0.5 + 2


def test_tracks_do_not_take_one_another_s_results() -> None:
    given, num_restored, num_reused = restored(seen([PICTURE] * 4, track_ids=(1, 2)))
    assert given == [[1, 2]] * 4
    assert (num_restored, num_reused) == (2, 6)


def test_a_track_that_was_gone_for_a_frame_is_restored_anew() -> None:
    found = seen([PICTURE] * 5)
    found[2] = FrameFaces(found[2].frame, ())
    given, num_restored, _ = restored(found)
    assert given == [[1], [1], [], [2], [2]]
    assert num_restored == 2


def test_a_reused_face_is_pasted_where_it_was_and_nothing_wanders() -> None:
    restorer = Counting()
    found = seen([PICTURE] * 6)
    done = restore_faces(iter(found), restorer, Report("", ""), batch_size=8, max_wait_frames=16, reuse=True)
    pasted = [paste_into(one.frame, one.faces, strength=1.0) for one in done]
    for frame in pasted[1:]:
        for first, plane in zip(pasted[0].planes, frame.planes, strict=True):
            assert np.array_equal(first, plane)


@pytest.mark.parametrize("light", [1.0, 0.1])
def test_a_real_blink_is_far_beyond_the_threshold_in_the_dark_too(light: float, shared: Path) -> None:
    """The speaker of this clip blinks from frame 81 to 84; only the eyes are taken over, as if the head were still."""
    with VideoReader(shared / "clips" / "vr_face1.mp4") as reader:
        frames = list(itertools.islice(reader.frames(), 80, 84))
    (found,) = detect_faces(frames[:1], load_detector("retinaface-lite", device="cpu"), batch_frames=1)
    crop_from_frame = similarity(found.faces[0].landmarks_px.astype(np.float64), template_px("tight", 256))
    pictures = [np.rint(light * rgb_picture(frame.planes, frame.layout)).astype(np.uint8) for frame in frames]
    crops = [cut_crop(frame_from_rgb(picture), crop_from_frame, 256) for picture in pictures]
    assert all(crop is not None for crop in crops)
    for closing, times in zip(crops[1:], (4, 8, 8), strict=True):
        winking = crops[0].copy()
        winking[76:116] = closing[76:116]
        assert largest_difference(crops[0], winking) > times * allowed_difference(crops[0])


def test_in_the_dark_a_wink_is_seen_and_a_still_face_still_reused() -> None:
    """A tenth of the light: the wink changes its block by 2 levels at most."""
    dark = np.rint(PICTURE / 10).astype(np.uint8)
    winking = dark.copy()
    winking[100:108, 90:102] -= np.minimum(winking[100:108, 90:102], 2)
    given, _, num_reused = restored(seen([dark, dark, winking, winking, dark]))
    assert given == [[1], [1], [2], [2], [3]]
    assert num_reused == 2


def test_the_measure_is_the_mean_difference_of_the_worst_block() -> None:
    first = cv2.resize(PICTURE, (CROP_PX, CROP_PX))
    second = first.astype(int)
    second[8:16, 16:24] += np.where(second[8:16, 16:24] > 128, -6, 6)  # one of 16 x 16 blocks
    assert largest_difference(first, first) == 0
    assert largest_difference(first, second.astype(np.uint8)) == pytest.approx(6.0)
