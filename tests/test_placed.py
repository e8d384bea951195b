"""Nothing of the user's is replaced unasked, and what a run has put in its place itself is no obstacle to going on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests import killed
from tests.clips import CLIPS
from tests.scans import contents, make_images, names, restore
from tests.stopped import content
from vidrestore import outputs, work
from vidrestore.errors import TargetError
from vidrestore.options import Options
from vidrestore.pipeline import analyze_video, restore_video
from vidrestore.placed import identity, is_placed, note_placed
from vidrestore.verify.pair import VerifyError
from vidrestore.video.write_sequence import SequenceWriter

MEMORY_DISK = Path("/dev/shm")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SEGMENT_FRAMES", killed.SEGMENT_FRAMES)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return CLIPS["long"].make(tmp_path)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    if not MEMORY_DISK.is_dir() or MEMORY_DISK.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    with TemporaryDirectory(dir=MEMORY_DISK) as folder:
        yield Path(folder)


def refuse(*_: object, **__: object) -> None:
    raise VerifyError("differs")


def stopped_at_the_end(source: Path, target: Path, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faces file has its place, the video has not."""
    with monkeypatch.context() as patched:
        patched.setattr(outputs, "verify_output", refuse)
        with pytest.raises(VerifyError):
            restore_video(source, target, options, models=killed.models())
    assert options.faces is not None
    assert options.faces.exists()
    assert not target.exists()


