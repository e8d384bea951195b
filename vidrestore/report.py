"""What happened in a run: counts, seconds, models, warnings. Plain data for people, JSON and other programs."""

import logging
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vidrestore.frame import RestoredFrame

log = logging.getLogger("vidrestore")

Item = TypeVar("Item")

COUNTS = (
    "num_frames",
    "num_frames_with_faces",
    "num_faces_found",
    "num_faces_restored",
    "num_faces_skipped",
    "num_tracks",
)
"""The fields that count frames which have been written, and their faces."""

_running = threading.local()
"""Per thread: seconds spent in nested stages, innermost last. A stage's own time excludes those that it waits for."""


@dataclass(slots=True)
class Report:
    """Filled while a run goes on; complete when `restore_video` returns it."""

    source: str
    target: str
    model: str = ""
    model_sha256: str = ""
    detector: str = ""
    detector_sha256: str = ""
    engine: str = ""
    device: str = ""
    dtype: str = ""
    num_frames_expected: int | None = None
    """By the source's header; None when it says nothing."""
    num_frames: int = 0
    """Frames written."""
    num_frames_resumed: int = 0
    """Of those: written by an earlier run, which was stopped. Its seconds are not in this report."""
    num_frames_with_faces: int = 0
    num_faces_found: int = 0
    """Summed over frames."""
    num_faces_restored: int = 0
    num_faces_reused: int = 0
    """Of those restored in this run: given the result of an earlier frame, with `--reuse`. Counted when its crop is
    cut, also in the few frames that a new segment begins with for its warm-up."""
    num_faces_skipped: int = 0
    """Found and deliberately left as they were; the faces file has the reasons."""
    num_tracks: int = 0
    """A track is one face followed through one scene; the same person counts again after a cut."""
    verified: bool = False
    """The output was read back and compared with the source (`verify/`)."""
    source_sha256: str = ""
    target_sha256: str = ""
    """Of a verified run."""
    num_damaged_packets: int = 0
    """Packets of the source that could not be decoded and were left out."""
    seconds_total: float = 0.0
    cpu_seconds_total: float = 0.0
    """Of this process on all cores, while the run went on."""
    seconds_per_stage: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds inside each stage. Lanes overlap, and so does what a GPU does meanwhile (see
    `device/lane.py`), so they may sum to more than `seconds_total`."""
    warnings: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        if message in self.warnings:
            return
        self.warnings.append(message)
        log.warning(message)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the block to a stage, less that of stages nested in it."""
        nested: list[float] = _running.__dict__.setdefault("nested_s", [])
        nested.append(0.0)
        start_s = time.perf_counter()
        try:
            yield
        finally:
            elapsed_s = time.perf_counter() - start_s
            own_s = elapsed_s - nested.pop()
            if nested:
                nested[-1] += elapsed_s
            self.add_seconds(name, own_s)

    def add_seconds(self, name: str, seconds: float) -> None:
        """Add to a stage what was measured elsewhere, such as on a device."""
        self.seconds_per_stage[name] = self.seconds_per_stage.get(name, 0.0) + seconds

    def timed(self, name: str, items: Iterable[Item]) -> Generator[Item, None, None]:
        """Pass the items on, counting the time it takes to make each towards a stage."""
        iterator = iter(items)
        try:
            while True:
                with self.stage(name):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def count(self, done: RestoredFrame) -> None:
        """Enter a frame that has been written."""
        faces = [face.face for face in done.faces] + [face.face for face in done.skipped]
        self.num_frames += 1
        self.num_frames_with_faces += bool(faces)
        self.num_faces_found += len(faces)
        self.num_faces_restored += len(done.faces)
        self.num_faces_skipped += len(done.skipped)
        # Ids count up from 1 in the order in which tracks come out.
        self.num_tracks = max([self.num_tracks, *(face.track_id for face in faces)])

    def counts(self) -> dict[str, int]:
        """What `count` counts, for `add`."""
        return {name: getattr(self, name) for name in COUNTS}

    def add(self, counts: Mapping[str, int]) -> None:
        """Enter frames that an earlier run has written."""
        for name in COUNTS:
            together = max if name == "num_tracks" else int.__add__
            setattr(self, name, together(getattr(self, name), counts[name]))

    def finish(self, seconds_total: float, cpu_seconds_total: float) -> None:
        self.seconds_total, self.cpu_seconds_total = seconds_total, cpu_seconds_total
        if self.num_faces_found == 0:
            self.warn(f"{self.source}: no faces were found; the pictures are the source's")

    def as_dict(self) -> dict[str, Any]:
        """For JSON; seconds rounded to milliseconds."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["seconds_total"] = round(self.seconds_total, 3)
        fields["cpu_seconds_total"] = round(self.cpu_seconds_total, 3)
        fields["seconds_per_stage"] = {name: round(s, 3) for name, s in self.seconds_per_stage.items()}
        return fields
