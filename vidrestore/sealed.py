"""JSON with a checksum over what it says, so that damage is noticed and not believed."""

import json
import zlib
from typing import Any


def sealed(content: Any) -> str:
    """One line of JSON, without the end of the line."""
    return json.dumps({"crc32": _crc32(content), "content": content})


def unsealed(text: str | bytes) -> Any:
    """What was `sealed`. Raises ValueError for anything else, and for what has been changed since."""
    known = json.loads(text)
    if not isinstance(known, dict) or known.keys() != {"crc32", "content"}:
        raise ValueError("is not sealed")
    if known["crc32"] != _crc32(known["content"]):
        raise ValueError("does not match its checksum")
    return known["content"]


def _crc32(content: Any) -> int:
    return zlib.crc32(json.dumps(content).encode())
