"""The work folder: what is finished of a run, so that it can go on after a crash, a kill or a power cut.

Beside an output FILM.mp4 lies FILM.mp4.work while it is made:

    job.json         what is made of what: source, options, models, versions. What was made for another job is no use.
    looks.jsonl      what the detector saw (`RememberedDetector`)
    segment_00000/   what belongs to frames 0 to 499: encoded pictures, faces, counts
    segment_00001/   …

A segment is begun under another name; it is flushed to the disk and renamed when it is complete. It depends on nothing
but the source, the options and the segment's number, so a run that was stopped ends in the same bytes as one that was
not.
"""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from vidrestore import __version__
from vidrestore.errors import OptionsError, TargetError
from vidrestore.options import Options
from vidrestore.report import Report
from vidrestore.target import flush_to_disk, writing
from vidrestore.verify import sha256_of
from vidrestore.video.sequence import source_facts

log = logging.getLogger("vidrestore")

SEGMENT_FRAMES = 500
"""At most so many frames are restored twice after a kill: 20 s of film, and one to five minutes of work on two cores. A
new segment costs a keyframe (encoders make one every 250 frames anyway) and the frames of its warm-up."""
SEGMENT_NAME = "segment_{:05d}"


NO_MATTER = frozenset({"overwrite", "resume", "faces", "report", "verify"})
"""Options that make no difference to what is in a segment."""
PACKAGES = ("av", "facexlib", "numba", "numpy", "onnxruntime", "opencv-python", "torch")
"""What computes; other versions may give other last bits."""


def job_of(source: Path, options: Options, report: Report) -> dict[str, Any]:
    """All that decides what is in the segments of a run; `report` knows its models."""
    chosen = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in NO_MATTER}
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        **{name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()},
        "compare": options.compare is not None,
        "from_faces": options.from_faces and sha256_of(options.from_faces),
        **source_facts(source),
        "target_suffix": Path(report.target).suffix,
        "model_sha256": report.model_sha256,
        "detector_sha256": report.detector_sha256,
        "computed_by": f"{report.engine} on {report.device} in {report.dtype}",
        "vidrestore": __version__,
        "versions": versions,
        "segment_frames": SEGMENT_FRAMES,
    }


def segment_number(frame_index: int) -> int:
    return frame_index // SEGMENT_FRAMES


def work_folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.work")


class WorkFolder:
    """`with WorkFolder(target) as work:` holds the folder for this run alone. When the block ends without an error, the
    folder is deleted; also after an error, when nothing in it is finished. Else a note on the error says what to do.

    Raises TargetError when another run holds it, or it cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.path = work_folder(target)
        self._target = target
        self._lock = FileLock(self.path / "lock")
        self._finished: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        with writing(self.path):
            self.path.mkdir(exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout as exc:
                raise TargetError(
                    f"{self._target}: another run is making it; wait for that one, or choose another output with -o"
                ) from exc
            for left in (*self.path.glob(".vidrestore-*"), *self.path.glob("*.part")):  # by a run that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        num_finished = len(list(self.path.glob(SEGMENT_NAME.format(0)[:-5] + "?????")))
        if error is not None and num_finished:
            self._lock.release()
            num_frames = sum(segment["num_frames"] for segment in self._finished.values())
            if num_frames:
                error.add_note(
                    f"{num_frames} frames are finished and kept in {self.path}: the same command goes on from there"
                )
            return
        # First what tells of finished work, so that a kill in the middle of this leaves nothing to go on from.
        with contextlib.suppress(OSError):
            (self.path / "job.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)  # where an open file cannot be deleted

    def go_on(self, job: Mapping[str, Any], *, must: bool, may_discard: bool) -> None:
        """Look for what is finished of this job. `must`: raise OptionsError when there is nothing.

        What another job left is discarded only with `may_discard`; else TargetError names the difference.
        """
        file, job = self.path / "job.json", json.loads(json.dumps(job))
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if known is not None and known != job:
            names = [name for name in job | known if job.get(name) != known.get(name)]
            what = ", ".join(f"{name} was {known.get(name)}, is {job.get(name)}" for name in names)
            if must or not may_discard:
                raise TargetError(
                    f"{self.path}: holds unfinished work of another kind ({what}); give what it was made with to go "
                    "on, or --overwrite (without --resume) to begin anew"
                )
            known = None
        segments = sorted(self.path.glob(SEGMENT_NAME.format(0)[:-5] + "?????")) if known == job else []
        for folder in segments:
            with contextlib.suppress(OSError, ValueError):
                self._finished[int(folder.name[-5:])] = json.loads((folder / "segment.json").read_text("utf-8"))
        if must and not self._finished:
            raise OptionsError(f"{self.path}: nothing is finished there; leave --resume out to begin")
        with writing(self.path):
            if known is None:
                for left in self.path.glob("*"):
                    if left.is_dir():
                        shutil.rmtree(left)
                    elif left.name != "lock" and not left.name.startswith(".vidrestore-"):
                        left.unlink()
                file.write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")
                flush_to_disk(file)
        if self._finished:
            num_frames = sum(segment["num_frames"] for segment in self._finished.values())
            log.info(f"{self.path}: going on; {num_frames} frames are finished")

    @property
    def finished(self) -> Mapping[int, Mapping[str, Any]]:
        """By number of the segment: what `finish_segment` was told of it."""
        return self._finished

    @property
    def size_bytes(self) -> int:
        """Of all that is in it."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    @property
    def looks(self) -> Path:
        return self.path / "looks.jsonl"

    def segment(self, number: int) -> Path:
        """The folder of a finished one."""
        return self.path / SEGMENT_NAME.format(number)

    def begin_segment(self, number: int) -> Path:
        """An empty folder for what belongs to it."""
        folder = self.segment(number).with_suffix(".part")
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        return folder

    def finish_segment(self, number: int, facts: Mapping[str, Any]) -> None:
        """All its files are written: make that true on the disk, and tell it by its name."""
        folder = self.segment(number).with_suffix(".part")
        with writing(folder):
            (folder / "segment.json").write_text(json.dumps(facts), encoding="utf-8")
            for file in folder.iterdir():
                flush_to_disk(file)
            flush_to_disk(folder)
            os.replace(folder, self.segment(number))
            flush_to_disk(self.path)
        self._finished[number] = dict(facts)
