"""The report says where the time went, without counting it twice."""

import threading
from collections.abc import Iterator

import pytest

from vidrestore import report as report_module
from vidrestore.report import Report


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests move by hand."""
    now = [0.0]
    monkeypatch.setattr(report_module.time, "perf_counter", lambda: now[0])
    return now


def test_a_stage_s_time_excludes_the_stages_that_it_waits_for(clock: list[float]) -> None:
    report = Report("in", "out")

    def slow(seconds: float, source: Iterator[int]) -> Iterator[int]:
        for item in source:
            clock[0] += seconds
            yield item

    first = report.timed("first", slow(1.0, iter(range(3))))
    second = report.timed("second", slow(10.0, first))
    assert list(second) == [0, 1, 2]
    assert report.seconds_per_stage == {"first": 3.0, "second": 30.0}


def test_lanes_do_not_disturb_one_another(clock: list[float]) -> None:
    report = Report("in", "out")

    def lane() -> None:
        with report.stage("lane"):
            clock[0] += 5.0

    with report.stage("outer"):
        thread = threading.Thread(target=lane)
        thread.start()
        thread.join()
        clock[0] += 2.0
    assert report.seconds_per_stage == {"lane": 5.0, "outer": 7.0}  # they overlap


def test_closing_early_closes_the_source() -> None:
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    items = Report("in", "out").timed("stage", source())
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert closed == [True]


def test_the_processor_s_seconds_and_reused_faces_are_told() -> None:
    report = Report("in", "out", num_faces_found=3, num_faces_reused=2)
    report.finish(1.23456, 2.34567)
    told = report.as_dict()
    assert (told["seconds_total"], told["cpu_seconds_total"], told["num_faces_reused"]) == (1.235, 2.346, 2)
