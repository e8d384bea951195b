"""Promises of the degradation steps."""

import numpy as np
import pytest

from vidrestore.errors import OptionsError
from vidrestore.training.degrade import LEVELS, PRESETS, Degradation
from vidrestore.training.degrade_steps import HAS_PYAV, STEPS, TONE_STEPS, Image, is_grey, video_compression


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


def test_a_level_is_a_third_of_every_range_and_the_worse_end_is_heavy() -> None:
    """Defaults included; probabilities, tone and the choice of a codec stay."""
    rows = [
        {"step": "fade", "probability": 0.5, "gamma": (0.8, 1.4)},
        {"step": "gaussian_blur", "probability": 0.4, "sigma_px": (0.0, 6.0)},
        {"step": "video_compression", "crf": (20, 35)},
        {"step": "jpeg", "quality": (10, 100)},
    ]
    fade, blur, video, jpeg = zip(
        *(Degradation.from_config(rows).at_level(level).steps for level in LEVELS), strict=True
    )
    assert [dict(step.ranges) for step in fade] == [{"gamma": (0.8, 1.4)}] * 3
    assert [step.probability for step in blur] == [0.4] * 3
    assert [step.ranges["sigma_px"] for step in blur] == [(0, 2), (2, 4), (4, 6)]
    assert [step.ranges["crf"] for step in video] == [(20, 25), (25, 30), (30, 35)]
    assert [step.ranges["motion_px"] for step in video] == [(0, 1), (1, 2), (2, 3)]
    assert [step.ranges["mpeg2_share"] for step in video] == [(0.2, 0.2)] * 3
    assert [step.ranges["quality"] for step in jpeg] == [(70, 100), (40, 70), (10, 40)]


@pytest.mark.parametrize("name", [name for name in STEPS if name not in TONE_STEPS])
def test_every_step_does_more_harm_at_a_higher_level(name: str, picture: Image) -> None:
    """Mean square error over 24 draws. A step that takes a new parameter says which of its ends is worse."""
    if name == "video_compression" and not HAS_PYAV:
        pytest.skip("PyAV is not installed")
    step = Degradation.from_config([{"step": name}])
    # Blur does no harm to what is smooth: some texture.
    texture = np.random.default_rng(0).integers(-30, 31, picture.shape[:2])[:, :, None]
    textured = np.clip(picture + texture, 0, 255).astype(np.uint8)
    errors = []
    for level in LEVELS:
        at_level = step.at_level(level)
        results = [at_level(textured, np.random.default_rng(seed)) for seed in range(24)]
        errors.append(np.mean([np.square(result.astype(float) - textured).mean() for result in results]))
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("name", ["official", "archival", "call", "soft"])
def test_levels_of_a_preset_are_in_order_and_share_their_truth(name: str, picture: Image) -> None:
    preset = Degradation.preset(name, length_scale=0.5)
    errors: list[float] = []
    targets = []
    for level in LEVELS:
        pairs = [preset.at_level(level).pair(picture, np.random.default_rng(seed)) for seed in range(12)]
        errors.append(float(np.mean([np.abs(degraded.astype(float) - target).mean() for degraded, target in pairs])))
        targets.append(np.stack([target for _, target in pairs]))
    assert errors[0] < errors[1] < errors[2]
    assert np.array_equal(targets[0], targets[1])
    assert np.array_equal(targets[0], targets[2])


def test_an_unknown_level_is_an_error_that_names_the_three() -> None:
    with pytest.raises(OptionsError, match="mild, medium, heavy"):
        Degradation.preset("call").at_level("awful")
