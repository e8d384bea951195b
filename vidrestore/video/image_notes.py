"""What image files say beside their samples: how it is turned, texts, profiles, codes. What of it is kept."""

import contextlib
import io
import struct
from collections.abc import Mapping
from pathlib import Path

from vidrestore.errors import SourceError
from vidrestore.video.image_dpx import dpx_with_notes
from vidrestore.video.image_png import PNG_PLAIN_CHUNKS, png_chunks, png_with_notes
from vidrestore.video.image_tiff import TIFF_PICTURE_TAGS, tiff_tags
from vidrestore.video.sequence import ImageSequence

EXIF_ORIENTATION_TAG = 274
ORIENTATIONS: Mapping[int, tuple[int, int, int, int]] = {
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""How EXIF's numbers turn a picture (EXIF 2.3, Orientation): the upper left 2 x 2 of the display matrix."""


def image_tags(file: Path) -> dict[int, tuple[float, ...]]:
    """The TIFF tags that are numbers: a TIFF file's own, or those of a PNG file's EXIF. None that are damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, struct.error), file.open("rb") as opened:
        if file.suffix.lower() != ".png":
            return tiff_tags(opened)
        exif = next((chunk for kind, chunk in png_chunks(opened.read()) if kind == b"eXIf"), None)
        if exif is not None:
            return tiff_tags(io.BytesIO(exif[8:-4]))
    return {}


def has_notes(sequence: ImageSequence) -> bool:
    """Whether its first file says more than what its picture is: texts, a colour profile, a time code."""
    file = sequence.file(0)
    if sequence.codec == "dpx":
        return True
    if sequence.codec == "tiff":
        return any(tag not in TIFF_PICTURE_TAGS for tag in image_tags(file))
    return any(kind not in PNG_PLAIN_CHUNKS for kind, _ in png_chunks(file.read_bytes()))


def display_matrix_in(file: Path) -> tuple[int, ...] | None:
    """How the image is to be turned, by its EXIF tag; None when it is upright. FFmpeg's word for it is among the side
    data, where PyAV (18) fails on pictures with EXIF."""
    orientation = next(iter(image_tags(file).get(EXIF_ORIENTATION_TAG, ())), 1)
    turned = ORIENTATIONS.get(int(orientation))
    if turned is None:
        return None
    a, b, c, d = (number << 16 for number in turned)
    return a, b, 0, c, d, 0, 0, 0, 1 << 30


def notes_lost(sequence: ImageSequence, place: Path) -> str:
    """For a warning."""
    return (
        f"{place}: what the {sequence.codec.upper()} files say beside the samples (texts, profile, codes) is not kept"
    )


def with_notes(codec: str, encoded: bytes, source: Path) -> bytes:
    """An encoded image with what the source's file says beside its samples."""
    if codec == "tiff":
        return encoded
    try:
        original = source.read_bytes()
        return png_with_notes(encoded, original) if codec == "png" else dpx_with_notes(encoded, original)
    except (OSError, ValueError, struct.error) as exc:
        raise SourceError(f"{source}: cannot be read again ({exc}); get another copy of it") from exc
