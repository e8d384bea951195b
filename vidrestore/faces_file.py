"""The faces file: what was found in every output frame, as JSON that other programs read.

    {"version": 1, "width_px": …, "height_px": …, "frames": [{"index": 0, "time_s": …, "faces": [{"track_id": 1,
      "score": …, "box_xyxy_px": [4], "landmarks_px": [[x, y] * 5] (smoothed), "detected_landmarks_px": [[x, y] * 5]
      or null, "crop_corners_px": [[x, y] * 4] (clockwise from the crop's top left), "restored": true,
      "strength": …}]}]}

`detected_landmarks_px` is null where the detector was not asked (see --detect-every) or did not find the face. Faces
that were left alone have `"restored": false`, a `"reason"`, and null for the crop corners. `strength`, 0 to 1, is how
much of the restoration shows, before --strength: faces fade in and out; older files lack it. Coordinates are those of
the stored picture (before any rotation that a player applies), `time_s` is the output's clock.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import SourceError
from vidrestore.face import PlacedFace, SkippedFace, TrackedFace, template_px
from vidrestore.frame import RestoredFrame
from vidrestore.stages.crop_geometry import crop_corners_px, scale_of, similarity
from vidrestore.target import replaced_when_complete, writing

FORMAT_VERSION = 1
MAX_PX = 1e6
"""No picture is so large, nor a place in it so far off; beyond it lies nothing but overflow."""
MIN_SIDE_PX = 1.0
"""Of a head's square. What is smaller is no face."""


class FacesFile:
    """Writes one frame at a time, so that memory does not grow; the file appears when it is complete."""

    def __init__(self, path: Path, *, width_px: int, height_px: int, clock_moves: bool = False) -> None:
        """With `clock_moves` the first frame is at 0 s, as in the output of a run with --start."""
        self._path = path
        self._clock_moves = clock_moves
        self._origin_s: float | None = None
        self._header = {"version": FORMAT_VERSION, "width_px": width_px, "height_px": height_px}
        self._stack = ExitStack()
        self._file: TextIO | None = None
        self._separator = ""

    def __enter__(self) -> "FacesFile":
        with ExitStack() as stack:
            temporary = stack.enter_context(replaced_when_complete(self._path))
            with writing(self._path):
                self._file = stack.enter_context(temporary.open("w", encoding="utf-8"))
                self._file.write(json.dumps(self._header)[:-1] + ', "frames": [\n')
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
        if self._origin_s is None:
            self._origin_s = done.frame.time_s if self._clock_moves else 0.0
        time_s = round(done.frame.time_s - self._origin_s, 6)
        frame = {"index": done.frame.index, "time_s": time_s, "faces": list(_faces(done))}
        assert self._file is not None, "used outside its with block"
        with writing(self._path):
            self._file.write(self._separator + json.dumps(frame))
        self._separator = ",\n"


def _faces(done: RestoredFrame) -> Iterator[dict[str, Any]]:
    """By track id, so that a face keeps its place in the list."""
    faces: list[PlacedFace | SkippedFace] = [*done.faces, *done.skipped]
    entries = [_entry(face) for face in faces]
    yield from sorted(entries, key=lambda entry: entry["track_id"])


def _entry(face: PlacedFace | SkippedFace) -> dict[str, Any]:
    if isinstance(face, SkippedFace):
        return {**_found(face.face), "crop_corners_px": None, "restored": False, "strength": 0.0, "reason": face.reason}
    corners = crop_corners_px(face.crop_from_frame, face.crop_px)
    strength = round(face.face.strength, 3)
    return {**_found(face.face), "crop_corners_px": _rounded(corners), "restored": True, "strength": strength}


def _found(face: TrackedFace) -> dict[str, Any]:
    detected = face.detected_landmarks_px
    return {
        "track_id": face.track_id,
        "score": round(face.score, 4),
        "box_xyxy_px": _rounded(face.box_xyxy_px),
        "landmarks_px": _rounded(face.landmarks_px),
        "detected_landmarks_px": None if detected is None else _rounded(detected),
    }


def _rounded(points: NDArray[np.floating[Any]]) -> Any:
    """Nested lists with thousandths of a pixel."""
    return np.round(points.astype(np.float64), 3).tolist()


@dataclass(frozen=True, slots=True, eq=False)
class ListedFace:
    """A face as a faces file has it."""

    track_id: int
    landmarks_px: NDArray[np.float64]
    """(5, 2) in frame pixels, smoothed."""
    restored: bool
    strength: float
    """How much of the restoration shows, 0 to 1; 0 where the face was left alone."""


@dataclass(frozen=True, slots=True, eq=False)
class ListedFrame:
    """A frame as a faces file has it."""

    time_s: float
    """On the output's clock."""
    faces: tuple[ListedFace, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ListedFaces:
    """What a faces file says, as far as this program asks."""

    width_px: int
    height_px: int
    frames: tuple[ListedFrame, ...]


def read_faces_file(path: Path) -> ListedFaces:
    """Read what `FacesFile` wrote. Raises SourceError for a file that is missing, damaged or of another kind."""
    remedy = "write one with `vidrestore restore --faces`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SourceError(f"{path}: cannot be read ({exc.strerror}); {remedy}") from exc
    except (ValueError, RecursionError) as exc:  # no JSON, no UTF-8, brackets without end
        raise SourceError(f"{path}: no faces file ({exc}); {remedy}") from exc
    version = content.get("version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise SourceError(f"{path}: no faces file of version {FORMAT_VERSION} (it says {version!r}); {remedy}")
    try:
        frames = tuple(ListedFrame(float(frame["time_s"]), _all_listed(frame["faces"])) for frame in content["frames"])
        return ListedFaces(int(content["width_px"]), int(content["height_px"]), frames)
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        what = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise SourceError(f"{path}: a damaged faces file ({what}); {remedy}") from exc


def _all_listed(faces: list[dict[str, Any]]) -> tuple[ListedFace, ...]:
    """Those of one frame."""
    listed = tuple(_listed(face) for face in faces)
    if len({face.track_id for face in listed}) < len(listed):
        raise ValueError("a frame has one face twice")
    return listed


def _listed(face: dict[str, Any]) -> ListedFace:
    track_id, restored = int(face["track_id"]), face["restored"]
    landmarks_px = np.array(face["landmarks_px"], np.float64)
    strength = float(face.get("strength", restored))
    if not isinstance(restored, bool) or not 0 <= strength <= 1:
        raise ValueError(f"face {track_id} has a strength that cannot be, or neither true nor false for restored")
    # Nan is not less than anything.
    if landmarks_px.shape != (5, 2) or not (np.abs(landmarks_px) < MAX_PX).all():
        raise ValueError(f"face {track_id} has landmarks that cannot be")
    # Of one left alone they may well have fallen onto one another.
    if restored and not 1 / MAX_PX < scale_of(similarity(landmarks_px, template_px("gpen", 1))) < 1 / MIN_SIDE_PX:
        raise ValueError(f"face {track_id} has landmarks that span no face")
    return ListedFace(track_id, landmarks_px, restored, strength)
