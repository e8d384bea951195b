"""The picture on a face: less noise and flicker by the frames before, and nothing of theirs where the face changed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.faces import face_at
from tests.fakes import FixedDetector, IdentityRestorer, fake_spec
from tests.fakes import face_at as detected_at
from vidrestore.face import AlignedFace, RestoredFace
from vidrestore.frame import Frame, FrameFaces
from vidrestore.images import frame_from_rgb
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restored_frames
from vidrestore.report import Report
from vidrestore.stages.align import align_faces, place_faces
from vidrestore.stages.before import MAX_WEIGHT, look_before
from vidrestore.stages.steady import steady_crops, steady_results

SIDE_PX, CROP_PX = 200, 128
CENTER_PX = (120.0, 120.0)
EYE = (slice(84, 104), slice(74, 114))
"""A patch of the picture that may change, rows and columns."""


def texture(seed: int = 0) -> NDArray[np.float32]:
    """(240, 240, 3) levels, smooth and without repetition."""
    rough = np.random.default_rng(seed).uniform(40, 210, (30, 30, 3)).astype(np.float32)
    return cv2.resize(rough, (240, 240), interpolation=cv2.INTER_CUBIC)


def frame_of(levels: NDArray[np.float32], index: int) -> Frame:
    frame = frame_from_rgb(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    return replace(frame, index=index, pts=index)


def noise(index: int, sigma: float) -> NDArray[np.float32]:
    return np.random.default_rng(100 + index).normal(0, sigma, (240, 240, 3)).astype(np.float32)


def faces_of(
    pictures: Sequence[NDArray[np.float32]], track_ids: Sequence[int] | None = None, *, temporal: str = "light"
) -> list[AlignedFace]:
    """The face of each frame, with its steady crop."""
    ids = track_ids or [1] * len(pictures)
    tracked = (
        FrameFaces(frame_of(picture, index), (face_at(CENTER_PX, SIDE_PX, track_id=track_id),))
        for index, (picture, track_id) in enumerate(zip(pictures, ids, strict=True))
    )
    placed = place_faces(tracked, fake_spec(crop_px=CROP_PX, template="tight"), min_face_px=0, max_faces=None)
    looked = look_before(placed, max_weight=MAX_WEIGHT[temporal])
    return [found.faces[0] for found in steady_crops(align_faces(looked))]


def steady(face: AlignedFace) -> NDArray[np.float32]:
    assert face.steady_crop is not None
    return face.steady_crop.astype(np.float32)


def eye_of(crop: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of a crop (S, S, 3) lies well inside `EYE`."""
    scale = CROP_PX / SIDE_PX
    (top, bottom), (left, right) = ((part.start, part.stop) for part in EYE)
    origin = (1 - SIDE_PX / 240) * 120
    rows, columns = (
        (round((a - origin) * scale) + 3, round((b - origin) * scale) - 3) for a, b in ((top, bottom), (left, right))
    )
    return crop[slice(*rows), slice(*columns)]


@pytest.mark.parametrize(("temporal", "share"), [("light", 0.4), ("strong", 0.3)])
def test_noise_flickers_less(temporal: str, share: float) -> None:
    faces = faces_of([texture() + noise(index, 10) for index in range(12)], temporal=temporal)
    before = np.mean([np.abs(a.crop.astype(float) - b.crop).mean() for a, b in pairwise(faces[4:])])
    after = np.mean([np.abs(steady(a) - steady(b)).mean() for a, b in pairwise(faces[4:])])
    assert after <= share * before


def test_the_picture_is_nearer_to_the_truth() -> None:
    (clean,) = faces_of([texture()])
    faces = faces_of([texture() + noise(index, 10) for index in range(6)])
    error = [
        np.sqrt(np.mean((picture - clean.crop.astype(np.float32)) ** 2))
        for picture in (faces[-1].crop, steady(faces[-1]))
    ]
    assert error[1] <= 0.65 * error[0]  # three frames' worth: 0.58 at best


