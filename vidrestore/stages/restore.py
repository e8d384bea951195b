"""Restore: gather crops across frames and faces into batches, and hand every result back to its face."""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import OutOfDeviceMemory
from vidrestore.face import AlignedFace, RestoredFace
from vidrestore.frame import FrameFaces
from vidrestore.models.spec import Restorer
from vidrestore.report import Report


def restore_faces(
    aligned: Iterable[FrameFaces[AlignedFace]],
    restorer: Restorer,
    report: Report,
    *,
    batch_size: int,
    max_wait_frames: int,
) -> Iterator[FrameFaces[RestoredFace]]:
    """Restore every crop; frames come out in the order in which they came in.

    A batch runs as soon as `batch_size` crops are waiting, or when `max_wait_frames` frames are held back.
    Raises OutOfDeviceMemory when even a single crop does not fit.
    """
    held: deque[FrameFaces[AlignedFace]] = deque()
    num_waiting = 0
    batcher = Batcher(restorer, report, batch_size)
    for found in aligned:
        held.append(found)
        num_waiting += len(found.faces)
        if num_waiting >= batch_size or len(held) >= max_wait_frames:
            yield from batcher.flush(held)
            num_waiting = 0
    yield from batcher.flush(held)


class Batcher:
    """Runs the restorer; remembers a batch size that fits after memory ran out."""

    def __init__(self, restorer: Restorer, report: Report, batch_size: int) -> None:
        self.restorer = restorer
        self.report = report
        self.batch_size = batch_size

    def flush(self, held: deque[FrameFaces[AlignedFace]]) -> Iterator[FrameFaces[RestoredFace]]:
        """Empty `held`, restoring all its crops."""
        crops = [face.crop for found in held for face in found.faces]
        results = iter(self.restore(np.stack(crops)) if crops else ())
        while held:
            found = held.popleft()
            faces = tuple(RestoredFace(face, next(results)) for face in found.faces)
            yield FrameFaces(found.frame, faces, found.skipped)

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, S, S, 3) uint8 RGB -> the same, in batches of at most `batch_size`, as even as possible."""
        restored = np.empty_like(crops)
        start = 0
        while start < len(crops):
            num_left = len(crops) - start
            num_batches = -(-num_left // self.batch_size)
            stop = start + -(-num_left // num_batches)
            try:
                with self.report.stage("restore"):
                    restored[start:stop] = self.restorer.restore(crops[start:stop])
            except OutOfDeviceMemory:
                if stop - start == 1:
                    raise
                self.batch_size = (stop - start) // 2
                self.report.warn(f"out of memory: going on with a batch size of {self.batch_size}")
                continue
            start = stop
        return restored
