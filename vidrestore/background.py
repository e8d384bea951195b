"""Background: where the lanes of the pipeline get their threads."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

Item = TypeVar("Item")


class _End:
    """Last thing in the queue: the source is exhausted, or it raised."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Background(Generic[Item]):
    """Run an iterator in a thread of its own, behind a bounded queue.

    Promises: order is kept; at most `depth` items wait, plus one in the thread's hand; an error raised by the source is
    raised where the items are consumed; leaving the `with` block early stops and joins the thread; a source generator
    is closed by the thread that runs it.
    """

    def __init__(self, source: Iterable[Item], *, depth: int, name: str) -> None:
        self._source = source
        self._queue: queue.Queue[Item | _End] = queue.Queue(maxsize=depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Iterator[Item]:
        self._thread.start()
        return self._items()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            # The thread may wait for a place in the queue; make room until it has seen the flag and gone.
            try:
                self._queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def _items(self) -> Generator[Item, None, None]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _run(self) -> None:
        error: BaseException | None = None
        iterator: Iterator[Item] | None = None
        try:
            iterator = iter(self._source)
            for item in iterator:
                self._queue.put(item)
                if self._stopping.is_set():
                    break
        except BaseException as exc:  # handed to the consumer, whatever it is
            error = exc
        finally:
            close = getattr(cast(Any, iterator), "close", None)
            if close is not None:
                close()
        self._queue.put(_End(error))
