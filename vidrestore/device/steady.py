"""Steady pictures on the device: what `stages/steady.py` does, for faces of one frame after the other."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidrestore.device.paste import Member
from vidrestore.device.queues import Queues
from vidrestore.face import Before

Averages = Mapping[int, tuple[NDArray[np.float64], Tensor]]
"""By track id, of the newest frame: where the crop lay (2, 3), and the average (3, S, S) in levels, of a first one
uint8, else float32."""


def averaged(queues: Queues, last: Averages, members: Sequence[Member], pictures: Tensor) -> tuple[Tensor, Averages]:
    """Pictures (N, S, S, 3) uint8 of faces, their frames in order, averaged with those before: `Average.of_next`.

    Also what is to be remembered. `last` stays as it is, so that it can be tried again where memory runs out.
    """
    averages = dict(last)
    out = pictures.clone()
    for number, member in enumerate(members):
        average = out[number].permute(2, 0, 1)
        lay, known = averages.get(member.track_id, (None, None))
        if member.before is not None and known is not None and lay is member.before.crop_from_frame:
            average = with_before(queues, average.float(), known.float(), member.before)
            out[number] = average.round().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
        averages[member.track_id] = member.crop_from_frame, average
    return out, averages


def with_before(queues: Queues, own: Tensor, average: Tensor, before: Before) -> Tensor:
    """(3, S, S): a picture, and the average so far laid over it."""
    side_px = own.shape[1]
    known = np.concatenate([before.motion, before.weight[..., None]], axis=2)  # (M, M, 3)
    small = queues.upload_array(known).permute(2, 0, 1)[None]
    motion_x, motion_y, weight = F.interpolate(small, size=(side_px, side_px), mode="bilinear")[0]
    # grid_sample counts from -1 to 1 between the outer edges.
    middle = (torch.arange(side_px, dtype=torch.float32, device=queues.device) * 2 + 1) / side_px - 1
    grid = torch.stack([middle + 2 * motion_x, middle[:, None] + 2 * motion_y], dim=-1)[None]
    carried = F.grid_sample(average[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
    return own + (before.gain * carried - own) * (weight / (1 + weight))
