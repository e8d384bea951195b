"""Trembling, likeness and delay are told from honest motion."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from vidrestore.face import template_px
from vidrestore.metrics.landmarks import (
    MAX_DELAY_FRAMES,
    akd,
    delay_frames,
    jitter_percent,
    root_mean_square,
    second_differences_percent,
    tlme,
)

EYES_PX = 50.0


def face(num_frames: int = 40) -> NDArray[np.float64]:
    """(T, 5, 2) a still face."""
    points = template_px("gpen", 1)
    return np.repeat((points * EYES_PX / np.linalg.norm(points[1] - points[0]))[None], num_frames, axis=0)


def test_a_face_that_stands_or_glides_does_not_tremble() -> None:
    gliding = face() + np.arange(40)[:, None, None] * np.array([3.0, -1.0])
    assert jitter_percent(face()) == 0
    assert jitter_percent(gliding) == pytest.approx(0, abs=1e-9)


def test_trembling_is_in_percent_of_the_eye_distance(rng: np.random.Generator) -> None:
    """The second difference of noise has 6 times its variance, in each of two directions."""
    noisy = face(2000) + rng.normal(0, 0.5, (2000, 5, 2))
    assert jitter_percent(noisy) == pytest.approx(100 * 0.5 * np.sqrt(12) / EYES_PX, rel=0.05)


def test_with_a_reference_the_motion_of_the_head_is_no_trembling(rng: np.random.Generator) -> None:
    shaking = face() + 10 * np.sin(np.arange(40))[:, None, None]
    assert jitter_percent(shaking) > 10
    assert jitter_percent(shaking, shaking) == 0
    assert jitter_percent(shaking + 2.0, shaking) == pytest.approx(0, abs=1e-9)


def test_a_face_that_glides_does_not_tremble_where_frames_come_unevenly(rng: np.random.Generator) -> None:
    """Of a phone: 20 to 83 ms between frames."""
    times_s = np.cumsum(rng.choice([0.020, 0.033, 0.050, 0.083], 40))
    gliding = face() + 100 * times_s[:, None, None] * np.array([1.0, -0.5])
    assert root_mean_square(second_differences_percent(gliding)) > 5
    assert root_mean_square(second_differences_percent(gliding, times_s=times_s)) == pytest.approx(0, abs=1e-9)
    shaking = face() + rng.normal(0, 0.5, (40, 5, 2))
    even = second_differences_percent(shaking, times_s=np.arange(40) / 25)
    assert even[1:-1] == pytest.approx(second_differences_percent(shaking)[1:-1])


def test_frames_without_a_face_are_left_out() -> None:
    points = face()
    points[20] = np.nan
    points[21:] += 30  # as far as is known, in one jump
    assert jitter_percent(points) == 0
    assert np.isnan(jitter_percent(points[:2]))
    assert np.isnan(akd(np.full((3, 5, 2), np.nan), face(3)))


def test_a_face_in_profile_trembles_no_more_than_one_seen_from_the_front(rng: np.random.Generator) -> None:
    """Its eyes are one behind the other."""
    profile = face(500)
    profile[:, :2, 0] = profile[:, :2, 0].mean()
    noise = rng.normal(0, 0.5, (500, 5, 2))
    assert jitter_percent(profile + noise) < 1.4 * jitter_percent(face(500) + noise)


def test_an_offset_is_distance_and_no_motion() -> None:
    moved = face() + np.array([3.0, 4.0])
    assert akd(moved, face()) == pytest.approx(100 * 5 / EYES_PX)
    assert tlme(moved, face()) == pytest.approx(0, abs=1e-9)


def test_a_landmark_that_jumps_to_and_fro_moves_otherwise_than_the_reference() -> None:
    jumping = face()
    jumping[::2, :, 0] += 1
    assert tlme(jumping, face()) == pytest.approx(100 / EYES_PX)
    assert akd(jumping, face()) == pytest.approx(50 / EYES_PX)


@pytest.mark.parametrize("delay", [0.0, 0.4, -0.3, 1.0, 2.5])
def test_a_delay_is_found_to_a_tenth_of_a_frame(rng: np.random.Generator, delay: float) -> None:
    times = np.arange(160.0)
    speech = sum(rng.normal() * np.sin(2 * np.pi * times / period + rng.uniform(0, 6)) for period in (5, 8, 13, 21, 40))
    late = CubicSpline(times, speech)(times - delay)
    noise = rng.normal(0, 0.1, (2, 160))
    source, restored = speech + noise[0] + 0.01 * times, late + noise[1] + 90
    assert delay_frames(source[20:-20], restored[20:-20]) == pytest.approx(delay, abs=0.1)
    source[70:73] = np.nan
    assert delay_frames(source[20:-20], restored[20:-20]) == pytest.approx(delay, abs=0.15)


def test_where_nothing_happens_no_delay_is_made_up() -> None:
    still, ramp = np.full(50, 7.0), np.arange(50.0)
    assert np.isnan(delay_frames(still, still))
    assert np.isnan(delay_frames(ramp, ramp))
    assert np.isnan(delay_frames(np.sin(ramp)[:5], np.sin(ramp)[:5]))
    assert np.isnan(delay_frames(np.full(50, np.nan), ramp))
    assert abs(delay_frames(np.sin(ramp / 9), np.sin((ramp - 20) / 9))) <= MAX_DELAY_FRAMES
    for seed in range(20):  # each of two videos with a noise of its own
        one, other = np.random.default_rng(seed).normal(0, 1, (2, 60))
        assert np.isnan(delay_frames(one, other))
    with pytest.raises(ValueError, match="both must be"):
        delay_frames(still, ramp[:-1])
