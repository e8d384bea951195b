"""Threads: order kept, memory bounded, errors arrive, and no thread stays alive."""

import threading
from collections.abc import Iterator

import pytest

from vidrestore.background import Background


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_items_arrive_in_order() -> None:
    with Background(range(1000), depth=3, name="order") as items:
        assert list(items) == list(range(1000))
    assert not threads_named("order")


def test_at_most_depth_plus_one_items_are_made_ahead() -> None:
    made = []

    def source() -> Iterator[int]:
        for number in range(2000):
            made.append(number)
            yield number

    with Background(source(), depth=3, name="ahead") as items:
        for number in items:
            # 3 waiting, one in the producer's hand, and those up to this one
            assert len(made) <= 3 + 1 + number + 1


def test_an_error_in_the_source_is_raised_where_items_are_consumed() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("decoder gave up")

    with Background(source(), depth=2, name="error") as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="decoder gave up"):
            next(items)
    assert not threads_named("error")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_leaving_early_stops_the_thread_and_closes_the_source_in_it(error: type[BaseException]) -> None:
    closed_by = []

    def source() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed_by.append(threading.current_thread().name)

    def consume() -> None:
        with Background(source(), depth=2, name="early") as items:
            next(items)
            raise error

    with pytest.raises(error):
        consume()
    assert closed_by == ["early"]
    assert not threads_named("early")
