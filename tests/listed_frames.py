"""Frames as they go into a faces file, and faces files that somebody has edited."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vidrestore.face import PlacedFace, SkippedFace, TrackedFace
from vidrestore.faces_file.write import FacesFile
from vidrestore.frame import Frame, RestoredFrame
from vidrestore.layout import PixelLayout

LAYOUT = PixelLayout("gray", "gray", 8, 0, 0, False, True, "bt709", "center")
Content = dict[str, Any]


def done_frame(index: int) -> RestoredFrame:
    """One restored face (a crop of 64 px, twice enlarged, its top left at (10, 20)) and one left alone."""
    frame = Frame(index, index * 40, Fraction(1, 1000), (np.zeros((100, 200), np.uint8),), LAYOUT)
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    box = np.float32([10, 20, 42, 52])
    seen = TrackedFace(2, box, points, 0.98765, points + 0.5, 0.0)
    bridged = TrackedFace(1, box, points, 0.5, None, 0.2)
    # Frame pixel 10 covers crop pixels 0 and 1, so its centre lies at 0.5.
    face = PlacedFace(seen, np.array([[2.0, 0, -19.5], [0, 2.0, -39.5]]), crop_px=64)
    return RestoredFrame(frame, frame, (face,), (SkippedFace(bridged, "smaller than 40 px"),))


def in_lines(content: Content) -> str:
    """As we lay it out."""
    header = json.dumps({key: value for key, value in content.items() if key != "frames"})[:-1] + ', "frames": [\n'
    return header + ",\n".join(map(json.dumps, content["frames"])) + "\n]}\n"


def edited(tmp_path: Path, edit: Callable[[Content], object], layout: Callable[[Content], str] = in_lines) -> Path:
    """Four frames, 40 ms apart, of tracks 1 (left alone) and 2, and an edit of them."""
    path = tmp_path / "faces.json"
    with FacesFile(path, width_px=200, height_px=100, span_s=(None, 9.5)) as faces_file:
        for index in range(4):
            faces_file.write(done_frame(index))
    content = json.loads(path.read_text())
    assert in_lines(content) == path.read_text()
    edit(content)
    path.write_text(layout(content))
    return path


LAYOUTS: dict[str, Callable[[Content], str]] = {
    "ours": in_lines,
    "on one line": json.dumps,
    "pretty-printed": lambda content: json.dumps(content, indent=2),
    "edits after the frames": lambda content: json.dumps({key: content[key] for key in sorted(content, reverse=True)}),
    "one frame broken up": lambda content: in_lines(content).replace('"faces": [', '"faces": [\n', 1),
    "edits broken up": lambda content: in_lines(content).replace('"edits": [', '"edits": [\n  '),
    "with Windows' line ends": lambda content: in_lines(content).replace("\n", "\r\n"),
}
