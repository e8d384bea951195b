"""Whether the disk has room for what a run will write: asked before the first frame, not found out after the last.

How large an encoded film gets is known only afterwards. So there are two estimates: the least that it can take, below
which a run is refused, and what such films take, below which there is a warning. The least is the smaller of two
bounds: bits for each sample, which drawn and black pictures undercut, and a share of the source's bytes, which sources
that are hardly compressed undercut; no film that we know of undercuts both.
"""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from vidrestore.errors import TargetError
from vidrestore.frame import VideoInfo

NUM_COPIES = 2
"""Finished parts lie in the work folder until they are joined to the output beside it."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class Appetite:
    """What an encoding takes, measured on two seconds of six web clips (H.264, 8 bits, 4:2:0)."""

    least_bits: float
    """For each sample of the picture, chroma's counted too."""
    least_share: float
    """Of the source's bytes."""
    likely_bits: float
    likely_share: float


LOSSLESS = Appetite(least_bits=0.15, least_share=0.8, likely_bits=1.0, likely_share=math.inf)
"""x264 without loss takes 0.19 to 2.03 bits for a sample, 0.42 in the smallest three, and 1.04 to 8.4 times the source;
FFV1 0.89 to 1.99 bits and 2.2 to 13 times the source. That 10 bits take no less than 8 is all we suppose of them."""
LOSSY = Appetite(least_bits=0.02, least_share=0.15, likely_bits=math.inf, likely_share=0.5)
"""At our defaults x264 takes 0.06 to 0.39 bits and 0.27 to 0.83 times the source, HEVC 0.03 to 0.33 and 0.28 to 0.91,
`share` 0.03 to 0.18 and 0.18 to 0.46; all others take more."""


def check_space(
    folder: Path,
    *,
    info: VideoInfo,
    num_frames: int | None,
    source_bytes: int,
    is_lossless: bool,
    is_coarse: bool = False,
    done_bytes: int = 0,
) -> str | None:
    """Raise TargetError when the disk of `folder` is surely too small; a line of warning where it probably is.

    `num_frames` is what will be written, None where nobody knows: then all of the source is taken, if its header says
    how much that is, and else nothing is checked. `is_coarse` says that the user asks for less than the default
    quality by `--crf`: then there is no telling. `done_bytes` of earlier, finished parts are on the disk already.
    """
    share = span_share(info, num_frames)
    if share is None or (is_coarse and not is_lossless):
        return None
    frames, of_source = share
    samples = frames * samples_per_frame(info)
    span_bytes = source_bytes * of_source
    appetite = LOSSLESS if is_lossless else LOSSY
    least = min(samples * appetite.least_bits / 8, span_bytes * appetite.least_share)
    likely = min(samples * appetite.likely_bits / 8, span_bytes * appetite.likely_share)
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None  # who writes there will say why it cannot be
    if usage.total == 0:
        return None  # some network disks do not tell
    free = usage.free
    least, likely = (max(NUM_COPIES * need - done_bytes, 0) for need in (least, likely))
    way_out = "free space, or choose another disk with -o" + (", or leave lossless out" if is_lossless else "")
    if free < least:
        raise TargetError(f"{folder}: {_gb(free)} are free, and at least {_gb(least)} are needed; {way_out}")
    if free < likely:
        return f"{folder}: {_gb(free)} are free, and about {_gb(likely)} will be needed; {way_out}"
    return None


def samples_per_frame(info: VideoInfo) -> int:
    """Of all planes together."""
    shapes = [info.layout.plane_shape(name, info.width_px, info.height_px) for name in info.layout.components]
    return sum(height_px * width_px for height_px, width_px in shapes)


def span_share(info: VideoInfo, num_frames: int | None) -> tuple[int, float] | None:
    """(number of frames to write, their share of the source); None where it cannot be known."""
    total = info.num_frames_from_header
    if total is None and info.duration_s and info.average_rate:
        total = round(info.duration_s * info.average_rate)
    if not total:
        return None
    frames = total if num_frames is None else num_frames
    return frames, min(frames / total, 1.0)


def _gb(size_bytes: float) -> str:
    """Three digits that matter."""
    size = size_bytes / GB
    return f"{size:.0f} GB" if size >= 100 else f"{size:.3g} GB" if size >= 0.001 else f"{size_bytes / 1e6:.3g} MB"
