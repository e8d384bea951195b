"""Who is who stays so: ids hold, gaps close, false alarms vanish, tracks end at cuts, and no frame is lost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import face_at
from tests.walkers import Way, scene
from vidrestore.face import Detection, SkippedFace, TrackedFace
from vidrestore.frame import Frame, FrameFaces
from vidrestore.layout import PixelLayout
from vidrestore.options import Options
from vidrestore.stages.track import DEFAULT_LAG_S, MAX_HELD_FRAMES, FaceTracker, track_faces

GRAY = PixelLayout("gray", "gray", 8, 0, 0, False, True, "bt709", "left")
BLANK = np.zeros((36, 64), np.uint8)
"""Shows nothing, so no cut is ever seen in it."""
MILLISECONDS = Fraction(1, 1000)

Faces = tuple[Detection, ...]
Found = FrameFaces[Detection]
Tracked = FrameFaces[TrackedFace]


def video(
    faces: Sequence[Faces], *, step_ms: int | Sequence[int] = 40, picture: NDArray[np.uint8] = BLANK, start_ms: int = 0
) -> list[Found]:
    """One frame for each entry, `step_ms` apart."""
    steps_ms = [step_ms] * len(faces) if isinstance(step_ms, int) else step_ms
    pts = start_ms + np.concatenate([[0], np.cumsum(steps_ms)])
    return [
        FrameFaces(Frame(index, int(pts[index]), MILLISECONDS, (picture,), GRAY), found)
        for index, found in enumerate(faces)
    ]


def tracked(found: Sequence[Found], lag_s: float = 0.5) -> list[Tracked]:
    return list(track_faces(found, FaceTracker(lag_s=lag_s)))


def ids(frames: Sequence[Tracked]) -> list[tuple[int, ...]]:
    return [tuple(face.track_id for face in frame.faces) for frame in frames]


def frames_of(frames: Sequence[Tracked], track_id: int) -> list[int]:
    return [k for k, seen in enumerate(ids(frames)) if track_id in seen]


def walker(k: int, *, score: float = 0.99) -> Detection:
    """4 px a frame to the right."""
    return face_at(100 + 4 * k, 100, 60, score=score)


def texture(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (20, 30), dtype=np.uint8)
    return cv2.resize(noise, (192, 108), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("lag_s", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("num_frames", [0, 1, 2, 12, 60])
def test_every_frame_comes_out_once_and_in_order(num_frames: int, lag_s: float) -> None:
    found = video([(walker(k),) for k in range(num_frames)])
    out = tracked(found, lag_s)
    assert [id(frame.frame) for frame in out] == [id(frame.frame) for frame in found]
    assert ids(out) == [(1,)] * num_frames


def test_faces_set_aside_by_the_stage_before_are_passed_on() -> None:
    face = TrackedFace(9, np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 0.5, None, 0.0)
    frame = video([()])[0]
    (out,) = tracked([FrameFaces(frame.frame, (), (SkippedFace(face, "too small"),))])
    assert [skipped.reason for skipped in out.skipped] == ["too small"]


def test_a_video_without_faces_has_none() -> None:
    assert ids(tracked(video([()] * 30))) == [()] * 30


@pytest.mark.parametrize("lag_s", [0.0, 0.5])
def test_all_40_faces_of_a_still_image_come_out_where_they_are(lag_s: float) -> None:
    faces = tuple(face_at(50 + 80 * (n % 8), 60 + 100 * (n // 8), 60, score=0.7) for n in range(40))
    (out,) = tracked(video([faces]), lag_s)
    assert [face.track_id for face in out.faces] == list(range(1, 41))
    for face, detection in zip(out.faces, faces, strict=True):
        np.testing.assert_array_equal(face.landmarks_px, detection.landmarks_px)
        np.testing.assert_array_equal(face.box_xyxy_px, detection.box_xyxy_px)
        assert face.detected_landmarks_px is detection.landmarks_px
        assert (face.score, face.seconds_since_seen) == (0.7, 0.0)


def test_40_faces_keep_their_ids_however_the_detector_orders_them(rng: np.random.Generator) -> None:
    places = [(50 + 80 * (n % 8), 60 + 100 * (n // 8)) for n in range(40)]
    frames = []
    for k in range(20):
        order = rng.permutation(40) if k else range(40)
        frames.append(tuple(face_at(places[n][0] + k, places[n][1], 60) for n in order))
    out = tracked(video(frames))
    assert ids(out) == [tuple(range(1, 41))] * 20
    for n, (x_px, y_px) in enumerate(places):
        center_px = out[19].faces[n].box_xyxy_px.reshape(2, 2).mean(axis=0)
        np.testing.assert_allclose(center_px, (x_px + 19, y_px), atol=1)


def test_two_people_who_walk_past_each_other_keep_their_ids() -> None:
    frames = [(face_at(100 + 8 * k, 100, 60), face_at(500 - 8 * k, 125, 66)) for k in range(50)]
    out = tracked(video(frames))
    assert ids(out) == [(1, 2)] * 50
    assert out[-1].faces[0].box_xyxy_px[0] > out[-1].faces[1].box_xyxy_px[0] + 300


@pytest.mark.parametrize("gap_frames", [1, 5, 12])
def test_a_face_missed_for_up_to_half_a_second_is_bridged_within_2_px(gap_frames: int) -> None:
    frames = [() if 20 <= k < 20 + gap_frames else (walker(k),) for k in range(50)]
    out = tracked(video(frames))
    assert ids(out) == [(1,)] * 50
    for k in range(20, 20 + gap_frames):
        face = out[k].faces[0]
        assert np.abs(face.landmarks_px - walker(k).landmarks_px).max() < 2
        assert face.detected_landmarks_px is None
        assert face.seconds_since_seen == pytest.approx(0.04 * (k - 19))
        assert face.score == 0.99
    assert out[20 + gap_frames].faces[0].seconds_since_seen == 0


def test_a_face_that_leaves_is_gone_in_the_next_frame_and_comes_back_as_another() -> None:
    frames = [(walker(k),) if k < 20 or k >= 40 else () for k in range(60)]
    out = tracked(video(frames))
    assert frames_of(out, 1) == list(range(20))
    assert frames_of(out, 2) == list(range(40, 60))
    assert {track_id for seen in ids(out) for track_id in seen} == {1, 2}


def test_a_face_that_is_missed_when_the_video_ends_stops_where_it_was_last_seen() -> None:
    assert frames_of(tracked(video([(walker(k),) if k < 20 else () for k in range(25)])), 1) == list(range(20))


def test_live_a_missed_face_is_predicted_for_at_most_half_a_second() -> None:
    out = tracked(video([(walker(k),) if k < 20 else () for k in range(60)]), lag_s=0.0)
    shown = frames_of(out, 1)
    assert shown == list(range(len(shown)))
    assert 20 + 12 <= len(shown) <= 20 + 13
    assert max(face.seconds_since_seen for frame in out for face in frame.faces) <= 0.5 + 1e-9


def test_a_lone_false_alarm_is_dropped_and_uses_up_no_id() -> None:
    frames = [((walker(k),) if k >= 10 else ()) for k in range(40)]
    frames[5] = (face_at(400, 300, 50, score=0.8),)
    frames[20] = (*frames[20], face_at(400, 300, 50, score=0.9))
    out = tracked(video(frames))
    assert ids(out) == [()] * 10 + [(1,)] * 30


def test_a_sure_face_is_shown_even_for_one_frame() -> None:
    frames: list[Faces] = [()] * 20
    frames[7] = (face_at(400, 300, 50, score=0.97),)
    assert frames_of(tracked(video(frames)), 1) == [7]


def test_a_face_first_seen_in_the_last_frame_is_shown() -> None:
    assert frames_of(tracked(video([()] * 20 + [(walker(0, score=0.7),)])), 1) == [20]


def test_a_doubtful_detection_continues_a_track_but_begins_none() -> None:
    scores = [0.3] * 10 + [0.9] + [0.3] * 10
    out = tracked(video([(walker(k, score=score),) for k, score in enumerate(scores)]))
    assert ids(out) == [()] * 10 + [(1,)] * 11
    assert [round(frame.faces[0].score, 1) for frame in out[10:]] == scores[10:]


def test_frames_wait_for_half_a_second_of_the_videos_own_clock(rng: np.random.Generator) -> None:
    steps_ms = [int(step) for step in rng.integers(20, 120, 80)]
    found = video([(walker(0),)] * 80, step_ms=steps_ms)
    tracker = FaceTracker(lag_s=0.5)
    released = 0
    for frame in found:
        for out in tracker.push(frame):
            assert frame.frame.pts - out.frame.pts >= 500
            released += 1
        oldest_held = found[released]
        assert frame.frame.pts - oldest_held.frame.pts < 500
    assert released + len(list(tracker.flush())) == 80


def test_at_1000_frames_per_second_no_more_than_32_frames_are_held() -> None:
    tracker = FaceTracker(lag_s=0.5)
    in_flight = 0
    for frame in video([(walker(0),)] * 200, step_ms=1):
        in_flight += 1 - len(list(tracker.push(frame)))
        assert in_flight < MAX_HELD_FRAMES
    assert MAX_HELD_FRAMES == 32


def test_a_longer_lag_is_had_in_full() -> None:
    """3 s at 50 frames per second."""
    tracker = FaceTracker(lag_s=3.0)
    waited_ms = [
        frame.frame.pts - out.frame.pts
        for frame in video([(walker(0),)] * 200, step_ms=20)
        for out in tracker.push(frame)
    ]
    assert set(waited_ms) == {3000}


def test_the_default_lag_is_that_of_the_options() -> None:
    assert Options().lag == DEFAULT_LAG_S


def test_ten_minutes_of_faces_that_come_and_go_leave_nothing_behind() -> None:
    def passers_by() -> Iterator[Found]:
        for k in range(1500):
            visible = (face_at(200 + 300 * (k // 25 % 2), 100, 60),) if k % 25 < 10 else ()
            yield FrameFaces(Frame(k, 400 * k, MILLISECONDS, (BLANK,), GRAY), visible)

    tracker = FaceTracker()
    newest_id = 0
    for k, frame in enumerate(track_faces(passers_by(), tracker)):
        newest_id = max([newest_id, *(face.track_id for face in frame.faces)])
        if k < 1490:
            assert len(tracker._tracks) <= 3
            assert sum(len(track.sightings) for track in tracker._tracks) <= 3 * MAX_HELD_FRAMES
    assert newest_id == 60


def test_at_a_variable_rate_a_face_in_even_motion_moves_evenly(rng: np.random.Generator) -> None:
    """100 px/s at 10 to 100 ms a frame, with 1 px of noise: within 1 px of the truth nearly everywhere."""
    steps_ms = [int(step) for step in rng.integers(10, 100, 120)]
    times_s = np.concatenate([[0], np.cumsum(steps_ms)])[:120] / 1000
    frames = [(face_at(100 + 100 * t + rng.normal(), 100 + rng.normal(), 60),) for t in times_s]
    out = tracked(video(frames, step_ms=steps_ms))
    assert ids(out) == [(1,)] * 120
    centers_px = np.array([frame.faces[0].box_xyxy_px.reshape(2, 2).mean(axis=0) for frame in out])
    error_px = centers_px - np.stack([100 + 100 * times_s, np.full(120, 100.0)], axis=1)
    assert np.sqrt(np.mean(error_px**2)) < 0.6
    assert np.mean(np.abs(error_px) < 1) > 0.9


def test_repeated_timestamps_and_one_frame_a_minute_are_no_trouble() -> None:
    assert ids(tracked(video([(walker(0),)] * 20, step_ms=0))) == [(1,)] * 20
    assert ids(tracked(video([(walker(0),)] * 5, step_ms=60_000))) == [(1,)] * 5


def same_but_for_ids(first: Sequence[Tracked], second: Sequence[Tracked]) -> bool:
    for one, other in zip(first, second, strict=True):
        for face, twin in zip(one.faces, other.faces, strict=True):
            same = (
                np.array_equal(face.landmarks_px, twin.landmarks_px)
                and np.array_equal(face.box_xyxy_px, twin.box_xyxy_px)
                and (face.score, face.seconds_since_seen) == (twin.score, twin.seconds_since_seen)
                and (face.detected_landmarks_px is None) == (twin.detected_landmarks_px is None)
            )
            if not same:
                return False
    return True


@pytest.mark.parametrize("lag_s", [0.0, 0.5])
def test_frames_on_both_sides_of_a_cut_are_those_of_the_two_shots_alone(lag_s: float, rng: np.random.Generator) -> None:
    """The same person in the same place on both sides; the second shot has a gap and a one-frame false alarm too."""

    def faces(k: int) -> Faces:
        return (face_at(100 + 3 * k + rng.normal(), 100 + rng.normal(), 60),)

    first_faces, second_faces = [faces(k) for k in range(30)], [faces(30 + k) for k in range(30)]
    second_faces[12:15] = [()] * 3
    second_faces[20] += (face_at(400, 300, 50, score=0.8),)
    first = video(first_faces, picture=texture(1))
    second = video(second_faces, picture=texture(2), start_ms=30 * 40)
    alone = [*tracked(first, lag_s), *tracked(second, lag_s)]
    spliced = tracked([*first, *second], lag_s)
    assert len(spliced) == 60
    assert same_but_for_ids(spliced, alone)
    before, after = ({track_id for seen in ids(part) for track_id in seen} for part in (spliced[:30], spliced[30:]))
    assert not before & after


def test_a_face_first_seen_right_before_a_cut_is_shown_in_its_one_frame() -> None:
    first: list[Faces] = [*[()] * 11, (walker(0, score=0.7),)]
    out = tracked([*video(first, picture=texture(1)), *video([()] * 12, picture=texture(2), start_ms=480)])
    assert frames_of(out, 1) == [11]


@pytest.mark.parametrize("where", [lambda k: (100 + 2 * k, 100), lambda k: (200 + 30 * np.sin(k / 5), 100 + k)])
def test_smoothing_brings_a_noisy_face_nearer_to_its_true_path(
    where: Callable[[int], tuple[float, float]], rng: np.random.Generator
) -> None:
    truth = [face_at(*where(k), 98) for k in range(100)]
    noisy = [
        Detection(
            (face.box_xyxy_px + rng.normal(0, 1.4, 4)).astype(np.float32),
            face.score,
            (face.landmarks_px + rng.normal(0, 1.4, (5, 2))).astype(np.float32),
        )
        for face in truth
    ]
    out = tracked(video([(face,) for face in noisy]))

    def rmse_px(faces: Sequence[Detection | TrackedFace]) -> float:
        return float(
            np.sqrt(np.mean([(a.landmarks_px - b.landmarks_px) ** 2 for a, b in zip(faces, truth, strict=True)]))
        )

    assert rmse_px([frame.faces[0] for frame in out]) < 0.6 * rmse_px(noisy)


def test_a_negative_lag_is_refused() -> None:
    with pytest.raises(ValueError, match="lag_s is -1; it must be 0 or more"):
        FaceTracker(lag_s=-1)


def textured_video(
    offsets_px: NDArray[np.float64], rng: np.random.Generator, noise_px: float
) -> tuple[list[Found], NDArray[np.float64]]:
    """A soft pattern that moves by the offsets (frames, 2), with detections that are off anew in every frame, and the
    true landmarks (frames, 5, 2). The face is 80 px wide."""
    coarse = rng.uniform(40, 210, (40, 40)).astype(np.float32)
    pattern = cv2.GaussianBlur(cv2.resize(coarse, (320, 320), interpolation=cv2.INTER_CUBIC), (0, 0), 2)
    found, truth = [], []
    for index, (x, y) in enumerate(offsets_px):
        matrix = np.array([[1, 0, x], [0, 1, y]])
        picture = cv2.warpAffine(pattern, matrix, (320, 320), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        plane = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
        face = face_at(160 + x, 160 + y, 80)
        error = rng.normal(0, noise_px, (7, 2)).astype(np.float32)
        seen = Detection(face.box_xyxy_px + error[:2].ravel(), 0.99, face.landmarks_px + error[2:])
        found.append(FrameFaces(Frame(index, 40 * index, MILLISECONDS, (plane,), GRAY), (seen,)))
        truth.append(face.landmarks_px)
    return found, np.array(truth, np.float64)


def error_and_jitter_percent(out: Sequence[Tracked], truth: NDArray[np.float64]) -> tuple[float, float]:
    """RMSE and RMS second difference of the landmarks' error, in % of the eye distance of 37 px."""
    error = np.array([frame.faces[0].landmarks_px for frame in out], np.float64) - truth
    jitter = np.diff(error, 2, axis=0)
    return tuple(100 * float(np.sqrt((each**2).sum(axis=-1).mean())) / 37 for each in (error, jitter))


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("rate_hz", [0.0, 0.8, 2.0])
def test_the_pixels_tell_how_a_face_moves_so_that_it_neither_trembles_nor_lags(
    rate_hz: float, every: int, rng: np.random.Generator
) -> None:
    """Detections off by 1 px tremble by 9% of the eye distance. By frames alone a fast shake left 0.7%."""
    wave = np.sin(2 * np.pi * rate_hz * np.arange(75) / 25)
    found, truth = textured_video(np.stack([14 * wave, 5 * wave], axis=1), rng, 1.0)
    shown = [one if k % every == 0 or k == 74 else one.frame for k, one in enumerate(found)]
    out = list(track_faces(shown, FaceTracker(is_cut=lambda _: False)))
    error, jitter = error_and_jitter_percent(out, truth)
    assert jitter < 0.5
    assert error < 2.0


