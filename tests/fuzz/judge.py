"""What `vidrestore` makes of a damaged file, judged in a child process: `Judge` keeps one and looks after it.

The child runs the command line with small fake models, again and again; only a child that crashes, hangs or takes too
much memory is replaced. A verdict is "0" or "2" (the exit code, with everything as promised) or the defect in words.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.clips import CLIPS
from tests.fuzz.damage import Case, make_case

TIME_LIMIT_S = 20.0
"""For one case, with `info`, `restore` and what the judge itself does."""
START_LIMIT_S = 120.0
"""Loading torch on a busy machine."""
MEMORY_LIMIT_BYTES = 1_500_000_000
"""Of the whole child, whose libraries take 0.4 GB."""
LOOK_EVERY_S = 0.1
MAX_RESTARTS = 250
"""How often the judge goes on behind an error of the demuxer: as often as the reader does, who then says so."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case."""

    exit_code: int | None
    """None: it had to be stopped, or it crashed."""
    defects: tuple[str, ...] = ()
    message: str = ""
    """The error line."""
    seconds: float = 0.0
    peak_bytes: int = 0
    figures: dict[str, int] = field(default_factory=dict)


class Judge:
    """Keeps a child: `with Judge() as judge: judge.verdict(case)`."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Connection | None = None

    def verdict(self, case: Case) -> Verdict:
        pipe = self._running()
        begin_s = time.monotonic()
        phase = "start"
        with tempfile.TemporaryDirectory(prefix="vidrestore-fuzz-") as folder:
            pipe.send((case.seed, case.number, folder))
            while True:
                try:
                    if pipe.poll(LOOK_EVERY_S):
                        answer = pipe.recv()
                        if isinstance(answer, Verdict):
                            return answer
                        phase = answer
                except (EOFError, ConnectionError):
                    self._process.join()
                    return self._ended(f"the interpreter crashed in {phase}{self._how_it_died()}", begin_s)
                if time.monotonic() - begin_s > TIME_LIMIT_S:
                    self._kill()
                    return self._ended(f"hangs in {phase}: stopped after {TIME_LIMIT_S:.0f} s", begin_s)
                used = _resident_bytes(self._process.pid, "VmRSS")
                if used > 2 * MEMORY_LIMIT_BYTES:
                    self._kill()
                    return self._ended(f"takes {used / 1e9:.1f} GB of memory in {phase}, and was stopped", begin_s)

    def close(self) -> None:
        if self._process is not None:
            self._kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> Connection:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
            if not self._pipe.poll(START_LIMIT_S):
                raise TimeoutError(f"the judge's child did not start within {START_LIMIT_S:.0f} s")
            self._pipe.recv()
        return self._pipe

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._forget()

    def _forget(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = None

    def _how_it_died(self) -> str:
        code = self._process.exitcode
        return f" ({signal.Signals(-code).name})" if code and code < 0 else f" (exit code {code})"

    def _ended(self, defect: str, begin_s: float) -> Verdict:
        self._forget()
        return Verdict(None, (defect,), seconds=time.monotonic() - begin_s)


def _resident_bytes(pid: int | str, name: str) -> int:
    """VmRSS: now; VmHWM: the largest since it was last set back. 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


# ---- In the child


def _serve(pipe: Connection) -> None:
    """Judge what comes through the pipe until it closes."""
    _put_in_fake_models()
    with tempfile.TemporaryDirectory(
        prefix="vidrestore-fuzz-"
    ) as folder:  # libraries that are loaded late take seconds
        clip = CLIPS["h264"].make(Path(folder))
        _run(["info", str(clip)])
        _run(["restore", str(clip), "-o", f"{folder}/out.mp4", "--quiet", "--json"])
    pipe.send("ready")
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            seed, number, folder = pipe.recv()
            pipe.send(_judged(make_case(seed, number), Path(folder), pipe))


def _put_in_fake_models() -> None:
    """One face in the middle of a small picture, restored to what it was; sampled frames are read as for real."""
    from tests.fakes import FixedDetector, IdentityRestorer, face_at
    from vidrestore import info, loading

    for module in (loading, info):
        module.load_detector = lambda *_, **__: FixedDetector((face_at(32, 24, 30),))  # type: ignore[attr-defined]
    loading.load_restorer = lambda *_, **__: IdentityRestorer()  # type: ignore[assignment]
    loading.has_choice = lambda *_, **__: True  # type: ignore[assignment]


def _judged(case: Case, folder: Path, pipe: Connection) -> Verdict:
    source, target = folder / f"in{case.suffix}", folder / f"out{case.suffix}"
    source.write_bytes(case.content)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    begin_s = time.monotonic()
    defects = []

    pipe.send("info")
    code, _, errors = _run(["info", str(source)])
    defects += [f"info: {defect}" for defect in _exit_defects(code, errors)]

    pipe.send("restore")
    code, output, errors = _run(["restore", str(source), "-o", str(target), "--quiet", "--json"])
    defects += _exit_defects(code, errors)
    peak_bytes = _resident_bytes("self", "VmHWM")
    left = sorted(path.name for path in folder.iterdir() if path not in (source, target))
    left = [name for name in left if f"finished and kept in {folder / name}" not in errors]
    if left:
        defects.append(f"leaves {', '.join(left)}")
    if source.read_bytes() != case.content:
        defects.append("the source has changed")
    figures: dict[str, int] = {}
    if code == 0:
        pipe.send("the judge's look at the output")
        figures, found = _output_defects(source, target, json.loads(output))
        defects += found
    elif target.exists():
        defects.append(f"exit code {code}, but an output")
    if peak_bytes > MEMORY_LIMIT_BYTES:
        defects.append(f"takes {peak_bytes / 1e9:.2f} GB of memory")
    message = errors.strip() if code else ""
    return Verdict(code, tuple(defects), message, time.monotonic() - begin_s, peak_bytes, figures)


