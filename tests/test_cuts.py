"""Cuts are found, and what only looks like one (flicker, flashes, scratches, motion) is left alone."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout
from vidrestore.stages.cuts import MAX_FLASH_FRAMES, CutDetector, CutsAhead

WIDTH_PX, HEIGHT_PX = 320, 180
Picture = NDArray[np.uint8]


def gray_layout(depth_bits: int = 8) -> PixelLayout:
    return PixelLayout("gray", "gray", depth_bits, 0, 0, False, True, "bt709", "left")


def gray_frame(picture: Picture, index: int = 0) -> Frame:
    return Frame(index, index, Fraction(1, 25), (picture,), gray_layout())


def cuts_in(pictures: Iterable[Picture]) -> list[int]:
    detector = CutDetector()
    return [index for index, picture in enumerate(pictures) if detector.is_cut(gray_frame(picture, index))]


def scene(seed: int) -> Picture:
    """A picture larger than the frame, with shapes and texture."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.integers(40, 160, (5, 7), dtype=np.uint8), (480, 300), interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        center = (int(rng.integers(480)), int(rng.integers(300)))
        axes = (int(rng.integers(6, 50)), int(rng.integers(6, 50)))
        cv2.ellipse(picture, center, axes, float(rng.integers(180)), 0, 360, int(rng.integers(20, 220)), -1)
    return cv2.GaussianBlur(picture, (0, 0), 1.5)