def test_a_face_that_stops_from_one_frame_to_the_next_is_not_smeared(rng: np.random.Generator) -> None:
    """From 4 px a frame to none. A parabola through five frames would be 1.4 px off at that moment."""
    x = 4.0 * np.minimum(np.arange(60), 30)
    found, truth = textured_video(np.stack([x - 60, np.zeros(60)], axis=1), rng, 0.5)
    out = list(track_faces(found, FaceTracker(is_cut=lambda _: False)))
    landmarks = np.array([frame.faces[0].landmarks_px for frame in out], np.float64)
    error_px = np.linalg.norm((landmarks - truth).mean(axis=1), axis=-1)
    assert error_px[27:34].max() < 0.4


def strengths(frames: Sequence[Tracked]) -> list[float]:
    """Of the first face, 0 where there is none."""
    return [frame.faces[0].strength if frame.faces else 0.0 for frame in frames]


def test_a_face_that_comes_and_goes_in_mid_shot_fades_in_five_frames_of_40_ms() -> None:
    found = video([(walker(k),) if 10 <= k < 50 else () for k in range(80)])
    strength = strengths(tracked(found))
    np.testing.assert_allclose(strength[8:17], [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1], atol=1e-6)
    np.testing.assert_allclose(strength[43:52], [1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0], atol=1e-6)
    assert np.abs(np.diff(strength)).max() < 0.2001