def _exit_defects(code: int, errors: str) -> Iterator[str]:
    lines = [line for line in errors.splitlines() if line.strip()]
    if code == 0:
        if lines:
            yield f"says on stderr: {lines[0]}"
    elif code != 2:
        yield f"exit code {code}: {errors.strip()}"
    elif len(lines) != 1 or not lines[0].startswith("vidrestore: error: "):
        yield f"not one error line but {len(lines)}: {errors!r}"


def _run(arguments: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command line, with what native code writes there."""
    from vidrestore import cli

    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with _streams_into(output.fileno(), errors.fileno()):
            try:
                cli.main(arguments)
                code: Any = 0
            except SystemExit as exc:
                code = exc.code or 0
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return int(code), texts[0], texts[1]


@contextlib.contextmanager
def _streams_into(output: int, errors: int) -> Iterator[None]:
    kept = os.dup(1), os.dup(2)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


# ---- What must be in the output


def _output_defects(source: Path, target: Path, report: dict[str, Any]) -> tuple[dict[str, int], list[str]]:
    """Compare report and output with the judge's own reading of the damaged source."""
    theirs, ours = _look(source), _look(target)
    figures = {"frames": report["num_frames"], "damaged packets": report["num_damaged_packets"]}
    defects = []
    if ours.num_errors:
        defects.append(f"the output has {ours.num_errors} damaged packets")
    if report["num_frames"] != ours.num_frames:
        defects.append(f"the report counts {report['num_frames']} frames, the output has {ours.num_frames}")
    # FFmpeg's VP9 decoder refuses some packets more with threads, or more than once; none goes uncounted.
    num_refused = report["num_damaged_packets"] - theirs.num_errors
    num_lost = theirs.num_frames - report["num_frames"]
    if num_lost > max(num_refused, 0):
        defects.append(f"{report['num_frames']} frames of {theirs.num_frames} that decode")
    if num_refused < 0 or (num_refused and theirs.codec != "vp9"):
        defects.append(f"the report counts {report['num_damaged_packets']} damaged packets of {theirs.num_errors}")
    if report["num_damaged_packets"] and not any("damaged packets" in line for line in report["warnings"]):
        defects.append("damaged packets without a warning")
    if len(theirs.sounds) < theirs.num_audio_tracks and not any(
        "holds no packet" in line for line in report["warnings"]
    ):
        defects.append("an audio track without packets, and no warning")
    if len(theirs.sounds) != len(ours.sounds):
        defects.append(f"{len(ours.sounds)} audio tracks of {len(theirs.sounds)}")
    for index, (before, after) in enumerate(zip(theirs.sounds, ours.sounds, strict=False)):
        figures["audio packets"] = figures.get("audio packets", 0) + len(before)
        if before != after and b"".join(before) != b"".join(after):
            lost = sum(len(packet) for packet in before) - sum(len(packet) for packet in after)
            defects.append(f"audio track {index}: {len(after)} packets of {len(before)}, {lost} bytes lost")
    return figures, defects


@dataclass(frozen=True, slots=True)
class _Contents:
    num_frames: int
    num_errors: int
    """Packets of the picture that the decoder or the demuxer refuses."""
    sounds: list[list[bytes]]
    """The packets of each audio track that has any."""
    num_audio_tracks: int
    codec: str
    """Of the picture."""


def _look(path: Path) -> _Contents:
    """Read a file with FFmpeg alone: one thread, one track at a time, on behind every error."""
    import av
    from av.stream import Disposition

    num_frames = num_errors = 0
    with av.open(str(path), metadata_errors="surrogateescape") as container:
        stream = next(stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)
        stream.thread_type = "NONE"
        codec = stream.codec_context.name
        for _ in range(MAX_RESTARTS):
            try:
                for packet in container.demux(stream):
                    refused, pictures = _decoded(stream.codec_context, packet)
                    num_errors += refused
                    num_frames += pictures
                break
            except av.FFmpegError:
                num_errors += 1
    sounds = _sounds(path)
    return _Contents(num_frames, num_errors, [sound for sound in sounds if sound], len(sounds), codec)


def _decoded(context: Any, packet: Any) -> tuple[bool, int]:
    import av

    pictures, refused = 0, False
    while True:
        try:
            found = context.decode(packet if packet.size else None)
        except EOFError:
            return refused, pictures
        except av.FFmpegError:
            refused = True
            if packet.size:
                return refused, pictures
            continue  # at the end, behind the refused picture others may wait
        return refused, pictures + len(found)


def _sounds(path: Path) -> list[list[bytes]]:
    import av

    with av.open(str(path), metadata_errors="surrogateescape") as container:
        sounds: dict[int, list[bytes]] = {stream.index: [] for stream in container.streams.audio}
        for _ in range(MAX_RESTARTS if sounds else 0):
            try:
                for packet in container.demux(*container.streams.audio):
                    if packet.size:
                        sounds[packet.stream.index].append(bytes(packet))
                break
            except av.FFmpegError:
                continue
    return list(sounds.values())
