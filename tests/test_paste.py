"""Only what the restorer changed comes back, to its place, in the face's own colours."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from tests.faces import aligned, face_at, inside_crop, smooth_picture, yuv_frame
from vidrestore.face import RestoredFace
from vidrestore.frame import Frame
from vidrestore.images import frame_from_rgb
from vidrestore.stages.paste import clear_border_px, feather_mask, paste_into


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
    for before, after, inside in zip(frame.planes, pasted.planes, inside_crop(frame, face), strict=True):
        assert np.array_equal(before[~inside], after[~inside])
        assert (before[inside] != after[inside]).mean() > 0.3


def test_alpha_is_handed_on_and_the_source_s_planes_stay_as_they_were() -> None:
    opaque = yuv_frame()
    alpha = np.random.default_rng(8).integers(0, 256, opaque.planes[0].shape).astype(np.uint8)
    layout = replace(opaque.layout, has_alpha=True)
    frame = replace(opaque, planes=(*opaque.planes, alpha), layout=layout)
    before = [plane.copy() for plane in frame.planes]
    (face,) = aligned(frame, face_at((150.0, 120.0), 128.0))
    pasted = paste_into(frame, [RestoredFace(face, 255 - face.crop)], strength=1.0)
    assert np.array_equal(pasted.planes[3], alpha)
    assert not np.array_equal(pasted.planes[0], before[0])
    for plane, copy in zip(frame.planes, before, strict=True):
        assert np.array_equal(plane, copy)


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


def test_the_mask_is_zero_at_the_edge_one_inside_and_smooth() -> None:
    mask = feather_mask(256, 3)
    assert mask[0].max() == mask[:, 0].max() == mask[:, -1].max() == mask[2].max() == 0
    assert mask[60:196, 60:196].min() == 1
    assert np.abs(np.diff(mask, axis=0)).max() < 0.05


def test_a_face_of_two_pixels_does_no_harm() -> None:
    frame = yuv_frame()
    (face,) = aligned(frame, face_at((150.0, 120.0), 2.0))
    noise = np.random.default_rng(7).integers(0, 256, face.crop.shape).astype(np.uint8)
    pasted = paste_into(frame, [RestoredFace(face, noise)], strength=1.0)
    for before, after in zip(frame.planes, pasted.planes, strict=True):
        assert (before != after).sum() <= 16


def test_a_face_that_is_half_faded_in_is_changed_half_as_much() -> None:
    frame = yuv_frame()
    (face,) = aligned(frame, face_at((150.0, 120.0), 128.0))
    noise = np.random.default_rng(2).integers(0, 256, face.crop.shape).astype(np.uint8)
    faded = replace(face, face=replace(face.face, strength=0.5))
    expected = paste_into(frame, [RestoredFace(face, noise)], strength=0.5)
    pasted = paste_into(frame, [RestoredFace(faded, noise)], strength=1.0)
    for one, other in zip(expected.planes, pasted.planes, strict=True):
        assert np.array_equal(one, other)


def test_a_tint_near_the_border_of_grey_does_not_jump() -> None:
    """A sepia film whose tint wavers by quarters of a level: what is pasted must not jump from grey to colour."""
    luma = yuv_frame()
    rng = np.random.default_rng(0)
    pasted = []
    for tint in np.arange(1.0, 8.0, 0.25):
        blue, red = (np.full_like(plane, 128) for plane in luma.planes[1:])
        red += np.floor(tint + rng.uniform(0, 1, red.shape)).astype(np.uint8)
        frame = replace(luma, planes=(luma.planes[0], blue, red))
        (face,) = aligned(frame, face_at((160.0, 120.0), 120.0))
        redder = face.crop.astype(int)
        redder[40:60, 40:60, 0] += 40
        done = paste_into(frame, [RestoredFace(face, np.clip(redder, 0, 255).astype(np.uint8))], strength=1.0)
        pasted.append(np.abs(done.planes[2].astype(int) - frame.planes[2]).max())
    assert pasted[0] <= 1  # grey
    assert pasted[-1] >= 12  # in colour
    assert np.abs(np.diff(pasted)).max() <= pasted[-1] / 3


def test_the_border_of_a_small_face_that_comes_nearer_does_not_step() -> None:
    masks = []
    for side_px in np.arange(40.0, 60.0, 0.25):
        crop_from_frame = np.array([[256 / side_px, 0, 0], [0, 256 / side_px, 0]])
        masks.append(feather_mask(256, clear_border_px(crop_from_frame, 256)))
    assert max(np.abs(after - before).max() for before, after in pairwise(masks)) <= 0.03
