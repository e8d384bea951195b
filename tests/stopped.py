"""Runs that are stopped in the middle, with the models of `tests/killed.py`."""

import hashlib
from pathlib import Path

import pytest

from tests import killed
from vidrestore.errors import RestoreError
from vidrestore.frame import RestoredFrame
from vidrestore.options import Options
from vidrestore.pipeline import OnFrame, restore_video
from vidrestore.report import Report


def stopped_after(num_frames: int, error: BaseException) -> OnFrame:
    """For `on_frame`: raises when so many have been written."""

    def stop(_done: RestoredFrame, report: Report) -> None:
        if report.num_frames - report.num_frames_resumed == num_frames:
            raise error

    return stop


def stop(source: Path, target: Path, num_frames: int, options: Options | None = None) -> None:
    error = RestoreError("stopped")
    with pytest.raises(RestoreError, match="stopped"):
        restore_video(
            source,
            target,
            options or Options(device="cpu"),
            models=killed.models(),
            on_frame=stopped_after(num_frames, error),
        )


def content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
