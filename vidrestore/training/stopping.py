"""How a run is stopped by a signal without losing a step."""

import multiprocessing
import os
import signal
from typing import Self


class StopSignal:
    """Set by Ctrl-C and SIGTERM, so that the loop ends after a whole step and leaves a checkpoint.

    A second one is obeyed at once.
    """

    def __init__(self) -> None:
        self.is_set = False

    def install(self) -> None:
        self._before = {number: signal.signal(number, self._set) for number in (signal.SIGINT, signal.SIGTERM)}

    def _set(self, number: int, frame: object) -> None:
        self.is_set = True
        for number, handler in self._before.items():
            signal.signal(number, handler)


class WorkerShield:
    """Sets what a worker does when it is told to stop.

    Ctrl-C and SIGTERM often reach all processes: a worker that obeyed would take the last steps with it. Once the loop
    is over it must obey: Python ends its workers by SIGTERM when it exits, and waits for them.
    """

    def __init__(self) -> None:
        self._is_over = multiprocessing.RawValue("b", False)  # in memory that the workers share

    def __call__(self, _worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._exit_if_over)

    def _exit_if_over(self, _number: int, _frame: object) -> None:
        if self._is_over.value:
            os._exit(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.value = True
