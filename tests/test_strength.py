"""A face that needs no restorer, or that may be none, is left alone; and what it is given never jumps."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from tests.faces import face_at
from tests.fakes import FixedDetector, IdentityRestorer, fake_spec
from tests.fakes import face_at as detected_at
from vidrestore.face import SkippedFace
from vidrestore.frame import FrameFaces
from vidrestore.images import frame_from_rgb
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restored_frames
from vidrestore.report import Report
from vidrestore.stages.align import place_faces
from vidrestore.stages.strength import give_strength

CENTER_PX, SIDE_PX = (224.0, 120.0), 180.0
"""Of the face in the portrait."""


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    return np.asarray(skimage.data.astronaut())


def strengths(
    pictures: list[NDArray[np.uint8]],
    scores: list[float] | None = None,
    *,
    unseen_s: list[float] | None = None,
    crop_px: int = 128,
    deep: bool = False,
    rate: int = 25,
    first_pts: int = 0,
) -> tuple[list[float], list[SkippedFace]]:
    """What the face is given in each frame, and where it was left alone."""
    found = []
    for index, picture in enumerate(pictures):
        face = face_at(CENTER_PX, SIDE_PX)
        score = 0.99 if scores is None else scores[index]
        frame = frame_from_rgb(picture.astype(np.uint16) * 257 if deep else picture)
        frame = replace(frame, index=index, pts=first_pts + index, time_base=Fraction(1, rate))
        missing_s = 0.0 if unseen_s is None else unseen_s[index]
        found.append(FrameFaces(frame, (replace(face, score=score, seconds_since_seen=missing_s),)))
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
    given, left = strengths([soft], [0.5])
    assert given == [0.0]
    assert [each.reason for each in left] == ["too doubtful"]
    assert 0.2 < strengths([soft], [0.55])[0][0] < 0.8
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
    given, _ = strengths([blurred(portrait, 4)] * 40, [0.53 + 0.03 * (index % 2) for index in range(40)])
    assert np.abs(np.diff(given)).max() <= 0.03


@pytest.mark.parametrize("sigma", [0.0, 15.0])
@pytest.mark.parametrize("what", ["title", "bar", "burnt out", "crushed"])
def test_what_else_is_in_the_picture_does_not_make_a_bad_face_sharp(
    portrait: NDArray[np.uint8], what: str, sigma: float
) -> None:
    """A burnt-in title over the chin, a bar, and light that has run out: the blurred, noisy face is restored."""
    bad = noisy(blurred(portrait, 5), sigma)
    if what == "title":
        cv2.putText(bad, "And then she said", (140, 190), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
    elif what == "bar":
        bad[170:] = 0
    elif what == "burnt out":
        bad = np.clip(bad.astype(int) + 90, 0, 255).astype(np.uint8)
    else:
        bad = np.clip(bad.astype(int) - 90, 0, 255).astype(np.uint8)
    with np.errstate(all="raise"):
        given, _ = strengths([bad] * 30)
    assert min(given) >= 0.95


def test_what_hides_a_face_is_not_taken_for_its_sharpness(portrait: NDArray[np.uint8]) -> None:
    """A striped sleeve for half a second over a blurred face."""
    soft = blurred(portrait, 5)
    sleeve = soft.copy()
    sleeve[40:200] = np.where(np.indices((160, 512, 3))[1] % 6 < 3, 30, 220).astype(np.uint8)
    pictures = [soft] * 10 + [sleeve] * 12 + [soft] * 10
    unseen_s = [0.0] * 10 + [0.04 * (number + 1) for number in range(12)] + [0.0] * 10
    given, _ = strengths(pictures, unseen_s=unseen_s)
    assert given == [1.0] * 32


@pytest.mark.parametrize("rate", [20, 50, 60])
def test_it_does_not_matter_when_a_shot_begins(portrait: NDArray[np.uint8], rate: int) -> None:
    """To the bit: the clock counts ticks."""
    pictures = [blurred(portrait, 0.1 * index) for index in range(30)]
    at_0 = strengths(pictures, rate=rate)[0]
    for first in (1, 7, 1001, 90001):
        assert strengths(pictures, rate=rate, first_pts=first)[0] == at_0


def test_a_face_of_which_darkness_has_left_nothing_is_left_alone(portrait: NDArray[np.uint8]) -> None:
    faint = np.rint(20 + blurred(portrait, 4) * 0.03).astype(np.uint8)
    given, left = strengths([faint])
    assert given == [0.0]
    assert [each.reason for each in left] == ["too dark or faint"]
    assert strengths([np.rint(20 + blurred(portrait, 4) * 0.2).astype(np.uint8)])[0] == [1.0]


def test_the_pipeline_leaves_a_sharp_face_alone_and_restores_the_same_blurred(portrait: NDArray[np.uint8]) -> None:
    """By the samples of the frames that come out."""

    def changed(picture: NDArray[np.uint8]) -> bool:
        face = detected_at(CENTER_PX[0], CENTER_PX[1], 115)  # the detector sees the picture as it is
        models = Models(FixedDetector((face,)), UpsideDown(crop_px=128, template="tight"))
        frame = frame_from_rgb(picture)
        (done,) = restored_frames([frame], models, Options(device="cpu"), Report("", ""), rotation_deg=0)
        return not np.array_equal(done.frame.planes[0], frame.planes[0])

    assert not changed(portrait)
    assert changed(blurred(portrait, 5))


class UpsideDown(IdentityRestorer):
    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return crops[:, ::-1].copy()