def test_what_changes_within_a_frame_is_as_in_its_own_frame() -> None:
    """A lid shuts for one frame: it is shut in that frame and no other."""
    shut = texture()
    shut[EYE] = texture()[EYE] * 0.3 + 20
    pictures = [(shut if index == 5 else texture()) + noise(index, 5) for index in range(9)]
    faces = faces_of(pictures)
    amplitude = np.abs(
        eye_of(faces[5].crop.astype(np.float32)).mean() - eye_of(faces[4].crop.astype(np.float32)).mean()
    )
    for face in faces:
        error = np.abs(eye_of(steady(face)).mean() - eye_of(face.crop.astype(np.float32)).mean())
        assert error <= 0.03 * amplitude


def test_a_face_that_moves_in_its_crop_keeps_its_detail() -> None:
    """Half of it slides by two pixels of the frame a frame, as a turning head does."""
    wide = cv2.resize(texture(3), (480, 240), interpolation=cv2.INTER_CUBIC)
    pictures = []
    for index in range(8):
        picture = texture()
        picture[:, 100:] = wide[:, 2 * index : 2 * index + 140]
        pictures.append(picture + noise(index, 4))
    (clean,) = faces_of([pictures[-1] - noise(7, 4)])
    last = faces_of(pictures)[-1]
    moving = (slice(16, -16), slice(64, -16))
    own = np.abs(last.crop.astype(np.float32) - clean.crop)[moving].mean()
    assert np.abs(steady(last) - clean.crop)[moving].mean() <= 0.85 * own


@pytest.mark.parametrize("gain", [0.85, 1.2])
def test_flicker_of_the_light_stays_that_of_its_own_frame(gain: float) -> None:
    """What the film did to the light is not ours to change; the frames before must not tint it."""
    faces = faces_of([texture() * (gain if index % 2 else 1.0) + noise(index, 3) for index in range(6)])
    for face in faces:
        inner = (slice(10, -10), slice(10, -10))
        assert abs(steady(face)[inner].mean() - face.crop[inner].mean()) < 0.6


def test_nothing_comes_over_a_cut() -> None:
    """A new track begins: its first crop is the frame's own, to the bit, and the second knows of the first only."""
    pictures = [texture() + noise(index, 5) for index in range(3)] + [
        texture(9) + noise(index, 5) for index in range(3, 6)
    ]
    faces = faces_of(pictures, [1, 1, 1, 2, 2, 2])
    alone = faces_of(pictures[3:], [2, 2, 2])
    assert np.array_equal(faces[3].to_restore, faces[3].crop)
    for face, other in zip(faces[3:], alone, strict=True):
        assert np.array_equal(face.to_restore, other.to_restore)


def test_results_that_differ_from_frame_to_frame_are_steadied() -> None:
    """A restorer that invents other texture in each frame of a still face."""
    faces = faces_of([texture() + noise(index, 2) for index in range(12)])
    rng = np.random.default_rng(0)
    restored = [
        RestoredFace(face, np.clip(face.crop + rng.normal(0, 8, face.crop.shape), 0, 255).astype(np.uint8))
        for face in faces
    ]
    frames = [FrameFaces(frame_of(texture(), index), (face,)) for index, face in enumerate(restored)]
    results = [found.faces[0].restored.astype(float) for found in steady_results(frames)]
    own = np.mean([np.abs(a.restored.astype(float) - b.restored).mean() for a, b in pairwise(restored[4:])])
    assert np.mean([np.abs(a - b).mean() for a, b in pairwise(results[4:])]) <= 0.4 * own


def test_a_result_of_another_place_is_left_out() -> None:
    """One that is used again lies where it was made (`--reuse`)."""
    first, second = faces_of([texture() + noise(index, 5) for index in range(2)])
    elsewhere = AlignedFace(first.face, first.crop, first.crop_from_frame.copy())
    frames = [
        FrameFaces(frame_of(texture(), index), (RestoredFace(face, face.crop),))
        for index, face in enumerate((elsewhere, second))
    ]
    results = [found.faces[0].restored for found in steady_results(frames)]
    assert np.array_equal(results[1], second.crop)


