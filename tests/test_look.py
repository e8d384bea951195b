"""Most frames are not looked at, and yet tracks come out as if they had been."""

import gc
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import face_at, fake_spec
from vidrestore.face import Detection, TrackedFace, eye_distance_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.layout import PixelLayout
from vidrestore.stages.cuts import CutsAhead
from vidrestore.stages.detect import detect_faces
from vidrestore.stages.look import MAX_UNSEEN_S, look_for_faces
from vidrestore.stages.track import MAX_HELD_FRAMES, FaceTracker, track_faces

GRAY = PixelLayout("gray", "gray", 8, 0, 0, False, True, "bt709", "left")
WIDTH_PX, HEIGHT_PX = 480, 360
"""Frames of this size are shown to a detector as they are."""
MILLISECONDS = Fraction(1, 1000)
EVERY = 4

Faces = tuple[Detection, ...]
Tracked = FrameFaces[TrackedFace]
Looks = list[FrameFaces[Detection] | Frame]


class Counting:
    """Finds in each frame what it was told; reads the frame's number from its top left corner and notes it."""

    spec = fake_spec("detector")
    sha256 = ""

    def __init__(self, faces: Sequence[Faces], batch_images: int = 1) -> None:
        self.faces = faces
        self.batch_images = batch_images
        self.batches: list[list[int]] = []

    def detect(self, images: NDArray[np.uint8]) -> list[Faces]:
        self.batches.append([int(image[2, 2, 0]) for image in images])
        return [self.faces[number] for number in self.batches[-1]]

    @property
    def seen(self) -> list[int]:
        """The frames that it was shown."""
        return sorted(number for batch in self.batches for number in batch)


def video(
    num_frames: int, *, step_ms: int | Sequence[int] = 40, shots: Sequence[int] = (), start_ms: int = 0
) -> list[Frame]:
    """Numbered frames, `step_ms` apart: plain, or of other texture from each of the `shots` on."""
    steps_ms = [step_ms] * num_frames if isinstance(step_ms, int) else step_ms
    pts = start_ms + np.concatenate([[0], np.cumsum(steps_ms)])
    frames = []
    for number in range(num_frames):
        shot = sum(number >= begin for begin in shots)
        picture = texture(shot).copy() if shots else np.full((HEIGHT_PX, WIDTH_PX), number, np.uint8)
        picture[:8, :8] = number
        frames.append(Frame(number, int(pts[number]), MILLISECONDS, (picture,), GRAY))
    return frames


def texture(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (20, 30), dtype=np.uint8)
    return cv2.resize(noise, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)


def looks(frames: Sequence[Frame], detector: Counting, every: int = EVERY) -> Looks:
    return list(look_for_faces(frames, detector, CutsAhead(), every=every))


def tracked(frames: Sequence[Frame], detector: Counting, every: int = EVERY) -> list[Tracked]:
    cuts = CutsAhead()
    found = look_for_faces(frames, detector, cuts, every=every)
    return list(track_faces(found, FaceTracker(is_cut=cuts.was_cut)))


def trembling(face: Detection, rng: np.random.Generator, sigma_px: float) -> Detection:
    return Detection(
        (face.box_xyxy_px + rng.normal(0, sigma_px, 4)).astype(np.float32),
        face.score,
        (face.landmarks_px + rng.normal(0, sigma_px, (5, 2))).astype(np.float32),
    )


def difference_percent(first: Sequence[Tracked], second: Sequence[Tracked]) -> float:
    """RMS distance of the landmarks of the same faces, in % of the eye distance."""
    apart = []
    for one, other in zip(first, second, strict=True):
        assert [face.track_id for face in one.faces] == [face.track_id for face in other.faces]
        for face, twin in zip(one.faces, other.faces, strict=True):
            squared_px = ((face.landmarks_px - twin.landmarks_px) ** 2).sum(axis=1).mean()
            apart.append(squared_px / eye_distance_px(face.landmarks_px) ** 2)
    return float(100 * np.sqrt(np.mean(apart)))


