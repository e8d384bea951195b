"""Images go where the user meant, and replace nothing that is not of the same run."""

import os
from pathlib import Path

import pytest

from tests.clips import CLIPS
from tests.scans import contents, make_images, names, restore
from vidrestore.cli import target_for
from vidrestore.errors import InputError, OptionsError, TargetError
from vidrestore.frame import RestoredFrame
from vidrestore.report import Report


def test_only_images_of_these_names_are_replaced(tmp_path: Path) -> None:
    source, target = make_images(tmp_path / "scans"), tmp_path / "out"
    restore(source, f"{target}/", strength=0.0)
    first = contents(target)
    with pytest.raises(TargetError, match="is not empty; use --overwrite"):
        restore(source, f"{target}/")
    (target / "notes.txt").write_text("mine")
    with pytest.raises(TargetError, match=r"holds notes\.txt, which this run would not write"):
        restore(source, f"{target}/", overwrite=True)
    (target / "notes.txt").unlink()
    restore(source, f"{target}/", overwrite=True)
    assert names(target) == sorted(first)
    assert contents(target) != first
    # More images than this run makes: they may be somebody's.
    with pytest.raises(TargetError, match=r"holds frame_000107\.png and 5 more"):
        restore(source, f"{target}/", overwrite=True, end=0.25)
    assert names(target) == sorted(first)
    with pytest.raises(TargetError, match="is the source's own folder"):
        restore(source, source, overwrite=True)
    assert names(tmp_path) == ["out", "scans"] or "out.work" in names(tmp_path)


REFUSED: dict[str, dict[str, object]] = {
    "leave crf out": {"crf": 20},
    "leave codec out": {"codec": "ffv1"},
    "leave --stream": {"stream": 0},
}


@pytest.mark.parametrize("message", REFUSED)
def test_options_without_meaning_for_images_are_refused(tmp_path: Path, message: str) -> None:
    source = make_images(tmp_path / "scans", count=2)
    with pytest.raises(OptionsError, match=message):
        restore(source, f"{tmp_path}/out/", **REFUSED[message])
    assert names(tmp_path) == ["scans"]


def test_outputs_are_found_from_what_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_images(tmp_path / "scans", "png, 8 bits", 2)
    monkeypatch.chdir(tmp_path)
    folder = Path("scans")
    assert target_for(folder, None) == tmp_path / "scans_restored" / "frame_%06d.png"
    assert target_for(folder / "frame_%06d.png", "new/") == Path("new/frame_%06d.png")
    assert target_for(folder, "new/x_%04d.dpx") == Path("new/x_%04d.dpx")
    assert target_for(folder, "film.mkv") == Path("film.mkv")
    assert target_for(source / "frame_000101.png", None) == source / "frame_000101_restored.png"
    assert target_for(CLIPS["silent"].make(tmp_path), f"frames{os.sep}") == Path("frames/%06d.png")
    with pytest.raises(InputError, match="name a folder for the images"):
        restore(folder, "%06d.png")


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_what_a_file_manager_notes_about_the_folder_costs_no_run(tmp_path: Path, name: str) -> None:
    """It comes by itself, when somebody looks at the folder: before the first run, or in the middle of one."""
    source, target = make_images(tmp_path / "scans", count=7), tmp_path / "out"
    target.mkdir()
    (target / name).write_text("before")

    def look_at_folder(_done: RestoredFrame, report: Report) -> None:
        if report.num_frames == 6:
            (target / name).write_text("meanwhile")

    restore(source, f"{target}/", on_frame=look_at_folder)
    assert names(target) == sorted([name, *names(source)])
    assert (target / name).read_text() == "meanwhile"
    restore(source, f"{target}/", overwrite=True)
    assert (target / name).read_text() == "meanwhile"
    (target / name).unlink()
    (target / name).mkdir()
    with pytest.raises(TargetError, match="which this run would not write"):
        restore(source, f"{target}/", overwrite=True)


def test_a_file_that_comes_among_the_images_costs_no_finished_work(tmp_path: Path) -> None:
    source, target = make_images(tmp_path / "scans", count=12), tmp_path / "out"
    target.mkdir()

    def put_notes(_done: RestoredFrame, report: Report) -> None:
        if report.num_frames == 6:
            (target / "notes.txt").write_text("mine")

    with pytest.raises(TargetError, match=r"holds notes\.txt") as refused:
        restore(source, f"{target}/", on_frame=put_notes)
    assert "12 frames are finished and kept" in refused.value.__notes__[0]
    (target / "notes.txt").unlink()
    report = restore(source, f"{target}/")
    assert (report.num_frames, report.num_frames_resumed) == (12, 12)
