"""What a faces file says of a frame, of a face and of an edit, checked: people write these files too."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidrestore.face import PlacedFace, SkippedFace, template_px
from vidrestore.faces_file.write import found_entry, shown_entry

MAX_PX = 1e6
"""No picture is so large, nor a place in it so far off; beyond it lies nothing but overflow."""
MIN_SIDE_PX = 1.0
"""Of a head's square. What is smaller is no face."""
LEFT_ALONE = "left alone in the faces file"
"""Why, where the file gives no reason."""
MAX_S = 1e9
"""30 years."""
MAX_TRACK_ID = 1 << 53
"""Beyond it other programs round."""
NUMBERS = (int, float)
MAX_SAID_CHARS = 40
"""How much of something wrong a message repeats."""
HEAD = [complex(x, y) for x, y in template_px("gpen", 1) - template_px("gpen", 1).mean(axis=0)]
"""Landmarks in a square of side 1, from their middle."""
FRAME_KEYS = ("index", "time_s", "moments", "faces")
FACE_KEYS = (
    *("track_id", "moment", "score", "box_xyxy_px", "landmarks_px", "detected_landmarks_px", "crop_corners_px"),
    *("restored", "strength", "reason"),
)
EDIT_KEYS = ("track_id", "from_s", "to_s", "strength")
"""A key of another name is a slip, and would else be an edit that has no effect."""


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
        return _face_of({**found_entry(face.face), **shown_entry(face), "moment": face.moment})


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


def edit_of(number: int, entry: Any) -> Edit:
    """Raises ValueError, TypeError or KeyError, as `frame_of` does, for what makes no sense; `number` is for these."""
    name = f"edit {number}"
    edit = an_object(entry, EDIT_KEYS, name)
    strength = a_number(edit["strength"], f"strength of {name}", 0, 1)
    times = {key: a_number(edit[key], f"{key} of {name}") for key in ("from_s", "to_s") if edit.get(key) is not None}
    made = Edit(a_whole_number(edit["track_id"], f"track_id of {name}"), strength, **times)
    if made.from_s >= made.to_s:
        raise ValueError(f"{name} goes from {made.from_s:g} s to {made.to_s:g} s; the first must be less")
    return made


def frame_of(number: int, entry: Any) -> ListedFrame:
    name = f"frame {number}"
    entry = an_object(entry, FRAME_KEYS, name)
    time_s = a_number(entry["time_s"], f"time_s of {name}")
    num_moments = entry.get("moments", 1)
    if num_moments not in (1, 2):
        raise ValueError(f"moments of {name} is {brief(num_moments)}; it must be 1 or 2")
    faces = []
    for face in a_list(entry["faces"], f"faces of {name}"):
        _check_face(name, face, (1, 2) if num_moments == 2 else (0,))
        faces.append(_face_of(face))
    if len({(face.moment, face.track_id) for face in faces}) < len(faces):
        raise ValueError(f"{name} has one face twice")
    return ListedFrame(time_s, tuple(faces), num_moments)


def _check_face(frame_name: str, face: Any, moments: tuple[int, ...]) -> None:
    """Raise ValueError, TypeError or KeyError unless `_face_of` can take it. In plain Python: most of the time that
    reading takes is spent here."""
    an_object(face, FACE_KEYS, f"a face of {frame_name}")
    name = f"{frame_name}: face {a_whole_number(face['track_id'], f'{frame_name}: track_id')}"
    restored = face["restored"]
    if not isinstance(restored, bool):
        raise ValueError(f"{name} has {brief(restored)} for restored, which is neither true nor false")
    a_number(face.get("strength", 0), f"{name}: strength", 0, 1)
    a_number(face.get("score", 0), f"{name}: score", 0, 1)
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


def _face_of(face: dict[str, Any]) -> ListedFace:
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


def an_object(value: Any, keys: Collection[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} is {brief(value)}; it must be an object")
    for key in value:
        if key not in keys:
            raise ValueError(f"{what} has {brief(key)}, which is none of {', '.join(keys)}")
    return value


def a_list(value: Any, what: str, count: int | None = None) -> list[Any]:
    if not isinstance(value, list) or len(value) != (len(value) if count is None else count):
        raise TypeError(f"{what} is {brief(value)}; it must be a list" + (f" of {count}" if count else ""))
    return value


def a_number(value: Any, what: str, low: float = -MAX_S, high: float = MAX_S) -> float:
    # Nan is not less than anything; true is no number.
    if type(value) not in NUMBERS or not low <= value <= high:
        raise ValueError(f"{what} is {brief(value)}; it must be a number from {low:g} to {high:g}")
    return float(value)


def a_whole_number(value: Any, what: str) -> int:
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
