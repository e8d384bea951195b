"""The headers of DPX files (SMPTE ST 268): size and rate of the picture, and what is kept of a scan's."""

import struct
from pathlib import Path
from typing import Any

DPX_HEADER_BYTES = 2048
"""Of a header with the parts for film and television."""
DPX_DATA_OFFSET, DPX_FILE_SIZE, DPX_PART_SIZES = 4, 16, 24
DPX_WIDTH, DPX_ELEMENT, DPX_ELEMENT_DATA_OFFSET, DPX_FILM_RATE, DPX_TV_RATE = 772, 800, 808, 1724, 1940
"""Offsets in it."""
DPX_COLORS = {6: "luma", 50: "RGB", 51: "RGB with alpha", 52: "alpha with BGR", 100: "YCbCr 4:2:2"}
"""Kinds of colours by their number."""
UNDEFINED = 0xFFFFFFFF
RATES_HZ = (1.0, 1000.0)
"""What is believed of a header."""
DPX_TEXTS = slice(36, 660)
"""Name, date, creator, project and copyright."""
DPX_GENERIC_BYTES = 1664
"""Of a header without the parts for film and television, as FFmpeg writes it."""
DPX_CODE_VALUES = slice(784, 800)
"""What the lowest and the highest sample stand for."""
DPX_MEANING = slice(801, 803)
"""Transfer (printing density, say) and colorimetry."""
DPX_BITS = 803
DPX_ORIENTATION = slice(1408, DPX_HEADER_BYTES)
"""From there on: orientation, aspect, film (key code, frame rate) and television (time code)."""
DPX_NUMBERS_OF_32_BITS = (
    *(784, 788, 792, 796),
    *range(1408, 1432, 4),
    *(1636, 1640),
    *range(1712, 1732, 4),
    *(1920, 1924),
    *range(1932, 1972, 4),
)
DPX_NUMBERS_OF_16_BITS = (1628, 1630, 1632, 1634)
"""Where numbers are in what is copied, to turn their bytes."""
MAX_USER_BYTES = 2**24
"""Of user data behind a DPX header; a header that says more is damaged."""


def dpx_byte_order(header: bytes) -> str:
    """Of its numbers, for `struct`. Raises ValueError for what is no DPX file."""
    if header[:4] not in (b"SDPX", b"XPDS"):
        raise ValueError("no DPX file")
    return ">" if header[:4] == b"SDPX" else "<"


def dpx_facts(file: Path) -> tuple[Any, ...]:
    """(width, height, bits, kind of colours) by its header. Raises ValueError, IndexError or struct.error for a file
    that is cut off or no DPX."""
    with file.open("rb") as opened:
        header = opened.read(DPX_HEADER_BYTES)
    order = dpx_byte_order(header)
    (size,) = struct.unpack_from(f"{order}I", header, DPX_FILE_SIZE)
    if size != UNDEFINED and file.stat().st_size < size:
        raise ValueError("cut off")
    width_px, height_px = struct.unpack_from(f"{order}II", header, DPX_WIDTH)
    kind = header[DPX_ELEMENT]
    return width_px, height_px, header[DPX_ELEMENT + 3], DPX_COLORS.get(kind, f"colours of kind {kind}")


def dpx_rate_hz(file: Path) -> float | None:
    """Frames per second, as its header says; None where it does not."""
    with file.open("rb") as opened:
        header = opened.read(DPX_HEADER_BYTES)
    order = dpx_byte_order(header)
    (data_offset,) = struct.unpack_from(f"{order}I", header, DPX_DATA_OFFSET)
    for offset in (DPX_FILM_RATE, DPX_TV_RATE):
        if min(len(header), data_offset) >= offset + 4:
            (rate_hz,) = struct.unpack_from(f"{order}f", header, offset)
            if RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
                return float(rate_hz)
    return None


def dpx_with_notes(encoded: bytes, original: bytes) -> bytes:
    """The encoder's picture behind the source's header, except for what says how samples are stored."""
    order, other = dpx_byte_order(encoded), dpx_byte_order(original)
    (offset,) = struct.unpack_from(f"{other}I", original, DPX_DATA_OFFSET)
    is_long = offset >= DPX_HEADER_BYTES
    (data_offset,) = struct.unpack_from(f"{order}I", encoded, DPX_DATA_OFFSET)
    notes = bytearray(original[:DPX_HEADER_BYTES])
    if order != other:
        for places, size in ((DPX_NUMBERS_OF_32_BITS, 4), (DPX_NUMBERS_OF_16_BITS, 2)):
            for place in places:
                notes[place : place + size] = notes[place : place + size][::-1]
    header = bytearray(encoded[:DPX_GENERIC_BYTES].ljust(DPX_HEADER_BYTES, b"\xff"))
    header[DPX_TEXTS] = notes[DPX_TEXTS]
    header[DPX_MEANING] = notes[DPX_MEANING]
    if header[DPX_BITS] == notes[DPX_BITS]:
        header[DPX_CODE_VALUES] = notes[DPX_CODE_VALUES]
    kept = DPX_ORIENTATION if is_long else slice(DPX_ORIENTATION.start, min(offset, DPX_GENERIC_BYTES))
    header[kept] = notes[kept]
    user = original[DPX_HEADER_BYTES:offset] if is_long and offset <= DPX_HEADER_BYTES + MAX_USER_BYTES else b""
    begin = len(header) + len(user)
    part_bytes = (DPX_GENERIC_BYTES, DPX_HEADER_BYTES - DPX_GENERIC_BYTES, len(user))
    struct.pack_into(f"{order}I", header, DPX_DATA_OFFSET, begin)
    struct.pack_into(f"{order}I", header, DPX_FILE_SIZE, begin + len(encoded) - data_offset)
    struct.pack_into(f"{order}III", header, DPX_PART_SIZES, *part_bytes)
    struct.pack_into(f"{order}I", header, DPX_ELEMENT_DATA_OFFSET, begin)
    return bytes(header) + user + encoded[data_offset:]
