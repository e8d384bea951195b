"""The faces file is a contract: other programs read it."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidrestore.errors import SourceError, TargetError
from vidrestore.face import PlacedFace, SkippedFace, TrackedFace
from vidrestore.faces_file import FacesFile, read_faces_file
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
    assert (listed.width_px, listed.height_px) == (200, 100)
    assert [frame.time_s for frame in listed.frames] == [0.0, 0.04]
    left_alone, restored = listed.frames[0].faces
    assert (left_alone.track_id, left_alone.restored, left_alone.strength) == (1, False, 0.0)
    assert (restored.track_id, restored.restored, restored.strength) == (2, True, 1.0)
    assert np.array_equal(restored.landmarks_px, np.arange(10).reshape(5, 2))


def test_a_file_written_before_strengths_were_listed_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    with FacesFile(path, width_px=200, height_px=100) as faces_file:
        faces_file.write(done_frame(0))
    path.write_text(path.read_text().replace(', "strength": 1.0', "").replace(', "strength": 0.0', ""))
    assert "strength" not in path.read_text()
    left_alone, restored = read_faces_file(path).frames[0].faces
    assert (left_alone.strength, restored.strength) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "no faces file"),
        ("[]", "no faces file of version 1"),
        ('{"version": 7}', "it says 7"),
        ('{"version": 1, "width_px": 2, "height_px": 2}', "'frames' is missing"),
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