def test_a_gap_of_a_few_frames_is_not_to_be_seen() -> None:
    found = video([() if 20 <= k < 25 else (walker(k),) for k in range(60)])
    assert strengths(tracked(found)) == [1.0] * 60


def test_at_a_cut_nothing_fades() -> None:
    first = video([(walker(k),) for k in range(15)], picture=texture(1))
    second = video([(walker(k),) for k in range(15)], picture=texture(2), start_ms=600)
    assert strengths(tracked([*first, *second])) == [1.0] * 30


def test_live_a_lost_face_fades_from_where_it_was_last_seen() -> None:
    found = video([(walker(k),) if k < 20 else () for k in range(40)])
    strength = strengths(tracked(found, lag_s=0.0))
    np.testing.assert_allclose(strength[19:26], [1, 0.8, 0.6, 0.4, 0.2, 0, 0], atol=1e-6)


def shot(found: Sequence[Found], lag_s: float = 0.5) -> list[Tracked]:
    return list(track_faces(found, FaceTracker(lag_s=lag_s, is_cut=lambda _: False)))


def ids_near(frames: Sequence[Tracked], way: Way) -> list[int]:
    """Of the shown face nearest to where a person is, in each frame where there is one within 20 px."""
    near = []
    for k, frame in enumerate(frames):
        place = way(k)
        if place is None or not frame.faces:
            continue
        apart_px = [np.linalg.norm(face.box_xyxy_px.reshape(2, 2).mean(axis=0) - place) for face in frame.faces]
        if min(apart_px) < 20:
            near.append(frame.faces[int(np.argmin(apart_px))].track_id)
    return near


