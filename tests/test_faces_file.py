"""The faces file is a contract: other programs read it, people edit it, and a video is rendered from it."""

import json
import os
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidrestore.errors import SourceError, TargetError
from vidrestore.face import PlacedFace, SkippedFace, TrackedFace
from vidrestore.faces_file import FacesFile, frame_entry, read_faces_file, tracks_of
from vidrestore.frame import Frame, RestoredFrame
from vidrestore.layout import PixelLayout
from vidrestore.target import check_target

LAYOUT = PixelLayout("gray", "gray", 8, 0, 0, False, True, "bt709", "center")


def done_frame(index: int) -> RestoredFrame:
    """One restored face (a crop of 64 px, twice enlarged, its top left at (10, 20)) and one left alone."""
    frame = Frame(index, index * 40, Fraction(1, 1000), (np.zeros((100, 200), np.uint8),), LAYOUT)
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    box = np.float32([10, 20, 42, 52])
    seen = TrackedFace(2, box, points, 0.98765, points + 0.5, 0.0)
    bridged = TrackedFace(1, box, points, 0.5, None, 0.2)
    # Frame pixel 10 covers crop pixels 0 and 1, so its centre lies at 0.5.
    face = PlacedFace(seen, np.array([[2.0, 0, -19.5], [0, 2.0, -39.5]]), crop_px=64)
    return RestoredFrame(frame, frame, (face,), (SkippedFace(bridged, "smaller than 40 px"),))


def test_every_face_of_every_frame_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    with FacesFile(path, width_px=200, height_px=100) as faces_file:
        faces_file.write(done_frame(0))
        faces_file.write(done_frame(1))
        assert not path.exists()
    content = json.loads(path.read_text())
    assert (content["version"], content["width_px"], content["height_px"]) == (1, 200, 100)
    assert [(frame["index"], frame["time_s"]) for frame in content["frames"]] == [(0, 0.0), (1, 0.04)]
    left_alone, restored = content["frames"][1]["faces"]
    assert left_alone == {
        "track_id": 1,
        "score": 0.5,
        "box_xyxy_px": [10, 20, 42, 52],
        "landmarks_px": [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]],
        "detected_landmarks_px": None,
        "crop_corners_px": None,
        "restored": False,
        "strength": 0.0,
        "reason": "smaller than 40 px",
    }
    assert restored["restored"] is True
    assert restored["strength"] == 1.0
    assert restored["detected_landmarks_px"][0] == [0.5, 1.5]
    # outer edges of the crop's corner pixels, clockwise from top left
    assert restored["crop_corners_px"] == [[9.5, 19.5], [41.5, 19.5], [41.5, 51.5], [9.5, 51.5]]


def test_a_video_without_frames_gives_valid_json(tmp_path: Path) -> None:
    with FacesFile(tmp_path / "faces.json", width_px=2, height_px=2):
        pass
    assert json.loads((tmp_path / "faces.json").read_text())["frames"] == []


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    with FacesFile(path, width_px=200, height_px=100) as faces_file:
        faces_file.write(done_frame(0))
        faces_file.write(done_frame(1))
    listed = read_faces_file(path)
    assert (listed.width_px, listed.height_px, listed.num_frames) == (200, 100, 2)
    frame, later = listed.frames()
    assert (frame.time_s, later.time_s) == (0.0, 0.04)
    left_alone, restored = frame.faces
    assert (left_alone.track_id, left_alone.restored, left_alone.strength) == (1, False, 0.0)
    assert (restored.track_id, restored.restored, restored.strength) == (2, True, 1.0)
    assert np.array_equal(restored.landmarks_px, np.arange(10).reshape(5, 2))


