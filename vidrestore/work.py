"""The work folder: what is finished of a run, so that it can go on after a crash, a kill or a power cut.

Beside an output FILM.mp4 lies FILM.mp4.work while it is made (beside the faces file of an analysis likewise, without
segments):

    job.json         what is made of what: source, options, models, versions. What was made for another job is no use.
    looks.jsonl      what the detector saw (`RememberedDetector`)
    segment_00000/   what belongs to frames 0 to 499: encoded pictures, faces, counts
    segment_00001/   …

    placed.json      which outputs have their places already (`placed.py`)

A segment is begun under another name; it is flushed to the disk and renamed when it is complete. It depends on nothing
but the source, the options and the segment's number, so a run that was stopped ends in the same bytes as one that was
not. No error costs a finished segment; one that is damaged is made again.
"""

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from vidrestore import __version__
from vidrestore.errors import InputError, OptionsError, TargetError
from vidrestore.options import Options
from vidrestore.placed import PLACED_NAME, is_placed, note_placed
from vidrestore.report import Report
from vidrestore.sealed import sealed, unsealed
from vidrestore.target import flush_to_disk, writing
from vidrestore.verify.output import sha256_of
from vidrestore.verify.pair import VerifyError
from vidrestore.video.sequence import source_facts

log = logging.getLogger("vidrestore")

SEGMENT_FRAMES = 500
"""At most so many frames are restored twice after a kill: 20 s of film, and one to five minutes of work on two cores. A
new segment costs a keyframe (encoders make one every 250 frames anyway) and the frames of its warm-up."""
READ_BYTES = 2**20
"""At a time."""
SEGMENT_NAME = "segment_{:05d}"
REPLACED = ".vidrestore-*-replaced"
"""A folder of images that was the user's, until new ones have its place."""
OWN_NAMES = re.compile(r"job\.json|placed\.json|lock|looks\.jsonl|segment_\d+(\.part)?|\.vidrestore-.*")
"""All that is ever in it. A folder with anything else is somebody's own."""


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
        "compare": options.compare and options.compare.suffix.lower(),
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


def was_placed(target: Path, place: Path) -> bool:
    """Whether an unfinished run for this target has put there what is there."""
    return target.name != "" and is_placed(work_folder(target), place)