def hides(begin: int, end: int, x_px: float = 300) -> Way:
    return lambda k: (x_px, 100) if begin <= k < end else None


CROSSINGS: dict[str, tuple[Way, Way]] = {
    "towards each other": (lambda k: (150 + 4 * k, 100), lambda k: (450 - 4 * k, 104)),
    "fast": (lambda k: (110 + 8 * k, 98), lambda k: (530 - 8 * k, 104)),
    "one overtakes": (lambda k: (300 + k, 100), lambda k: (130 + 5 * k, 104)),
    "one stops behind, goes back": (lambda k: (180 + 4 * min(k, 30) - 4 * max(k - 45, 0), 98), lambda k: (300, 104)),
    "one stops behind, goes on": (lambda k: (180 + 4 * min(k, 30) + 4 * max(k - 45, 0), 98), lambda k: (300, 104)),
}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", CROSSINGS)
def test_people_who_cross_keep_their_ids_whoever_is_in_front(name: str, swapped: bool) -> None:
    """One hides the other for 0.4 s and more; nobody takes the other's face or gets a third id."""
    ways = CROSSINGS[name][::-1] if swapped and "stops" not in name else CROSSINGS[name]
    out = shot(scene(ways, 75, faces=(2, 1) if swapped else (1, 2)))
    assert {track_id for seen in ids(out) for track_id in seen} == {1, 2}
    for way in ways:
        known = ids_near([frame if k < 20 or k > 65 else replace(frame, faces=()) for k, frame in enumerate(out)], way)
        assert len(known) > 20
        assert len(set(known)) == 1


