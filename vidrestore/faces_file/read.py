"""Reading a faces file, frame by frame where it is laid out as ours are, with the edits in its faces."""

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidrestore.errors import SourceError
from vidrestore.faces_file.entries import (
    Edit,
    ListedFrame,
    a_list,
    a_number,
    a_whole_number,
    an_object,
    brief,
    edit_of,
    frame_of,
)
from vidrestore.faces_file.write import FORMAT_VERSION, FRAMES_FOLLOW, Span

HEADER_KEYS = ("version", "width_px", "height_px", "span_s", "edits", "frames")
MAX_HEADER_CHARS = 1 << 20
"""Ten thousand edits. A first line that is longer holds frames too."""
MAX_NAMED = 12
"""How many tracks a message names."""
REMEDY = "write one with `vidrestore analyze` or `vidrestore restore --faces`"
ENCODING = "utf-8-sig"
"""With or without a byte order mark, which Notepad puts first."""


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
        with _refusals(self.path):
            for number, entry in enumerate(_streamed(self.path)[1] if self._kept is None else self._kept):
                frame = frame_of(number, entry)
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

    Raises SourceError, in one line, for a file that is missing, damaged, of another kind or edited into nonsense, and
    for a pipe: it can be read only once, and the frames are needed again.
    """
    with _refusals(path):
        if path.exists() and not path.is_file():
            raise SourceError(f"{path}: is no regular file; save what it brings to a file first, and give that")
        try:
            return _checked(path, *_streamed(path), None)
        except _LaidOutAnew:
            header = _whole(path)
        kept = a_list(header.pop("frames"), "frames")
        return _checked(path, header, kept, kept)


class _LaidOutAnew(Exception):  # noqa: N818 - no error
    """Not one frame to a line; but it may be a faces file all the same."""


class _SaidTwice(Exception):  # noqa: N818 - said in another way
    """A key that stands twice in one object: JSON's readers take the last, and what the user wrote may be the first."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _SaidTwice(f"{brief(twice)} stands there twice, in one pair of braces")
    return made


DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _streamed(path: Path) -> tuple[dict[str, Any], Iterator[Any]]:
    """Header and frames. Raises _LaidOutAnew, the iterator too."""
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
    with path.open(encoding=ENCODING) as file:
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
        return DECODER.decode(text)
    except (ValueError, RecursionError) as exc:
        raise _LaidOutAnew from exc


def _whole(path: Path) -> dict[str, Any]:
    """Header and frames of a file in any layout."""
    text = path.read_text(encoding=ENCODING)
    # Said before much memory is spent on it.
    if text.lstrip()[:1] == "{" and text.rstrip()[-1:] != "}":
        raise SourceError(f"{path}: no faces file (it breaks off at the end); {REMEDY}")
    try:
        return _header(path, DECODER.decode(text))
    except (ValueError, RecursionError) as exc:  # no JSON, brackets without end
        raise SourceError(f"{path}: no faces file ({exc}); {REMEDY}") from exc


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file, in one line."""
    try:
        yield
    except OSError as exc:
        raise SourceError(f"{path}: cannot be read ({exc.strerror}); {REMEDY}") from exc
    except UnicodeDecodeError as exc:
        raise SourceError(f"{path}: no faces file ({exc}); {REMEDY}") from exc
    except _LaidOutAnew as exc:
        raise SourceError(f"{path}: was changed while it was read; do not edit it before the end of the run") from exc
    except (_SaidTwice, KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        what = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise SourceError(f"{path}: a damaged faces file ({what}); correct it, or {REMEDY}") from exc


def _header(path: Path, content: Any) -> dict[str, Any]:
    version = content.get("version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        said = brief(version)
        raise SourceError(f"{path}: no faces file of version {FORMAT_VERSION} (it says {said}); {REMEDY}")
    return an_object(content, HEADER_KEYS, "the file")


def _checked(path: Path, header: dict[str, Any], frames: Iterable[Any], kept: list[Any] | None) -> ListedFaces:
    """All of the file, the frames too."""
    width_px, height_px = (a_whole_number(header[key], key) for key in ("width_px", "height_px"))
    span_s = header.get("span_s")
    if span_s is not None:
        span_s = tuple(None if at_s is None else a_number(at_s, "span_s") for at_s in a_list(span_s, "span_s", 2))
    edits = tuple(edit_of(number, edit) for number, edit in enumerate(a_list(header.get("edits", []), "edits")))
    track_ids: set[int] = set()
    num_frames = 0
    for num_frames, entry in enumerate(frames, start=1):
        track_ids |= {face.track_id for face in frame_of(num_frames - 1, entry).faces}
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
