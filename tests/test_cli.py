"""The command line: bad input ends with one clear line and the right exit code, and leaves nothing behind."""

import json
import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import av
import numpy as np
import pytest
from PIL import Image

from tests.clips import CLIPS
from tests.fakes import FixedDetector, IdentityRestorer, face_at
from vidrestore import background, cli, info, loading, progress
from vidrestore.options import Options
from vidrestore.report import Report


@pytest.fixture(autouse=True)
def fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights are needed to test the command line."""
    detector = FixedDetector((face_at(240, 180, 120),))
    monkeypatch.setattr(loading, "load_detector", lambda *_, **__: detector)
    monkeypatch.setattr(loading, "load_restorer", lambda *_, **__: IdentityRestorer())


def run(*arguments: object) -> int:
    """The exit code of one command."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_an_analysis_lists_the_tracks_and_a_run_takes_them_from_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, faces = CLIPS["h264"].make(tmp_path), tmp_path / "h264_faces.json"
    assert run("analyze", source) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(faces)
    assert len(lines) == 3  # a heading, and one track
    assert run("restore", source, "--from-faces", faces, "--tracks", "1", "--quiet") == 0
    assert run("restore", source, "--from-faces", faces, "--tracks", "2", "--quiet", "--overwrite") == 2
    assert "has no such track; its tracks are 1" in capsys.readouterr().err


