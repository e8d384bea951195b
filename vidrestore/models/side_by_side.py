"""Several faces at once on a CPU, each on cores of its own.

PyTorch spreads every single operation over all cores and waits for the slowest. Operations of a small network are over
in a millisecond, and the decoder and the encoder want the cores too: two faces on a core each take half as long as two
faces one after the other on both.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache

import torch
from torch import Tensor


def side_by_side(run: Callable[[Tensor], Tensor], faces: Tensor) -> Tensor:
    """`run` on each face (1, ...) of (N, ...), as many at once as PyTorch has threads; the results as one tensor."""
    num_threads = torch.get_num_threads()
    num_workers = min(num_threads, len(faces))
    if num_workers == 1:
        return torch.cat([run(face) for face in torch.split(faces, 1)])
    is_inference = torch.is_inference_mode_enabled()  # each thread has its own

    def run_one(face: Tensor) -> Tensor:
        with torch.inference_mode(is_inference):
            return run(face)

    pool = workers(num_workers, num_threads // num_workers, os.getpid())
    done = [pool.submit(run_one, face) for face in torch.split(faces, 1)]
    wait(done)  # also where one has failed: whoever tries again needs the memory of the others
    return torch.cat([face.result() for face in done])


@lru_cache(maxsize=2)  # full batches, and what is left in the end: every other size makes its threads anew
def workers(num_workers: int, threads_each: int, _pid: int) -> ThreadPoolExecutor:
    """Threads whose PyTorch operations use `threads_each` cores. Of this process: a fork has none of its parent's."""
    num_threads = torch.get_num_threads()
    barrier = threading.Barrier(num_workers + 1)

    def begin() -> None:
        torch.get_num_threads()  # PyTorch sets a thread up when it is first asked; what is set before would be lost
        torch.set_num_threads(threads_each)
        barrier.wait()

    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="face")
    try:
        for _ in range(num_workers):
            pool.submit(begin)
        barrier.wait()
    except BaseException:  # no more threads, or Ctrl-C: those that wait would be waited for at exit
        barrier.abort()
        raise
    # The number set last is what threads to come begin with, too; in this thread it never changed.
    torch.set_num_threads(num_threads)
    return pool
