"""A device's queues of work: copies to it, computing, copies back. On a CPU there are none, and all is done at once.

All that is particular to CUDA (streams, events, pinned memory) is in this file. Nothing here waits for the device but
`Mark.wait`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrestore.report import Report


class Mark:
    """A point in the queues; reached when all that was asked for before it is done."""

    def __init__(self, event: torch.cuda.Event | None) -> None:
        self._event = event

    def wait(self) -> None:
        if self._event is not None:
            self._event.synchronize()


class Queues:
    """Uploads, computing and downloads, each on a CUDA stream of its own, so that they overlap.

    Computing has its own too: the detector looks at the next frames on the default one, and must not wait behind it.
    To be had from `shared_queues`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._is_cuda = device.type == "cuda"
        if self._is_cuda:
            self._uploads, self._computing, self._downloads = (_stream(device) for _ in range(3))

    def follow_caller(self) -> None:
        """What this thread asked for outside of the queues before, such as a network's weights, is complete inside."""
        if self._is_cuda:
            self._computing.wait_stream(torch.cuda.current_stream(self.device))

    def host_samples(self, num: int, dtype: torch.dtype) -> Tensor:
        """(num,) in memory that the device copies from directly. PyTorch recycles it once the copy is over."""
        return torch.empty(num, dtype=dtype, pin_memory=self._is_cuda)

    def upload(self, host: Tensor) -> Tensor:
        """The same on the device, for computing. `host`, best from `host_samples`, must not be written to any more."""
        if not self._is_cuda:
            return host
        with torch.cuda.stream(self._uploads):
            there = host.to(self.device, non_blocking=True)
        there.record_stream(self._computing)
        self._computing.wait_stream(self._uploads)
        return there

    def upload_array(self, array: NDArray[Any]) -> Tensor:
        """A small table on the device. (`torch.tensor(..., device="cuda")` would wait for all work before it.)"""
        host = torch.from_numpy(np.ascontiguousarray(array))
        return self.upload(host.pin_memory() if self._is_cuda else host)

    def computing(self) -> AbstractContextManager[object]:
        """What is asked for inside computes after what has been uploaded."""
        return torch.cuda.stream(self._computing) if self._is_cuda else nullcontext()

    def download(self, there: Tensor) -> Tensor:
        """The same on the host, complete when a mark that is made later is reached."""
        if not self._is_cuda:
            return there
        self._downloads.wait_stream(self._computing)
        with torch.cuda.stream(self._downloads):
            host = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
            host.copy_(there, non_blocking=True)
        there.record_stream(self._downloads)
        return host

    def mark(self) -> Mark:
        if not self._is_cuda:
            return Mark(None)
        self._downloads.wait_stream(self._computing)
        event = _event(blocking=True)  # this thread sleeps, and leaves its core to the other lanes
        event.record(self._downloads)
        return Mark(event)

    def stopwatch(self) -> "Stopwatch":
        return Stopwatch(self._computing if self._is_cuda else None)


def shared_queues(device: torch.device) -> Queues:
    """The queues of that device, the same ones for every run, ready for what the caller has loaded onto it.

    PyTorch keeps freed memory for each stream by itself, so new streams would want new memory in every run. And what is
    at the same addresses for every run, a CUDA graph's input, is never written to while an older run still reads it.
    Runs at the same time in several threads may share them: each waits for more than it need, never for less.
    """
    queues = _queues(device)
    queues.follow_caller()
    return queues


@lru_cache
def _queues(device: torch.device) -> Queues:
    return Queues(device)


class Stopwatch:
    """Seconds that the device spends on each stage, known once the work is done.

    From its first work there to its last: what it waits for in between (uploads, or this thread when that is slower in
    asking) counts too.
    """

    def __init__(self, computing: torch.cuda.Stream | None) -> None:
        self._computing = computing
        self._spans: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def stage(self, report: Report, name: str) -> Iterator[None]:
        """Count what is asked for in the block towards a stage; the seconds of this thread too where all is done at
        once, on a CPU."""
        if self._computing is None:
            with report.stage(name):
                yield
            return
        begin, end = _event(timed=True), _event(timed=True)
        begin.record(self._computing)
        yield
        end.record(self._computing)
        self._spans.append((name, begin, end))

    def enter_into(self, report: Report) -> None:
        """To be called when the work is done, that is after `Mark.wait`."""
        for name, begin, end in self._spans:
            report.add_seconds(name, begin.elapsed_time(end) / 1000)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _event(*, timed: bool = False, blocking: bool = False) -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=timed, blocking=blocking)  # type: ignore[no-untyped-call]
