"""A smoothed face lies closer to the truth than the detected one, does not tremble, and does not lag."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import face_at
from vidrestore.face import Detection
from vidrestore.stages.motion import FaceMotion

EYES_PX = 45.0
"""Between the eyes."""
NUM_FRAMES = 150
LAG_S = 0.5

Pose = tuple[float, float, float, float]
"""Centre x and y in px, scale, roll in degrees."""


def pan(t: float) -> Pose:
    return 60 + 30 * t, 150, 1, 0


def zoom(t: float) -> Pose:
    return 200, 150, float(np.exp(0.25 * np.sin(2 * np.pi * 0.25 * t))), 0


def roll(t: float) -> Pose:
    return 200, 150, 1, 15 * np.sin(2 * np.pi * 0.3 * t)


def shake(t: float) -> Pose:
    wave = 2 * np.pi * 0.8 * t
    return 200 + 12 * np.sin(wave), 150 + 6 * np.sin(wave + 1), 1, 3 * np.sin(wave)


def face_in(pose: Pose) -> Detection:
    """The true face, 45 px between the eyes at scale 1."""
    x_px, y_px, scale, roll_deg = pose
    upright = face_at(0, 0, 2.17 * EYES_PX * scale)
    angle = np.deg2rad(roll_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks_px = upright.landmarks_px @ rotation.T + (x_px, y_px)
    box_xyxy_px = upright.box_xyxy_px + (x_px, y_px, x_px, y_px)
    return Detection(box_xyxy_px.astype(np.float32), 0.99, landmarks_px.astype(np.float32))


def detected(face: Detection, white_px: float, wander_px: NDArray[np.float64], rng: np.random.Generator) -> Detection:
    error_px = rng.normal(0, white_px, 14) + wander_px
    return Detection(
        (face.box_xyxy_px + error_px[:4]).astype(np.float32),
        face.score,
        (face.landmarks_px + error_px[4:].reshape(5, 2)).astype(np.float32),
    )


def seen(truth: list[Detection], times_s: NDArray[np.float64], rng: np.random.Generator) -> list[Detection]:
    """As RetinaFace errs on a poor picture: 1.4 px in all, of which 0.66 px are new in each frame (3.6 % of the eye
    distance as jitter) and the rest wanders slowly with the pose."""
    phases, rates_hz = rng.uniform(0, 2 * np.pi, 14), rng.uniform(0.1, 0.3, 14)
    wander_px = 1.2 * np.sqrt(2) * np.sin(2 * np.pi * rates_hz * times_s[:, None] + phases)  # (frames, 14)
    return [detected(face, 0.66, wander_px[k], rng) for k, face in enumerate(truth)]


def smoothed(detections: list[Detection], times_s: NDArray[np.float64], lag_s: float) -> NDArray[np.float64]:
    """(frames, 5, 2) landmarks, each frame judged with what follows within the lag."""
    motion = FaceMotion(detections[0])
    landmarks = []
    held_s = [times_s[0]]
    for k in range(1, len(detections) + 1):
        while held_s and (k == len(detections) or times_s[k - 1] - held_s[0] >= lag_s):
            landmarks.append(motion.oldest()[1])
            motion.drop_oldest()
            held_s.pop(0)
        if k < len(detections):
            motion.advance(times_s[k] - times_s[k - 1])
            motion.observe(detections[k])
            held_s.append(times_s[k])
    return np.array(landmarks, np.float64)


def landmarks_of(faces: list[Detection]) -> NDArray[np.float64]:
    return np.array([face.landmarks_px for face in faces], np.float64)


def rmse_px(error_px: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(error_px**2)))


def jitter_percent(error_px: NDArray[np.float64]) -> float:
    """RMS second difference of the error, in % of the eye distance."""
    return 100 * rmse_px(np.diff(error_px, 2, axis=0)) / EYES_PX


def even_times(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.arange(NUM_FRAMES) / 25


def uneven_times(rng: np.random.Generator) -> NDArray[np.float64]:
    """From 60 down to 15 frames per second, changing at random."""
    return np.cumsum(rng.uniform(1 / 60, 1 / 15, NUM_FRAMES))


@pytest.mark.parametrize("times", [even_times, uneven_times])
@pytest.mark.parametrize("path", [pan, zoom, roll, shake])
def test_trembling_of_3_6_percent_falls_to_half_a_percent_and_the_face_is_nearer_the_truth(
    path: Callable[[float], Pose],
    times: Callable[[np.random.Generator], NDArray[np.float64]],
    rng: np.random.Generator,
) -> None:
    times_s = times(rng)
    truth = [face_in(path(t)) for t in times_s]
    detections = seen(truth, times_s, rng)
    raw_error = landmarks_of(detections) - landmarks_of(truth)
    error = smoothed(detections, times_s, LAG_S) - landmarks_of(truth)
    assert jitter_percent(raw_error) > 3.3
    assert jitter_percent(error) < 0.5
    assert rmse_px(error) < 0.97 * rmse_px(raw_error)


def test_a_fast_shake_is_followed_without_lag(rng: np.random.Generator) -> None:
    """1.6 Hz and 20 px: a smoother that lags by one frame would be off by 5 px."""
    times_s = even_times(rng)
    truth = [face_in((200 + 20 * np.sin(2 * np.pi * 1.6 * t), 150, 1, 0)) for t in times_s]
    error = smoothed(truth, times_s, LAG_S) - landmarks_of(truth)
    assert rmse_px(error) < 0.7


def test_without_a_lag_the_face_is_no_further_from_the_truth_than_detected(rng: np.random.Generator) -> None:
    times_s = even_times(rng)
    for path in (pan, zoom, roll, shake):
        truth = [face_in(path(t)) for t in times_s]
        detections = seen(truth, times_s, rng)
        raw_error = landmarks_of(detections) - landmarks_of(truth)
        error = smoothed(detections, times_s, 0.0) - landmarks_of(truth)
        assert rmse_px(error) < rmse_px(raw_error)
        assert jitter_percent(error) < 0.75 * jitter_percent(raw_error)


def test_a_face_twice_as_large_moves_exactly_twice_as_far(rng: np.random.Generator) -> None:
    times_s = even_times(rng)
    small = seen([face_in(shake(t)) for t in times_s], times_s, rng)
    large = [Detection(2 * face.box_xyxy_px, face.score, 2 * face.landmarks_px) for face in small]
    np.testing.assert_allclose(
        smoothed(large, times_s, LAG_S), 2 * smoothed(small, times_s, LAG_S), rtol=1e-6, atol=1e-3
    )


def test_one_wild_detection_moves_the_face_by_less_than_a_pixel(rng: np.random.Generator) -> None:
    times_s = even_times(rng)
    truth = [face_in(pan(t)) for t in times_s]
    wild = [face_in((t * 30 + 100, 170, 1.1, 25)) if k == 70 else truth[k] for k, t in enumerate(times_s)]
    error = smoothed(wild, times_s, LAG_S) - landmarks_of(truth)
    assert np.abs(error[5:-5]).max() < 1


def test_a_real_jump_is_followed_in_the_very_frame_and_smears_into_neither_side(rng: np.random.Generator) -> None:
    times_s = even_times(rng)
    truth = [face_in((150 if t < 3 else 200, 150, 1, 0)) for t in times_s]
    error = smoothed(truth, times_s, LAG_S) - landmarks_of(truth)
    assert np.abs(error).max() < 0.1


def test_without_a_lag_a_real_jump_is_followed_in_the_second_frame(rng: np.random.Generator) -> None:
    times_s = even_times(rng)
    truth = [face_in((150 if t < 3 else 200, 150, 1, 0)) for t in times_s]
    error = np.abs(smoothed(truth, times_s, 0.0) - landmarks_of(truth)).max(axis=(1, 2))
    assert set(np.flatnonzero(error > 0.1)) == {75}


def test_a_doubtful_detection_counts_for_less(rng: np.random.Generator) -> None:
    times_s = even_times(rng)
    still = face_in((200, 150, 1, 0))
    off_px = []
    for score in (0.99, 0.33):
        moved = Detection(still.box_xyxy_px + 2, score, still.landmarks_px + 2)
        faces = [moved if k == 70 else still for k in range(NUM_FRAMES)]
        off_px.append(float((smoothed(faces, times_s, LAG_S)[70] - still.landmarks_px).mean()))
    assert off_px[1] < 0.25 * off_px[0]


def test_a_face_out_of_sight_for_a_second_comes_to_rest(rng: np.random.Generator) -> None:
    """At 100 px/s it would fly 100 px further; it stays within one face width."""
    motion = FaceMotion(face_in((100, 150, 1, 0)))
    for k in range(1, 26):
        motion.advance(0.04)
        motion.observe(face_in((100 + 4 * k, 150, 1, 0)))
    last_px = motion.newest_box_xyxy_px
    for _ in range(100):
        motion.advance(0.04)
    assert 0 < motion.newest_box_xyxy_px[0] - last_px[0] < 2.17 * EYES_PX


def test_repeated_timestamps_and_a_pause_of_an_hour_give_finite_places() -> None:
    motion = FaceMotion(face_in((100, 150, 1, 0)))
    for step_s in (0.0, 0.0, 3600.0, 0.04, 0.0):
        motion.advance(step_s)
        motion.observe(face_in((105, 150, 1, 0)))
    box_xyxy_px, landmarks_px = motion.oldest()
    assert np.isfinite(box_xyxy_px).all()
    assert np.isfinite(landmarks_px).all()
