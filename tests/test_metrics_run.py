"""`restore --report` and `vidrestore report`: the page appears, and the video is what it would have been."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clips import CLIPS
from tests.fakes import FixedDetector, IdentityRestorer, face_at
from tests.measured_clips import detector_in_crops, flickering, write_clip, write_faces
from vidrestore import cli
from vidrestore.cli import main
from vidrestore.errors import SourceError, TargetError
from vidrestore.loading import Models
from vidrestore.metrics import measure
from vidrestore.metrics.run import report_on
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.video.read import VideoReader

CLIP = CLIPS["h264"]


def models() -> Models:
    face = face_at(CLIP.width_px / 2 * 8, CLIP.height_px / 2 * 8, CLIP.width_px * 4)
    return Models(FixedDetector((face,)), IdentityRestorer())


def test_the_video_is_the_same_with_and_without_a_report(tmp_path: Path) -> None:
    source = CLIP.make(tmp_path)
    options = Options(lossless=True, min_face_px=1)
    restore_video(source, tmp_path / "plain.mkv", options, models=models())
    page = tmp_path / "page.html"
    report = restore_video(source, tmp_path / "out.mkv", options.changed({"report": page}, origin=""), models=models())
    with VideoReader(tmp_path / "plain.mkv") as plain, VideoReader(tmp_path / "out.mkv") as out:
        for one, other in zip(plain.frames(), out.frames(), strict=True):
            assert one.time_s == other.time_s
            assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
    content = json.loads((tmp_path / "page.json").read_text())
    assert content["num_frames"] == report.num_frames == CLIP.num_frames
    assert content["videos"] == {"source": str(source), "restored": str(tmp_path / "out.mkv")}
    assert list(content["faces"]) == ["1"]
    assert page.read_text().startswith("<!doctype html>")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([source.name, "plain.mkv", "out.mkv", "page.html", "page.json"])


def test_a_part_of_a_video_is_compared_with_that_part(tmp_path: Path) -> None:
    source = CLIP.make(tmp_path)
    options = Options(lossless=True, min_face_px=1, start=0.12, end=0.32, report=tmp_path / "r.html")
    restore_video(source, tmp_path / "out.mkv", options, models=models())
    assert json.loads((tmp_path / "r.json").read_text())["num_frames"] == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [("page.txt", "ends in .html"), ("there.html", "exists already"), ("absent/r.html", "does not exist")],
)
def test_a_page_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    source = CLIP.make(tmp_path)
    (tmp_path / "there.html").write_text("mine")
    with pytest.raises(TargetError, match=message):
        restore_video(source, tmp_path / "out.mkv", Options(report=tmp_path / name), models=models())
    assert not (tmp_path / "out.mkv").exists()
    assert (tmp_path / "there.html").read_text() == "mine"


def test_the_json_beside_the_page_is_no_other_output(tmp_path: Path) -> None:
    source = CLIP.make(tmp_path)
    options = Options(report=tmp_path / "r.html", faces=tmp_path / "r.json")
    with pytest.raises(TargetError, match="same name"):
        restore_video(source, tmp_path / "out.mkv", options, models=models())


def run(*arguments: object) -> int:
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def test_the_command_writes_page_and_json_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "load_detector", lambda *_, **__: detector_in_crops())
    source = write_clip(tmp_path / "a.mkv")
    restored = write_clip(tmp_path / "b.mkv", flickering)
    faces = write_faces(tmp_path / "f.json")
    page = tmp_path / "b_report.html"
    arguments = ("report", source, restored, "--faces", faces, "--reference", source, "--device", "cpu")
    assert run(*arguments) == 0
    assert capsys.readouterr().out == f"{page}\n"
    content = json.loads((tmp_path / "b_report.json").read_text())
    assert set(content["figures"]["psnr_db"]["values"]) == {"source", "restored"}
    assert run(*arguments) == 2
    assert "exists already; use --overwrite" in capsys.readouterr().err
    assert run(*arguments, "--overwrite") == 0


def test_videos_that_do_not_belong_together_are_one_line_and_leave_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "load_detector", lambda *_, **__: detector_in_crops())
    source, short = write_clip(tmp_path / "a.mkv"), write_clip(tmp_path / "b.mkv", numbers=range(9))
    assert run("report", source, short, "--faces", write_faces(tmp_path / "f.json"), "-o", tmp_path / "r.html") == 2
    error = capsys.readouterr().err
    assert "b.mkv: ends after 9 frames" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "r.html").exists()
    assert not (tmp_path / "r.json").exists()


Content = dict[str, Any]


def first_face(content: Content) -> dict[str, Any]:
    face: dict[str, Any] = content["frames"][0]["faces"][0]
    return face


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda it: first_face(it).update(landmarks_px=[[50, 50]] * 5), "span no face"),
        (lambda it: first_face(it).update(landmarks_px=[[1e300, 3], [-1e300, 5], [1, 1], [1, 2], [3, 4]]), "landmarks"),
        (lambda it: first_face(it)["landmarks_px"][0].__setitem__(0, 10**400), "landmarks"),
        (lambda it: first_face(it).update(track_id=math.inf), "damaged"),
        (lambda it: first_face(it).update(restored="false"), "neither true nor false"),
        (lambda it: it["frames"][0]["faces"].append(first_face(it)), "one face twice"),
        (lambda it: it.update(width_px=math.inf), "damaged"),
        (lambda it: it["frames"][3].update(time_s=7.0), "frame 3 is not when"),
        (lambda it: it["frames"][3].update(time_s=math.nan), "time_s of frame 3 is NaN"),
    ],
)
def test_a_faces_file_edited_into_nonsense_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Content], None],
    message: str,
) -> None:
    monkeypatch.setattr(measure, "load_detector", lambda *_, **__: detector_in_crops())
    source, faces = write_clip(tmp_path / "a.mkv"), write_faces(tmp_path / "f.json")
    content = json.loads(faces.read_text())
    spoil(content)
    faces.write_text(json.dumps(content))
    assert run("report", source, source, "--faces", faces, "-o", tmp_path / "r.html", "--device", "cpu") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_a_faces_file_of_brackets_without_end_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, faces = write_clip(tmp_path / "a.mkv"), tmp_path / "f.json"
    faces.write_text("[" * 100_000)
    assert run("report", source, source, "--faces", faces, "-o", tmp_path / "r.html", "--device", "cpu") == 2
    assert "no faces file" in capsys.readouterr().err


def test_a_still_image_cannot_be_reported_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = tmp_path / "still.png"
    still.write_bytes(b"no matter")
    assert run("report", still, write_clip(tmp_path / "b.mkv"), "-o", tmp_path / "r.html") == 2
    assert "is a still image" in capsys.readouterr().err


def test_a_name_that_is_no_unicode_has_a_page_too(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"\xff.mkv")
    try:
        os.replace(write_clip(tmp_path / "a.mkv"), source)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    report_on(source, source, tmp_path / "r.html", faces=write_faces(tmp_path / "f.json"), detector=detector_in_crops())
    assert "dcff.mkv" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_ctrl_c_while_measuring_leaves_the_video_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vidrestore.metrics.run.measure", interrupted)
    source = CLIP.make(tmp_path)
    options = Options(lossless=True, min_face_px=1, report=tmp_path / "r.html")
    with pytest.raises(KeyboardInterrupt, match=r"out.mkv itself is complete"):
        restore_video(source, tmp_path / "out.mkv", options, models=models())
    assert (tmp_path / "out.mkv").exists()
    assert not (tmp_path / "r.html").exists()


def test_the_command_line_says_that_the_video_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("r.html was not written; out.mkv itself is complete")

    monkeypatch.setattr("vidrestore.cli.run", interrupted)
    with pytest.raises(SystemExit) as left:
        main(["restore", str(CLIP.make(tmp_path))])
    assert left.value.code == 130
    assert capsys.readouterr().err.endswith("interrupted; r.html was not written; out.mkv itself is complete\n")


def test_a_report_never_takes_the_place_of_what_it_reads(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mkv")
    faces = write_faces(tmp_path / "r.json")
    with pytest.raises(TargetError, match="is the source itself"):
        report_on(source, source, tmp_path / "r.html", faces=faces, overwrite=True)
    assert "frames" in json.loads(faces.read_text())
    with pytest.raises(SourceError, match="no such file"):
        report_on(source, tmp_path / "absent.mkv", tmp_path / "r.html")


def test_a_still_image_has_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = tmp_path / "still.png"
    still.write_bytes(b"no matter")
    assert run("restore", still, "-o", tmp_path / "out.png", "--report", tmp_path / "r.html") == 2
    assert "measures faces over time" in capsys.readouterr().err
