"""Original and restored side by side."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vidrestore.frame import Frame, RestoredFrame, VideoInfo
from vidrestore.video.write import VideoWriter


def side_by_side(done: RestoredFrame, rotation_deg: int) -> Frame:
    """The source's frame and the restored one in one picture: as a player shows it, the source's on the left.

    `rotation_deg` is the clockwise turn that the player gives it; at 90 and 270 the stored pictures lie on one another.
    """
    original, restored = done.source, done.frame
    first, second = (original, restored) if rotation_deg in (0, 270) else (restored, original)
    on_top = rotation_deg in (90, 270)
    layout = restored.layout
    planes = []
    for component, one, other in zip(layout.components, first.planes, second.planes, strict=True):
        height, width = layout.plane_shape(component, *_doubled_px(restored.width_px, restored.height_px, on_top))
        # Two odd pictures share the chroma sample in the middle; the first one gives way.
        if on_top:
            planes.append(np.vstack([one[: height - other.shape[0]], other]))
        else:
            planes.append(np.hstack([one[:, : width - other.shape[1]], other]))
    joined: tuple[Any, ...] = tuple(planes)
    return replace(restored, planes=joined)


def _doubled_px(width_px: int, height_px: int, on_top: bool) -> tuple[int, int]:
    return (width_px, 2 * height_px) if on_top else (2 * width_px, height_px)


def comparing_writer(
    target: Path,
    like: VideoInfo,
    source: Path,
    *,
    start_s: float | None,
    end_s: float | None,
    folder: Path | None,
    check: Callable[[Path], None],
) -> VideoWriter:
    """For pictures of twice the size, with the source's clock and sound, at the default quality."""
    width_px, height_px = _doubled_px(like.width_px, like.height_px, like.rotation_deg in (90, 270))
    doubled = replace(like, width_px=width_px, height_px=height_px, cropping=None)
    return VideoWriter(target, like=doubled, source=source, start_s=start_s, end_s=end_s, folder=folder, check=check)