def shot(seed: int, num_frames: int = 12, speed_px: float = 3.0) -> list[Picture]:
    """A camera moving over a scene, in a direction of the seed's choice."""
    angle = seed * 2.4
    pictures = []
    for k in range(num_frames):
        x_px, y_px = 80 + speed_px * k * np.cos(angle), 60 + speed_px * k * np.sin(angle)
        matrix = np.array([[1, 0, x_px], [0, 1, y_px]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        pictures.append(cv2.warpAffine(scene(seed), matrix, (WIDTH_PX, HEIGHT_PX), flags=flags))
    return pictures


def lit(picture: Picture, gain: float, offset: float = 0.0) -> Picture:
    return np.clip(picture.astype(np.float32) * gain + offset, 0, 255).round().astype(np.uint8)


def worn(picture: Picture, rng: np.random.Generator) -> Picture:
    """Old film: three scratches, fifteen grains of dust, grain of sigma 10, an unsteady gate and unsteady light."""
    shift_px = rng.uniform(-4, 4, 2)
    picture = cv2.warpAffine(
        lit(picture, rng.uniform(0.8, 1.2)),
        np.array([[1, 0, shift_px[0]], [0, 1, shift_px[1]]]),
        (WIDTH_PX, HEIGHT_PX),
        borderMode=cv2.BORDER_REPLICATE,
    )
    for column in rng.integers(0, WIDTH_PX - 2, 3):
        picture[:, column : column + 2] = rng.choice([20, 235])
    for _ in range(15):
        center = (int(rng.integers(WIDTH_PX)), int(rng.integers(HEIGHT_PX)))
        cv2.circle(picture, center, int(rng.integers(1, 4)), int(rng.choice([10, 245])), -1)
    return np.clip(picture + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)


def test_every_one_of_20_splices_is_found_and_nothing_else() -> None:
    pictures = [picture for seed in range(21) for picture in shot(seed)]
    assert cuts_in(pictures) == [12 * k for k in range(1, 21)]


def test_flicker_between_0_7_and_1_3_of_the_light_is_no_cut_and_hides_none(rng: np.random.Generator) -> None:
    pictures = [lit(picture, rng.uniform(0.7, 1.3)) for seed in range(8) for picture in shot(seed)]
    assert cuts_in(pictures) == [12 * k for k in range(1, 8)]


def test_worn_film_has_no_false_cut_and_hides_none(rng: np.random.Generator) -> None:
    pictures = [worn(picture, rng) for seed in range(8) for picture in shot(seed)]
    assert cuts_in(pictures) == [12 * k for k in range(1, 8)]


@pytest.mark.parametrize(("gain", "offset"), [(1.8, 60), (2.5, 0), (3, 100), (5, 0), (1, 255), (0, 0)])
def test_a_flash_of_one_frame_is_no_cut(gain: float, offset: float) -> None:
    for seed in range(5):
        pictures = shot(seed)
        pictures[6] = lit(pictures[6], gain, offset)
        assert cuts_in(pictures) == [], seed


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_a_flash_beside_a_cut_neither_hides_nor_moves_it(num_frames: int) -> None:
    for seed in range(4):
        pictures = [*shot(seed), *shot(seed + 1)]
        for begin in (12, 12 - num_frames):
            lit_by_flash = list(pictures)
            for index in range(begin, begin + num_frames):
                lit_by_flash[index] = lit(pictures[index], 2.2, 40)
            assert cuts_in(lit_by_flash) == [12], (seed, begin)


def test_light_that_pumps_slowly_by_half_is_no_cut_and_hides_none() -> None:
    pictures = [picture for seed in range(8) for picture in shot(seed, num_frames=20)]
    waves = np.sin(np.arange(len(pictures)) * 0.35)
    pumping = [lit(picture, 1 + 0.5 * wave, 20 * wave) for picture, wave in zip(pictures, waves, strict=True)]
    assert cuts_in(pumping) == [20 * k for k in range(1, 8)]


@pytest.mark.parametrize("darkness", [1.0, 0.25])
def test_a_white_blotch_of_4_percent_on_one_frame_is_no_cut(darkness: float) -> None:
    for seed in range(6):
        pictures = [lit(picture, darkness) for picture in shot(seed)]
        cv2.ellipse(pictures[6], (60 + 30 * seed, 90), (35, 22), 30.0 * seed, 0, 360, 245, -1)
        assert cuts_in(pictures) == [], seed


def test_a_camera_that_whips_round_by_a_fifth_of_the_width_a_frame_makes_no_cut() -> None:
    for seed in range(5):
        wide = np.hstack([scene(seed), scene(seed + 20), scene(seed + 40)])
        ways_px = 40 + np.cumsum([0, 0, 0, *(64 * np.sin(np.pi * (np.arange(8) + 0.5) / 8)), 0, 0, 0])
        whipped = []
        for way_px, speed_px in zip(ways_px, np.diff(ways_px, prepend=40), strict=True):
            blurred = cv2.blur(wide, (1 + int(speed_px / 2), 1))
            whipped.append(blurred[60 : 60 + HEIGHT_PX, int(way_px) : int(way_px) + WIDTH_PX].copy())
        assert cuts_in(whipped) == [], seed


def test_shots_of_three_frames_are_told_apart() -> None:
    pictures = [picture for seed in range(12) for picture in shot(seed, num_frames=3)]
    assert cuts_in(pictures) == [3 * k for k in range(1, 12)]


@pytest.mark.parametrize("level", [0, 255])
def test_shots_that_fade_into_one_another_through_black_or_white_are_parted_once(level: int) -> None:
    plain = np.full((HEIGHT_PX, WIDTH_PX), level, np.uint8)
    parts = [(k + 1) / 9 for k in range(8)]
    for seed in range(4):
        first, second = shot(seed, 20), shot(seed + 1, 20)
        first[12:] = [cv2.addWeighted(p, 1 - part, plain, part, 0) for p, part in zip(first[12:], parts, strict=True)]
        second[:8] = [cv2.addWeighted(p, part, plain, 1 - part, 0) for p, part in zip(second[:8], parts, strict=True)]
        (boundary,) = cuts_in([*first, *[plain] * 5, *second])
        assert 12 <= boundary <= 33, seed


@pytest.mark.parametrize("num_frames", [6, 12, 25])
def test_a_dissolve_is_never_parted_twice(num_frames: int) -> None:
    for seed in range(4):
        first, second = shot(seed, num_frames + 8), shot(seed + 1, num_frames + 8)
        mixed = [
            cv2.addWeighted(first[8 + k], 1 - part, second[k], part, 0)
            for k, part in enumerate((k + 1) / (num_frames + 1) for k in range(num_frames))
        ]
        boundaries = cuts_in([*first[:8], *mixed, *second[num_frames:]])
        assert len(boundaries) <= 1, seed
        assert all(8 <= boundary <= 8 + num_frames for boundary in boundaries), seed


def test_a_title_on_black_is_one_shot() -> None:
    cards = []
    for index in range(12):
        card = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
        cv2.putText(card, "THE END", (90, 100 - index), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 2)
        cards.append(card)
    assert cuts_in(cards) == []
    assert cuts_in([*shot(1), *cards, *shot(2)]) == [12, 24]


def test_a_cut_behind_black_is_found_when_the_picture_comes_back() -> None:
    black = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    assert cuts_in([*shot(1), *[black] * 10, *shot(2)]) == [22]
    assert cuts_in([*shot(1, 6), *[black] * 10, *shot(1, 6)]) == []


def test_a_cut_to_a_white_studio_is_found_at_most_three_frames_late() -> None:
    studio = np.full((HEIGHT_PX, WIDTH_PX), 255, np.uint8)
    cv2.circle(studio, (150, 90), 40, 60, -1)
    cv2.circle(studio, (140, 80), 10, 120, -1)
    assert cuts_in([*shot(1), *[studio] * 12, *shot(2)]) == [12 + MAX_FLASH_FRAMES, 24]


def test_a_shot_of_12_px_a_frame_is_one_shot() -> None:
    for seed in range(5):
        assert cuts_in(shot(seed, num_frames=7, speed_px=12)) == [], seed


def test_the_same_answer_at_10_bits() -> None:
    detector = CutDetector()
    answers = []
    for index, picture in enumerate([*shot(3, 5), *shot(4, 5)]):
        samples = picture.astype(np.uint16) * 4
        answers.append(detector.is_cut(Frame(index, index, Fraction(1, 25), (samples,), gray_layout(10))))
    assert [index for index, is_cut in enumerate(answers) if is_cut] == [5]


def test_pictures_of_16_by_16_and_of_one_colour_are_no_trouble() -> None:
    assert cuts_in([picture[60:76, 60:76].copy() for picture in shot(1, speed_px=0.3)]) == []
    assert cuts_in([np.full((HEIGHT_PX, WIDTH_PX), level, np.uint8) for level in (0, 128, 255, 3)]) == []


def test_after_a_cut_the_first_shot_is_forgotten() -> None:
    second = [*shot(5), *shot(6)]
    for first in (shot(1), shot(2, speed_px=12)):
        assert cuts_in([*first, *second]) == [12, 24]
    assert cuts_in(second) == [12]


def luma_of(path: Path) -> Iterator[Picture]:
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="gray")


@pytest.mark.parametrize(
    ("clip", "cuts"),
    [("hamilton_short.mp4", [20, 82, 211]), ("oldfilm_001.mp4", []), ("vr_face5.mp4", []), ("keep_real_4.mp4", [])],
)
def test_the_cuts_of_real_clips_are_those_that_people_see(shared: Path, clip: str, cuts: list[int]) -> None:
    path = shared / "clips" / clip
    if not path.exists():
        pytest.skip(f"{clip} is not among the development data")
    assert cuts_in(luma_of(path)) == cuts


def test_a_stage_that_comes_later_hears_of_the_same_cuts() -> None:
    frames = [gray_frame(picture, index) for index, picture in enumerate([*shot(1), *shot(2)])]
    cuts = CutsAhead()
    ahead = [cuts.is_cut(frame) for frame in frames]
    assert [index for index, is_cut in enumerate(ahead) if is_cut] == [12]
    assert [cuts.was_cut(frame) for frame in frames] == ahead
    cuts.is_cut(frames[0])
    with pytest.raises(AssertionError, match="another order"):
        cuts.was_cut(frames[1])