def _checksums(folder: Path) -> dict[str, int]:
    """Of all files in a segment's folder but its own description."""
    return {file.name: _crc32(file) for file in sorted(folder.iterdir()) if file.name != "segment.json"}


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _delete(path: Path) -> None:
    """A folder with all that is in it, or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class WorkFolder:
    """`with WorkFolder(target) as work:` holds the folder for this run alone. When the block ends without an error, the
    folder is deleted; also after an error, when nothing in it is finished. Else a note on the error says what to do.
    With `keeps_looks`, what the detector saw is worth keeping without a finished segment.

    `target` is a file, or a folder of images. Old images that a run was about to replace when it was killed are put
    back there.

    Raises TargetError when another run holds it, or it cannot be made.
    """

    def __init__(self, target: Path, *, keeps_looks: bool = False) -> None:
        self.path = work_folder(target)
        self._keeps_looks = keeps_looks
        self._target = target
        self._lock = FileLock(self.path / "lock")
        self._finished: dict[int, dict[str, Any]] = {}
        self._is_ours = False
        """What lies in it is of this run's job."""

    def __enter__(self) -> Self:
        with writing(self.path):
            self.path.mkdir(exist_ok=True)
            foreign = [file.name for file in self.path.iterdir() if not OWN_NAMES.fullmatch(file.name)]
            if foreign:
                raise TargetError(
                    f"{self.path}: is where unfinished work is kept, and holds other files ({foreign[0]}); move "
                    "them, or choose another output with -o"
                )
            flush_to_disk(self.path.parent)
            try:
                self._lock.acquire(timeout=0)
            except Timeout as exc:
                raise TargetError(
                    f"{self._target}: another run is making it; wait for that one, or choose another output with -o"
                ) from exc
            except (NotImplementedError, OSError) as exc:
                if isinstance(exc, OSError) and exc.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
                log.warning(f"{self.path}: cannot be locked on this disk; let no second run make the same output")
            for left in (*self.path.glob(".vidrestore-*"), *self.path.glob("*.part")):  # by a run that was killed
                if not left.match(REPLACED):
                    _delete(left)
            self._put_back_replaced()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        replaced = list(self.path.glob(REPLACED))
        if error is not None and (replaced or self._has_work()):
            self._lock.release()
            if self._has_work():
                self._note_what_is_kept(error)
            for folder in replaced:
                error.add_note(f"the images that were in {self._target} before are kept in {folder}")
            return
        self._clear()
        self._lock.release()
        if os.name == "nt":  # where the open lock could not be deleted
            self._clear()

    def _put_back_replaced(self) -> None:
        """The user's old images, where a run was killed before new ones had their place."""
        has_new = was_placed(self._target, self._target)
        for folder in self.path.glob(REPLACED):
            if has_new:
                _delete(folder)
                continue
            with contextlib.suppress(OSError):
                self._target.rmdir()  # an empty one is in nobody's way
            if not os.path.lexists(self._target):
                os.rename(folder, self._target)
                flush_to_disk(self._target.parent)
                log.warning(f"{self._target}: has its old images again, which a run that was killed had moved away")

    def _note_what_is_kept(self, error: BaseException) -> None:
        num_frames = sum(segment["num_frames"] for segment in self._finished.values())
        way_on = "the same command goes on from there"
        if isinstance(error, VerifyError):
            way_on = "delete it to make them anew"
        elif isinstance(error, InputError) and not isinstance(error.__cause__, OSError):
            way_on = "the same source and options go on from there, others need --overwrite"
        if self._is_ours and self._keeps_looks:
            error.add_note(f"what the detector has seen is kept in {self.path}: {way_on}")
        elif num_frames:
            error.add_note(f"{num_frames} frames are finished and kept in {self.path}: {way_on}")
        elif not isinstance(error, InputError):  # stopped before it had looked; else the message says enough
            error.add_note(f"what an earlier run has finished is kept in {self.path}")

    def _clear(self) -> None:
        """Delete all of it: first what says what the work is of, so that a kill in the middle leaves nothing to go on
        from; last the list of files that have their places, so that the same command may still replace them."""
        order = {"job.json": 0, PLACED_NAME: 2}
        for path in sorted(self.path.glob("*"), key=lambda each: order.get(each.name, 1)):
            with contextlib.suppress(OSError):
                _delete(path)
        with contextlib.suppress(OSError):
            self.path.unlink() if self.path.is_symlink() else self.path.rmdir()

    def go_on(self, job: Mapping[str, Any], *, must: bool, may_discard: bool) -> None:
        """Look for what is finished of this job. `must`: raise OptionsError when there is nothing.

        What another job left is discarded only with `may_discard`; else TargetError names the difference.
        """
        file, job = self.path / "job.json", json.loads(json.dumps(job))
        known = self._known_job() if self._has_work() else None
        may_discard = may_discard and not must
        if known == {} and not may_discard:
            raise TargetError(
                f"{file}: is damaged, so nobody knows what the finished work beside it is of; --overwrite (without "
                "--resume) begins anew"
            )
        if known is not None and known != job:
            names = [name for name in {**job, **known} if job.get(name) != known.get(name)]
            what = ", ".join(f"{name} was {known.get(name)}, is {job.get(name)}" for name in names)
            if not may_discard:
                raise TargetError(
                    f"{self.path}: holds unfinished work of another kind ({what}); give what it was made with to go "
                    "on, or --overwrite (without --resume) to begin anew"
                )
            known = None
        for folder in self._segments() if known == job else []:
            with writing(folder), contextlib.suppress(ValueError, FileNotFoundError):
                facts = unsealed((folder / "segment.json").read_bytes())
                if facts["crc32"] == _checksums(folder):  # else it is made again
                    self._finished[int(folder.name[-5:])] = facts
        if must and (known is None if self._keeps_looks else not self._finished):
            raise OptionsError(f"{self.path}: nothing is finished there; leave --resume out to begin")
        with writing(self.path):
            if known is None:
                for folder in self._segments():
                    shutil.rmtree(folder)
                self.looks.unlink(missing_ok=True)
                file.write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")
                flush_to_disk(file)
        self._is_ours = True
        if self._keeps_looks and known is not None:
            log.info(f"{self.path}: going on with what the detector has seen")
        if self._finished:
            num_frames = sum(segment["num_frames"] for segment in self._finished.values())
            log.info(f"{self.path}: going on; {num_frames} frames are finished")

    def place(self, path: Path, complete: Path) -> None:
        """`complete` is about to be renamed to `path`: a run that goes on from here may replace it there."""
        note_placed(self.path, path, complete)

    def hiding_place(self, path: Path) -> Path | None:
        """Where a file may lie until it is complete: here, where all is cleared after a kill, if that is on the same
        disk for sure; None: beside its place."""
        is_near = path.parent.samefile(self._target.parent)
        return self.path if is_near and self.path.stat().st_dev == path.parent.stat().st_dev else None

    def _known_job(self) -> dict[str, Any] | None:
        """What the work there was begun for: None where that is missing, nothing where it is damaged."""
        with writing(self.path), contextlib.suppress(FileNotFoundError):
            try:
                known = json.loads((self.path / "job.json").read_bytes())
            except ValueError:
                return {}
            return known if isinstance(known, dict) else {}
        return None

    @property
    def finished(self) -> Mapping[int, Mapping[str, Any]]:
        """By number of the segment: what `finish_segment` was told of it."""
        return self._finished

    def _has_work(self) -> bool:
        """Whether anything in it is worth keeping."""
        has_looks = self.looks.exists() and self.looks.stat().st_size > 0
        return bool(self._segments()) or (self._keeps_looks and has_looks)

    def _segments(self) -> list[Path]:
        """The folders of those that have been finished, in order."""
        return sorted(self.path.glob(SEGMENT_NAME.format(0)[:-5] + "?????"))

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
            for left in (folder, self.segment(number)):  # one of another job, or damaged
                shutil.rmtree(left, ignore_errors=True)
            folder.mkdir()
        return folder

    def finish_segment(self, number: int, facts: Mapping[str, Any]) -> None:
        """All its files are written: make that true on the disk, and tell it by its name."""
        folder = self.segment(number).with_suffix(".part")
        with writing(folder):
            facts = {**facts, "crc32": _checksums(folder)}
            (folder / "segment.json").write_text(sealed(facts), encoding="utf-8")
            for file in folder.iterdir():
                flush_to_disk(file)
            flush_to_disk(folder)
            os.replace(folder, self.segment(number))
            flush_to_disk(self.path)
        self._finished[number] = dict(facts)
