"""Restoring a clip in processes that are killed in the middle: `python -m tests.killed SOURCE TARGET STEPS...`.

Each of the STEPS is a run in a process of its own, which kills itself (SIGKILL: no handler runs, nothing is put in
order) ahead of that step: of everything that is written, flushed, renamed, looked at or deleted, from 1. With "-" it
lives. A line of JSON for each says its exit status, the number of steps if it lived, and the checksums of the files in
the target's folder; after a run that lived the outputs are deleted. The runs are forks of one process that has loaded
everything and begun nothing.

The models are small functions of what they are shown, so that a run can be compared with another to the last bit.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes import FAKE_SHA256, IdentityRestorer, face_at, fake_spec
from vidrestore import work
from vidrestore.face import Detection
from vidrestore.faces_file.write import FacesFile
from vidrestore.loading import Models
from vidrestore.models.remembered import RememberedDetector
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.video.packets import PacketsFile
from vidrestore.video.tracks import CopiedTracks

SEGMENT_FRAMES = 20


class TremblingDetector:
    """One face in the middle of each picture, off by up to 2 px as the picture's checksum says."""

    def __init__(self) -> None:
        self.spec, self.sha256, self.batch_images = fake_spec("detector"), FAKE_SHA256, 4
        self.num_asked = 0

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        self.num_asked += len(images)
        found = []
        for image in images:
            height_px, width_px = image.shape[:2]
            offset_px = zlib.crc32(np.ascontiguousarray(image).data) % 400 / 100 - 2
            found.append((face_at(width_px / 2 + offset_px, height_px / 2 + offset_px, height_px / 1.5),))
        return found


class MirrorRestorer(IdentityRestorer):
    """Mirrors every crop, left to right."""

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(super().restore(crops)[:, :, ::-1])


def models() -> Models:
    return Models(TremblingDetector(), MirrorRestorer())


def run(source: Path, target: Path) -> None:
    faces = target.with_suffix(".json")
    restore_video(source, target, Options(faces=faces, device="cpu"), models=models())


STEPS = (
    (os, "replace"),
    (os, "fsync"),
    (shutil, "rmtree"),
    (Path, "unlink"),
    (PacketsFile, "write"),
    (RememberedDetector, "detect"),
    (CopiedTracks, "copy_before"),
    (FacesFile, "add"),
)


class Steps:
    """Counts them, in all threads, and kills the process ahead of the last one that it may take."""

    def __init__(self, fatal: int | None) -> None:
        self.count = 0
        self._fatal = fatal
        self._lock = threading.Lock()
        for owner, name in STEPS:
            setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.count += 1
                if self.count == self._fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return counted


def run_and_tell(source: Path, target: Path, fatal: int | None, told: int) -> None:
    """In the child; `told` is where the number of steps is written to."""
    steps = Steps(fatal)
    try:
        run(source, target)
    except BaseException as exc:
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        os._exit(1)
    os.write(told, str(steps.count).encode())
    os._exit(0)


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    work.SEGMENT_FRAMES = SEGMENT_FRAMES
    for step in sys.argv[3:]:
        read, told = os.pipe()
        process = os.fork()
        if process == 0:
            run_and_tell(source, target, None if step == "-" else int(step), told)
        os.close(told)
        status = os.waitpid(process, 0)[1]
        with os.fdopen(read) as pipe:
            num_steps = int(pipe.read() or 0)
        files = {file.name: sha256(file) for file in target.parent.iterdir() if file.is_file()}
        folders = [folder.name for folder in target.parent.iterdir() if folder.is_dir()]
        line = {"status": status, "steps": num_steps, "files": files, "folders": folders}
        sys.stdout.write(json.dumps(line) + "\n")
        if step == "-":
            target.unlink()
            target.with_suffix(".json").unlink()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
