"""The tags of TIFF files (TIFF 6.0): the picture's size, whether all of it is there, and its resolution."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from vidrestore.errors import SourceError

TIFF_NUMBERS: Mapping[int, str] = {1: "B", 3: "H", 4: "I", 5: "II"}
"""Kinds of numbers in TIFF tags, for `struct`."""
TIFF_RATIONAL = 5
TIFF_NEXT = -1
"""Stands among the tags for where the next directory is."""
TIFF_ACROSS, TIFF_DOWN, TIFF_UNIT = 282, 283, 296
"""Tags of the resolution."""
MAX_TIFF_NUMBERS = 2**20
"""Of one tag; there are no more strips than rows."""
TIFF_PICTURE_TAGS = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 297, 317, 320, 322, 323, 324, 325, 338, 339)
    + (TIFF_ACROSS, TIFF_DOWN, TIFF_UNIT, 530, 531, 532, TIFF_NEXT)
)
"""They say what the samples are and where, and how large a sample is."""
TIFF_PLACES = ((273, 279), (324, 325))
"""Tags with the offsets and sizes of strips, and of tiles."""
TIFF_COLORS: Mapping[tuple[float, ...], str] = {
    (0, 1): "gray, 0 is white",
    (1, 1): "gray",
    (2, 3): "RGB",
    (2, 4): "RGB with alpha",
    (3, 1): "colours of a palette",
    (5, 4): "CMYK",
    (6, 3): "YCbCr",
}
"""Kinds of colours by photometric interpretation and number of samples."""
TIFF_INCH = 2
"""Unit of the resolution."""


def tiff_tags(file: BinaryIO) -> dict[int, tuple[float, ...]]:
    """The numbers of a TIFF file's first directory, and as `TIFF_NEXT` where the next directory is.

    Raises KeyError, ValueError or struct.error for what is damaged or no TIFF file.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}[file.read(4)]
    file.seek(*struct.unpack(f"{order}I", file.read(4)))
    (count,) = struct.unpack(f"{order}H", file.read(2))
    directory = file.read(12 * count)
    tags: dict[int, tuple[float, ...]] = {TIFF_NEXT: struct.unpack(f"{order}I", file.read(4).ljust(4, b"\0"))}
    for place in range(0, 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", directory, place)
        if kind not in TIFF_NUMBERS or number > MAX_TIFF_NUMBERS:
            tags[tag] = ()
            continue
        layout = f"{order}{number * len(TIFF_NUMBERS[kind])}{TIFF_NUMBERS[kind][0]}"
        content = directory[place + 8 : place + 12]
        if struct.calcsize(layout) > len(content):
            file.seek(*struct.unpack(f"{order}I", content))
            content = file.read(struct.calcsize(layout))
        numbers = struct.unpack_from(layout, content)
        if kind == TIFF_RATIONAL:
            numbers = tuple(top / (bottom or 1) for top, bottom in zip(numbers[::2], numbers[1::2], strict=True))
        tags[tag] = numbers
    return tags


def tiff_facts(file: Path) -> tuple[Any, ...]:
    """(width, height, bits, kind of colours) by its tags. Raises SourceError for several pictures in one file, and
    KeyError, TypeError, ValueError or struct.error for one that is cut off or no TIFF."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        tags = tiff_tags(opened)
    for offsets, sizes in TIFF_PLACES:
        for offset, length in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False):
            if offset + length > size:
                raise ValueError("cut off")
    if tags.get(TIFF_NEXT, (0,)) != (0,):
        raise SourceError(f"{file}: holds several pictures; save them as files of their own first")
    kind = (*tags[262], *tags.get(277, (1,)))
    return *tags[256], *tags[257], *tags.get(258, (1,))[:1], TIFF_COLORS.get(kind, f"colours of kind {kind}")


def resolution_options(tags: Mapping[int, tuple[float, ...]]) -> dict[str, str]:
    """The encoder's option that keeps it, where it is a whole number of dots to an inch."""
    across, down, unit = (tags.get(tag, ()) for tag in (TIFF_ACROSS, TIFF_DOWN, TIFF_UNIT))
    if not across or across != down or unit not in ((), (TIFF_INCH,)) or not float(across[0]).is_integer():
        return {}
    return {"dpi": str(round(across[0]))} if across[0] >= 1 else {}
