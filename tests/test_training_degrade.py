"""Promises of the degradation steps."""

import numpy as np
import pytest

from vidrestore.errors import OptionsError
from vidrestore.training.degrade import HAS_PYAV, PRESETS, STEPS, Degradation, Image, is_grey, video_compression


@pytest.fixture
def picture() -> Image:
    """(65, 97, 3): smooth colours with an edge; odd sides, which 4:2:0 codecs dislike."""
    y, x = np.mgrid[:65, :97]
    image = np.stack([40 + 2 * x, 30 + 3 * y, 200 - x - y], axis=2)
    image[20:40, 30:60] = (230, 180, 150)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", STEPS)
def test_step_is_seeded_and_leaves_its_input_alone(name: str, picture: Image) -> None:
    before = picture.copy()
    first, again = (STEPS[name](picture, np.random.default_rng(7)) for _ in range(2))
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert np.array_equal(picture, before)
    if name != "downsample":
        assert first.shape == picture.shape


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_seeded_and_keeps_the_size(name: str, picture: Image) -> None:
    degradation = Degradation.preset(name, length_scale=0.5)
    for seed in range(5):
        degraded, target = degradation.pair(picture, np.random.default_rng(seed))
        assert degraded.shape == target.shape == picture.shape
        assert np.array_equal(degraded, degradation(picture, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", PRESETS)
def test_grey_stays_grey_through_noise_and_codecs(name: str, picture: Image) -> None:
    """A grey input has a grey target and at most 2 levels between its channels, so no colour is ever taught."""
    rows = [{"step": "grey"}, *(row for row in PRESETS[name] if row["step"] not in ("grey", "sepia"))]
    for seed in range(5):
        degraded, target = Degradation.from_config(rows).pair(picture, np.random.default_rng(seed))
        assert is_grey(target)
        assert np.ptp(degraded.astype(int), axis=2).max() <= 2


def test_tone_is_shared_and_damage_is_not(picture: Image) -> None:
    rows = [{"step": "fade"}, {"step": "gaussian_noise", "sigma": (10, 10)}]
    degraded, target = Degradation.from_config(rows).pair(picture, np.random.default_rng(1))
    assert abs(float(degraded.mean()) - float(target.mean())) < 1.5
    assert 8 < (degraded.astype(float) - target).std() < 11


@pytest.mark.skipif(not HAS_PYAV, reason="PyAV is not installed")
@pytest.mark.parametrize("mpeg2_share", [0.0, 1.0])
def test_video_compression_is_aligned_with_the_picture_and_worse_at_lower_quality(
    mpeg2_share: float, picture: Image
) -> None:
    errors = []
    for quality in (4, 30):
        ranges = {"crf": (quality, quality), "mpeg2_quantizer": (quality, quality)}
        result = video_compression(picture, np.random.default_rng(3), mpeg2_share=(mpeg2_share, mpeg2_share), **ranges)
        errors.append(np.abs(result.astype(float) - picture).mean())
    assert errors[0] < 5
    assert errors[1] > errors[0]


@pytest.mark.parametrize(
    "row",
    [
        {"step": "smear"},
        {"step": "jpeg", "sigma": [1, 2]},
        {"step": "jpeg", "quality": [90, 20]},
        {"step": "jpeg", "quality": 90},
        {"step": "jpeg", "probability": 1.5},
        {"probability": 1.0},
    ],
)
def test_a_wrong_row_is_an_error_of_one_line(row: dict[str, object]) -> None:
    with pytest.raises(OptionsError) as caught:
        Degradation.from_config([row])
    assert "\n" not in str(caught.value)


def test_tone_after_damage_is_refused() -> None:
    with pytest.raises(OptionsError, match="before"):
        Degradation.from_config([{"step": "jpeg"}, {"step": "grey"}])
