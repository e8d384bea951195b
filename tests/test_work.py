"""Work that is finished is not lost: a run that was stopped goes on, and ends as if nothing had happened."""

import errno
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests import killed
from tests.clips import CLIPS
from tests.copies import read
from tests.stopped import content, stop, stopped_after
from vidrestore import outputs, work
from vidrestore.demo import write_degraded_clip
from vidrestore.errors import InputError, OptionsError, SourceError, TargetError
from vidrestore.frame import RestoredFrame
from vidrestore.options import Options
from vidrestore.pipeline import analyze_video, restore_video
from vidrestore.report import Report
from vidrestore.verify.pair import VerifyError
from vidrestore.video.packets import PacketsFile
from vidrestore.video.picture import Encoded

REPOSITORY = Path(__file__).parents[1]
NUM_LAST = 28
"""The last steps of a run, in which the files get their names and the work folder goes."""
NUM_KILLS = 6
"""In the suite; `tests/bench/kills.py` has 30, with real models."""


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SEGMENT_FRAMES", killed.SEGMENT_FRAMES)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return CLIPS["long"].make(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_any_step_goes_on_and_ends_in_the_same_bytes(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"

    def runs(*steps: object) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "tests.killed", str(source), str(target), *map(str, steps)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return [
            {"killed": step != "-", **json.loads(line)}
            for step, line in zip(steps, done.stdout.splitlines(), strict=True)
        ]

    (whole,) = runs("-")
    assert (whole["status"], whole["folders"]) == (0, [])
    assert whole["files"].keys() == {source.name, "out.mp4", "out.json"}
    assert whole["files"][source.name] == content(source)
    num_steps = whole.pop("steps")
    del whole["killed"]
    assert num_steps > 300
    rng = random.Random(0)
    # Killed ahead of some steps of the whole, and of half the last ones, where files get their names; one is killed
    # twice on its way.
    fatal = [rng.randrange(1, num_steps) for _ in range(NUM_KILLS)] + list(
        range(num_steps - NUM_LAST + 1, num_steps + 1, 2)
    )
    for run in runs(*(step for number in fatal for step in (number, "-")), num_steps // 2, num_steps // 4, "-"):
        if run.pop("killed"):
            assert run["status"] == signal.SIGKILL
            assert run["files"].get("out.mp4", whole["files"]["out.mp4"]) == whole["files"]["out.mp4"]
            assert run["files"][source.name] == whole["files"][source.name]
        else:
            del run["steps"]
            assert run == whole


def test_what_is_finished_is_not_done_again(source: Path, tmp_path: Path) -> None:
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore_video(source, whole, Options(device="cpu"), models=killed.models())
    stop(source, target, 70)
    assert not target.exists()
    models = killed.models()
    written: list[int] = []
    report = restore_video(
        source, target, Options(device="cpu"), models=models, on_frame=lambda done, _: written.append(done.frame.index)
    )
    assert written == list(range(60, 150))
    assert (report.num_frames, report.num_frames_resumed, report.num_faces_restored) == (150, 60, 150)
    assert sum(models.restorer.batch_sizes) == 90 + 8 * 5  # type: ignore[attr-defined]  # and five warm-ups
    assert models.detector.num_asked < 30  # type: ignore[attr-defined]
    assert content(target) == content(whole)
    assert not work.work_folder(target).exists()


def test_where_segments_meet_nothing_is_to_be_seen(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restorer gives noise, so that every averaged frame depends on those before it."""
    options = Options(device="cpu", lossless=True)
    restore_video(source, tmp_path / "parts.mp4", options, models=killed.models())
    monkeypatch.setattr(work, "SEGMENT_FRAMES", 1000)
    restore_video(source, tmp_path / "whole.mp4", options, models=killed.models())
    parts, whole = read(tmp_path / "parts.mp4"), read(tmp_path / "whole.mp4")
    worst = max(
        int(np.abs(one.planes[0].astype(int) - other.planes[0]).max()) for one, other in zip(parts, whole, strict=True)
    )
    assert worst <= 1


def test_work_of_another_kind_is_neither_used_nor_thrown_away(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    stop(source, target, 50)
    other = Options(device="cpu", strength=0.5)
    with pytest.raises(TargetError, match=r"strength was 1.0, is 0.5.*--overwrite"):
        restore_video(source, target, other, models=killed.models())
    with pytest.raises(TargetError, match="strength was"):
        restore_video(
            source, target, Options(device="cpu", strength=0.5, resume=True, overwrite=True), models=killed.models()
        )
    report = restore_video(source, target, Options(device="cpu", overwrite=True), models=killed.models())
    assert report.num_frames_resumed == 40
    stop(source, target, 50, Options(device="cpu", overwrite=True))
    report = restore_video(source, target, Options(device="cpu", strength=0.5, overwrite=True), models=killed.models())
    assert (report.num_frames, report.num_frames_resumed) == (150, 0)


def test_a_changed_source_is_another_job(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    stop(source, target, 50)
    os.utime(source, ns=(0, 0))
    with pytest.raises(TargetError, match="source_mtime_ns was"):
        restore_video(source, target, Options(device="cpu"), models=killed.models())


def test_resume_without_anything_finished_is_told(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="nothing is finished there; leave --resume out"):
        restore_video(source, tmp_path / "out.mp4", Options(device="cpu", resume=True), models=killed.models())
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]


def test_two_runs_do_not_write_the_same_output(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"

    def begin_another(_done: RestoredFrame, report: Report) -> None:
        if report.num_frames == 30:
            with pytest.raises(TargetError, match=r"out\.mp4: another run is making it"):
                restore_video(source, target, Options(device="cpu"), models=killed.models())

    restore_video(source, target, Options(device="cpu"), models=killed.models(), on_frame=begin_another)
    assert len(read(target)) == 150


def test_a_stop_says_what_is_kept_and_short_work_leaves_nothing(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    stop(source, target, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name]
    with pytest.raises(KeyboardInterrupt) as stopped:
        restore_video(
            source,
            target,
            Options(device="cpu"),
            models=killed.models(),
            on_frame=stopped_after(50, KeyboardInterrupt()),
        )
    assert stopped.value.__notes__ == [
        f"40 frames are finished and kept in {work.work_folder(target)}: the same command goes on from there"
    ]


def test_a_stop_before_the_first_frame_does_not_deny_earlier_work(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    stop(source, target, 50)
    with pytest.raises(KeyboardInterrupt) as stopped, work.WorkFolder(target) as kept:
        raise KeyboardInterrupt
    assert stopped.value.__notes__ == [f"what an earlier run has finished is kept in {kept.path}"]


def test_a_full_disk_costs_no_finished_work(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore_video(source, whole, Options(device="cpu"), models=killed.models())
    write = PacketsFile.write
    num_calls = 0

    def write_until_full(self: PacketsFile, packets: Iterable[Encoded]) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, packets)

    monkeypatch.setattr(PacketsFile, "write", write_until_full)
    with pytest.raises(TargetError, match=r"out\.mp4: cannot be written \(No space left on device\)") as stopped:
        restore_video(source, target, Options(device="cpu"), models=killed.models())
    assert "80 frames are finished and kept" in stopped.value.__notes__[0]
    assert not target.exists()
    monkeypatch.setattr(PacketsFile, "write", write)
    report = restore_video(source, target, Options(device="cpu", resume=True), models=killed.models())
    assert report.num_frames_resumed == 80
    assert content(target) == content(whole)


def test_an_archive_is_read_back_before_it_gets_its_name(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    report = restore_video(source, target, Options(device="cpu", quality="archive"), models=killed.models())
    assert report.verified
    assert (report.source_sha256, report.target_sha256) == (content(source), content(target))
    report = restore_video(source, tmp_path / "plain.mp4", Options(device="cpu"), models=killed.models())
    assert (report.verified, report.target_sha256) == (False, "")


def test_an_output_that_lacks_a_frame_is_not_put_in_its_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.mp4"
    all_packets = outputs.read_packets

    def without_one(path: Path, time_base: Fraction) -> Iterator[Encoded]:
        packets = list(all_packets(path, time_base))
        yield from packets[:-1] if path.parent.name == "segment_00007" else packets

    monkeypatch.setattr(outputs, "read_packets", without_one)
    with pytest.raises(VerifyError, match="the output was not put in its place") as refused:
        restore_video(source, target, Options(device="cpu", verify=True), models=killed.models())
    assert "150 frames are finished and kept" in refused.value.__notes__[0]
    assert not target.exists()
    monkeypatch.setattr(outputs, "read_packets", all_packets)
    report = restore_video(source, target, Options(device="cpu", verify=True), models=killed.models())
    assert (report.num_frames_resumed, report.verified) == (150, True)


def test_a_disk_without_room_is_told_before_the_first_frame(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 100, 100))
    with pytest.raises(TargetError, match="100 B are free|are free, and at least"):
        restore_video(source, tmp_path / "out.mp4", Options(device="cpu", lossless=True), models=killed.models())
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_comparison_and_the_faces_go_on_too(source: Path, tmp_path: Path) -> None:
    def options(folder: Path) -> Options:
        return Options(device="cpu", compare=folder / "both.mp4", faces=folder / "faces.json", start=0.5)

    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    restore_video(source, tmp_path / "whole" / "out.mp4", options(tmp_path / "whole"), models=killed.models())
    stop(source, tmp_path / "parts" / "out.mp4", 70, options(tmp_path / "parts"))
    restore_video(source, tmp_path / "parts" / "out.mp4", options(tmp_path / "parts"), models=killed.models())
    for name in ("out.mp4", "both.mp4", "faces.json"):
        assert content(tmp_path / "whole" / name) == content(tmp_path / "parts" / name)
    assert len(json.loads((tmp_path / "parts" / "faces.json").read_text())["frames"]) == len(
        read(tmp_path / "parts" / "both.mp4")
    )
    shutil.rmtree(tmp_path / "whole")


def test_faces_written_by_an_analysis_give_the_same_bytes_as_those_found_on_the_way(
    source: Path, tmp_path: Path
) -> None:
    listed, direct, rendered = (tmp_path / name for name in ("listed.json", "direct.mp4", "rendered.mp4"))
    options = Options(device="cpu", faces=tmp_path / "found.json")
    restore_video(source, direct, options, models=killed.models())
    analyze_video(source, listed, Options(device="cpu"), models=killed.models())
    assert content(listed) == content(tmp_path / "found.json")
    models = killed.models()
    report = restore_video(source, rendered, Options(device="cpu", from_faces=listed), models=models)
    assert report.num_faces_restored == 150
    assert models.detector.num_asked == 0  # type: ignore[attr-defined]
    assert content(rendered) == content(direct)


def test_an_analysis_that_was_stopped_asks_the_detector_no_question_twice(source: Path, tmp_path: Path) -> None:
    whole, faces = tmp_path / "whole.json", tmp_path / "faces.json"
    options, asked = Options(device="cpu"), killed.models()
    analyze_video(source, whole, options, models=asked)
    with pytest.raises(KeyboardInterrupt) as stopped:
        analyze_video(source, faces, options, models=killed.models(), on_frame=stopped_after(90, KeyboardInterrupt()))
    folder = work.work_folder(faces)
    assert stopped.value.__notes__ == [
        f"what the detector has seen is kept in {folder}: the same command goes on from there"
    ]
    assert not faces.exists()
    again = killed.models()
    analyze_video(source, faces, Options(device="cpu", resume=True), models=again)
    assert content(faces) == content(whole)
    assert again.detector.num_asked < asked.detector.num_asked / 2  # type: ignore[attr-defined]
    assert not folder.exists()
    with pytest.raises(OptionsError, match="nothing is finished there; leave --resume out"):
        analyze_video(source, tmp_path / "new.json", Options(device="cpu", resume=True), models=killed.models())


def test_an_edited_strength_holds_from_its_first_second_to_its_last(source: Path, tmp_path: Path) -> None:
    listed, target = tmp_path / "listed.json", tmp_path / "out.mp4"
    analyze_video(source, listed, Options(device="cpu"), models=killed.models())
    edits = '"edits": [{"track_id": 1, "from_s": 1, "to_s": 2, "strength": 0}]'
    listed.write_text(listed.read_text().replace('"edits": []', edits, 1))
    options = Options(device="cpu", from_faces=listed, lossless=True, temporal="off")
    restore_video(source, target, options, models=killed.models())
    is_changed = [
        not all(map(np.array_equal, one.planes, other.planes))
        for one, other in zip(read(source), read(target), strict=True)
    ]
    assert is_changed == [not 1 <= frame.time_s < 2 for frame in read(source)]
    with pytest.raises(OptionsError, match="--tracks 7.* has no such track"):
        restore_video(
            source,
            tmp_path / "more.mp4",
            Options(device="cpu", from_faces=listed, tracks="7"),
            models=killed.models(),
        )


def test_a_faces_file_that_was_edited_is_another_job(source: Path, tmp_path: Path) -> None:
    listed, target = tmp_path / "listed.json", tmp_path / "out.mp4"
    analyze_video(source, listed, Options(device="cpu"), models=killed.models())
    options = Options(device="cpu", from_faces=listed)
    stop(source, target, 50, options)
    listed.write_text(listed.read_text().replace('"edits": []', '"edits": [{"track_id": 1, "strength": 0.5}]', 1))
    with pytest.raises(TargetError, match="from_faces was"):
        restore_video(source, target, options, models=killed.models())


def test_four_runs_at_once_do_not_disturb_one_another(source: Path, tmp_path: Path) -> None:
    targets = [tmp_path / str(number) / "out.mp4" for number in range(4)]
    for target in targets:
        target.parent.mkdir()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.killed", str(source), str(target), "-"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for target in targets
    ]
    told = [json.loads(process.communicate()[0]) for process in running]
    assert all(run["status"] == 0 and run["files"] == told[0]["files"] for run in told)


def test_the_number_of_threads_changes_no_byte(tmp_path: Path) -> None:
    """With the embedded models, from detection to encoding."""
    source = tmp_path / "portrait.mp4"
    write_degraded_clip(source)
    contents = set()
    for threads in ("1", "2"):
        target = tmp_path / f"{threads}.mp4"
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
        command = [sys.executable, "-m", "vidrestore", "restore", str(source), "-o", str(target), "--end", "0.5"]
        subprocess.run([*command, "--quiet", "--device", "cpu"], cwd=REPOSITORY, env=environment, check=True)
        contents.add(content(target))
    assert len(contents) == 1


def test_a_folder_of_the_users_own_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    own = work.work_folder(target)
    own.mkdir()
    (own / "diary.txt").write_text("mine")
    with pytest.raises(TargetError, match=r"out\.mp4\.work: .* holds other files \(diary\.txt\); move them"):
        restore_video(source, target, Options(device="cpu", overwrite=True), models=killed.models())
    assert (own / "diary.txt").read_text() == "mine"


def test_a_comparison_of_another_kind_is_another_job(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    stop(source, target, 50, Options(device="cpu", compare=tmp_path / "both.mp4"))
    with pytest.raises(TargetError, match=r"compare was \.mp4, is \.mov"):
        restore_video(source, target, Options(device="cpu", compare=tmp_path / "both.mov"), models=killed.models())


def test_work_without_anything_finished_stands_in_nobodys_way(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.mp4"
    stop(source, target, 50)
    for folder in work.work_folder(target).glob("segment_*"):
        shutil.rmtree(folder)
    report = restore_video(source, target, Options(device="cpu", strength=0.5), models=killed.models())
    assert (report.num_frames, report.num_frames_resumed) == (150, 0)


@pytest.mark.parametrize("error", [SourceError("damaged"), TargetError("not empty"), OptionsError("wrong")])
def test_no_error_of_the_users_costs_finished_work(source: Path, tmp_path: Path, error: InputError) -> None:
    """Once it did, on the ground that what has been mended is another job. But a disk that was pulled out and put back,
    or a file that somebody has put among the images, is no other job; and one that is, is told as such."""
    target, options = tmp_path / "out.mp4", Options(device="cpu")
    with pytest.raises(type(error)) as stopped:
        restore_video(source, target, options, models=killed.models(), on_frame=stopped_after(50, error))
    assert stopped.value.__notes__ == [
        f"40 frames are finished and kept in {work.work_folder(target)}: the same source and options go on from there, "
        "others need --overwrite"
    ]
    report = restore_video(source, target, options, models=killed.models())
    assert (report.num_frames, report.num_frames_resumed) == (150, 40)


def test_a_source_that_is_away_while_the_output_is_read_back_costs_no_finished_work(
    source: Path, tmp_path: Path
) -> None:
    target, away = tmp_path / "out.mp4", tmp_path / "away.mp4"
    options = Options(device="cpu", verify=True)

    def take_away(_done: RestoredFrame, report: Report) -> None:
        if report.num_frames == 149:
            source.rename(away)

    with pytest.raises(SourceError) as stopped:
        restore_video(source, target, options, models=killed.models(), on_frame=take_away)
    assert "150 frames are finished and kept" in stopped.value.__notes__[0]
    away.rename(source)
    report = restore_video(source, target, options, models=killed.models())
    assert (report.num_frames_resumed, report.verified) == (150, True)


def test_a_disk_that_knows_no_locks_is_written_to_all_the_same(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    caplog.set_level(logging.WARNING, "vidrestore")
    monkeypatch.setattr(work.FileLock, "acquire", refuse)
    restore_video(source, tmp_path / "out.mp4", Options(device="cpu"), models=killed.models())
    assert len(read(tmp_path / "out.mp4")) == 150
    assert "cannot be locked on this disk" in caplog.text


def test_metadata_that_is_no_text_stops_no_run(source: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.mkv"
    with (
        av.open(str(CLIPS["many_tracks_mkv"].make(tmp_path))) as given,
        av.open(str(odd), "w", metadata_errors="surrogateescape") as written,
    ):
        streams = {stream.index: written.add_stream_from_template(stream) for stream in given.streams}
        for stream in streams.values():
            stream.metadata["title"] = "caf\udce9"
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)
    target = tmp_path / "out.mkv"
    restore_video(odd, target, Options(device="cpu"), models=killed.models())
    with av.open(str(target), metadata_errors="surrogateescape") as container:
        assert {stream.metadata["title"] for stream in container.streams} == {"caf\udce9"}
