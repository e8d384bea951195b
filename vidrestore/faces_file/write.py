"""Writing a faces file, frame by frame."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vidrestore.face import PlacedFace, SkippedFace, TrackedFace
from vidrestore.frame import Frame, RestoredFrame
from vidrestore.stages.crop_geometry import crop_corners_px
from vidrestore.target import replaced_when_complete, writing

FORMAT_VERSION = 1
FRAMES_FOLLOW = '"frames": ['
"""Ends the header, if a line does; then each line is a frame."""
Span = tuple[float | None, float | None]
"""--start and --end in s."""


class FacesFile:
    """Writes one frame at a time, so that memory does not grow; the file appears when it is complete."""

    def __init__(
        self,
        path: Path,
        *,
        width_px: int,
        height_px: int,
        clock_moves: bool = False,
        span_s: Span | None = None,
        folder: Path | None = None,
        check: Callable[[Path], None] | None = None,
    ) -> None:
        """With `clock_moves` the first frame is at 0 s, as in the output of a run with --start. Until it is complete,
        the file lies in `folder`, or hidden beside its place; then `check` is called as by `replaced_when_complete`."""
        self._path, self._folder, self._check = path, folder, check
        self._clock_moves = clock_moves
        self._origin_s: float | None = None
        self._header: dict[str, Any] = {"version": FORMAT_VERSION, "width_px": width_px, "height_px": height_px}
        if span_s is not None:
            self._header["span_s"] = list(span_s)
        self._header["edits"] = []
        self._stack = ExitStack()
        self._file: TextIO | None = None
        self._separator = ""

    def __enter__(self) -> "FacesFile":
        with ExitStack() as stack:
            temporary = stack.enter_context(replaced_when_complete(self._path, folder=self._folder, check=self._check))
            with writing(self._path):
                self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
                self._file.write(f"{json.dumps(self._header)[:-1]}, {FRAMES_FOLLOW}\n")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            assert self._file is not None, "left before it was entered"
            if kind is not None:
                self._stack.__exit__(kind, error, trace)
                return
            with writing(self._path):
                self._file.write("\n]}\n")
                self._file.flush()

    def write(self, done: RestoredFrame) -> None:
        self.add(frame_entry(done.frame, done.faces, done.skipped))

    def add(self, entry: dict[str, Any]) -> None:
        """The next frame, as `frame_entry` says it."""
        if self._origin_s is None:
            self._origin_s = entry["time_s"] if self._clock_moves else 0.0
        moved = {**entry, "time_s": round(entry["time_s"] - self._origin_s, 6)}
        assert self._file is not None, "used outside its with block"
        with writing(self._path):
            self._file.write(self._separator + json.dumps(moved))
        self._separator = ",\n"


def frame_entry(frame: Frame, faces: Sequence[PlacedFace], skipped: Sequence[SkippedFace]) -> dict[str, Any]:
    """What the file says of a frame, ready for JSON; `time_s` on the source's clock and not rounded.

    Faces come by track id, so that a face keeps its place in the list.
    """
    everyone: list[PlacedFace | SkippedFace] = [*faces, *skipped]
    entries = [face_entry(face) for face in sorted(everyone, key=lambda face: (face.moment, face.face.track_id))]
    moments = {"moments": 2} if frame.fields else {}
    return {"index": frame.index, "time_s": frame.time_s, **moments, "faces": entries}


def face_entry(face: PlacedFace | SkippedFace) -> dict[str, Any]:
    """What the file says of a face."""
    corners = None
    if isinstance(face, PlacedFace):
        corners = _rounded(crop_corners_px(face.crop_from_frame, face.crop_px))
    moment = {"moment": face.moment} if face.moment else {}
    return {**moment, **found_entry(face.face), "crop_corners_px": corners, **shown_entry(face)}


def found_entry(face: TrackedFace) -> dict[str, Any]:
    detected = face.detected_landmarks_px
    return {
        "track_id": face.track_id,
        "score": round(face.score, 4),
        "box_xyxy_px": _rounded(face.box_xyxy_px),
        "landmarks_px": _rounded(face.landmarks_px),
        "detected_landmarks_px": None if detected is None else _rounded(detected),
    }


def shown_entry(face: PlacedFace | SkippedFace) -> dict[str, Any]:
    if isinstance(face, SkippedFace):
        return {"restored": False, "strength": 0.0, "reason": face.reason}
    return {"restored": True, "strength": round(face.face.strength, 3)}


def _rounded(points: NDArray[np.floating[Any]]) -> Any:
    """Nested lists with thousandths of a pixel."""
    return np.round(points.astype(np.float64), 3).tolist()