def test_a_file_written_before_strengths_were_listed_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    with FacesFile(path, width_px=200, height_px=100) as faces_file:
        faces_file.write(done_frame(0))
    path.write_text(path.read_text().replace(', "strength": 1.0', "").replace(', "strength": 0.0', ""))
    assert "strength" not in path.read_text()
    left_alone, restored = next(read_faces_file(path).frames()).faces
    assert (left_alone.strength, restored.strength) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "no faces file"),
        ("[]", "no faces file of version 1"),
        ('{"version": 7}', "it says 7"),
        ('{"version": 1, "width_px": 2, "height_px": 2}', "'frames' is missing"),
        ('{"version": 1, "width_px": 2, "height_px": 2, "frames": {}}', "frames is {}; it must be a list"),
        (
            '{"version": 1, "width_px": 2, "height_px": 2, "frames": [{"time_s": 0, "faces": '
            '[{"track_id": 3, "landmarks_px": [[1, 2]], "restored": true}]}]}',
            "face 3 has landmarks",
        ),
        ('{"version": 1, "width_px": 2, "height_px": 2, "frames": [{"time_s": 0, "faces": [7]}]}', "damaged"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "faces.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_faces_file(path)
    assert "\n" not in str(caught.value)
    assert "restore --faces" in str(caught.value)


Content = dict[str, Any]


def in_lines(content: Content) -> str:
    """As we lay it out."""
    header = json.dumps({key: value for key, value in content.items() if key != "frames"})[:-1] + ', "frames": [\n'
    return header + ",\n".join(map(json.dumps, content["frames"])) + "\n]}\n"


def edited(tmp_path: Path, edit: Callable[[Content], object], layout: Callable[[Content], str] = in_lines) -> Path:
    """Four frames, 40 ms apart, of tracks 1 (left alone) and 2, and an edit of them."""
    path = tmp_path / "faces.json"
    with FacesFile(path, width_px=200, height_px=100, span_s=(None, 9.5)) as faces_file:
        for index in range(4):
            faces_file.write(done_frame(index))
    content = json.loads(path.read_text())
    assert in_lines(content) == path.read_text()
    edit(content)
    path.write_text(layout(content))
    return path


def strengths(path: Path, track_id: int = 2) -> list[float]:
    frames = read_faces_file(path).frames()
    return [face.strength for frame in frames for face in frame.faces if face.track_id == track_id]


LAYOUTS: dict[str, Callable[[Content], str]] = {
    "ours": in_lines,
    "on one line": json.dumps,
    "pretty-printed": lambda content: json.dumps(content, indent=2),
    "edits after the frames": lambda content: json.dumps({key: content[key] for key in sorted(content, reverse=True)}),
    "one frame broken up": lambda content: in_lines(content).replace('"faces": [', '"faces": [\n', 1),
    "edits broken up": lambda content: in_lines(content).replace('"edits": [', '"edits": [\n  '),
    "with Windows' line ends": lambda content: in_lines(content).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_an_edit_counts_however_the_file_is_laid_out(tmp_path: Path, layout: Callable[[Content], str]) -> None:
    edits = [
        {"track_id": 2, "strength": 0.5},
        {"track_id": 2, "from_s": 0.04, "to_s": 0.12, "strength": 0.25},  # the end is no longer part of it
        {"track_id": 1, "strength": 1},
    ]
    path = edited(tmp_path, lambda it: it.update(edits=edits), layout)
    assert strengths(path) == [0.5, 0.25, 0.25, 0.5]
    assert strengths(path, track_id=1) == [0, 0, 0, 0]  # left alone is left alone
    listed = read_faces_file(path)
    assert (listed.num_frames, listed.track_ids, listed.span_s) == (4, {1, 2}, (None, 9.5))


def test_an_edit_multiplies_what_the_frames_say(tmp_path: Path) -> None:
    def edit(content: Content) -> None:
        content["edits"] = [{"track_id": 2, "strength": 0.5}]
        content["frames"][1]["faces"][1]["strength"] = 0.3
        content["frames"][2]["faces"][1]["restored"] = False
        content["frames"][3]["faces"] = []

    assert strengths(edited(tmp_path, edit)) == [0.5, 0.15, 0]


def test_people_find_a_place_for_their_edits(tmp_path: Path) -> None:
    path = edited(tmp_path, lambda _: None)
    path.write_text(path.read_text().replace('"edits": []', '"edits": [{"track_id": 2, "strength": 0}]'))
    assert strengths(path) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda it: it.update(edits={}), "edits is {}; it must be a list"),
        (lambda it: it.update(edits=[3]), "edit 0 is 3; it must be an object"),
        (lambda it: it.update(edit=[]), 'the file has "edit", which is none of .*edits'),
        (lambda it: it.update(edits=[{"track_id": 2}]), "'strength' is missing"),
        (lambda it: it.update(edits=[{"strength": 1}]), "'track_id' is missing"),
        (lambda it: it.update(edits=[{"track_id": 7, "strength": 1}]), "edit 0 is of track 7; its tracks are 1, 2"),
        (lambda it: it.update(edits=[{"track_id": "2", "strength": 1}]), 'track_id of edit 0 is "2"; .* whole number'),
        (lambda it: it.update(edits=[{"track_id": True, "strength": 1}]), "track_id of edit 0 is true"),
        (lambda it: it.update(edits=[{"track_id": 2, "strength": 1.5}]), "strength of edit 0 is 1.5; .* from 0 to 1"),
        (lambda it: it.update(edits=[{"track_id": 2, "strength": float("nan")}]), "strength of edit 0 is NaN"),
        (lambda it: it.update(edits=[{"track_id": 2, "strength": 1, "to_s": "1:20"}]), 'to_s of edit 0 is "1:20"'),
        (
            lambda it: it.update(edits=[{"track_id": 2, "strength": 1, "from": 3}]),
            'edit 0 has "from", which is none of',
        ),
        (
            lambda it: it.update(edits=[{"track_id": 2, "strength": 1, "from_s": 2, "to_s": 1}]),
            "edit 0 goes from 2 s to 1 s",
        ),
        (lambda it: it["frames"][2]["faces"][1].update(strength=-1), "frame 2: face 2: strength is -1"),
        (lambda it: it["frames"][2]["faces"][1].update(strenght=0.5), 'a face of frame 2 has "strenght"'),
        (lambda it: it["frames"][2]["faces"][1].update(reason=["a\nb"]), "for a reason; it must be text"),
        (lambda it: it["frames"][2]["faces"][1].update(moment=1), "frame 2: face 2 has 1 for its moment"),
        (lambda it: it["frames"][2].update(moments=2), "frame 2: face 1 has null for its moment"),
        (lambda it: it["frames"][2].update(faces=None), "faces of frame 2 is null; it must be a list"),
        (lambda it: it["frames"].append(None), "frame 4 is null"),
        (lambda it: it.update(span_s=[1]), "span_s"),
        (lambda it: it.update(height_px=-1), "height_px is -1"),
    ],
)
@pytest.mark.parametrize("layout", ["ours", "pretty-printed"])
def test_an_edit_that_makes_no_sense_is_one_line(
    tmp_path: Path, layout: str, edit: Callable[[Content], object], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read_faces_file(edited(tmp_path, edit, LAYOUTS[layout]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path: Path, layout: str) -> None:
    path = edited(tmp_path, lambda _: None, LAYOUTS[layout])
    content = path.read_bytes().rstrip()
    for end in range(0, len(content), 37):
        path.write_bytes(content[:end])
        with pytest.raises(SourceError, match="no faces file") as caught:
            read_faces_file(path)
        assert "\n" not in str(caught.value)


def test_a_file_with_any_byte_damaged_is_read_or_refused_in_one_line(tmp_path: Path, rng: np.random.Generator) -> None:
    path = edited(tmp_path, lambda _: None)
    content = path.read_bytes()
    messages = []
    for _ in range(500):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            list(read_faces_file(path).frames())
        except SourceError as exc:
            messages.append(str(exc))
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)


def test_a_file_that_changes_during_the_run_is_one_line(tmp_path: Path) -> None:
    path = edited(tmp_path, lambda _: None)
    listed = read_faces_file(path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(SourceError, match="was changed while it was read"):
        list(listed.frames())


def test_what_a_pipe_brings_is_read_too(tmp_path: Path) -> None:
    """`--from-faces <(jq ...)`: it can be read only once."""
    path, pipe = edited(tmp_path, lambda _: None), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    listed = read_faces_file(pipe)
    writer.join()
    assert [len(list(listed.frames())) for _ in range(2)] == [4, 4]


def test_a_long_film_is_read_in_little_memory(tmp_path: Path) -> None:
    """Whole, its 3,000 frames take 15 MB."""
    path, entry = tmp_path / "faces.json", frame_entry(done_frame(0).frame, done_frame(0).faces, done_frame(0).skipped)
    with FacesFile(path, width_px=200, height_px=100) as faces_file:
        for index in range(3_000):
            faces_file.add({**entry, "index": index, "time_s": index / 25})
    tracemalloc.start()
    try:
        listed = read_faces_file(path)
        assert sum(len(frame.faces) for frame in listed.frames()) == 6_000
        (_, second) = tracks_of(listed)
        assert tracemalloc.get_traced_memory()[1] < 3e5
    finally:
        tracemalloc.stop()
    assert second.num_frames == 3_000


def test_people_are_told_when_each_track_is_there_and_how_large(tmp_path: Path) -> None:
    def edit(content: Content) -> None:
        del content["frames"][0]["faces"][1]
        content["frames"][1]["faces"][1]["landmarks_px"][1] = [300, 401]  # the median does not mind
        content["edits"] = [{"track_id": 2, "from_s": 0.1, "strength": 0.4}]

    left_alone, restored = tracks_of(read_faces_file(edited(tmp_path, edit)))
    assert (left_alone.track_id, left_alone.begin_s, left_alone.end_s) == (1, 0.0, 0.12)
    assert (left_alone.num_frames, left_alone.strength) == (4, 0.0)
    assert (restored.track_id, restored.begin_s, restored.end_s, restored.num_frames) == (2, 0.04, 0.12, 3)
    assert restored.eyes_apart_px == pytest.approx(8**0.5)
    assert restored.strength == pytest.approx((1 + 1 + 0.4) / 3)


def interlaced() -> RestoredFrame:
    """Face 2 in both moments, and face 1, left alone, in the second only."""
    done = done_frame(0)
    (face,), (left_alone,) = done.faces, done.skipped
    frame = replace(done.frame, fields="top first")
    faces = (replace(face, moment=1), replace(face, moment=2))
    return RestoredFrame(frame, frame, faces, (replace(left_alone, moment=2),))


def test_an_interlaced_frame_lists_the_faces_of_both_its_moments(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    with FacesFile(path, width_px=200, height_px=100) as faces_file:
        faces_file.write(interlaced())
        faces_file.write(RestoredFrame(interlaced().frame, interlaced().frame, (), ()))
        faces_file.write(done_frame(2))
    first, empty, film = read_faces_file(path).frames()
    assert [(face.moment, face.track_id) for face in first.faces] == [(1, 2), (2, 1), (2, 2)]
    assert [(face.moment, face.track_id) for face in film.faces] == [(0, 1), (0, 2)]
    assert (first.num_moments, empty.num_moments, film.num_moments) == (2, 2, 1)
    assert [track.num_frames for track in tracks_of(read_faces_file(path))] == [2, 2]
    twice = json.loads(path.read_text())
    twice["frames"][0]["faces"].append(twice["frames"][0]["faces"][0])
    path.write_text(in_lines(twice))
    with pytest.raises(SourceError, match="frame 0 has one face twice"):
        read_faces_file(path)


def test_the_clock_starts_with_the_first_frame_of_a_run_with_start(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    done = done_frame(25)  # at 1 s
    entry = frame_entry(done.frame, done.faces, done.skipped)
    with FacesFile(path, width_px=200, height_px=100, clock_moves=True) as faces_file:
        faces_file.add(entry)
        faces_file.add(json.loads(json.dumps({**entry, "time_s": 1.04})))
    assert [frame.time_s for frame in read_faces_file(path).frames()] == [0, 0.04]
    assert entry["time_s"] == 1.0


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    def fail() -> None:
        with FacesFile(tmp_path / "faces.json", width_px=2, height_px=2) as faces_file:
            faces_file.write(done_frame(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("source.mp4", "is the source itself"),
        ("other.mp4", "exists already; use --overwrite"),
        ("folder", "is a folder"),
        ("absent/new.mp4", "does not exist; make it first"),
    ],
)
def test_a_target_that_must_not_be_written_is_refused_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "source.mp4").write_bytes(b"source")
    (tmp_path / "other.mp4").write_bytes(b"other")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TargetError, match=message):
        check_target(tmp_path / name, tmp_path / "source.mp4", overwrite=False)
    assert (tmp_path / "other.mp4").read_bytes() == b"other"


def test_overwrite_never_means_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(b"source")
    (tmp_path / "link.mp4").symlink_to(source)
    with pytest.raises(TargetError, match="is the source itself"):
        check_target(tmp_path / "link.mp4", source, overwrite=True)