@pytest.mark.parametrize("hidden_frames", [5, 8, 15, 22])
def test_a_face_that_something_hides_fades_out_and_in_with_its_id_and_is_not_painted_on_it(hidden_frames: int) -> None:
    out = shot(scene([lambda k: (300, 100)], 80, blob=hides(30, 30 + hidden_frames)))
    assert {track_id for seen in ids(out) for track_id in seen} == {1}
    strength = strengths(out)
    assert max(strength[30 : 30 + hidden_frames]) < 1e-6
    assert np.abs(np.diff(strength)).max() < 0.2001
    assert min(strength[:25] + strength[30 + hidden_frames + 5 :]) > 1 - 1e-6


@pytest.mark.parametrize("lag_s", [0.0, 0.5])
@pytest.mark.parametrize("missed", [[30], [30, 31, 32], [30, 32, 34, 36], list(range(30, 37))])
def test_a_face_that_is_missed_but_to_be_seen_does_not_blink(missed: list[int], lag_s: float) -> None:
    found = [
        replace(frame, faces=()) if k in missed else frame for k, frame in enumerate(scene([lambda k: (300, 100)], 60))
    ]
    out = shot(found, lag_s)
    assert ids(out) == [(1,)] * 60
    assert strengths(out) == [1.0] * 60