def test_what_a_stopped_run_has_put_in_its_place_it_replaces_itself(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, options = tmp_path / "out.mp4", Options(device="cpu", faces=tmp_path / "faces.json", verify=True)
    stopped_at_the_end(source, target, options, monkeypatch)
    report = restore_video(source, target, options, models=killed.models())
    assert (report.num_frames, report.num_frames_resumed, report.verified) == (150, 150, True)


def test_a_faces_file_that_was_edited_since_is_the_users(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, target = tmp_path / "faces.json", tmp_path / "out.mp4"
    options = Options(device="cpu", faces=faces, verify=True)
    stopped_at_the_end(source, target, options, monkeypatch)
    faces.write_text(faces.read_text().replace('"edits": []', '"edits": [{"track_id": 1, "strength": 0.3}]', 1))
    edited = faces.read_bytes()
    with pytest.raises(TargetError, match=r"faces\.json: exists already; use --overwrite"):
        restore_video(source, target, options, models=killed.models())
    assert faces.read_bytes() == edited


def test_a_file_of_the_outputs_name_that_was_never_put_there_is_the_users(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, options = tmp_path / "out.mp4", Options(device="cpu", faces=tmp_path / "faces.json", verify=True)
    stopped_at_the_end(source, target, options, monkeypatch)
    target.write_text("precious")
    with pytest.raises(TargetError, match=r"out\.mp4: exists already; use --overwrite"):
        restore_video(source, target, options, models=killed.models())
    assert target.read_text() == "precious"


def test_an_analysis_of_that_name_that_was_edited_is_the_users(source: Path, tmp_path: Path) -> None:
    faces, options = tmp_path / "faces.json", Options(device="cpu")
    analyze_video(source, faces, options, models=killed.models())
    folder = work.work_folder(faces)
    folder.mkdir()
    note_placed(folder, faces, faces)  # as after a kill between this and clearing up
    analyze_video(source, faces, options, models=killed.models())
    folder.mkdir()
    note_placed(folder, faces, faces)
    faces.write_text("edited")
    with pytest.raises(TargetError, match="exists already"):
        analyze_video(source, faces, options, models=killed.models())
    assert faces.read_text() == "edited"


def test_a_place_is_known_however_it_is_spelled_and_forgotten_when_damaged(tmp_path: Path) -> None:
    place = tmp_path / "out.mp4"
    (tmp_path / "sub").mkdir()
    place.write_text("done")
    note_placed(tmp_path, place, place)
    assert is_placed(tmp_path, place)
    assert is_placed(tmp_path, tmp_path / "sub" / ".." / "out.mp4")
    for damaged in ("5", "[]", "", '{"crc32": 0, "content": [["", ""]]}', "\0"):
        (tmp_path / "placed.json").write_text(damaged)
        assert not is_placed(tmp_path, place)


def test_images_are_known_by_every_file_of_theirs(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images", count=3)
    before = identity(folder)
    os.rename(folder, tmp_path / "moved")
    assert identity(tmp_path / "moved") == before
    (tmp_path / "moved" / ".DS_Store").write_text("what a file manager notes is no change")
    assert identity(tmp_path / "moved") == before
    image = tmp_path / "moved" / "frame_000102.png"
    image.write_bytes(image.read_bytes())
    assert identity(tmp_path / "moved") != before


def test_that_an_output_was_placed_is_forgotten_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed while it clears up may be repeated without --overwrite."""
    deleted: list[str] = []
    unlink = os.unlink

    def noted(path: str, **words: Any) -> None:
        deleted.append(Path(path).name)
        unlink(path, **words)

    with work.WorkFolder(tmp_path / "out.mp4") as kept:
        for number in range(3):
            kept.begin_segment(number)
            kept.finish_segment(number, {})
        (kept.path / "looks.jsonl").touch()
        kept.place(tmp_path / "out.mp4", kept.looks)
        monkeypatch.setattr(os, "unlink", noted)
    assert deleted.count("segment.json") == 3
    assert deleted[-1] == "placed.json"
    assert list(tmp_path.iterdir()) == []


def test_a_work_folder_on_another_disk_is_used_and_cleared(source: Path, tmp_path: Path, other_disk: Path) -> None:
    target, link = tmp_path / "out.mp4", tmp_path / "out.mp4.work"
    link.symlink_to(other_disk)
    options = Options(device="cpu", faces=tmp_path / "faces.json", compare=tmp_path / "both.mp4")
    restore_video(source, target, options, models=killed.models())
    assert list(other_disk.iterdir()) == []
    assert names(tmp_path) == sorted([source.name, "out.mp4", "both.mp4", "faces.json"])
    with pytest.raises(TargetError, match="exists already"):
        restore_video(source, target, options, models=killed.models())


def test_images_whose_work_folder_is_on_another_disk_are_refused_before_any_work(
    tmp_path: Path, other_disk: Path
) -> None:
    images = make_images(tmp_path / "scans", count=2)
    (tmp_path / "out.work").symlink_to(other_disk)
    with pytest.raises(TargetError, match=r"out\.work: is not on the disk of .*delete that link"):
        restore(images, f"{tmp_path}/out/")


KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from tests.scans import restore
rename = os.rename
def renamed(one, other):
    rename(one, other)
    if str(other).endswith("-replaced"): os.kill(os.getpid(), signal.SIGKILL)
os.rename = renamed
restore(Path(sys.argv[1]), sys.argv[2], overwrite=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs kills")
def test_old_images_survive_a_kill_while_they_are_replaced(tmp_path: Path) -> None:
    images, target = make_images(tmp_path / "scans", count=4), tmp_path / "out"
    restore(images, f"{target}/", strength=0.0)
    old = contents(target)

    def kill() -> None:
        command = [sys.executable, "-c", KILLED_BETWEEN, str(images), f"{target}/"]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, check=False)
        assert done.returncode == -9, done.stderr
        assert not target.exists()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    kill()
    with pytest.raises(TargetError, match="is not empty; use --overwrite"):
        restore(images, f"{target}/")
    assert contents(target) == old
    kill()
    with pytest.raises(KeyboardInterrupt):
        restore(images, f"{target}/", overwrite=True, strength=0.5, on_frame=stop)
    assert contents(target) == old
    kill()
    target.mkdir()
    (target / "frame_000101.png").write_text("another's")
    with pytest.raises(KeyboardInterrupt) as stopped:
        restore(images, f"{target}/", overwrite=True, strength=0.5, on_frame=stop)
    (kept,) = (tmp_path / "out.work").glob("*-replaced")
    assert stopped.value.__notes__ == [f"the images that were in {target} before are kept in {kept}"]
    assert (contents(kept), names(target)) == (old, ["frame_000101.png"])
    restore(images, f"{target}/", overwrite=True)
    assert contents(target).keys() == old.keys()
    assert contents(target) != old
    assert names(tmp_path) == ["out", "scans"]


def test_images_that_a_run_has_put_in_their_place_it_replaces_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, target = make_images(tmp_path / "scans", count=7), tmp_path / "out"
    close = SequenceWriter.close

    def stopped(self: SequenceWriter) -> None:
        close(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SequenceWriter, "close", stopped)
        with pytest.raises(KeyboardInterrupt):
            restore(images, f"{target}/")
    assert len(names(target)) == 7
    assert len(json.loads((tmp_path / "out.work" / "placed.json").read_text())["content"]) == 1
    report = restore(images, f"{target}/")
    assert report.num_frames_resumed == 7
    assert names(tmp_path) == ["out", "scans"]
    assert content(target / "frame_000101.png") != content(images / "frame_000101.png")
