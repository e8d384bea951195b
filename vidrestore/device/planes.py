"""Parts of pictures on the device, and the exact conversion of `vidrestore/pixels.py` there, many at a time.

Samples are uploaded one patch after the other. What is made of them shares tensors as large as the largest: what lies
beyond a picture's own size there repeats its edge, as OpenCV's BORDER_REPLICATE does, or is not looked at.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidrestore.device.queues import Queues
from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout, Plane
from vidrestore.pixels import (
    Region,
    luma_gain_offset,
    rgb_from_samples,
    samples_from_rgb,
    siting_offset_px,
    whole_chroma_samples,
)


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Parts of pictures of one layout on the device. Alpha is left at home."""

    queues: Queues
    layout: PixelLayout
    regions: tuple[Region, ...]
    """In their pictures; on whole chroma samples."""
    samples: Tensor
    """(K,) float32: all samples of the first plane of the first patch, row by row, of the second patch, and so on."""
    starts: Mapping[str, Sequence[int]]
    """Where the samples of each patch begin, for each colour component."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A region of the picture of which a patch is a part."""

    patch: int
    """Its index. The region lies inside the patch."""
    region: Region


def plane_region(region: Region, layout: PixelLayout, component: str) -> Region:
    """The samples of one plane that stand for a region on whole chroma samples."""
    if component not in ("Cb", "Cr"):
        return region
    x0, y0, x1, y1 = region
    shift_x, shift_y = layout.log2_chroma_w, layout.log2_chroma_h
    return x0 >> shift_x, y0 >> shift_y, -(-x1 >> shift_x), -(-y1 >> shift_y)


def with_chroma_around(region: Region, frame: Frame) -> Region:
    """The region, grown to whole chroma samples and one more on each side, where the picture has them."""
    step_x, step_y = 1 << frame.layout.log2_chroma_w, 1 << frame.layout.log2_chroma_h
    x0, y0, x1, y1 = region
    grown = max(x0 - step_x, 0), max(y0 - step_y, 0), x1 + step_x, y1 + step_y
    return whole_chroma_samples(grown, frame.layout, frame.width_px, frame.height_px)


def color_components(layout: PixelLayout) -> tuple[str, ...]:
    return tuple(component for component in layout.components if component != "A")


def upload_patches(queues: Queues, places: Sequence[tuple[Frame, Region]]) -> Patches:
    """Parts of frames of one layout -> the device, in one copy, in the samples' own 8 or 16 bits.

    For a region to be converted as in `rgb_region`, its patch is `with_chroma_around` it.
    """
    layout = places[0][0].layout
    assert all(frame.layout == layout for frame, _ in places), "the reader lets no format change pass"
    parts: list[Plane] = []
    starts: dict[str, list[int]] = defaultdict(list)
    num_samples = 0
    for index, component in enumerate(color_components(layout)):
        for frame, region in places:
            x0, y0, x1, y1 = plane_region(region, layout, component)
            parts.append(frame.planes[index][y0:y1, x0:x1])
            starts[component].append(num_samples)
            num_samples += parts[-1].size
    host = queues.host_samples(num_samples, sample_dtype(layout))
    start = 0
    for part in parts:
        host.numpy()[start : start + part.size].reshape(part.shape)[...] = part
        start += part.size
    there = queues.upload(host)
    with queues.computing():
        samples = there.float()
    return Patches(queues, layout, tuple(region for _, region in places), samples, starts)


def sample_dtype(layout: PixelLayout) -> torch.dtype:
    return torch.uint8 if layout.depth_bits == 8 else torch.uint16


def rgb_pieces(patches: Patches, pieces: Sequence[Piece], width_px: int, height_px: int) -> Tensor:
    """(N, 3, height_px, width_px) float32 RGB of pieces, each as `pixels.rgb_region` converts it; beyond a piece's own
    size its edge is repeated."""
    layout = patches.layout
    first, *others = color_components(layout)
    y, x = _positions(patches, pieces, first, width_px, height_px)
    samples = [_reader(patches, pieces, first)(y, x)]  # (N, H, W) each
    if layout.family == "gray":
        gain, offset = luma_gain_offset(layout)
        return ((samples[0] - offset) * (1 / gain))[:, None].expand(-1, 3, -1, -1)
    if layout.log2_chroma_w == layout.log2_chroma_h == 0:
        samples += [_reader(patches, pieces, component)(y, x) for component in others]
    else:
        samples += _upsampled_chroma(patches, pieces, y, x)
    if layout.family == "rgb":
        green, blue, red = samples
        samples = [red, green, blue]
    return torch.stack([_combined(samples, row) for row in rgb_from_samples(layout).tolist()], dim=1)


def changed_samples(patches: Patches, pieces: Sequence[Piece], delta: Tensor) -> tuple[Tensor, ...]:
    """The samples of every colour plane in pieces on whole chroma samples, with `delta` added as by
    `pixels.add_rgb_delta`: (N, H_i, W_i) uint8 or uint16, undefined beyond a piece's own size.

    `delta` is (N, 3, H, W) float32 RGB, H and W multiples of the chroma steps and no less than any piece's. It is
    written to beyond the pieces' own sizes.
    """
    layout = patches.layout
    if layout.family == "rgb":
        gain, _ = luma_gain_offset(layout)
        native = [delta[:, channel] * gain for channel in (1, 2, 0)]
    else:
        _repeat_odd_edges(layout, pieces, delta)
        rows = samples_from_rgb(layout)[: len(color_components(layout))].tolist()
        native = [_combined(list(delta.unbind(dim=1)), row) for row in rows]
        native[1:] = [_downsampled_chroma(full, layout) for full in native[1:]]
    changed = []
    for component, change in zip(color_components(layout), native, strict=True):
        height, width = change.shape[1:]
        samples = _reader(patches, pieces, component)(*_positions(patches, pieces, component, width, height))
        total = (samples + change).round_().clamp_(0, (1 << layout.depth_bits) - 1)
        changed.append(total.to(sample_dtype(layout)).contiguous())
    return tuple(changed)


