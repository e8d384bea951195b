"""Faces are cut upright, to the template, in the right colours; and which ones is steady."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.faces import face_at, smooth_picture, yuv_frame
from vidrestore.face import TrackedFace, template_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.images import frame_from_rgb
from vidrestore.models.spec import ModelSpec
from vidrestore.stages.align import align_faces, cut_crop, place_faces
from vidrestore.stages.crop_geometry import invert, similarity, warp

SPEC = ModelSpec("test", "restorer", "test", None, None, None, "none", "none", crop_px=128, template="tight")


def test_the_official_alignment_is_reproduced(shared: Path) -> None:
    golden = json.loads((shared / "golden/gpen_alignment.json").read_text())
    landmarks = np.array(golden["landmarks"])
    for crop_px, crop in ((int(size), value) for size, value in golden["crops"].items()):
        template = template_px("gpen", crop_px)
        assert np.abs(template - np.array(golden["templates"][str(crop_px)])).max() < 2e-4 * crop_px / 256
        frame_from_crop = invert(similarity(landmarks, template))
        corners = np.array([[0, 0, 1], [crop_px, 0, 1], [crop_px, crop_px, 1], [0, crop_px, 1]])
        ours, official = corners @ frame_from_crop.T, corners @ np.array(crop["inverse_matrix"]).T
        assert np.abs(ours - official).max() < 0.05  # px in the frame, at the crop's far corners


@pytest.mark.parametrize("roll_deg", [0.0, 20.0, -45.0])
def test_a_similarity_is_recovered_exactly(roll_deg: float) -> None:
    angle, scale, shift = np.deg2rad(roll_deg), 1.7, np.array([12.0, -5.0])
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = template_px("gpen", 100)
    found = similarity(points, points @ linear.T + shift)
    assert np.allclose(found, np.hstack([linear, shift[:, None]]), atol=1e-9)


def test_a_fine_pattern_is_averaged_when_shrunk_not_sampled() -> None:
    stripes = np.zeros((200, 200), np.float32)
    stripes[:, ::2] = 200
    small = warp(stripes, np.array([[0.2, 0, -0.4], [0, 0.2, -0.4]]), 40, 40, border=cv2.BORDER_REPLICATE)
    assert np.abs(small[2:-2, 2:-2] - 100).max() <= 21  # blocks of 5 hold 2 or 3 stripes


def test_shrinking_keeps_pixel_centres_in_place() -> None:
    ramp = np.tile(np.arange(300, dtype=np.float32), (300, 1))
    small = warp(ramp, np.array([[0.22, 0, 3.0], [0, 0.22, 5.0]]), 60, 60, border=cv2.BORDER_REPLICATE)
    expected = (np.arange(60) - 3.0) / 0.22
    assert np.abs(small[30, 6:55] - expected[6:55]).max() < 0.15


def test_a_crop_is_the_picture_itself_where_nothing_is_scaled() -> None:
    picture = smooth_picture(200, 160)
    crop = cut_crop(frame_from_rgb(picture), np.array([[1.0, 0, -30], [0, 1.0, -20]]), 64)
    assert crop is not None
    assert np.array_equal(crop, picture[20:84, 30:94])


def test_faces_are_left_alone_for_a_stated_reason() -> None:
    frame = yuv_frame()
    faces = tuple(face_at((60.0 + 50 * k, 120.0), 20.0 + 10 * k, track_id=k + 1) for k in range(4))
    (found,) = align_faces(place_faces([FrameFaces(frame, faces)], SPEC, min_face_px=25, max_faces=2))
    assert [face.face.track_id for face in found.faces] == [3, 4]
    reasons = {skipped.face.track_id: skipped.reason for skipped in found.skipped}
    assert reasons == {1: "smaller than 25 px", 2: "more than 2 faces"}


def test_landmarks_in_one_point_and_faces_outside_are_no_crash() -> None:
    frame = yuv_frame()
    point = TrackedFace(1, np.float32([0, 0, 40, 40]), np.full((5, 2), 20, np.float32), 0.9, None, 0.1)
    outside = face_at((-500.0, -500.0), 60.0, track_id=2)
    (found,) = align_faces(place_faces([FrameFaces(frame, (point, outside))], SPEC, min_face_px=0, max_faces=None))
    assert found.faces == ()
    assert [skipped.reason for skipped in found.skipped] == ["its landmarks do not span a face", "outside the picture"]


def test_a_face_whose_size_wavers_around_the_limit_does_not_flicker() -> None:
    sizes_px = [25.5, 24.0, 25.5, 24.5, 23.0, 15.0]
    found = [FrameFaces(at_s(index), (face_at((150.0, 120.0), size),)) for index, size in enumerate(sizes_px)]
    results = align_faces(place_faces(found, SPEC, min_face_px=25, max_faces=None))
    assert [len(result.faces) for result in results] == [1, 1, 1, 1, 1, 0]


def test_of_too_many_faces_the_ones_already_chosen_are_kept() -> None:
    sizes_px = [(60, 58), (58, 60), (60, 61), (40, 60), (40, 60)]
    found = [pair(at_s(index), *sizes) for index, sizes in enumerate(sizes_px)]
    results = align_faces(place_faces(found, SPEC, min_face_px=0, max_faces=1))
    assert [[face.face.track_id for face in result.faces] for result in results] == [[1], [1], [1], [2], [2]]


def test_a_change_of_choice_fades_and_never_takes_more_faces_than_allowed() -> None:
    """The second face becomes much larger: the first goes over 0.2 s, and then the second comes."""
    sizes_px = [(60, 50)] * 3 + [(40, 60)] * 20
    found = [pair(at_s(index / 25), *sizes) for index, sizes in enumerate(sizes_px)]
    results = list(place_faces(found, SPEC, min_face_px=0, max_faces=1))
    strengths = np.zeros((len(results), 2))
    for row, result in zip(strengths, results, strict=True):
        assert len(result.faces) <= 1
        assert len(result.faces) + len(result.skipped) == 2
        for face in result.faces:
            row[face.face.track_id - 1] = face.face.strength
    assert np.abs(np.diff(strengths, axis=0)).max() <= 0.201  # frames are 0.04 s apart
    assert strengths[0].tolist() == [1, 0]
    assert strengths[-1].tolist() == [0, 1]


def test_a_face_that_becomes_too_small_fades() -> None:
    sizes_px = np.linspace(40, 10, 40)
    found = [FrameFaces(at_s(index / 25), (face_at((150.0, 120.0), size),)) for index, size in enumerate(sizes_px)]
    results = place_faces(found, SPEC, min_face_px=25, max_faces=None)
    strengths = [result.faces[0].face.strength if result.faces else 0.0 for result in results]
    assert strengths[0] == 1
    assert strengths[-1] == 0
    assert np.abs(np.diff(strengths)).max() <= 0.201


def at_s(time_s: float) -> Frame:
    frame = yuv_frame()
    return replace(frame, pts=round(time_s / frame.time_base))


def pair(frame: Frame, first_px: float, second_px: float) -> FrameFaces[TrackedFace]:
    return FrameFaces(frame, (face_at((80.0, 120.0), first_px), face_at((220.0, 120.0), second_px, track_id=2)))
