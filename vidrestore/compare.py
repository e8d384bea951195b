"""Original and restored side by side."""

from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from vidrestore.frame import Frame, RestoredFrame, VideoInfo
from vidrestore.layout import Plane
from vidrestore.video.write import EncodeSettings, VideoWriter


def side_by_side(left: Frame, right: Frame) -> Frame:
    """`right` with `left` put before it; both of one size and layout."""
    planes = tuple(
        _joined(a, b, width_px)
        for a, b, width_px in zip(left.planes, right.planes, _doubled_widths_px(left), strict=True)
    )
    return replace(right, planes=planes)


def _doubled_widths_px(frame: Frame) -> list[int]:
    layout = frame.layout
    return [layout.plane_shape(component, 2 * frame.width_px, frame.height_px)[1] for component in layout.components]


def _joined(left: Plane, right: Plane, width_px: int) -> Plane:
    # Two odd pictures share the chroma sample in the middle; the left one gives way.
    joined: Plane = np.hstack([left[:, : width_px - right.shape[1]], right])  # type: ignore[assignment]  # loses the dtype
    return joined


class CompareVideo:
    """A video of twice the width, with the source's clock and sound, at the default quality."""

    def __init__(
        self, target: Path, like: VideoInfo, source: Path, *, start_s: float | None, end_s: float | None
    ) -> None:
        doubled = replace(like, width_px=2 * like.width_px)
        settings = EncodeSettings()
        self._writer = VideoWriter(target, like=doubled, source=source, encode=settings, start_s=start_s, end_s=end_s)

    def __enter__(self) -> "CompareVideo":
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(self, done: RestoredFrame) -> None:
        self._writer.write(side_by_side(done.source, done.frame))
