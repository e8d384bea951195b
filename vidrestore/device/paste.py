"""Paste on the device: what `stages/paste.py` does to a frame, for the faces of many frames at a time."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidrestore.device.crops import warped
from vidrestore.device.planes import (
    Patches,
    Piece,
    changed_samples,
    color_components,
    plane_region,
    size_px,
    with_chroma_around,
)
from vidrestore.face import Before, PlacedFace
from vidrestore.frame import Frame
from vidrestore.layout import Plane
from vidrestore.pixels import Region, whole_chroma_samples
from vidrestore.stages.crop_geometry import invert, region_of_crop, sampled_region, shifted_source, whole_shrink
from vidrestore.stages.paste import (
    GREY_SPREAD,
    TINTED_SPREAD,
    around,
    clear_border_px,
    feather_ramp,
    overlapping_groups,
)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A face on its way back into the frame."""

    crop_from_frame: NDArray[np.float64]
    sampled: Region
    """What was read of the picture for its crop."""
    region: Region
    """What its crop square covers of the picture, in whole chroma samples."""
    strength: float
    """Of this face."""
    track_id: int
    before: Before | None


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Faces of one frame that touch, and the place around them. The places of a frame do not overlap."""

    frame: Frame
    place: Region
    """The region around those of its members."""
    members: tuple[Member, ...]


def jobs_of(frame: Frame, faces: Iterable[PlacedFace]) -> list[Job]:
    """The places where faces are pasted. A face whose square does not touch the picture has none."""
    parts = []
    for face in faces:
        size = (frame.width_px, frame.height_px)
        region = region_of_crop(face.crop_from_frame, face.crop_px, *size)
        sampled = sampled_region(frame, face.crop_from_frame, face.crop_px)
        if region is not None and sampled is not None:
            whole = whole_chroma_samples(region, frame.layout, *size)
            own = face.face
            member = Member(face.crop_from_frame, sampled, whole, own.strength, own.track_id, face.before)
            parts.append((whole, member))
    return [Job(frame, place, tuple(member for _, member in own)) for place, own in overlapping_groups(parts)]


def patch_region(job: Job) -> Region:
    """What is needed of the picture to cut the crops of a job and to paste them."""
    needed = reduce(around, (member.sampled for member in job.members), job.place)
    return with_chroma_around(needed, job.frame)


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """New samples of places, on the way to the host."""

    jobs: tuple[Job, ...]
    planes: tuple[Tensor, ...]
    """(J, H_i, W_i) uint8 or uint16 of every colour plane, undefined beyond a place's own size. To be read when they
    have arrived."""

    def write_into(self, planes: Sequence[Plane], number: int) -> None:
        """Copy the samples of job `number` into planes of its frame."""
        job = self.jobs[number]
        layout = job.frame.layout
        for component, plane, samples in zip(color_components(layout), planes, self.planes, strict=False):
            x0, y0, x1, y1 = plane_region(job.place, layout, component)
            plane[y0:y1, x0:x1] = samples[number, : y1 - y0, : x1 - x0].numpy()


def copied_color_planes(frame: Frame) -> tuple[Plane, ...]:
    """Planes to be written into; alpha is never changed and needs no copy."""
    num_color = len(color_components(frame.layout))
    return (*(plane.copy() for plane in frame.planes[:num_color]), *frame.planes[num_color:])


class Places:
    """The places of jobs, and the changes of their faces, which are added a few at a time.

    So memory grows with the places, not with the number of faces that touch in one.
    """

    def __init__(self, patches: Patches, jobs: Sequence[Job]) -> None:
        """Each job has its patch."""
        self._patches = patches
        self._jobs = tuple(jobs)
        self._groups: list[tuple[list[int], Tensor]] = []
        """Numbers of jobs of about one size, and their sums of `masked_changes`: (J, 4, H, W) float32, H and W whole
        chroma samples."""
        self._sum_of: dict[int, Tensor] = {}
        """By number of the job: its part of those, (4, H, W)."""
        layout = patches.layout
        step_x, step_y = 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h
        groups: dict[int, list[int]] = defaultdict(list)
        for number, job in enumerate(self._jobs):
            groups[_magnitude(job.place)].append(number)
        for numbers in groups.values():
            widths_px, heights_px = zip(*(size_px(self._jobs[number].place) for number in numbers), strict=True)
            width_px, height_px = -(-max(widths_px) // step_x) * step_x, -(-max(heights_px) // step_y) * step_y
            sums = torch.zeros(len(numbers), 4, height_px, width_px, device=patches.queues.device)
            self._groups.append((numbers, sums))
            self._sum_of |= {number: sums[index] for index, number in enumerate(numbers)}

    def add(self, members: Sequence[tuple[int, Member]], crops: Tensor, restored: Tensor) -> None:
        """Faces, each with the number of its job. `crops` and `restored`: (N, S, S, 3) uint8, in their order.

        Memory may run out only before anything has been added, so that it can be tried again.
        """
        queues = self._patches.queues
        layers = masked_changes(self._patches, [member for _, member in members], crops, restored)
        region_from_crop = [
            invert(shifted_source(member.crop_from_frame, member.region[0], member.region[1])) for _, member in members
        ]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for face, ((_, member), matrix) in enumerate(zip(members, region_from_crop, strict=True)):
            groups[whole_shrink(matrix), _magnitude(member.region)].append(face)
        parts: list[tuple[Tensor, Tensor]] = []
        """What is added to, and what is added."""
        for (shrink, _), faces in groups.items():
            own = layers[queues.upload_array(np.array(faces))]
            missing = -own.shape[3] % shrink
            own = F.pad(own, (0, missing, 0, missing))
            sizes = [size_px(members[face][1].region) for face in faces]
            largest = (max(width for width, _ in sizes), max(height for _, height in sizes))
            # Linear: a cubic would ring at the mask's foot and leave traces where it must be zero.
            back = warped(queues, own, [region_from_crop[face] for face in faces], *largest, shrink=shrink)
            for layer, face, (width, height) in zip(back, faces, sizes, strict=True):
                number, member = members[face]
                left = member.region[0] - self._jobs[number].place[0]
                top = member.region[1] - self._jobs[number].place[1]
                there = self._sum_of[number][:, top : top + height, left : left + width]
                parts.append((there, layer[:, :height, :width]))
        for there, part in parts:
            there += part

    def changed(self, *, strength: float) -> list[Changed]:
        """The new samples of all places, where faces share by their masks."""
        queues = self._patches.queues
        changed = []
        for numbers, sums in self._groups:
            delta = sums[:, :3] * (strength / sums[:, 3:].clamp_(min=1))
            pieces = [Piece(number, self._jobs[number].place) for number in numbers]
            samples = changed_samples(self._patches, pieces, delta)
            own = tuple(self._jobs[number] for number in numbers)
            changed.append(Changed(own, tuple(queues.download(plane) for plane in samples)))
        return changed


def _magnitude(region: Region) -> int:
    """The same for regions whose longer sides differ by less than a factor of two: they share a tensor."""
    return max(size_px(region)).bit_length()


def masked_changes(patches: Patches, members: Sequence[Member], crops: Tensor, restored: Tensor) -> Tensor:
    """(N, 4, S, S) float32: `paste.color_kept_layers` of each face with its own strength."""
    crop_px = crops.shape[1]
    ramps = np.stack([feather_ramp(crop_px, clear_border_px(member.crop_from_frame, crop_px)) for member in members])
    ramp = patches.queues.upload_array(ramps)
    mask = ramp[:, None, :, None] * ramp[:, None, None, :]  # (N, 1, S, S)
    source = crops.permute(0, 3, 1, 2).float()
    change = restored.permute(0, 3, 1, 2).float() - source  # (N, 3, S, S)
    spread = (source - source.mean(dim=1, keepdim=True)).abs().mean(dim=(1, 2, 3), keepdim=True)
    grey = ((TINTED_SPREAD - spread) / (TINTED_SPREAD - GREY_SPREAD)).clamp(0, 1)
    change = torch.lerp(change, change.mean(dim=1, keepdim=True), grey)
    mean = (change * mask).sum(dim=(2, 3), keepdim=True) / mask.sum(dim=(2, 3), keepdim=True)
    strengths = patches.queues.upload_array(np.array([member.strength for member in members], dtype=np.float32))
    return torch.cat([(change - mean) * (mask * strengths[:, None, None, None]), mask], dim=1)
