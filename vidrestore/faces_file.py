"""The faces file: what was found in every output frame, as JSON that other programs read and people edit.

    {"version": 1, "width_px": …, "height_px": …, "span_s": [null, null], "edits": [], "frames": [
    {"index": 0, "time_s": …, "faces": [{"track_id": 1, "score": …, "box_xyxy_px": [4], "landmarks_px": [[x, y] * 5]
      (smoothed), "detected_landmarks_px": [[x, y] * 5] or null, "crop_corners_px": [[x, y] * 4] (clockwise from the
      crop's top left), "restored": true, "strength": …}]},
    …
    ]}

`detected_landmarks_px` is null where the detector was not asked (see --detect-every) or did not find the face. Faces
that were left alone have `"restored": false`, a `"reason"`, and null for the crop corners. `strength`, 0 to 1, is how
much of the restoration shows, before --strength: faces fade in and out; older files lack it. Coordinates are those of
the stored picture (before any rotation that a player applies), `time_s` is the output's clock. `span_s` has the --start
and --end of the run, null where there was none. An interlaced frame has `"moments": 2`, and each of its faces says
which of the two it is of: `"moment": 1` or `2`; a track may then occur twice.

A video is rendered from the file as it is, or edited: faces deleted, `"restored": false`, another `"strength"`, other
landmarks (the crop corners follow from them and are not read), or all of a track at once by an entry of `edits`:

    "edits": [{"track_id": 3, "from_s": 1.0, "to_s": 2.5, "strength": 0.4}, {"track_id": 2, "strength": 0}]

`strength`, 0 to 1, multiplies what the frames say; the times may be left out, `to_s` is no longer part of it, and of
several edits that apply the last one counts. Written with one frame to a line the file is read frame by frame, however
long it is; other layouts are read all at once.
"""

import json
import math
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import SourceError
from vidrestore.face import PlacedFace, SkippedFace, TrackedFace, eye_distance_px, template_px
from vidrestore.frame import Frame, RestoredFrame
from vidrestore.stages.crop_geometry import crop_corners_px
from vidrestore.target import replaced_when_complete, writing

FORMAT_VERSION = 1
MAX_PX = 1e6
"""No picture is so large, nor a place in it so far off; beyond it lies nothing but overflow."""
MIN_SIDE_PX = 1.0
"""Of a head's square. What is smaller is no face."""
FRAMES_FOLLOW = '"frames": ['
"""Ends the header, if a line does; then each line is a frame."""
MAX_HEADER_CHARS = 1 << 20
"""Ten thousand edits. A first line that is longer holds frames too."""
LEFT_ALONE = "left alone in the faces file"
"""Why, where the file gives no reason."""
MAX_S = 1e9
"""30 years."""
MAX_TRACK_ID = 1 << 53
"""Beyond it other programs round."""
NUMBERS = (int, float)
MAX_NAMED, MAX_SAID_CHARS = 12, 40
"""How many tracks, and how much of something wrong, a message repeats."""
REMEDY = "write one with `vidrestore analyze` or `vidrestore restore --faces`"
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
    ) -> None:
        """With `clock_moves` the first frame is at 0 s, as in the output of a run with --start. Until it is complete,
        the file lies in `folder`, or hidden beside its place."""
        self._path, self._folder = path, folder
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
            temporary = stack.enter_context(replaced_when_complete(self._path, folder=self._folder))
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
    return {**moment, **_found(face.face), "crop_corners_px": corners, **_shown(face)}


def _found(face: TrackedFace) -> dict[str, Any]:
    detected = face.detected_landmarks_px
    return {
        "track_id": face.track_id,
        "score": round(face.score, 4),
        "box_xyxy_px": _rounded(face.box_xyxy_px),
        "landmarks_px": _rounded(face.landmarks_px),
        "detected_landmarks_px": None if detected is None else _rounded(detected),
    }


def _shown(face: PlacedFace | SkippedFace) -> dict[str, Any]:
    if isinstance(face, SkippedFace):
        return {"restored": False, "strength": 0.0, "reason": face.reason}
    return {"restored": True, "strength": round(face.face.strength, 3)}


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
    """How much of the restoration shows, 0 to 1, edits included; 0 where the face was left alone."""
    moment: int = 0
    """1 or 2, the moment of an interlaced frame; else 0."""
    reason: str = LEFT_ALONE
    """Why it was left alone, if it was."""
    score: float = 1.0
    box_xyxy_px: NDArray[np.float64] | None = None
    """(4,); None where the file has none."""
    detected_landmarks_px: NDArray[np.float64] | None = None
    """(5, 2)"""

    @classmethod
    def of(cls, face: PlacedFace | SkippedFace) -> "ListedFace":
        """The face as it comes back from a file that it is written to."""
        return _parsed({**_found(face.face), **_shown(face), "moment": face.moment})


