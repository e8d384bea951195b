"""Restoring a clip in processes that are killed in the middle: `python -m tests.killed SOURCE TARGET SECONDS...`.

Each of the SECONDS is a run in a process of its own, which is killed that long after its beginning ("-": not at all),
as by SIGKILL: no handler runs, nothing is put in order. The runs are forks of one process that has loaded all and
begun nothing, so that the time is spent on the work itself. For each a line of JSON says its exit status, how long it
took, and the checksums of the files in the target's folder; after one that was not killed the outputs are deleted.

The models are small functions of what they are shown, so that a run can be compared with another to the last bit.
"""

import hashlib
import json
import os
import signal
import sys
import time
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.fakes import FAKE_SHA256, IdentityRestorer, face_at, fake_spec
from vidrestore import work
from vidrestore.face import Detection
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video

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
    restore_video(source, target, Options(faces=faces, overwrite=True, device="cpu"), models=models())


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    work.SEGMENT_FRAMES = SEGMENT_FRAMES
    for seconds in sys.argv[3:]:
        begin_s = time.perf_counter()
        process = os.fork()
        if process == 0:
            if seconds != "-":
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, float(seconds))
            try:
                run(source, target)
            except BaseException as exc:
                sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
                os._exit(1)
            os._exit(0)
        status = os.waitpid(process, 0)[1]
        took_s = time.perf_counter() - begin_s
        files = {file.name: sha256(file) for file in target.parent.iterdir() if file.is_file()}
        folders = [folder.name for folder in target.parent.iterdir() if folder.is_dir()]
        line = {"status": status, "seconds": took_s, "files": files, "folders": folders}
        sys.stdout.write(json.dumps(line) + "\n")
        if seconds == "-":
            target.unlink()
            target.with_suffix(".json").unlink()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