def assert_same_faces(first: Sequence[Tracked], second: Sequence[Tracked], *, first_id: int = 0) -> None:
    for one, other in zip(first, second, strict=True):
        assert len(one.faces) == len(other.faces)
        for face, twin in zip(one.faces, other.faces, strict=True):
            assert face.track_id == twin.track_id + first_id
            np.testing.assert_array_equal(face.landmarks_px, twin.landmarks_px)
            np.testing.assert_array_equal(face.box_xyxy_px, twin.box_xyxy_px)
            assert (face.score, face.seconds_since_seen) == (twin.score, twin.seconds_since_seen)
            assert (face.detected_landmarks_px is None) == (twin.detected_landmarks_px is None)


def restless(num_frames: int, rng: np.random.Generator) -> list[Faces]:
    """A face that walks and is missed now and then, another that comes and goes, and false alarms."""
    faces = []
    for k in range(num_frames):
        visible = [trembling(face_at(100 + 3 * k, 150, 60), rng, 0.7)] if rng.random() < 0.9 else []
        visible += [trembling(face_at(350, 250, 80), rng, 0.7)] if k % 30 < 17 else []
        visible += [face_at(60, 300, 40, score=0.6)] if rng.random() < 0.1 else []
        faces.append(tuple(visible))
    return faces


def shake(k: int) -> Detection:
    """1.8 Hz at 25 frames/s, by a quarter of the eye distance; the eyes are 45 px apart."""
    wave = 2 * np.pi * 1.8 * k / 25
    return face_at(240 + 12 * np.sin(wave), 180 + 6 * np.cos(wave), 2.17 * 45)


def walk(k: int) -> Detection:
    return face_at(60 + 2.5 * k, 180, 2.17 * 45)