@dataclass(frozen=True, slots=True, eq=False)
class ListedFrame:
    """A frame as a faces file has it."""

    time_s: float
    """On the output's clock."""
    faces: tuple[ListedFace, ...]
    num_moments: int = 1
    """2 for an interlaced frame."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What somebody wants of a track."""

    track_id: int
    strength: float
    """0 to 1, times what the frames say."""
    from_s: float = -math.inf
    to_s: float = math.inf
    """On the output's clock; no longer part of it."""


@dataclass(frozen=True, slots=True, eq=False)
class ListedFaces:
    """A faces file that has been read once from end to end, and makes sense. Its frames are not kept in memory."""

    path: Path
    width_px: int
    height_px: int
    span_s: Span | None
    """The --start and --end of the run; None where the file does not say."""
    edits: tuple[Edit, ...]
    num_frames: int
    track_ids: frozenset[int]
    _kept: list[Any] | None
    """The frames' JSON, if the file is laid out in another way than ours."""

    def frames(self) -> Iterator[ListedFrame]:
        """The frames in order, with the edits in their faces; can be called again and again.

        Raises SourceError when the file is no longer the one that was read first.
        """
        with refusals(self.path):
            for number, entry in enumerate(_streamed(self.path)[1] if self._kept is None else self._kept):
                frame = _listed_frame(number, entry)
                yield self._edited(frame) if self.edits else frame

    def _edited(self, frame: ListedFrame) -> ListedFrame:
        now = {edit.track_id: edit.strength for edit in self.edits if edit.from_s <= frame.time_s < edit.to_s}
        faces = (
            replace(face, strength=round(face.strength * now[face.track_id], 3)) if face.track_id in now else face
            for face in frame.faces
        )
        return replace(frame, faces=tuple(faces))


def read_faces_file(path: Path) -> ListedFaces:
    """Read what `FacesFile` wrote, edited or not, and check all of it.

    Raises SourceError, in one line, for a file that is missing, damaged, of another kind or edited into nonsense.
    """
    with refusals(path):
        try:
            header, frames = _streamed(path)
            return _checked(path, header, frames, None)
        except _LaidOutAnew:
            header = _whole(path)
    with refusals(path):
        kept = _a_list(header.pop("frames"), "frames")
        return _checked(path, header, iter(kept), kept)


class _LaidOutAnew(Exception):  # noqa: N818 - no error
    """Not one frame to a line; but it may be a faces file all the same."""


