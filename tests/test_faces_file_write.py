"""The faces file is a contract: other programs read it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.listed_frames import done_frame, in_lines
from vidrestore.errors import SourceError
from vidrestore.faces_file.read import read_faces_file
from vidrestore.faces_file.summary import tracks_of
from vidrestore.faces_file.write import FacesFile, frame_entry
from vidrestore.frame import RestoredFrame


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