def stop_and_go(k: int) -> Detection:
    """A second of walking, a second of standing."""
    return face_at(60 + 3 * (25 * (k // 50) + min(k % 50, 25)), 180, 2.17 * 45)


@pytest.mark.parametrize("batch_images", [1, 8])
def test_with_1_every_frame_is_looked_at_and_comes_out_as_without_this_stage(
    batch_images: int, rng: np.random.Generator
) -> None:
    faces = restless(100, rng)
    frames = video(100, shots=(37, 38, 70))
    detector = Counting(faces, batch_images)
    plain = detect_faces(frames, Counting(faces), batch_frames=batch_images)
    assert_same_faces(tracked(frames, detector, every=1), list(track_faces(plain, FaceTracker())))
    assert detector.seen == list(range(100))


@pytest.mark.parametrize("batch_images", [1, 8])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("num_frames", [0, 1, 2, 5, 33])
def test_every_frame_comes_out_once_and_in_order(
    num_frames: int, every: int, batch_images: int, rng: np.random.Generator
) -> None:
    steps_ms = [int(step) for step in rng.integers(0, 130, num_frames)]
    frames = video(num_frames, step_ms=steps_ms, shots=(11, 12, 19))
    detector = Counting(restless(num_frames, rng), batch_images)
    out = tracked(frames, detector, every)
    assert [id(frame.frame) for frame in out] == [id(frame) for frame in frames]
    assert len(set(detector.seen)) == len(detector.seen), "no frame is looked at twice"


@pytest.mark.parametrize("faces", [(), (face_at(240, 180, 98),)])
def test_of_a_still_picture_less_than_a_third_of_the_frames_is_looked_at(faces: Faces) -> None:
    detector = Counting([faces] * 120)
    out = tracked(video(120), detector)
    assert len(detector.seen) < 120 / 3
    assert [len(frame.faces) for frame in out] == [len(faces)] * 120


def test_a_doubtful_face_is_looked_for_in_every_frame() -> None:
    faces = [(face_at(240, 180, 98, score=0.55),) if k % 5 else () for k in range(60)]
    detector = Counting(faces)
    out = tracked(video(60), detector)
    assert len(detector.seen) > 0.9 * 60
    assert [len(frame.faces) for frame in out] == [
        len(frame.faces) for frame in tracked(video(60), Counting(faces), every=1)
    ]


@pytest.mark.parametrize("path", [walk, shake, stop_and_go])
def test_a_moving_face_is_followed_within_2_percent_of_the_eye_distance(
    path: Callable[[int], Detection], rng: np.random.Generator
) -> None:
    """The detector trembles by 0.66 px, 1.5 % of the eye distance, as it does on poor pictures."""
    faces = [(trembling(path(k), rng, 0.66),) for k in range(150)]
    reference, adaptive = Counting(faces), Counting(faces)
    out = tracked(video(150), adaptive)
    assert difference_percent(tracked(video(150), reference, every=1), out) < 2
    assert len(adaptive.seen) < (0.9 if path is shake else 0.4) * 150
    exact = [(path(k),) for k in range(150)]
    assert difference_percent(tracked(video(150), Counting(exact), 1), tracked(video(150), Counting(exact))) < 1


def test_a_face_that_starts_to_move_fast_does_not_lag() -> None:
    """From rest to two widths a second within one frame, and back, wherever that lies between the looks."""
    for start in range(30, 34):
        faces = [(face_at(60 + 10 * min(max(k - start, 0), 12), 180, 120),) for k in range(60)]
        detector = Counting(faces)
        out = tracked(video(60), detector)
        assert difference_percent(tracked(video(60), Counting(faces), every=1), out) < 2
        assert {start, start + 1} <= set(detector.seen)


def with_visit(first: int, length: int) -> list[Faces]:
    """A walker, and another face in some frames."""
    visitor = face_at(400, 300, 50)
    return [(walk(k), visitor) if first <= k < first + length else (walk(k),) for k in range(80)]


def ids(frames: Sequence[Tracked]) -> list[tuple[int, ...]]:
    return [tuple(face.track_id for face in frame.faces) for frame in frames]


@pytest.mark.parametrize("first", range(20, 24))
@pytest.mark.parametrize("length", [4, 18, 25])
def test_a_face_that_comes_and_goes_between_looks_is_there_in_the_same_frames(first: int, length: int) -> None:
    faces = with_visit(first, length)
    detector = Counting(faces)
    out = tracked(video(80), detector)
    assert ids(out) == ids(tracked(video(80), Counting(faces), every=1))
    assert [k for k, frame in enumerate(out) if len(frame.faces) == 2] == list(range(first, first + length))
    assert len(detector.seen) < 80 / 2


@pytest.mark.parametrize("first", range(20, 24))
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_visit_that_falls_between_two_looks_shows_in_all_of_its_frames_or_in_none(first: int, length: int) -> None:
    out = tracked(video(80), Counting(with_visit(first, length)))
    visit = list(range(first, first + length))
    assert [k for k, frame in enumerate(out) if len(frame.faces) == 2] in ([], visit)


@pytest.mark.parametrize("first", range(20, 24))
def test_a_gap_in_a_track_is_bridged_and_says_for_how_long(first: int) -> None:
    faces = [(walk(k),) if not first <= k < first + 8 else () for k in range(60)]
    out = tracked(video(60), Counting(faces))
    assert ids(out) == [(1,)] * 60
    for k, frame in enumerate(out):
        missing_frames = k - first + 1 if first <= k < first + 8 else 0
        assert frame.faces[0].seconds_since_seen == pytest.approx(0.04 * missing_frames)


def test_where_nobody_looked_there_is_no_detection_and_the_face_does_not_count_as_missing() -> None:
    detector = Counting([(walk(k),) for k in range(60)])
    for k, frame in enumerate(tracked(video(60), detector)):
        (face,) = frame.faces
        assert (face.detected_landmarks_px is not None) == (k in detector.seen)
        assert face.seconds_since_seen == 0
        assert np.abs(face.landmarks_px - walk(k).landmarks_px).max() < 0.5


@pytest.mark.parametrize("jump", range(30, 34))
def test_a_face_that_jumps_is_in_its_new_place_in_the_same_frame(jump: int) -> None:
    """By half of its width: too far for its motion, near enough to be the same face."""
    faces = [(face_at(150 if k < jump else 200, 180, 100),) for k in range(60)]
    out = tracked(video(60), Counting(faces))
    for k, frame in enumerate(out):
        assert np.abs(frame.faces[0].landmarks_px - faces[k][0].landmarks_px).max() < 2
    assert ids(out) == [(1,)] * 60


@pytest.mark.parametrize("batch_images", [1, 8])
@pytest.mark.parametrize("cut", range(20, 25))
def test_frames_after_a_cut_are_those_of_the_second_clip_alone(
    cut: int, batch_images: int, rng: np.random.Generator
) -> None:
    """The same person in the same place on both sides of it."""
    faces = restless(60, rng)
    frames = video(60, shots=(cut,))
    spliced = tracked(frames, Counting(faces, batch_images))
    first = tracked(frames[:cut], Counting(faces, batch_images))
    second = tracked(frames[cut:], Counting(faces, batch_images))
    num_ids_before = max((track_id for seen in ids(first) for track_id in seen), default=0)
    assert_same_faces(spliced[:cut], first)
    assert_same_faces(spliced[cut:], second, first_id=num_ids_before)
    detector = Counting(faces, batch_images)
    looks(frames, detector)
    assert {cut - 1, cut} <= set(detector.seen)


@pytest.mark.parametrize("every", [1, 4, 16])
def test_no_more_than_a_fifth_of_a_second_passes_between_looks(every: int, rng: np.random.Generator) -> None:
    """At 8 to 100 frames per second, changing at random, if frames are no further apart themselves."""
    steps_ms = [int(step) for step in rng.integers(10, 120, 150)]
    frames = video(150, step_ms=steps_ms)
    detector = Counting([()] * 150)
    found = looks(frames, detector, every)
    assert detector.seen[0] == 0
    assert detector.seen[-1] == 149
    for before, after in zip(detector.seen, detector.seen[1:], strict=False):
        assert after - before <= every
        assert frames[after].time_s - frames[before].time_s <= MAX_UNSEEN_S + 1e-9
    assert [k for k, look in enumerate(found) if isinstance(look, FrameFaces)] == detector.seen


@pytest.mark.parametrize("every", [1, 4, 16])
def test_a_detector_that_likes_batches_gets_them_and_finds_the_same(every: int) -> None:
    faces = [(walk(k), shake(k)) for k in range(150)]
    alone, batched = Counting(faces), Counting(faces, batch_images=8)
    frames = video(150)
    out = looks(frames, batched, every)
    assert [isinstance(look, Frame) for look in looks(frames, alone, every)] == [
        isinstance(look, Frame) for look in out
    ]
    assert max(len(batch) for batch in batched.batches) == min(8, MAX_HELD_FRAMES // every)


@pytest.mark.parametrize("batch_images", [1, 8])
@pytest.mark.parametrize("every", [1, 4, 16, MAX_HELD_FRAMES])
def test_no_more_than_32_frames_wait(every: int, batch_images: int) -> None:
    num_taken = 0

    def taken() -> Iterator[Frame]:
        nonlocal num_taken
        for frame in video(200, step_ms=1):
            num_taken += 1
            yield frame

    for num_out, _ in enumerate(look_for_faces(taken(), Counting([()] * 200, batch_images), CutsAhead(), every=every)):
        assert num_taken - num_out <= MAX_HELD_FRAMES
    assert num_taken == 200


@pytest.mark.parametrize("batch_images", [1, 8])
def test_a_picture_is_let_go_when_the_next_frame_is_handed_on(batch_images: int) -> None:
    planes: list[weakref.ref[NDArray[np.generic]]] = []

    def taken() -> Iterator[Frame]:
        frames = deque(video(60))
        while frames:
            planes.append(weakref.ref(frames[0].planes[0]))
            yield frames.popleft()

    cuts = CutsAhead()
    looks = look_for_faces(taken(), Counting([(walk(k),) for k in range(60)], batch_images), cuts, every=EVERY)
    for num_out, look in enumerate(looks):
        cuts.was_cut(look if isinstance(look, Frame) else look.frame)
        del look
        gc.collect()
        assert all(plane() is None for plane in planes[:num_out])


@pytest.mark.parametrize("every", [0, MAX_HELD_FRAMES + 1])
def test_an_impossible_stride_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match=f"every is {every}; it must be from 1 to 32"):
        looks(video(1), Counting([()]), every)
