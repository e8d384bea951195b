"""The elements that Matroska is made of (EBML, RFC 8794): written, and found again. Their ids are told in RFC 9559."""

import struct
from collections.abc import Iterator


def element(identifier: str, *content: bytes) -> bytes:
    """Its id as in the registry, in hexadecimal; a length of 8 bytes; content."""
    joined = b"".join(content)
    return bytes.fromhex(identifier) + struct.pack(">Q", 1 << 56 | len(joined)) + joined


def whole(identifier: str, value: int) -> bytes:
    """An element that is a whole number, from 0."""
    return element(identifier, struct.pack(">Q", value))


def real(identifier: str, value: float) -> bytes:
    """An element that is a number with a fraction."""
    return element(identifier, struct.pack(">d", value))


def elements(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(id in lower case, content) of those in a row; one of unknown length goes to the end. Ends at damage."""
    at = 0
    while at < len(data):
        id_bytes = 9 - data[at].bit_length()
        size_at = at + id_bytes
        if id_bytes > 4 or size_at >= len(data) or not data[size_at]:
            return
        size_bytes = 9 - data[size_at].bit_length()
        content_at = size_at + size_bytes
        size = int.from_bytes(data[size_at:content_at], "big") & (1 << 7 * size_bytes) - 1
        yield data[at:size_at].hex(), data[content_at : content_at + size]
        at = content_at + size