def size_px(region: Region) -> tuple[int, int]:
    """Width and height."""
    return region[2] - region[0], region[3] - region[1]


def _positions(
    patches: Patches, pieces: Sequence[Piece], component: str, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Row (N, H, 1) and column (N, 1, W) in its patch of every sample of the pieces, kept inside them."""
    rows = []
    for piece in pieces:
        left, top, _, _ = plane_region(patches.regions[piece.patch], patches.layout, component)
        x0, y0, x1, y1 = plane_region(piece.region, patches.layout, component)
        rows.append((x0 - left, y0 - top, x1 - left - 1, y1 - top - 1))
    table = patches.queues.upload_array(np.array(rows, dtype=np.int64))
    x_first, y_first, x_last, y_last = (column[:, None, None] for column in table.unbind(dim=1))
    x = torch.minimum(x_first + torch.arange(width, device=table.device), x_last)
    y = torch.minimum(y_first + torch.arange(height, device=table.device)[:, None], y_last)
    return y, x


def _reader(patches: Patches, pieces: Sequence[Piece], component: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Reads a plane at rows (N, H, 1) and columns (N, 1, W) of the pieces' patches, as (N, H, W)."""
    rows = []
    for piece in pieces:
        width, _ = size_px(plane_region(patches.regions[piece.patch], patches.layout, component))
        rows.append((patches.starts[component][piece.patch], width))
    table = patches.queues.upload_array(np.array(rows, dtype=np.int64))
    start, width_of = (column[:, None, None] for column in table.unbind(dim=1))

    def read(y: Tensor, x: Tensor) -> Tensor:
        return patches.samples[(start + y * width_of) + x]

    return read


def _combined(channels: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """The sum of channels times factors, plus the last factor where there is one more.

    Not a matrix product: on a GPU that may be allowed to round to TF32's 10 bits.
    """
    total = channels[0] * factors[0]
    for channel, factor in zip(channels[1:], factors[1:], strict=False):
        total = total.add_(channel, alpha=factor)
    return total.add_(factors[-1]) if len(factors) > len(channels) else total


def _upsampled_chroma(patches: Patches, pieces: Sequence[Piece], y: Tensor, x: Tensor) -> Iterator[Tensor]:
    """Cb and Cr at luma positions of the patches, (N, H, W) each, interpolated linearly; beyond the picture its edge is
    repeated."""
    layout = patches.layout
    sizes = [size_px(plane_region(patches.regions[piece.patch], layout, "Cb")) for piece in pieces]
    table = patches.queues.upload_array(np.array(sizes, dtype=np.int64))
    offset_x, offset_y = siting_offset_px(layout)
    left, right, across = _neighbours(x, offset_x, 1 << layout.log2_chroma_w, table[:, 0, None, None] - 1)
    above, below, down = _neighbours(y, offset_y, 1 << layout.log2_chroma_h, table[:, 1, None, None] - 1)
    for component in ("Cb", "Cr"):
        read = _reader(patches, pieces, component)
        upper = torch.lerp(read(above, left), read(above, right), across)
        lower = torch.lerp(read(below, left), read(below, right), across)
        yield torch.lerp(upper, lower, down)


def _neighbours(position: Tensor, offset_px: float, step: int, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The chroma samples before and after luma positions, and how far the position lies towards the second."""
    chroma = (position - offset_px) / step
    before = chroma.floor()
    index = before.long()
    return torch.minimum(index.clamp(min=0), last), torch.minimum(index + 1, last), chroma - before


def _repeat_odd_edges(layout: PixelLayout, pieces: Sequence[Piece], delta: Tensor) -> None:
    """Fill up whole chroma samples: at an odd picture's edge the last one stands for fewer rows or columns."""
    step_x, step_y = 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h
    for number, piece in enumerate(pieces):
        width_px, height_px = size_px(piece.region)
        if height_px % step_y:
            end = height_px + -height_px % step_y
            delta[number, :, height_px:end] = delta[number, :, height_px - 1, None]
        if width_px % step_x:
            end = width_px + -width_px % step_x
            delta[number, :, :, width_px:end] = delta[number, :, :, width_px - 1, None]


def _downsampled_chroma(full: Tensor, layout: PixelLayout) -> Tensor:
    """(N, H, W) -> (N, H / step_y, W / step_x), as `pixels.py` does."""
    offset_x, offset_y = siting_offset_px(layout)
    reduced = _downsampled_rows(full, 1 << layout.log2_chroma_h, cosited=offset_y == 0)
    return _downsampled_rows(reduced.mT, 1 << layout.log2_chroma_w, cosited=offset_x == 0).mT


def _downsampled_rows(full: Tensor, step: int, *, cosited: bool) -> Tensor:
    if step == 1:
        return full
    if not cosited or step != 2:
        return full.reshape(len(full), -1, step, full.shape[2]).mean(dim=2)
    before = torch.cat([full[:, :1], full[:, 1:-1:2]], dim=1)
    return (before + 2 * full[:, 0::2] + full[:, 1::2]) / 4
