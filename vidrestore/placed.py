"""Outputs that an unfinished run has put in their places, so that going on with it may replace these and no others.

Each is noted just before its renaming, by what a renaming keeps. What has been edited since, or is another file of the
same name, is the user's.
"""

import contextlib
import hashlib
from pathlib import Path

from vidrestore.sealed import sealed, unsealed
from vidrestore.target import real_place, replaced_when_complete, writing
from vidrestore.video.sequence_target import is_file_managers

PLACED_NAME = "placed.json"
"""In the work folder: [place, identity] of each, in the order of their renaming."""


def note_placed(work: Path, place: Path, complete: Path) -> None:
    """`complete` is about to be renamed to `place`: a file, or a folder of images. Raises TargetError."""
    file = work / PLACED_NAME
    with writing(file), replaced_when_complete(file) as temporary:
        noted = [*_placed(work), [str(real_place(place)), identity(complete)]]
        temporary.write_text(sealed(noted), encoding="utf-8")


def is_placed(work: Path, place: Path) -> bool:
    """Whether what is in this place was put there by the run whose work folder this is, and is as it was then."""
    noted = _placed(work)
    with contextlib.suppress(OSError):
        return bool(noted) and [str(real_place(place)), identity(place)] in noted
    return False


def identity(path: Path) -> str:
    """A checksum of number in the file system, size and time of change: of a file, or of all files of a folder."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if not is_file_managers(file))
    states = [(file.name if file != path else "", file.lstat()) for file in files]
    facts = [(name, state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _placed(work: Path) -> list[list[str]]:
    try:
        return list(unsealed((work / PLACED_NAME).read_bytes()))
    except (OSError, ValueError):
        return []
