"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere."""

import logging
import sys
import time
from types import TracebackType
from typing import Any

from vidrestore.frame import RestoredFrame
from vidrestore.report import Report

log = logging.getLogger("vidrestore")

LINE_INTERVAL_S = 10.0
"""Plain log lines come this far apart: a record of a long run stays readable."""


class Progress:
    """Frames/s, faces/s and time left."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._start_s = self._last_line_s = time.monotonic()
        self._num_faces_before = 0
        """Restored by an earlier run, which was stopped."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, done: RestoredFrame, report: Report) -> None:
        """Called after every written frame."""
        if self._quiet or sys.stderr is None:
            return
        try:
            self._show(done, report)
        except OSError:  # whoever looked on has gone; the work goes on
            self._quiet, self._bar = True, None

    def _show(self, done: RestoredFrame, report: Report) -> None:
        now_s = time.monotonic()
        if report.num_frames == report.num_frames_resumed + 1:
            # Loading models and filling the tracker's window are not what the coming frames will take.
            self._start_s = self._last_line_s = now_s
            self._num_faces_before = report.num_faces_restored - len(done.faces)
        if sys.stderr.isatty():
            self._update_bar(report, now_s)
        elif now_s - self._last_line_s >= LINE_INTERVAL_S:
            self._last_line_s = now_s
            log.info(self._line(report, now_s))

    def _update_bar(self, report: Report, now_s: float) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=report.num_frames_expected,
                initial=report.num_frames_resumed,
                unit=" frames",
                dynamic_ncols=True,
                leave=False,
            )
        self._bar.set_postfix_str(f"{self._faces_per_s(report, now_s):.1f} faces/s", refresh=False)
        self._bar.update(report.num_frames - self._bar.n)

    def _faces_per_s(self, report: Report, now_s: float) -> float:
        return (report.num_faces_restored - self._num_faces_before) / max(now_s - self._start_s, 1e-3)

    def _line(self, report: Report, now_s: float) -> str:
        elapsed_s = max(now_s - self._start_s, 1e-3)
        rate = (report.num_frames - report.num_frames_resumed) / elapsed_s
        total = report.num_frames_expected
        left = f", {(total - report.num_frames) / rate:.0f} s left" if total and total >= report.num_frames else ""
        of_total = f"/{total}" if total else ""
        faces = f"{self._faces_per_s(report, now_s):.1f} faces/s"
        return f"frame {report.num_frames}{of_total}, {rate:.1f} frames/s, {faces}{left}"