def test_frames_after_a_splice_are_those_of_the_second_clip_alone() -> None:
    rng = np.random.default_rng(5)
    first, second = (cv2.resize(rng.uniform(0, 255, (24, 32, 3)).astype(np.float32), (320, 240)) for _ in range(2))
    shots = [[shot + rng.normal(0, 6, shot.shape) for _ in range(7)] for shot in (first, second)]
    models = Models(FixedDetector((detected_at(240, 180, 180),)), IdentityRestorer())  # the detector sees 480 x 360

    def done(pictures: Sequence[NDArray[np.float32]]) -> list[Frame]:
        frames = [frame_of(picture, index) for index, picture in enumerate(pictures)]
        return [
            each.frame
            for each in restored_frames(frames, models, Options(device="cpu"), Report("", ""), rotation_deg=0)
        ]

    spliced, alone = done([*shots[0], *shots[1]]), done(shots[1])
    assert any(
        not np.array_equal(a.planes[0], b.planes[0])
        for a, b in zip(alone, map(frame_of, shots[1], range(7)), strict=True)
    )
    for one, other in zip(spliced[7:], alone, strict=True):
        assert all(np.array_equal(*planes) for planes in zip(one.planes, other.planes, strict=True))


class Inventing(IdentityRestorer):
    """Draws other texture into every crop."""

    def __init__(self, crop_px: int) -> None:
        super().__init__(crop_px=crop_px)
        self.rng = np.random.default_rng(2)

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.clip(crops + self.rng.normal(0, 8, crops.shape), 0, 255).astype(np.uint8)


def test_what_a_restorer_invents_flickers_less_in_the_video() -> None:
    """The whole way: frames in, frames out."""
    pictures = [texture() + noise(index, 2) for index in range(14)]
    frames = [frame_of(picture, index) for index, picture in enumerate(pictures)]

    def flicker(temporal: str) -> float:
        models = Models(FixedDetector((detected_at(240, 240, 240),)), Inventing(128))  # it sees 480 x 480
        options = Options(device="cpu", temporal=temporal, detect_every=1)
        done = list(restored_frames(frames, models, options, Report("", ""), rotation_deg=0))
        inner = [each.frame.planes[0][90:150, 90:150].astype(float) for each in done[4:]]
        return float(np.mean([np.abs(a - b).mean() for a, b in pairwise(inner)]))

    assert flicker("light") <= 0.5 * flicker("off")


def test_a_still_face_that_is_not_restored_anew_does_not_pop() -> None:
    """With --reuse it goes on showing what it showed, not the last result alone."""
    pictures = [texture() + noise(index, 6) for index in range(6)] + [texture() + noise(5, 6)] * 4
    frames = [frame_of(picture, index) for index, picture in enumerate(pictures)]
    models = Models(FixedDetector((detected_at(240, 240, 240),)), Inventing(128))
    report = Report("", "")
    options = Options(device="cpu", reuse=True, detect_every=1)
    done = list(restored_frames(frames, models, options, report, rotation_deg=0))
    assert report.num_faces_reused >= 3
    inner = [each.frame.planes[0][90:150, 90:150].astype(float) for each in done]
    moving = np.mean([np.abs(a - b).mean() for a, b in pairwise(inner[2:6])])
    assert np.abs(inner[6] - inner[5]).mean() <= 0.3 * moving


def test_a_track_that_was_away_for_a_frame_begins_anew() -> None:
    pictures = [texture() + noise(index, 5) for index in range(5)]
    faces = faces_of(pictures, [1, 1, 2, 1, 1])
    assert np.array_equal(faces[3].to_restore, faces[3].crop)
    assert not np.array_equal(faces[4].to_restore, faces[4].crop)


def test_averaging_keeps_detail_that_moves_by_parts_of_a_pixel() -> None:
    """The texture drifts in its crop by 0.3 px a frame: what is averaged keeps 93 % of its gradient's energy."""
    wide = cv2.resize(np.random.default_rng(8).uniform(40, 210, (60, 60, 3)).astype(np.float32), (240, 240))
    pictures = []
    for index in range(10):
        matrix = np.array([[1, 0, 0.3 * index], [0, 1, 0.2 * index]])
        pictures.append(cv2.warpAffine(wide, matrix, (240, 240), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))
    last = faces_of(pictures)[-1]
    inner = (slice(20, -20), slice(20, -20))
    energy = [np.square(np.diff(crop[inner].astype(float), axis=1)).mean() for crop in (last.crop, steady(last))]
    assert energy[1] >= 0.93 * energy[0]