def _streamed(path: Path) -> tuple[dict[str, Any], Iterator[Any]]:
    """Header and frames. Raises _LaidOutAnew, the iterator too."""
    if not path.is_file() and path.exists():  # a pipe can be read only once
        raise _LaidOutAnew
    lines = _lines(path)
    header = ""
    for line in lines:
        header += line
        if len(header) > MAX_HEADER_CHARS:
            break
        if line.rstrip().endswith(FRAMES_FOLLOW):
            return _header(path, _json(header + "]}")), _frames(lines)
    raise _LaidOutAnew


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def _frames(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        text = line.strip()
        if text == "]}":
            if any(line.strip() for line in lines):
                break
            return
        if text:
            yield _json(text.removesuffix(","))
    raise _LaidOutAnew


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _LaidOutAnew from exc


def _whole(path: Path) -> dict[str, Any]:
    """Header and frames of a file in any layout."""
    text = path.read_text(encoding="utf-8")
    # Said before much memory is spent on it.
    if text.lstrip()[:1] == "{" and text.rstrip()[-1:] != "}":
        raise SourceError(f"{path}: no faces file (it breaks off at the end); {REMEDY}")
    try:
        return _header(path, json.loads(text))
    except (ValueError, RecursionError) as exc:  # no JSON, brackets without end
        raise SourceError(f"{path}: no faces file ({exc}); {REMEDY}") from exc


HEADER_KEYS = ("version", "width_px", "height_px", "span_s", "edits", "frames")
FRAME_KEYS = ("index", "time_s", "moments", "faces")
FACE_KEYS = (
    *("track_id", "moment", "score", "box_xyxy_px", "landmarks_px", "detected_landmarks_px", "crop_corners_px"),
    *("restored", "strength", "reason"),
)
EDIT_KEYS = ("track_id", "from_s", "to_s", "strength")
"""A key of another name is a slip, and would else be an edit that has no effect."""


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file, in one line."""
    try:
        yield
    except OSError as exc:
        raise SourceError(f"{path}: cannot be read ({exc.strerror}); {REMEDY}") from exc
    except UnicodeDecodeError as exc:
        raise SourceError(f"{path}: no faces file ({exc}); {REMEDY}") from exc
    except _LaidOutAnew as exc:
        raise SourceError(f"{path}: was changed while it was read; do not edit it before the end of the run") from exc
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        what = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise SourceError(f"{path}: a damaged faces file ({what}); correct it, or {REMEDY}") from exc


def _header(path: Path, content: Any) -> dict[str, Any]:
    version = content.get("version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        said = brief(version)
        raise SourceError(f"{path}: no faces file of version {FORMAT_VERSION} (it says {said}); {REMEDY}")
    return _object(content, HEADER_KEYS, "the file")


def _checked(path: Path, header: dict[str, Any], frames: Iterator[Any], kept: list[Any] | None) -> ListedFaces:
    """All of the file, the frames too."""
    width_px, height_px = (_whole_number(header[key], key) for key in ("width_px", "height_px"))
    span_s = header.get("span_s")
    if span_s is not None:
        span_s = tuple(None if at_s is None else _number(at_s, "span_s") for at_s in _a_list(span_s, "span_s", 2))
    edits = tuple(_edit(number, edit) for number, edit in enumerate(_a_list(header.get("edits", []), "edits")))
    track_ids: set[int] = set()
    num_frames = 0
    for num_frames, entry in enumerate(frames, start=1):
        track_ids |= {face.track_id for face in _listed_frame(num_frames - 1, entry).faces}
    for number, edit in enumerate(edits):
        if edit.track_id not in track_ids:
            raise ValueError(f"edit {number} is of track {edit.track_id}; {tracks_there(track_ids)}")
    return ListedFaces(path, width_px, height_px, span_s, edits, num_frames, frozenset(track_ids), kept)


def tracks_there(track_ids: Collection[int]) -> str:
    """For people: "its tracks are 1, 2 and 5 others up to 9"."""
    if not track_ids:
        return "it has none"
    first = sorted(track_ids)[:MAX_NAMED]
    more = len(track_ids) - len(first)
    return f"its tracks are {', '.join(map(str, first))}" + (
        f" and {more} others up to {max(track_ids)}" if more else ""
    )


def _edit(number: int, edit: Any) -> Edit:
    name = f"edit {number}"
    edit = _object(edit, EDIT_KEYS, name)
    strength = _number(edit["strength"], f"strength of {name}", 0, 1)
    times = {key: _number(edit[key], f"{key} of {name}") for key in ("from_s", "to_s") if edit.get(key) is not None}
    made = Edit(_whole_number(edit["track_id"], f"track_id of {name}"), strength, **times)
    if made.from_s >= made.to_s:
        raise ValueError(f"{name} goes from {made.from_s:g} s to {made.to_s:g} s; the first must be less")
    return made


def _listed_frame(number: int, entry: Any) -> ListedFrame:
    name = f"frame {number}"
    entry = _object(entry, FRAME_KEYS, name)
    time_s = _number(entry["time_s"], f"time_s of {name}")
    num_moments = entry.get("moments", 1)
    if num_moments not in (1, 2):
        raise ValueError(f"moments of {name} is {brief(num_moments)}; it must be 1 or 2")
    faces = []
    for face in _a_list(entry["faces"], f"faces of {name}"):
        _check_face(name, face, (1, 2) if num_moments == 2 else (0,))
        faces.append(_parsed(face))
    if len({(face.moment, face.track_id) for face in faces}) < len(faces):
        raise ValueError(f"{name} has one face twice")
    return ListedFrame(time_s, tuple(faces), num_moments)


def _check_face(frame_name: str, face: Any, moments: tuple[int, ...]) -> None:
    """Raise ValueError, TypeError or KeyError unless `_parsed` can take it. In plain Python: most of the time that
    reading takes is spent here."""
    _object(face, FACE_KEYS, f"a face of {frame_name}")
    name = f"{frame_name}: face {_whole_number(face['track_id'], f'{frame_name}: track_id')}"
    restored = face["restored"]
    if not isinstance(restored, bool):
        raise ValueError(f"{name} has {brief(restored)} for restored, which is neither true nor false")
    _number(face.get("strength", 0), f"{name}: strength", 0, 1)
    _number(face.get("score", 0), f"{name}: score", 0, 1)
    if face.get("moment", 0) not in moments:
        wanted = (
            "1 or 2, as in an interlaced frame" if len(moments) > 1 else 'left out, or the frame given "moments": 2'
        )
        raise ValueError(f"{name} has {brief(face.get('moment'))} for its moment; it must be {wanted}")
    if not isinstance(face.get("reason", ""), str):
        raise ValueError(f"{name} has {brief(face['reason'])} for a reason; it must be text")
    _check_points(face["landmarks_px"], f"{name} has landmarks that cannot be")
    if face.get("detected_landmarks_px") is not None:
        _check_points(face["detected_landmarks_px"], f"{name} has detected landmarks that cannot be")
    if face.get("box_xyxy_px") is not None and not _are_px(face["box_xyxy_px"], 4):
        raise ValueError(f"{name} has a box that cannot be")
    # Of one left alone they may well have fallen onto one another.
    if restored and not spans_a_face(face["landmarks_px"]):
        raise ValueError(f"{name} has landmarks that span no face")


def spans_a_face(landmarks_px: Sequence[Sequence[float]]) -> bool:
    """Whether a head of that kind has a size: that of the square which `crop_geometry.similarity` fits to (5, 2)."""
    points = [complex(x, y) for x, y in landmarks_px]
    middle = sum(points) / len(points)
    offsets = [point - middle for point in points]
    spread = sum(abs(offset) ** 2 for offset in offsets)
    together = abs(sum(a.conjugate() * b for a, b in zip(offsets, HEAD, strict=True)))
    return 1 / MAX_PX < together / max(spread, 1e-12) < 1 / MIN_SIDE_PX


HEAD = [complex(x, y) for x, y in template_px("gpen", 1) - template_px("gpen", 1).mean(axis=0)]
"""Landmarks in a square of side 1, from their middle."""


def _parsed(face: dict[str, Any]) -> ListedFace:
    """Of what has been checked."""
    restored, box, detected = face["restored"], face.get("box_xyxy_px"), face.get("detected_landmarks_px")
    return ListedFace(
        track_id=face["track_id"],
        landmarks_px=np.array(face["landmarks_px"], np.float64),
        restored=restored,
        strength=float(face.get("strength", 1)) if restored else 0.0,
        moment=face.get("moment", 0),
        reason=face.get("reason", LEFT_ALONE),
        score=float(face.get("score", 1)),
        box_xyxy_px=None if box is None else np.array(box, np.float64),
        detected_landmarks_px=None if detected is None else np.array(detected, np.float64),
    )


def _object(value: Any, keys: Collection[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} is {brief(value)}; it must be an object")
    for key in value:
        if key not in keys:
            raise ValueError(f"{what} has {brief(key)}, which is none of {', '.join(keys)}")
    return value


def _a_list(value: Any, what: str, count: int | None = None) -> list[Any]:
    if not isinstance(value, list) or len(value) != (len(value) if count is None else count):
        raise TypeError(f"{what} is {brief(value)}; it must be a list" + (f" of {count}" if count else ""))
    return value


def _number(value: Any, what: str, low: float = -MAX_S, high: float = MAX_S) -> float:
    # Nan is not less than anything; true is no number.
    if type(value) not in NUMBERS or not low <= value <= high:
        raise ValueError(f"{what} is {brief(value)}; it must be a number from {low:g} to {high:g}")
    return float(value)


def _whole_number(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < MAX_TRACK_ID:
        raise ValueError(f"{what} is {brief(value)}; it must be a whole number")
    return value


def _are_px(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) in NUMBERS and -MAX_PX < value < MAX_PX for value in values)
    )


def _check_points(points: Any, complaint: str) -> None:
    if not isinstance(points, list) or len(points) != 5 or not all(_are_px(point, 2) for point in points):
        raise ValueError(complaint)


def brief(value: Any) -> str:
    """As JSON has it, in one short line."""
    said = json.dumps(value)
    return said if len(said) <= MAX_SAID_CHARS else said[:MAX_SAID_CHARS] + "…"


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """A face that was followed, for people who choose."""

    track_id: int
    begin_s: float
    """Its first frame, on the output's clock."""
    end_s: float
    """Its last frame."""
    num_frames: int
    """In which it is listed, restored or not."""
    eyes_apart_px: float
    """Median."""
    strength: float
    """Mean of how much of the restoration shows, 0 to 1; 0 where it is left alone."""


@dataclass(slots=True)
class _Tally:
    begin_s: float
    end_s: float = 0.0
    eyes_px: "array[float]" = field(default_factory=lambda: array("f"))
    strength: float = 0.0


def tracks_of(listed: ListedFaces) -> list[TrackSummary]:
    """All tracks, by id, in one reading; of each face 4 bytes are kept."""
    tallies: dict[int, _Tally] = {}
    for frame in listed.frames():
        # One of the two moments of an interlaced frame is enough.
        for track_id, face in {face.track_id: face for face in frame.faces}.items():
            tally = tallies.setdefault(track_id, _Tally(frame.time_s))
            tally.end_s = frame.time_s
            tally.eyes_px.append(eye_distance_px(face.landmarks_px))
            tally.strength += face.strength
    return [
        TrackSummary(
            track_id=track_id,
            begin_s=tally.begin_s,
            end_s=tally.end_s,
            num_frames=len(tally.eyes_px),
            eyes_apart_px=median(tally.eyes_px),
            strength=tally.strength / len(tally.eyes_px),
        )
        for track_id, tally in sorted(tallies.items())
    ]
