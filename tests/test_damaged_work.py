"""Work files that a bad disk has changed are noticed: what they told is made again, and nothing else is lost."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import killed
from tests.clips import CLIPS
from tests.stopped import content, stop
from vidrestore import work
from vidrestore.errors import TargetError
from vidrestore.models.remembered import RememberedDetector
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.sealed import sealed, unsealed

PICTURES = np.random.default_rng(0).integers(0, 255, (2, 48, 64, 3), np.uint8)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SEGMENT_FRAMES", killed.SEGMENT_FRAMES)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return CLIPS["long"].make(tmp_path)


def test_looks_cut_off_in_the_middle_are_asked_for_again(source: Path, tmp_path: Path) -> None:
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore_video(source, whole, Options(device="cpu"), models=killed.models())
    stop(source, target, 70)
    looks = work.work_folder(target) / "looks.jsonl"
    lines = looks.read_bytes().splitlines(keepends=True)
    assert len(lines) > 5
    looks.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    restore_video(source, target, Options(device="cpu"), models=killed.models())
    assert content(target) == content(whole)


def test_a_damaged_segment_is_made_again(source: Path, tmp_path: Path) -> None:
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore_video(source, whole, Options(device="cpu"), models=killed.models())
    stop(source, target, 90)
    segments = [work.work_folder(target) / f"segment_{number:05d}" for number in range(4)]
    packets = (segments[1] / "picture").read_bytes()
    (segments[0] / "picture").write_bytes(packets[:-10])
    (segments[1] / "picture").write_bytes(bytes(byte ^ (index == 99) for index, byte in enumerate(packets)))
    (segments[2] / "segment.json").write_bytes(b"")
    report = restore_video(source, target, Options(device="cpu"), models=killed.models())
    assert report.num_frames_resumed == 20
    assert content(target) == content(whole)


def ask(path: Path) -> int:
    """Shows the two pictures, one by one; how many the detector itself was asked about."""
    models = killed.models()
    with RememberedDetector(models.detector, path) as remembered:
        answers = [remembered.detect(picture[None]) for picture in PICTURES]
    for picture, answer in zip(PICTURES, answers, strict=True):
        (right,) = killed.models().detector.detect(picture[None])
        assert np.array_equal(answer[0][0].landmarks_px, right[0].landmarks_px)
    return models.detector.num_asked  # type: ignore[attr-defined,no-any-return]


def test_no_single_changed_byte_of_what_the_detector_saw_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "looks.jsonl"
    assert ask(path) == 2
    assert ask(path) == 0
    whole = path.read_bytes()
    digits = [match.start() for match in re.finditer(rb"\d", whole)]
    for place in digits[:: len(digits) // 40]:
        changed = bytearray(whole)
        changed[place] = ord("8") if changed[place] != ord("8") else ord("1")
        path.write_bytes(changed)
        assert ask(path) >= (place < whole.index(b"\n")) + 1
        assert path.read_bytes() == whole


LOOKS: dict[str, Callable[[dict], object]] = {  # type: ignore[type-arg]
    "no faces": lambda look: {**look, "faces": []},
    "no list": lambda look: {**look, "faces": 5},
    "a score that is none": lambda look: {**look, "faces": [[{**look["faces"][0][0], "score": "a"}]]},
    "a list": lambda _: [],
    "a number": lambda _: 5,
}


@pytest.mark.parametrize("what", LOOKS)
def test_looks_that_make_no_sense_are_asked_for_again(tmp_path: Path, what: str) -> None:
    path = tmp_path / "looks.jsonl"
    ask(path)
    whole = path.read_bytes()
    first, second = whole.splitlines()
    path.write_bytes(sealed(LOOKS[what](unsealed(first))).encode() + b"\n" + second + b"\n")
    assert ask(path) == 2
    assert path.read_bytes() == whole


def test_a_description_of_a_segment_that_was_changed_is_not_believed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    stop(source, target, 130)
    files = sorted(work.work_folder(target).glob("segment_*/segment.json"))
    assert len(files) == 6
    known = json.loads(files[0].read_text())
    files[0].write_text("[]")
    files[1].write_text("5")
    files[2].write_bytes(files[2].read_bytes().replace(b'"num_frames": 20', b'"num_frames": 21'))
    files[3].write_bytes(files[3].read_bytes().replace(b'"num_frames": 20', b'"num_frames": "x"'))
    known["content"].pop("counts")
    files[4].write_text(json.dumps(known))
    report = restore_video(source, target, Options(device="cpu"), models=killed.models())
    assert (report.num_frames, report.num_frames_resumed) == (150, 20)


@pytest.mark.parametrize("damaged", ["[]", "5", "", "{", "\0" * 100])
def test_a_damaged_job_costs_no_finished_work_in_silence(source: Path, tmp_path: Path, damaged: str) -> None:
    target = tmp_path / "out.mp4"
    with work.WorkFolder(target) as folder:
        folder.begin_segment(0)
        folder.finish_segment(0, {"num_frames": 20})
        job = folder.path / "job.json"
        job.write_text(damaged)
        for must, may_discard in ((False, False), (True, False), (True, True)):
            with pytest.raises(TargetError, match=r"job\.json: is damaged, .* --overwrite .* begins anew"):
                folder.go_on({"source": "a"}, must=must, may_discard=may_discard)
            assert folder.segment(0).exists()
        folder.go_on({"source": "a"}, must=False, may_discard=True)
        assert not folder.segment(0).exists()
        assert json.loads(job.read_text()) == {"source": "a"}
