"""Image sequences, such as scanned film: one PNG, TIFF or DPX file for each frame, named by number."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidrestore.errors import SourceError

IMAGE_CODECS: Mapping[str, str] = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".dpx": "dpx"}
"""FFmpeg's decoder and encoder by suffix."""
KINDS = "PNG, TIFF or DPX"
PLACE = re.compile(r"%(0\d+)?d")
"""Where the number stands in a pattern, as in printf."""


@dataclass(frozen=True, slots=True)
class ImageSequence:
    """Files of one kind, numbered without a gap."""

    path: Path
    """As the user named it: their folder, or a pattern."""
    folder: Path
    pattern: str
    """Of the files' names, for `%`."""
    first_number: int
    num_images: int

    @property
    def codec(self) -> str:
        return IMAGE_CODECS[Path(self.pattern).suffix.lower()]

    def file(self, position: int) -> Path:
        """The image at this position, counted from 0."""
        return self.folder / (self.pattern % (self.first_number + position))


def is_pattern(path: Path) -> bool:
    """Whether the name of a file is a pattern for images, such as frame_%06d.png."""
    name = path.name.replace("%%", "")
    return path.suffix.lower() in IMAGE_CODECS and len(PLACE.findall(name)) == 1 == name.count("%")


def is_sequence(path: Path) -> bool:
    """Whether a source is a folder, or a pattern and not the name of a file."""
    return path.is_dir() or (is_pattern(path) and not path.exists())


def find_sequence(path: Path) -> ImageSequence:
    """All images of a folder, or those that a pattern names.

    Raises SourceError when there are none, when they are of several kinds or names, or when numbers are missing.
    """
    folder = path if path.is_dir() else path.parent
    try:
        files = [entry for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_CODECS and entry.name[0] != "."]
    except OSError as exc:
        raise SourceError(f"{path}: {folder} cannot be read ({exc.strerror}); check the path") from exc
    names = sorted(file.name for file in files if file.is_file())
    if path.is_dir():
        if not names:
            raise SourceError(f"{path}: is a folder without {KINDS} images; name a video file, or a folder of images")
        pattern = _pattern_of(path, names)
    else:
        pattern = path.name
    place = PLACE.search(pattern.replace("%%", "\0\0"))
    assert place is not None, "a pattern has a place for the number"
    before, after = (part.replace("%%", "%") for part in (pattern[: place.start()], pattern[place.end() :]))
    found = (re.fullmatch(f"{re.escape(before)}(\\d+){re.escape(after)}", name) for name in names)
    numbers = sorted(int(match[1]) for match in found if match and pattern % int(match[1]) == match[0])
    if not numbers:
        raise SourceError(f"{path}: no image has such a name; check the path and the digits after %")
    missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
    if missing:
        more, are, them = (f" and {len(missing) - 1} more", "are", "them") if len(missing) > 1 else ("", "is", "it")
        raise SourceError(
            f"{path}: {pattern % missing[0]}{more} of {pattern % numbers[0]} to {pattern % numbers[-1]} {are} missing; "
            f"add {them}, or restore what lies before and after from folders of their own"
        )
    return ImageSequence(path, folder, pattern, numbers[0], len(numbers))


def _pattern_of(path: Path, names: list[str]) -> str:
    """The pattern that all these names follow."""
    kinds = sorted({IMAGE_CODECS[Path(name).suffix.lower()] for name in names})
    if len(kinds) > 1:
        raise SourceError(
            f"{path}: holds images of several kinds ({' and '.join(kinds)}); name one with a pattern, such as "
            f"{path / 'frame_%06d.dpx'}"
        )
    split = [re.split(r"(\d+)", name) for name in names]
    texts, digits = [parts[::2] for parts in split], [parts[1::2] for parts in split]
    odd = next((name for name, text in zip(names, texts, strict=True) if text != texts[0]), None)
    if not digits[0]:
        raise SourceError(f"{path}: {names[0]} has no number; number the images in the order of time")
    changing = [place for place, group in enumerate(zip(*digits, strict=False)) if len(set(group)) > 1]
    if odd is not None or len(changing) > 1:
        other = odd or names[-1]
        raise SourceError(
            f"{path}: holds images of several names ({names[0]}, {other}); name one with a pattern, such as "
            f"{path / 'frame_%06d.dpx'}"
        )
    place = changing[0] if changing else len(digits[0]) - 1
    width = min(len(groups[place]) for groups in digits)
    parts = [part.replace("%", "%%") for part in split[0]]
    parts[2 * place + 1] = f"%0{width}d" if width > 1 else "%d"
    pattern = "".join(parts)
    for name, groups in zip(names, digits, strict=True):
        if pattern % int(groups[place]) != name:
            raise SourceError(f"{path}: {name} is numbered unlike {names[0]}; give all numbers the same digits")
    return pattern


def source_facts(source: Path) -> dict[str, Any]:
    """By which a source is known again: name, size and time of change; of a sequence, those of all its images."""
    if not is_sequence(source):
        state = source.stat()
        return {"source": source.name, "source_bytes": state.st_size, "source_mtime_ns": state.st_mtime_ns}
    sequence = find_sequence(source)
    states = [sequence.file(position).stat() for position in range(sequence.num_images)]
    return {
        "source": sequence.path.name,
        "source_images": f"{sequence.num_images} from {sequence.file(0).name}",
        "source_bytes": sum(state.st_size for state in states),
        "source_mtimes_sha256": hashlib.sha256(repr([s.st_mtime_ns for s in states]).encode()).hexdigest(),
    }


def stand_in(source: Path) -> Path:
    """The file that has all the source's tracks: the source itself; of a sequence, an image, which has no others."""
    return find_sequence(source).file(0) if is_sequence(source) else source
