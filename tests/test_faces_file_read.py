"""What was written is read again, and what is no faces file is refused in one line."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.listed_frames import LAYOUTS, done_frame, edited
from vidrestore.errors import SourceError
from vidrestore.faces_file.read import read_faces_file
from vidrestore.faces_file.summary import tracks_of
from vidrestore.faces_file.write import FacesFile, frame_entry


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


@pytest.mark.skipif(os.name == "nt", reason="no such files")
def test_what_can_be_read_only_once_or_has_no_end_is_refused(tmp_path: Path) -> None:
    """A pipe gives its content to the first who reads, and a run reads it several times: to restore other frames than
    it has checked, or to wait for ever, would be the end of it."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(SourceError, match=f"^{path}: is no regular file; save what it brings to a file first"):
            read_faces_file(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_byte_order_mark_is_no_matter(tmp_path: Path, layout: str) -> None:
    """Notepad saves one."""
    path = edited(tmp_path, lambda _: None, LAYOUTS[layout])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    listed = read_faces_file(path)
    assert [len(list(listed.frames())) for _ in range(2)] == [4, 4]


@pytest.mark.parametrize("layout", ["ours", "on one line"])
@pytest.mark.parametrize(
    ("once", "twice"),
    [
        ('"edits": []', '"edits": [{"track_id": 2, "strength": 0}], "edits": []'),
        ('"time_s": 0.04', '"time_s": 0.04, "time_s": 0.08'),
        ('"strength": 1.0', '"strength": 0.0, "strength": 1.0'),
    ],
)
def test_a_key_that_stands_twice_is_refused_and_no_edit_is_lost_in_silence(
    once: str, twice: str, layout: str, tmp_path: Path
) -> None:
    """A line above our empty "edits" would have no effect: of two JSON takes the last."""
    path = edited(tmp_path, lambda _: None, LAYOUTS[layout])
    path.write_text(path.read_text().replace(once, twice, 1))
    key = once.split(":")[0]
    with pytest.raises(SourceError, match=rf"a damaged faces file \({key} stands there twice") as caught:
        read_faces_file(path)
    assert "\n" not in str(caught.value)


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
