"""Cut crops out of patches on the device: `crop_geometry.warp`, for many faces at a time."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidrestore.device.planes import Patches, Piece, rgb_pieces, size_px
from vidrestore.device.queues import Queues
from vidrestore.stages.crop_geometry import enlarges, from_blocks, invert, shifted_source, whole_shrink

Sampling = Literal["bilinear", "bicubic"]
"""PyTorch's bicubic is OpenCV's: both take a = -0.75."""


def cut_crops(
    patches: Patches, pieces: Sequence[Piece], crop_from_frame: Sequence[NDArray[np.float64]], crop_px: int
) -> Tensor:
    """(N, S, S, 3) uint8 RGB on the device, each as `align.cut_crop` cuts it. A piece is what is read for a crop."""
    queues = patches.queues
    crop_from_piece = [
        shifted_source(matrix, piece.region[0], piece.region[1])
        for matrix, piece in zip(crop_from_frame, pieces, strict=True)
    ]
    crops = torch.empty(len(pieces), crop_px, crop_px, 3, dtype=torch.uint8, device=queues.device)
    # In a group sizes in the frame differ by at most a factor of two, or the crops are larger: little is filled up.
    groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for number, matrix in enumerate(crop_from_piece):
        groups[whole_shrink(matrix), enlarges(matrix)].append(number)
    for (shrink, cubic), numbers in groups.items():
        own = [pieces[number] for number in numbers]
        sizes = [size_px(piece.region) for piece in own]
        width_px, height_px = (-(-max(side) // shrink) * shrink for side in zip(*sizes, strict=True))
        rgb = rgb_pieces(patches, own, width_px, height_px)  # (n, 3, H, W)
        matrices = [crop_from_piece[number] for number in numbers]
        sampling: Sampling = "bicubic" if cubic else "bilinear"
        cut = warped(queues, rgb, matrices, crop_px, crop_px, shrink=shrink, sampling=sampling, edges=sizes)
        levels = cut.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        crops[queues.upload_array(np.array(numbers))] = levels
    return crops


def warped(
    queues: Queues,
    images: Tensor,
    out_from_image: Sequence[NDArray[np.float64]],
    width_px: int,
    height_px: int,
    *,
    shrink: int,
    sampling: Sampling = "bilinear",
    edges: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """(N, C, H, W) float32 -> (N, C, height_px, width_px) through similarities of the same whole `shrink`.

    As `crop_geometry.warp`: blocks are averaged first, then sampled. H and W are whole blocks. With `edges`, the width
    and height of each image in its tensor, an image's edge is repeated beyond it; without, there is zero.
    """
    if shrink > 1:
        images = F.avg_pool2d(images, shrink)
    image_from_out = np.stack([invert(from_blocks(matrix, shrink)) for matrix in out_from_image])
    linear_x, linear_y, origin = queues.upload_array(image_from_out).unbind(dim=2)  # (N, 2) float64 each
    columns = torch.arange(width_px, dtype=torch.float64, device=queues.device)
    rows = torch.arange(height_px, dtype=torch.float64, device=queues.device)
    last = None
    if edges is not None and sampling == "bilinear":
        # Whole blocks beyond the edge are not the edge's own block; bicubic sampling never follows blocks.
        last = queues.upload_array(-(-np.array(edges, dtype=np.float64) // shrink) - 1)
    axes = []
    for axis, num in ((0, images.shape[3]), (1, images.shape[2])):
        along, across, start = (part[:, axis, None, None] for part in (linear_x, linear_y, origin))
        position = (along * columns + start) + across * rows[:, None]  # (N, height_px, width_px)
        if last is not None:
            position = torch.minimum(position.clamp_(min=0), last[:, axis, None, None])
        # grid_sample counts from -1 to 1 between the outer edges of an image. In float32 that is good to 1e-4 px.
        axes.append(position.mul_(2 / num).add_(1 / num - 1).float())
    padding = "zeros" if edges is None else "border"
    grid = torch.stack(axes, dim=-1)
    return F.grid_sample(images, grid, mode=sampling, padding_mode=padding, align_corners=False)
