"""Rendering from a faces file: as it is, the pictures are those of the run that wrote it; edited, those asked for."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.faces import face_at, yuv_frame
from tests.fakes import IdentityRestorer, fake_spec
from vidrestore.errors import OptionsError, SourceError
from vidrestore.face import PlacedFace, SkippedFace, TrackedFace, template_px
from vidrestore.faces_file.read import ListedFaces, read_faces_file
from vidrestore.faces_file.write import FacesFile
from vidrestore.fields import FieldPairs
from vidrestore.frame import Frame, FrameFaces, RestoredFrame
from vidrestore.layout import PixelLayout
from vidrestore.report import Report
from vidrestore.stages.align import align_faces, place_faces
from vidrestore.stages.before import look_before
from vidrestore.stages.listed import as_listed, check_listed, place_listed
from vidrestore.stages.paste import paste_faces
from vidrestore.stages.restore import restore_faces
from vidrestore.stages.steady import steady_crops, steady_results

SPEC = fake_spec(crop_px=64, template="tight")
LAYOUT = PixelLayout("gray", "gray", 8, 0, 0, False, True, "bt709", "center")
Found = FrameFaces[PlacedFace]


def write(path: Path, done: Iterable[RestoredFrame], frame: Frame, edits: Sequence[dict[str, Any]] = ()) -> ListedFaces:
    with FacesFile(path, width_px=frame.width_px, height_px=frame.height_px, span_s=(None, None)) as faces_file:
        for each in done:
            faces_file.write(each)
    path.write_text(path.read_text().replace('"edits": []', f'"edits": {json.dumps(list(edits))}'))
    return read_faces_file(path)


def as_done(found: Iterable[Found]) -> list[RestoredFrame]:
    return [RestoredFrame(each.frame, each.frame, each.faces, each.skipped) for each in found]


def assert_same(one: Any, other: Any) -> None:
    """To the last bit, and of the same types."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, PlacedFace | SkippedFace | TrackedFace):
        for field in fields_of(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


def assert_same_faces(one: Found, other: Found) -> None:
    assert len(one.faces) == len(other.faces)
    assert len(one.skipped) == len(other.skipped)
    for face, same in zip((*one.faces, *one.skipped), (*other.faces, *other.skipped), strict=True):
        assert_same(face, same)


def random_faces(rng: np.random.Generator, count: int, width_px: int, height_px: int) -> list[PlacedFace]:
    """All over the picture and a little beyond, of 4 to 2,000 px, some of next to no strength."""
    faces = []
    for track_id in rng.permutation(count) + 1:
        side_px, turn = float(np.exp(rng.uniform(np.log(4), np.log(2000)))), rng.uniform(-3, 3)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        centre = rng.uniform(-300, [width_px + 300, height_px + 300])
        points = (template_px("tight", 1) - 0.5 + rng.normal(0, 0.02, (5, 2))) @ rotation.T * side_px + centre
        box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
        landmarks = points.astype(np.float32)
        faces.append(
            TrackedFace(
                track_id=int(track_id),
                box_xyxy_px=box,
                landmarks_px=landmarks,
                score=float(rng.uniform(0.3, 1)),
                detected_landmarks_px=landmarks + np.float32(0.123456) if rng.random() < 0.5 else None,
                seconds_since_seen=float(rng.uniform(0, 1)),
                strength=float(rng.uniform(0, 1) ** 4),
            )
        )
    frame = picture(width_px, height_px)
    (placed,) = place_faces([FrameFaces(frame, tuple(faces))], SPEC, min_face_px=6, max_faces=None)
    faint = tuple(
        replace(face, face=replace(face.face, strength=face.face.strength * (k % 50 > 0) + 1e-5 * (k % 7)))
        for k, face in enumerate(placed.faces)
    )
    return [*faint, *placed.skipped]  # type: ignore[list-item]


def picture(width_px: int, height_px: int, *, number: int = 0, time_base: Fraction = Fraction(1, 25)) -> Frame:
    return Frame(number, number, time_base, (np.zeros((height_px, width_px), np.uint8),), LAYOUT)


@pytest.mark.parametrize("size", [(320, 240), (3840, 2160), (12000, 9000), (40000, 200)])
def test_ten_thousand_faces_come_back_to_the_last_bit(
    tmp_path: Path, rng: np.random.Generator, size: tuple[int, int]
) -> None:
    frame = picture(*size)
    everyone = random_faces(rng, 2_500, *size)
    placed = tuple(face for face in everyone if isinstance(face, PlacedFace))
    skipped = tuple(face for face in everyone if isinstance(face, SkippedFace))
    assert len(placed) > 800
    assert len(skipped) > 50
    found = as_listed(FrameFaces(frame, placed, skipped), SPEC)
    assert len(found.faces) < len(placed)  # of some the strength rounds to 0
    assert {face.reason for face in found.skipped} >= {"of no strength", "outside the picture", "smaller than 6 px"}
    listed = write(tmp_path / "faces.json", as_done([found]), frame)
    (again,) = place_listed([frame], listed, SPEC)
    assert_same_faces(found, again)
    assert_same_faces(found, as_listed(again, SPEC))  # a faces file of the second run is that of the first
    for face in found.faces:
        before = next(one for one in placed if one.face.track_id == face.face.track_id)
        shift_px = np.abs(face.face.landmarks_px - before.face.landmarks_px).max()
        assert shift_px <= (0.001 if max(size) < 16384 else 0.003)


class Coarser(IdentityRestorer):
    """Changes every crop, each in its own way."""

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.repeat(np.repeat(crops[:, ::4, ::4], 4, axis=1), 4, axis=2)


def moving_faces(num_frames: int = 8) -> list[Found]:
    """Two faces that overlap, not in the order of their ids, and a third that fades."""
    found = []
    for number in range(num_frames):
        frame = replace(yuv_frame(), index=number, pts=number)
        faces = (
            face_at((120.3 + number / 7, 110.2), 90.7, 3.0, track_id=3),
            face_at((160.1 - number / 9, 120.9), 80.3, -5.0, track_id=1),
            replace(face_at((250.4, 180.8 - number / 3), 61.1, track_id=2), strength=1 - number / 7),
        )
        found.append(FrameFaces(frame, faces))
    return list(place_faces(found, SPEC, min_face_px=1, max_faces=None))


def rendered(placed: Iterable[Found]) -> list[RestoredFrame]:
    restorer = Coarser(crop_px=64, template="tight")
    aligned = steady_crops(align_faces(look_before(placed, max_weight=2.0)))
    restored = restore_faces(aligned, restorer, Report("", ""), batch_size=3, max_wait_frames=4)
    return list(paste_faces(steady_results(restored), strength=1.0))


def assert_same_pictures(one: list[RestoredFrame], other: list[RestoredFrame]) -> None:
    for first, second in zip(one, other, strict=True):
        for plane, same in zip(first.frame.planes, second.frame.planes, strict=True):
            assert plane.tobytes() == same.tobytes()


def test_pictures_rendered_from_the_file_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    placed = moving_faces()
    frames = [found.frame for found in placed]
    whole = rendered(as_listed(found, SPEC) for found in placed)
    assert any(np.any(done.frame.planes[0] != done.source.planes[0]) for done in whole)
    by_run = write(tmp_path / "run.json", whole, frames[0])
    analysed = as_done([as_listed(found, SPEC) for found in placed])
    by_analysis = write(tmp_path / "analysis.json", analysed, frames[0])
    assert by_run.path.read_bytes() == by_analysis.path.read_bytes()
    again = rendered(place_listed(frames, by_analysis, SPEC))
    assert_same_pictures(whole, again)
    second_run = write(tmp_path / "second.json", again, frames[0])
    assert second_run.path.read_bytes() == by_run.path.read_bytes()


def test_tracks_that_are_not_chosen_or_edited_away_change_nothing(tmp_path: Path) -> None:
    placed = moving_faces()
    frames = [found.frame for found in placed]
    done, path = as_done(placed), tmp_path / "faces.json"
    chosen = rendered(place_listed(frames, write(path, done, frames[0]), SPEC, track_ids={1}))
    assert {face.reason for each in chosen for face in each.skipped} == {"not among --tracks"}
    edits = [{"track_id": 2, "strength": 0}, {"track_id": 3, "strength": 0}]
    edited = rendered(place_listed(frames, write(path, done, frames[0], edits), SPEC))
    assert {face.reason for each in edited for face in each.skipped} >= {"of no strength"}
    content = json.loads(path.read_text())
    content["edits"] = []
    for frame in content["frames"]:
        frame["faces"] = [face for face in frame["faces"] if face["track_id"] == 1]
    path.write_text(json.dumps(content))
    deleted = rendered(place_listed(frames, read_faces_file(path), SPEC))
    assert_same_pictures(chosen, edited)
    assert_same_pictures(chosen, deleted)
    none = rendered(place_listed(frames, write(path, done, frames[0]), SPEC, track_ids=()))
    assert all(each.frame is each.source for each in none)


def test_strengths_are_those_of_the_file_times_those_of_the_edits(tmp_path: Path) -> None:
    placed = moving_faces(4)
    frames = [found.frame for found in placed]
    edits = [{"track_id": 2, "strength": 0.5}, {"track_id": 1, "from_s": 0.04, "to_s": 0.12, "strength": 0.25}]
    listed = write(tmp_path / "faces.json", as_done(placed), frames[0], edits)
    strengths = [[face.face.strength for face in found.faces] for found in place_listed(frames, listed, SPEC)]
    assert strengths == [[1, 0.5, 1], [0.25, 0.428, 1], [0.25, 0.357, 1], [1, 0.285, 1]]


def test_a_file_of_landmarks_alone_is_enough(tmp_path: Path) -> None:
    """Of another tracker, say."""
    frame, face = yuv_frame(), face_at((120.0, 110.0), 90.0)
    entry = {"track_id": 5, "landmarks_px": face.landmarks_px.astype(float).tolist(), "restored": True}
    content = {"version": 1, "width_px": 320, "height_px": 240, "frames": [{"time_s": 7, "faces": [entry]}]}
    path = tmp_path / "faces.json"
    path.write_text(json.dumps(content))
    (found,) = place_listed([frame], read_faces_file(path), SPEC)
    assert [face.face.track_id for face in found.faces] == [5]
    assert found.faces[0].face.strength == 1.0


@pytest.mark.parametrize(
    ("landmarks_px", "reason"),
    [
        ([[5000 + x, 5000 + y] for x, y in [[0, 0], [40, 0], [20, 25], [5, 45], [35, 45]]], "outside the picture"),
        (((template_px("tight", 1) - 0.5) * 1300 + 120).tolist(), "its landmarks do not span a face"),
    ],
)
def test_landmarks_moved_to_where_no_crop_can_be_are_set_aside(
    tmp_path: Path, landmarks_px: list[list[float]], reason: str
) -> None:
    frame = yuv_frame()
    listed = write(tmp_path / "faces.json", as_done(moving_faces(1)), frame)
    content = json.loads(listed.path.read_text())
    content["frames"][0]["faces"][1]["landmarks_px"] = landmarks_px
    listed.path.write_text(json.dumps(content))
    (found,) = place_listed([frame], read_faces_file(listed.path), SPEC)
    assert [face.face.track_id for face in found.faces] == [1, 3]
    assert [(face.face.track_id, face.reason) for face in found.skipped] == [(2, reason)]


Change = Callable[[list[Frame]], list[Frame]]


@pytest.mark.parametrize(
    ("change", "num_rendered", "message"),
    [
        (lambda frames: frames[:-1], 7, "lists 8 frames, and the video ends after 7;"),
        (lambda frames: [], 0, "lists 8 frames, and the video ends after 0;"),
        (lambda frames: [*frames, replace(frames[-1], pts=8)], 8, "lists 8 frames, and the video has more"),
        (lambda frames: frames[:3] + frames[4:], 3, "has its frame 3 at 0.12 s, and the video has it at 0.16 s"),
        (lambda frames: [replace(each, time_base=Fraction(1, 30)) for each in frames], 1, "has its frame 1 at 0.04 s"),
        (lambda frames: [picture(100, 80)], 0, "its pictures are 320x240, those of the video 100x80"),
    ],
)
def test_a_file_of_another_video_is_refused_where_it_shows(
    tmp_path: Path, change: Change, num_rendered: int, message: str
) -> None:
    placed = moving_faces()
    frames = [found.frame for found in placed]
    listed = write(tmp_path / "faces.json", as_done(placed), frames[0])
    rendered = []
    with pytest.raises(SourceError, match=message) as caught:
        rendered.extend(place_listed(change(frames), listed, SPEC))
    assert len(rendered) == num_rendered
    assert "made for another video, or with another --start" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_times_that_only_the_file_rounds_are_the_same(tmp_path: Path) -> None:
    """A clock of 1/90,000 s, an uneven rate and a first frame at 37 s: --start moved the file's to 0."""
    pts = np.cumsum([0, 3003, 3754, 1, 2999, 6007, 3003]).tolist()
    frames = [replace(yuv_frame(), pts=37 * 90_000 + each, time_base=Fraction(1, 90_000)) for each in pts]
    path = tmp_path / "faces.json"
    with FacesFile(path, width_px=320, height_px=240, clock_moves=True) as faces_file:
        for done in as_done(FrameFaces(frame, ()) for frame in frames):
            faces_file.write(done)
    assert len(list(place_listed(frames, read_faces_file(path), SPEC))) == 7


def test_before_any_work_size_span_and_tracks_are_checked(tmp_path: Path) -> None:
    placed, video = moving_faces(), Path("film.mkv")
    listed = write(tmp_path / "faces.json", as_done(placed), placed[0].frame)
    check_listed(listed, video, width_px=320, height_px=240, track_ids={1, 3})
    with pytest.raises(SourceError, match=r"its pictures are 320x240, those of film.mkv 640x480"):
        check_listed(listed, video, width_px=640, height_px=480)
    with pytest.raises(SourceError, match=r"made with no --start or --end, and this run has --start 5 and --end 9;"):
        check_listed(listed, video, width_px=320, height_px=240, start_s=5, end_s=9)
    with pytest.raises(OptionsError, match=r"--tracks 4: .* has no such track; its tracks are 1, 2, 3$"):
        check_listed(listed, video, width_px=320, height_px=240, track_ids=[1, 4])
    older = json.loads(listed.path.read_text())
    del older["span_s"]
    listed.path.write_text(json.dumps(older))
    check_listed(read_faces_file(listed.path), video, width_px=320, height_px=240, start_s=5)


def test_each_moment_of_an_interlaced_frame_gets_its_own_faces(tmp_path: Path) -> None:
    """Film with a 3:2 pulldown: pictures as they were, and two in combs, of which one shows nobody."""
    marks = ["", "top first", "top first", ""]
    whole = [replace(yuv_frame(), index=k, pts=k, fields=mark) for k, mark in enumerate(marks)]  # type: ignore[arg-type]
    pairs = FieldPairs()
    tracked = []
    for number, frame in enumerate(pairs.split(whole)):
        faces = (face_at((100.3 + number, 100.7), 80.5, track_id=2), face_at((200.0, 120.0 + number), 70.0))
        tracked.append(FrameFaces(frame, () if number in (3, 4) else faces))
    placed = [as_listed(found, SPEC) for found in place_faces(tracked, SPEC, min_face_px=1, max_faces=None)]
    listed = write(tmp_path / "faces.json", pairs.woven(as_done(placed)), whole[0])
    assert [len(frame.faces) for frame in listed.frames()] == [2, 4, 0, 2]
    moments = list(FieldPairs().split(whole))
    for found, again in zip(placed, place_listed(moments, listed, SPEC), strict=True):
        assert_same_faces(found, again)
    with pytest.raises(SourceError, match="ends after 2"):
        list(place_listed(moments[:2], listed, SPEC))  # in the middle of a frame
    with pytest.raises(SourceError, match="has its frame 2"):
        list(place_listed(whole, listed, SPEC))  # as if none were interlaced
