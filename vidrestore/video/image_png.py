"""PNG files (ISO/IEC 15948) as rows of chunks: some say what the picture is, others what there is to say beside it."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PNG_SIGNATURE_BYTES = 8
PNG_PICTURE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"hIST", b"sBIT", b"bKGD"})
"""They say what the samples are, and so belong to the encoder."""
PNG_PLAIN_CHUNKS = PNG_PICTURE_CHUNKS | {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"tIME"}
"""They say no more than that and what colours mean."""
PNG_COLORS = {0: "gray", 2: "RGB", 3: "colours of a palette", 4: "gray with alpha", 6: "RGB with alpha"}
"""Kinds of colours by their number."""


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, the whole chunk) each; what comes after a chunk that is cut off is left out."""
    position = PNG_SIGNATURE_BYTES
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 12 + length
        yield content[position + 4 : position + 8], content[position:end]
        position = end


def without_profile(content: bytes) -> bytes:
    """A PNG file without its colour profile: PyAV (18) frees the name of that twice, and the interpreter crashes."""
    profile = next((chunk for kind, chunk in png_chunks(content) if kind == b"iCCP"), None)
    return content if profile is None else content.replace(profile, b"", 1)


def png_facts(file: Path) -> tuple[Any, ...]:
    """(width, height, bits, kind of colours) by its header. Raises ValueError, KeyError or struct.error for what is no
    PNG."""
    with file.open("rb") as opened:
        header = opened.read(29)
    if header[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG file")
    width_px, height_px, bits, kind = struct.unpack_from(">IIBB", header, 16)
    return width_px, height_px, bits, PNG_COLORS[kind]


def png_with_notes(encoded: bytes, original: bytes) -> bytes:
    """The encoder's picture with all the other chunks of the source, before or after it as they were."""
    before: list[bytes] = []
    after: list[bytes] = []
    notes = before
    for kind, chunk in png_chunks(original):
        if kind == b"IDAT":
            notes = after
        elif kind not in PNG_PICTURE_CHUNKS:
            notes.append(chunk)
    picture = [(kind, chunk) for kind, chunk in png_chunks(encoded) if kind in PNG_PICTURE_CHUNKS]
    first, *rest = [chunk for _, chunk in picture]
    return b"".join([encoded[:PNG_SIGNATURE_BYTES], first, *before, *rest[:-1], *after, rest[-1]])
