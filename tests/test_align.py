"""Faces are cut upright, to the template, in the right colours, and put back where they came from."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vidrestore.face import AlignedFace, RestoredFace, TrackedFace, template_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.images import frame_from_rgb
from vidrestore.layout import PixelLayout
from vidrestore.models.spec import ModelSpec
from vidrestore.stages.align import (
    align_faces,
    crop_corners_px,
    cut_crop,
    invert,
    similarity,
    warp,
)
from vidrestore.stages.paste import feather_mask, paste_into

SPEC = ModelSpec("test", "restorer", "test", None, None, None, "none", "none", crop_px=128, template="tight")


def smooth_picture(width_px: int, height_px: int) -> NDArray[np.uint8]:
    x, y = np.meshgrid(np.arange(width_px), np.arange(height_px))
    waves = [np.sin(x / 17 + k) * 50 + np.cos(y / 23 - k) * 50 + 128 for k in range(3)]
    return np.rint(np.stack(waves, axis=-1)).astype(np.uint8)


def yuv_frame(width_px: int = 320, height_px: int = 240, depth_bits: int = 8) -> Frame:
    """A smooth 4:2:0 picture with texture in every plane."""
    layout = PixelLayout("test", "yuv", depth_bits, 1, 1, False, False, "bt709", "left")
    rng = np.random.default_rng(0)
    planes = []
    for component in layout.components:
        height, width = layout.plane_shape(component, width_px, height_px)
        rough = rng.uniform(60, 200, (height // 8 + 2, width // 8 + 2)).astype(np.float32)
        plane = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC) * (1 << (depth_bits - 8))
        planes.append(np.rint(plane).astype(np.uint8 if depth_bits == 8 else np.uint16))
    return Frame(0, 0, Fraction(1, 25), tuple(planes), layout)


def face_at(center_px: tuple[float, float], side_px: float, roll_deg: float = 0.0, track_id: int = 1) -> TrackedFace:
    """A face whose aligned crop square has this centre and side in the frame."""
    points = (template_px("tight", 1) - 0.5) * side_px
    angle = np.deg2rad(roll_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (points @ rotation.T + center_px).astype(np.float32)
    x, y = center_px
    box = np.float32([x - side_px / 2, y - side_px / 2, x + side_px / 2, y + side_px / 2])
    return TrackedFace(track_id, box, landmarks, 0.99, landmarks, 0.0)


def aligned(frame: Frame, *faces: TrackedFace, crop_px: int = 128) -> tuple[AlignedFace, ...]:
    spec = ModelSpec("test", "restorer", "test", None, None, None, "none", "none", crop_px=crop_px, template="tight")
    (found,) = align_faces([FrameFaces(frame, faces)], spec, min_face_px=0, max_faces=None)
    return found.faces


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


@pytest.mark.parametrize("side_px", [40.0, 128.0, 150.0, 230.0])
@pytest.mark.parametrize("roll_deg", [0.0, 25.0])
@pytest.mark.parametrize("depth_bits", [8, 10])
def test_an_untouched_crop_changes_no_sample(side_px: float, roll_deg: float, depth_bits: int) -> None:
    frame = yuv_frame(depth_bits=depth_bits)
    (face,) = aligned(frame, face_at((150.3, 120.7), side_px, roll_deg))
    pasted = paste_into(frame, [RestoredFace(face, face.crop.copy())], strength=1.0)
    for before, after in zip(frame.planes, pasted.planes, strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("side_px", [40.0, 128.0, 230.0])
def test_nothing_outside_the_crop_square_changes(side_px: float) -> None:
    frame = yuv_frame()
    (face,) = aligned(frame, face_at((150.0, 120.0), side_px, roll_deg=15))
    noise = np.random.default_rng(2).integers(0, 256, face.crop.shape).astype(np.uint8)
    pasted = paste_into(frame, [RestoredFace(face, noise)], strength=1.0)
    corners = crop_corners_px(face.crop_from_frame, 128)
    for component, before, after in zip(frame.layout.components, frame.planes, pasted.planes, strict=True):
        step = 2 if component in ("Cb", "Cr") else 1
        # A sample is outside when its centre is; chroma lies at even columns and between rows.
        points = np.stack(np.meshgrid(np.arange(before.shape[1]) * step, np.arange(before.shape[0]) * step), axis=-1)
        points = points + np.array([0.0, (step - 1) / 2])
        inside = np.ones(before.shape, bool)
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            edge, offset = b - a, points - a
            inside &= edge[0] * offset[..., 1] - edge[1] * offset[..., 0] >= 0
        assert np.array_equal(before[~inside], after[~inside])
        assert (before[inside] != after[inside]).mean() > 0.3


def test_a_change_in_the_crop_arrives_at_its_place_in_the_frame() -> None:
    frame = yuv_frame()
    (face,) = aligned(frame, face_at((150.0, 120.0), 128.0))
    restored = face.crop.astype(int)
    restored[60:69, 60:69] += 30
    restored[30:39, 85:94] -= 30  # and the same down, so that the mean stays
    pasted = paste_into(frame, [RestoredFace(face, np.clip(restored, 0, 255).astype(np.uint8))], strength=1.0)
    change = pasted.planes[0].astype(int) - frame.planes[0]
    # crop pixel (64, 64) lies at the square's centre + 0.5 px
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert abs(x - 150) <= 5
    assert abs(y - 120) <= 5
    assert abs(change[116:126, 146:156].mean() - 30 * 219 / 255 * 81 / 100) < 3


def test_a_different_colour_cast_of_the_restorer_is_not_pasted() -> None:
    frame = frame_from_rgb(smooth_picture(320, 240))
    (face,) = aligned(frame, face_at((150.0, 120.0), 150.0))
    tinted = np.clip(face.crop.astype(int) + [12, -6, 9], 0, 255).astype(np.uint8)
    pasted = paste_into(frame, [RestoredFace(face, tinted)], strength=1.0)
    for before, after in zip(frame.planes, pasted.planes, strict=True):
        assert np.abs(before.astype(int) - after).max() <= 1


def test_a_grey_face_stays_grey() -> None:
    grey = yuv_frame()
    frame = Frame(
        0, 0, Fraction(1, 25), (grey.planes[0], *(np.full_like(plane, 128) for plane in grey.planes[1:])), grey.layout
    )
    (face,) = aligned(frame, face_at((150.0, 120.0), 150.0))
    colourful = np.random.default_rng(3).integers(0, 256, face.crop.shape).astype(np.uint8)
    pasted = paste_into(frame, [RestoredFace(face, colourful)], strength=1.0)
    assert np.array_equal(pasted.planes[1], frame.planes[1])
    assert np.array_equal(pasted.planes[2], frame.planes[2])
    assert not np.array_equal(pasted.planes[0], frame.planes[0])


def test_overlapping_faces_share_the_place_whatever_their_order() -> None:
    frame = yuv_frame()
    faces = aligned(frame, face_at((130.0, 120.0), 100.0), face_at((180.0, 120.0), 100.0, track_id=2))
    rng = np.random.default_rng(4)
    restored = [RestoredFace(face, rng.integers(0, 256, face.crop.shape).astype(np.uint8)) for face in faces]
    one_way = paste_into(frame, restored, strength=1.0)
    other_way = paste_into(frame, restored[::-1], strength=1.0)
    alone = [paste_into(frame, [face], strength=1.0) for face in restored]
    for index, plane in enumerate(one_way.planes):
        assert np.abs(plane.astype(int) - other_way.planes[index]).max() <= 1
        # nowhere is the joint change larger than the larger of the two alone, give or take rounding
        change = np.abs(plane.astype(int) - frame.planes[index])
        largest = np.max([np.abs(one.planes[index].astype(int) - frame.planes[index]) for one in alone], axis=0)
        assert (change <= largest * 2 + 2).all()


def test_strength_scales_the_change() -> None:
    frame = yuv_frame()
    (face,) = aligned(frame, face_at((150.0, 120.0), 150.0))
    noise = RestoredFace(face, np.random.default_rng(5).integers(0, 256, face.crop.shape).astype(np.uint8))
    full, half, none = (paste_into(frame, [noise], strength=s).planes[0].astype(int) for s in (1.0, 0.5, 0.0))
    source = frame.planes[0].astype(int)
    assert np.array_equal(none, source)
    unclipped = (full > 5) & (full < 250)
    assert np.abs((half - source) * 2 - (full - source))[unclipped].max() <= 2


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
    (found,) = align_faces([FrameFaces(frame, faces)], SPEC, min_face_px=25, max_faces=2)
    assert [face.face.track_id for face in found.faces] == [3, 4]
    reasons = {skipped.face.track_id: skipped.reason for skipped in found.skipped}
    assert reasons == {1: "smaller than 25 px", 2: "more than 2 faces"}


def test_landmarks_in_one_point_and_faces_outside_are_no_crash() -> None:
    frame = yuv_frame()
    point = TrackedFace(1, np.float32([0, 0, 40, 40]), np.full((5, 2), 20, np.float32), 0.9, None, 0.1)
    outside = face_at((-500.0, -500.0), 60.0, track_id=2)
    (found,) = align_faces([FrameFaces(frame, (point, outside))], SPEC, min_face_px=0, max_faces=None)
    assert found.faces == ()
    assert [skipped.reason for skipped in found.skipped] == ["its landmarks do not span a face", "outside the picture"]


def test_the_mask_is_zero_at_the_edge_one_inside_and_smooth() -> None:
    mask = feather_mask(256, 3)
    assert mask[0].max() == mask[:, 0].max() == mask[:, -1].max() == mask[2].max() == 0
    assert mask[60:196, 60:196].min() == 1
    assert np.abs(np.diff(mask, axis=0)).max() < 0.05