BAD_SOURCES = {
    "missing.mp4": (None, "no such file"),
    "empty.mp4": (b"", "is empty"),
    "text.mp4": (b"Dear archive,\n" * 99, ""),
    "audio.m4a": (audio_only, "no video"),
    "header_only.mp4": (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2", ""),
    "text.png": (b"no picture", "not a readable image"),
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_a_source_that_cannot_be_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = BAD_SOURCES[name]
    source = tmp_path / name
    if callable(content):
        content(source)
    elif content is not None:
        source.write_bytes(content)
    before = set(tmp_path.iterdir())
    assert run("restore", source) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("vidrestore: error: ")
    assert str(source) in error
    assert message in error
    assert set(tmp_path.iterdir()) == before


BAD_CALLS = {
    "unknown option": (["--sharpness", "3"], "--sharpness"),
    "value out of range": (["--strength", "2"], "strength is 2.0; it must be a number from 0 to 1"),
    "not a number": (["--crf", "low"], "--crf"),
    "unknown codec": (["--codec", "h265000"], "h265000"),
    "start after the end of the clip": (["--start", "1:00:00"], "h264.mp4"),
    "end before start": (["--start", "5", "--end", "4"], "end (4 s) is not after start (5 s)"),
    "absent config": (["--config", "nowhere.toml"], "nowhere.toml: cannot be read"),
    "output is the source": (["-o", "{source}"], "is the source itself"),
    "output folder is absent": (["-o", "{folder}/absent/out.mp4"], "does not exist; make it first"),
    "output of unknown kind": (["-o", "{folder}/out.docx"], "out.docx"),
    "quality of a lossless output": (["--lossless", "--crf", "20"], "crf is 20, but lossless"),
    "faces file with an impossible name": (["--faces", "{folder}/" + 300 * "f"], "cannot be written"),
    "output without a suffix": (["-o", "{folder}/out"], "out"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_call_that_makes_no_sense(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = BAD_CALLS[case]
    source = CLIPS["h264"].make(tmp_path)
    filled = [argument.format(source=source, folder=tmp_path) for argument in arguments]
    assert run("restore", source, *filled) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_file_whose_name_has_two_lines_takes_one_of_what_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = CLIPS["silent"].make(tmp_path).rename(tmp_path / "new\nline.mp4")
    assert run("restore", source, "-o", tmp_path / "new\nline.avi", "--verify") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ", 1)[1][:9] for line in lines[-3:-1]] == ["complete;", "12 frames"]
    assert all(line.startswith(f"{tmp_path}/new line.avi: ") for line in lines[-3:-1])
    assert "frames/s) with" in lines[-1]


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "Restore the faces in a video" in capsys.readouterr().err
    assert run("restore", "--help") == 0
    assert "--min-face-px" in capsys.readouterr().out


def test_a_source_in_an_absent_folder_is_what_the_message_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("restore", "nowhere/clip.mp4") == 2
    assert "nowhere/clip.mp4: no such file" in capsys.readouterr().err


def test_an_output_that_exists_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = CLIPS["h264"].make(tmp_path)
    target = tmp_path / "h264_restored.mp4"
    target.write_bytes(b"precious")
    assert run("restore", source) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert run("restore", source, "--overwrite", "--quiet") == 0
    assert target.stat().st_size > 1000


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = CLIPS["h264"].make(tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert run("restore", source, "-o", closed / "out.mp4") == 2
    assert "no permission" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["one_frame", "odd_size", "tiny", "silent", "cut_off_mkv", "damaged", "rotated"])
def test_unusual_videos_are_restored(name: str, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    assert run("restore", source, "--quiet") == 0
    assert source.with_name(f"{source.stem}_restored{source.suffix}").stat().st_size > 500


def test_the_json_report_is_one_object_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = CLIPS["h264"].make(tmp_path)
    assert run("restore", source, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_frames"] == 12
    assert report["target"].endswith("h264_restored.mp4")
    assert {"decode", "detect", "track", "align", "restore", "paste", "encode"} <= set(report["seconds_per_stage"])
    assert report["model_sha256"] == "0" * 64


def test_a_still_image_takes_the_same_way(tmp_path: Path) -> None:
    source = tmp_path / "portrait.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (360, 480, 3)).astype(np.uint8)).save(source)
    faces = tmp_path / "faces.json"
    assert run("restore", source, "--faces", faces, "--quiet") == 0
    before, after = Image.open(source), Image.open(tmp_path / "portrait_restored.png")
    assert np.array_equal(np.asarray(before), np.asarray(after))  # the fake restorer changes nothing
    (frame,) = json.loads(faces.read_text())["frames"]
    assert [face["restored"] for face in frame["faces"]] == [True]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (getattr(signal, "SIGHUP", signal.SIGTERM), 129)],
)
@pytest.mark.skipif(os.name == "nt", reason="no SIGHUP")
def test_ctrl_c_even_twice_leaves_nothing(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second one comes while threads are being stopped."""
    unwinding = list({signal.SIGINT, signal.SIGTERM, number})  # also where nohup runs us
    monkeypatch.setattr(cli, "UNWINDING_SIGNALS", unwinding)
    leave = background.Background.__exit__

    def leave_and_interrupt(self: background.Background[object], *error: object) -> None:
        os.kill(os.getpid(), number)
        leave(self, *error)  # type: ignore[arg-type]

    monkeypatch.setattr(background.Background, "__exit__", leave_and_interrupt)
    monkeypatch.setattr(progress.Progress, "update", lambda *_: os.kill(os.getpid(), number))
    source = CLIPS["long"].make(tmp_path)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    threads = set(threading.enumerate())
    assert run("restore", source, "--faces", tmp_path / "faces.json") == code
    assert capsys.readouterr().err.endswith("nothing was written\n")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
    assert set(threading.enumerate()) == threads
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full"])
def test_a_service_may_start_us_without_anywhere_to_print(closed: str, tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    code = f"""
from tests.fakes import FixedDetector, IdentityRestorer
from vidrestore import cli, loading
loading.load_detector = lambda *_, **__: FixedDetector(())
loading.load_restorer = lambda *_, **__: IdentityRestorer()
cli.main(["restore", {str(source)!r}])
"""
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {closed}"
    done = subprocess.run(command, shell=True, cwd=Path(__file__).parents[1], capture_output=True, check=False)
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, "h264_restored.mp4"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize(
    ("command", "complete"),
    [("restore --quiet --json {source}", "h264_restored.mp4"), ("analyze {source}", "h264_faces.json")],
)
def test_what_cannot_be_printed_is_one_line_that_says_what_is_complete(
    command: str, complete: str, unbuffered: bool, tmp_path: Path
) -> None:
    """Else somebody does hours of work once more."""
    source = CLIPS["h264"].make(tmp_path)
    words = command.format(source=source).split()
    closed, open_end = os.pipe()
    os.close(closed)
    with open("/dev/full", "wb") as full, os.fdopen(open_end, "wb") as gone:
        for stdout, reason in ((full, "No space left on device"), (gone, "Broken pipe")):
            done = printing_to(stdout, *words, "--overwrite", unbuffered=unbuffered)
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1] == (
                f"vidrestore: error: {tmp_path / complete}: is complete, but what was to be printed could not be "
                f"({reason}); send stdout to where it can be written"
            )
            assert (tmp_path / complete).stat().st_size > 1000
            (tmp_path / complete).unlink()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_list_that_cannot_be_printed_is_no_failure_of_ours(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    closed, open_end = os.pipe()
    os.close(closed)
    with open("/dev/full", "wb") as full, os.fdopen(open_end, "wb") as gone:
        for words in (["models", "list"], ["info", source]):
            done = printing_to(full, *words)
            assert (done.returncode, done.stderr.count("\n")) == (1, 1)
            assert "error: what was to be printed could not be (No space left on device)" in done.stderr
            done = printing_to(gone, *words)  # as `| head` has seen enough
            assert (done.returncode, done.stderr) == (1, "")


def printing_to(stdout: IO[bytes], *words: object, unbuffered: bool = False) -> subprocess.CompletedProcess[str]:
    code = f"""
from tests.fakes import FixedDetector, IdentityRestorer, face_at
from vidrestore import cli, info, loading
loading.load_detector = info.load_detector = lambda *_, **__: FixedDetector((face_at(240, 180, 120),))
loading.load_restorer = lambda *_, **__: IdentityRestorer()
cli.main({list(map(str, words))!r})
"""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_a_progress_that_nobody_reads_any_more_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(progress.Progress, "_show", gone)
    source = CLIPS["h264"].make(tmp_path)
    assert run("restore", source) == 0
    assert (tmp_path / "h264_restored.mp4").exists()


def test_our_own_failure_ends_with_1_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("this cannot happen")

    monkeypatch.setattr(loading, "load_detector", broken)
    assert run("restore", CLIPS["h264"].make(tmp_path)) == 1
    error = capsys.readouterr().err
    assert "unexpected failure: AssertionError: this cannot happen" in error
    assert "Traceback" not in error


def test_a_config_file_is_used_and_flags_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Options] = []

    def record(source: Path, target: Path, options: Options, *, quiet: bool) -> Report:
        seen.append(options)
        return Report(str(source), str(target))

    monkeypatch.setattr(cli, "run", record)
    config = tmp_path / "mine.toml"
    config.write_text("strength = 0.5\ncrf = 20\n")
    assert run("restore", "in.mp4", "--config", config, "--crf", "12", "--max-faces", "3", "--start", "1:30") == 0
    (options,) = seen
    assert (options.strength, options.crf, options.max_faces, options.start) == (0.5, 12, 3, 90.0)


class Malicious:
    """Pickle code that would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["unknown name", "pickle with code", "text", "cut off"])
def test_bad_weights_stop_the_run_before_any_output(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the real loaders
    source, weights = CLIPS["h264"].make(tmp_path), tmp_path / "weights.pth"
    trap = tmp_path / "trap"
    if kind == "pickle with code":
        weights.write_bytes(pickle.dumps({"generator.input.input": Malicious(trap)}))
    elif kind != "unknown name":
        weights.write_bytes(b"hello" if kind == "text" else b"PK\x03\x04" + bytes(200))
    before = set(tmp_path.iterdir())
    assert run("restore", source, "--model", weights, "--detector", weights) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert set(tmp_path.iterdir()) == before
    assert not trap.exists()


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source = CLIPS["long"].make(tmp_path)
    code = f"""
import resource, sys
from tests.fakes import FixedDetector, IdentityRestorer
from vidrestore import background, cli, info, loading, progress
loading.load_detector = lambda *_, **__: FixedDetector(())
loading.load_restorer = lambda *_, **__: IdentityRestorer()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # no file may grow beyond this
cli.main(["restore", {str(source)!r}, "--lossless", "--quiet"])
"""
    repository = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_run_video_and_the_module_are_the_same_program() -> None:
    repository = Path(__file__).parents[1]
    commands = (["run_video.py", "no.mp4"], ["-m", "vidrestore", "restore", "no.mp4"])
    for command in commands:
        done = subprocess.run([sys.executable, *command], cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == "vidrestore: error: no.mp4: no such file; check the path\n"


def test_models_list_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "list") == 0
    shown = capsys.readouterr().out
    for name in ("gpen-lite-256", "retinaface-lite", "gpen-bfr-2048", "non-commercial"):
        assert name in shown


def test_info_tells_streams_colours_and_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info, "load_detector", lambda *_: FixedDetector((face_at(240, 180, 120),)))
    assert run("info", CLIPS["h264"].make(tmp_path)) == 0
    shown = capsys.readouterr().out
    for fact in ("64x48", "yuv420p", "constant frame rate", "colour range limited, matrix bt709", "aac", "1 face of"):
        assert fact in shown
    assert run("info", tmp_path / "absent.mp4") == 2


def test_the_demo_leaves_four_files_and_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "-o", tmp_path / "demo", "--quiet") == 0
    names = ["degraded.mp4", "restored.mp4", "compare.mp4", "compare.png"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "demo" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == sorted(names)
    with av.open(str(tmp_path / "demo" / "restored.mp4")) as container:
        assert (container.streams.video[0].frames, len(container.streams.audio)) == (75, 1)


def test_the_demo_says_where_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compare.png").mkdir()
    assert run("demo", "-o", tmp_path, "--quiet") == 2
    assert "compare.png: cannot be written" in capsys.readouterr().err
