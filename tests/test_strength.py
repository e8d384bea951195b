"""A face that needs no restorer, or that may be none, is left alone; and what it is given never jumps."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from tests.faces import face_at
from tests.fakes import fake_spec
from vidrestore.face import SkippedFace
from vidrestore.frame import FrameFaces
from vidrestore.images import frame_from_rgb
from vidrestore.stages.align import place_faces
from vidrestore.stages.strength import give_strength

CENTER_PX, SIDE_PX = (224.0, 120.0), 180.0
"""Of the face in the portrait."""


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    return np.asarray(skimage.data.astronaut())


def strengths(
    pictures: list[NDArray[np.uint8]], scores: list[float] | None = None, *, crop_px: int = 128, deep: bool = False
) -> tuple[list[float], list[SkippedFace]]:
    """What the face is given in each frame (0.04 s apart), and where it was left alone."""
    found = []
    for index, picture in enumerate(pictures):
        face = face_at(CENTER_PX, SIDE_PX)
        score = 0.99 if scores is None else scores[index]
        frame = frame_from_rgb(picture.astype(np.uint16) * 257 if deep else picture)
        frame = replace(frame, index=index, pts=index, time_base=Fraction(1, 25))
        found.append(FrameFaces(frame, (replace(face, score=score),)))
    placed = place_faces(found, fake_spec(crop_px=crop_px, template="tight"), min_face_px=0, max_faces=None)
    given, left = [], []
    for result in give_strength(placed):
        given.append(result.faces[0].face.strength if result.faces else 0.0)
        left += result.skipped
    return given, left


def blurred(picture: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    return cv2.GaussianBlur(picture, (0, 0), sigma_px) if sigma_px else picture


def noisy(picture: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("deep", [False, True])
def test_a_sharp_face_is_left_alone(portrait: NDArray[np.uint8], deep: bool) -> None:
    """The crop shows it at 0.7 of its own resolution."""
    given, left = strengths([portrait], deep=deep)
    assert given[0] <= 0.1
    assert all(each.reason == "sharp already" for each in left)


@pytest.mark.parametrize("sigma_px", [4.0, 8.0])
def test_a_blurred_face_is_restored_fully(portrait: NDArray[np.uint8], sigma_px: float) -> None:
    assert strengths([blurred(portrait, sigma_px)])[0] == [1.0]


def test_noise_does_not_pass_for_sharpness(portrait: NDArray[np.uint8]) -> None:
    assert strengths([noisy(portrait, 20)])[0][0] >= 0.95


def test_a_face_smaller_than_its_crop_is_restored_fully(portrait: NDArray[np.uint8]) -> None:
    assert strengths([portrait], crop_px=512)[0] == [1.0]


def test_a_doubtful_face_is_left_alone(portrait: NDArray[np.uint8]) -> None:
    soft = blurred(portrait, 4)
    given, left = strengths([soft], [0.25])
    assert given == [0.0]
    assert [each.reason for each in left] == ["too doubtful"]
    assert 0.2 < strengths([soft], [0.45])[0][0] < 0.8
    assert strengths([soft], [0.65])[0] == [1.0]


def test_nothing_jumps_when_the_focus_does(portrait: NDArray[np.uint8]) -> None:
    """Sharp for half a second, blurred for two, sharp again."""
    pictures = [portrait] * 12 + [blurred(portrait, 6)] * 50 + [portrait] * 50
    given, _ = strengths(pictures)
    assert np.abs(np.diff(given)).max() <= 0.1
    assert given[11] <= 0.1
    assert given[61] >= 0.9
    assert given[-1] <= 0.1


def test_a_score_that_trembles_makes_no_flicker(portrait: NDArray[np.uint8]) -> None:
    given, _ = strengths([blurred(portrait, 4)] * 40, [0.4 + 0.1 * (index % 2) for index in range(40)])
    assert np.abs(np.diff(given)).max() <= 0.03
