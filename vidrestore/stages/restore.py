"""Restore: gather crops across frames and faces into batches, and hand every result back to its face."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import OutOfDeviceMemory
from vidrestore.face import AlignedFace, RestoredFace
from vidrestore.frame import F, FrameFaces
from vidrestore.models.spec import Restorer
from vidrestore.report import Report
from vidrestore.stages.reuse import RequestedFace, request_faces


def restore_faces(
    aligned: Iterable[FrameFaces[AlignedFace]],
    restorer: Restorer,
    report: Report,
    *,
    batch_size: int,
    max_wait_frames: int,
    reuse: bool = False,
) -> Iterator[FrameFaces[RestoredFace]]:
    """Restore every crop; frames come out in the order in which they came in.

    A batch runs as soon as `batch_size` crops are waiting, or when `max_wait_frames` frames are held back. The very
    first does not wait, so that there is soon something to see. With `reuse`, a face that has not changed since it
    was last restored gets that result again (`reuse.py`).
    Raises OutOfDeviceMemory when even a single crop does not fit.
    """
    batcher = Batcher(restorer, report, batch_size)
    requested = request_faces(aligned, report, reuse=reuse)
    for held in gathered(
        requested, batch_size=batch_size, max_wait_frames=max_wait_frames, num_new=num_new, eager=True
    ):
        requests = [face.request for found in held for face in found.faces if face.is_new]
        if requests:
            results = batcher.restore(np.stack([request.aligned.to_restore for request in requests]))
            for request, restored in zip(requests, results, strict=True):
                # A copy, where it may stay: a remembered part would keep its whole batch in memory.
                request.restored = restored.copy() if reuse else restored
        while held:
            found = held.popleft()
            yield FrameFaces(found.frame, tuple(restored_face(face) for face in found.faces), found.skipped)


def num_new(found: FrameFaces[RequestedFace]) -> int:
    """Faces that the restorer must be asked about."""
    return sum(face.is_new for face in found.faces)


def restored_face(face: RequestedFace) -> RestoredFace:
    assert face.request.restored is not None, "requests are answered before their frames are handed on"
    return RestoredFace(face.aligned, face.request.restored)


def num_faces(found: FrameFaces[Any]) -> int:
    return len(found.faces)


def gathered(
    found: Iterable[FrameFaces[F]],
    *,
    batch_size: int,
    max_wait_frames: int,
    num_new: Callable[[FrameFaces[F]], int] = num_faces,
    eager: bool = False,
) -> Iterator[deque[FrameFaces[F]]]:
    """Frames with `batch_size` faces or more together, or `max_wait_frames` of them; in the end what is left.

    `num_new` says how many of a frame's faces count. `eager` lets go at once of frames that wait for no face, and of
    the first that does.
    """
    held: deque[FrameFaces[F]] = deque()
    num_waiting = 0
    enough = 1 if eager else batch_size
    for one in found:
        held.append(one)
        num_waiting += num_new(one)
        if num_waiting >= enough or len(held) >= max_wait_frames or (eager and num_waiting == 0):
            if num_waiting:
                enough = batch_size
            yield held
            held, num_waiting = deque(), 0
    if held:
        yield held


class Batcher:
    """Runs the restorer on parts of the crops that fit into memory."""

    def __init__(self, restorer: Restorer, report: Report, batch_size: int) -> None:
        self.restorer = restorer
        self.report = report
        self.parts = Parts(report, batch_size)

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, S, S, 3) uint8 RGB -> the same, in batches of at most `batch_size`, as even as possible."""
        restored = np.empty_like(crops)

        def restore_part(start: int, stop: int) -> None:
            with self.report.stage("restore"):
                restored[start:stop] = self.restorer.restore(crops[start:stop])

        self.parts.run(len(crops), restore_part)
        return restored


class Parts:
    """Cuts work into parts of at most `batch_size`; remembers a size that fits after memory ran out."""

    def __init__(self, report: Report, batch_size: int) -> None:
        self.report = report
        self.batch_size = batch_size

    def run(self, num: int, work: Callable[[int, int], None]) -> None:
        """Call `work(start, stop)` for 0..num in order, in parts as even as possible.

        A part that raises OutOfDeviceMemory is tried again in halves; of a single one the error is passed on. `work`
        may cut its own work into parts by this too: what fits there limits what is tried here.
        """
        start = 0
        while start < num:
            num_left = num - start
            num_batches = -(-num_left // self.batch_size)
            stop = start + -(-num_left // num_batches)
            try:
                work(start, stop)
            except OutOfDeviceMemory:
                if stop - start == 1:
                    raise
                half = (stop - start) // 2
                if half < self.batch_size:  # else it was made smaller while the work went on
                    self.batch_size = half
                    self.report.warn(f"out of memory: going on with a batch size of {half}")
                continue
            start = stop