def test_someone_who_comes_out_three_heads_aside_has_the_id_from_before() -> None:
    way: Way = lambda k: (150, 100) if k < 35 else (330, 100)  # noqa: E731
    both = scene([way], 70, blob=lambda k: (150, 100) if 30 <= k < 35 else (330, 100) if 35 <= k < 45 else None)
    out = shot(both)
    assert {track_id for seen in ids(out) for track_id in seen} == {1}
    assert strengths(out)[45:50] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-6)


def test_who_is_away_for_two_seconds_comes_back_as_another() -> None:
    out = shot(scene([lambda k: None if 30 <= k < 80 else (300, 100)], 110))
    assert {track_id for seen in ids(out)[80:] for track_id in seen} == {2}


@pytest.mark.parametrize("x_px", [300, 420])
def test_a_stranger_who_comes_where_someone_left_gets_an_id_of_his_own(x_px: float) -> None:
    first: Way = lambda k: (300, 100) if k < 30 else None  # noqa: E731
    second: Way = lambda k: (x_px, 100) if k >= 40 else None  # noqa: E731
    out = shot(scene([first, second], 80))
    assert {track_id for seen in ids(out)[:30] for track_id in seen} == {1}
    assert {track_id for seen in ids(out)[40:] for track_id in seen} == {2}


def test_nobody_is_known_again_across_a_cut() -> None:
    found = scene([lambda k: (300, 100)], 60)
    out = list(track_faces(found, FaceTracker(is_cut=lambda frame: frame.index == 30)))
    assert ids(out) == [(1,)] * 30 + [(2,)] * 30


def test_of_those_who_have_left_nobody_is_remembered_for_longer_than_they_may_come_back() -> None:
    def visit(k: int) -> tuple[float, float] | None:
        return (100 + 50 * (k // 25), 100) if k % 25 < 12 else None

    tracker = FaceTracker(is_cut=lambda _: False)
    for frame in scene([visit], 200):
        list(tracker.push(frame))
        assert len(tracker._lost) <= 3
