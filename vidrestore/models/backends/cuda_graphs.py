"""CUDA graphs: a network's hundred launches recorded once and replayed as one, so that a GPU never waits for Python."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.backends import cudnn

log = logging.getLogger("vidrestore")

MAX_GRAPHS = 8
"""Batch sizes that have a graph at the same time. They share their memory; an input and an output each is their own."""
WARM_UPS = 2
"""Calls before a recording, on its stream: the first gets memory of its own there, the second runs as all later."""

Net = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class Recording:
    """A network's work on an input of one shape, always at the same addresses."""

    x: Tensor
    outputs: tuple[Tensor, ...]
    replay: Callable[[], None]


class GraphedNet:
    """`net`, with a CUDA graph for each of the first `max_graphs` batch sizes that come back.

    A size runs without a graph the first time, for it may be the rest at the end of a clip. That call already lets
    cuDNN time its algorithms: PyTorch keeps what was chosen first for a shape, timed or guessed, so the recording would
    find a guess. Further sizes are never recorded: if sizes took turns, each would be recorded again and again.

    What it returns is the caller's own. Where recording fails, or its memory is wanted, it goes on without, with the
    same answer. For one thread at a time.
    """

    def __init__(
        self, net: Net, *, record: Callable[[Net, Tensor], Recording] | None = None, max_graphs: int = MAX_GRAPHS
    ) -> None:
        self.net = net
        self.max_graphs = max_graphs
        self._record = record or Recorder()
        self._recordings: dict[torch.Size, Recording] = {}
        self._seen: set[torch.Size] = set()

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        recording = self._recordings.get(x.shape)
        if recording is None and len(self._recordings) < self.max_graphs:
            if x.shape not in self._seen:
                self._seen.add(x.shape)
                with convolutions(benchmark=True):
                    return self.net(x)
            recording = self._recorded(x)
        if recording is None:
            return self.net(x)
        recording.x.copy_(x)
        recording.replay()
        return tuple(output.clone() for output in recording.outputs)

    def forget(self) -> bool:
        """Give the memory of all graphs back and record no more. Whether there was one."""
        had_any = bool(self._recordings)
        self._recordings.clear()
        self.max_graphs = 0
        return had_any

    def _recorded(self, x: Tensor) -> Recording | None:
        try:
            recording = self._record(self.net, x)
        except RuntimeError as exc:
            # Without memory, too: those that are recorded are kept, and the call without a graph says whether it fits.
            reason = str(exc).strip().partition("\n")[0]
            log.warning("no CUDA graph for batches of %d, so faces take a little longer: %s", len(x), reason)
            self.max_graphs = 0
            return None
        self._recordings[x.shape] = recording
        return recording


class Recorder:
    """Records with CUDA. Graphs of one recorder share their memory, which is safe because only one runs at a time."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def __call__(self, net: Net, x: Tensor) -> Recording:
        """Raises RuntimeError, such as torch.OutOfMemoryError, when `net` cannot be recorded."""
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            if self._stream is None:
                self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                self._pool = torch.cuda.graph_pool_handle()
            static = torch.empty_like(x).copy_(x)
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream), convolutions(benchmark=True):
                for _ in range(WARM_UPS):
                    net(static)
            current.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may allocate meanwhile: only this one's work is recorded.
            mode = "thread_local"
            try:
                with (
                    convolutions(benchmark=True),
                    torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode=mode),
                ):
                    outputs = net(static)
            except BaseException:
                self._let_go(torch.cuda.current_device())
                raise
            return Recording(static, outputs, graph.replay)

    def _let_go(self, device_index: int) -> None:
        """After a capture that cudaStreamEndCapture refused, do what PyTorch then leaves out.

        Its allocator goes on as if there were a capture, and frees no memory that several streams share. After other
        failures it has put itself in order, and refuses the first call here.
        """
        with suppress(AttributeError, RuntimeError):  # not public; named otherwise before PyTorch 2.8
            torch._C._cuda_endAllocateToPool(device_index, self._pool)
            torch._C._cuda_releasePool(device_index, self._pool)


@contextmanager
def convolutions(*, benchmark: bool) -> Iterator[None]:
    """What cuDNN may do meanwhile: never TensorFloat-32, whose error is 100 times float32's, where float32 was asked.

    `benchmark` has it time its algorithms for each shape, which takes seconds, and use the fastest.
    """
    others = {"enabled": cudnn.enabled, "deterministic": cudnn.deterministic}
    with cudnn.flags(benchmark=benchmark, allow_tf32=False, **others):
        yield
