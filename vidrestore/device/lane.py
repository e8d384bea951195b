"""From placed faces to finished frames, with everything between the planes and the planes on the device.

While the device works on one batch, this thread prepares the next one and copies the one before into its frames. It
waits for the device before a batch is handed on and when the run ends; else only while a CUDA graph is recorded, once
for each size of batch.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidrestore.device.crops import cut_crops
from vidrestore.device.paste import Changed, Job, Member, Places, copied_color_planes, jobs_of, patch_region
from vidrestore.device.planes import Patches, Piece, upload_patches
from vidrestore.device.queues import Mark, Stopwatch, shared_queues
from vidrestore.device.steady import Averages, averaged
from vidrestore.face import PlacedFace
from vidrestore.frame import Frame, FrameFaces, RestoredFrame
from vidrestore.models.backends.pytorch import PytorchRestorer
from vidrestore.models.spec import Restorer
from vidrestore.report import Report
from vidrestore.stages.restore import Parts, gathered

MAX_BATCHES_UNDERWAY = 2
"""One that the device computes, and one that waits for it, so that it never idles."""


def works_on_device(restorer: Restorer) -> bool:
    """Whether `restored_on_device` can take this restorer, and is the faster way."""
    return isinstance(restorer, PytorchRestorer) and restorer.device.type == "cuda"


def restored_on_device(
    placed: Iterable[FrameFaces[PlacedFace]],
    restorer: Restorer,
    report: Report,
    *,
    batch_size: int,
    max_wait_frames: int,
    strength: float,
    steady: bool,
) -> Iterator[RestoredFrame]:
    """What `align_faces`, `steady_crops`, `restore_faces`, `steady_results` and `paste_faces` do one after the other.

    Frames come in order.

    Up to `MAX_BATCHES_UNDERWAY` batches are held back, each of `batch_size` faces or `max_wait_frames` frames.

    The report's "align", "steady", "restore" and "paste" are the device's seconds, from its first work for a stage to
    its last with all that it waits for in between, and this thread's for reading and writing planes; they overlap.
    "wait for device" is what this thread waited for all of them.

    Nothing is left underway when it ends, however it ends. Raises OutOfDeviceMemory when even a single face, or the
    place of faces that touch, does not fit, and RestoreError for output that is not finite.
    """
    assert isinstance(restorer, PytorchRestorer), "another engine has no network for tensors"
    lane = Lane(restorer, report, batch_size, strength, steady)
    underway: deque[Batch] = deque()
    try:
        for held in gathered(placed, batch_size=batch_size, max_wait_frames=max_wait_frames):
            underway.append(lane.begin(held))
            while len(underway) >= MAX_BATCHES_UNDERWAY or (underway and not underway[0].changed):
                yield from lane.finish(underway.popleft())
        while underway:
            yield from lane.finish(underway.popleft())
    finally:
        # A run that failed or was cancelled has asked for more than it waited for; the restorer may be used at once.
        lane.queues.mark().wait()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Frames whose faces are being restored. What is in tensors may be read when the mark is reached."""

    held: deque[FrameFaces[PlacedFace]]
    stopwatch: Stopwatch
    mark: Mark
    changed: dict[Frame, list[tuple[Changed, int]]]
    """The new samples of each frame that has any, with their number among those in `Changed`."""
    finite: list[Tensor]
    """(n,) bool each: whether the network's output was finite."""


class Lane:
    """Begins batches and finishes them, for one thread."""

    def __init__(
        self, restorer: PytorchRestorer, report: Report, batch_size: int, strength: float, steady: bool
    ) -> None:
        self.restorer = restorer
        self.report = report
        self.strength = strength
        self.steady = steady
        self.queues = shared_queues(restorer.device)
        self.parts = Parts(report, batch_size)
        self.remembered: tuple[Averages, Averages] = ({}, {})
        """Of the newest frame, ahead of the network and behind it."""

    def begin(self, held: deque[FrameFaces[PlacedFace]]) -> Batch:
        """Ask for all work on these frames. On CUDA it goes on after the return."""
        stopwatch = self.queues.stopwatch()
        changed: dict[Frame, list[tuple[Changed, int]]] = defaultdict(list)
        finite: list[Tensor] = []
        jobs = [job for found in held for job in jobs_of(found.frame, found.faces)] if self.strength > 0 else []

        def work(start: int, stop: int) -> None:
            own = jobs[start:stop]
            done, are_finite, self.remembered = self.restorer.within_memory(
                lambda: self._restored_and_pasted(own, stopwatch), num_faces=sum(len(job.members) for job in own)
            )
            finite.append(are_finite)
            for part in done:
                for number, job in enumerate(part.jobs):
                    changed[job.frame].append((part, number))

        self.parts.run(len(jobs), work)
        going_on = {face.face.track_id for face in held[-1].faces}
        ahead, behind = ({track: known[track] for track in known.keys() & going_on} for known in self.remembered)
        self.remembered = ahead, behind
        return Batch(held, stopwatch, self.queues.mark(), changed, finite)

    def finish(self, batch: Batch) -> Iterator[RestoredFrame]:
        """Wait until the work is done, and hand the frames on."""
        with self.report.stage("wait for device"):
            batch.mark.wait()
        batch.stopwatch.enter_into(self.report)
        if not all(bool(are_finite.all()) for are_finite in batch.finite):
            raise self.restorer.not_finite()
        while batch.held:
            found = batch.held.popleft()
            frame = found.frame
            if frame in batch.changed:
                with self.report.stage("paste"):
                    planes = copied_color_planes(frame)
                    for changed, number in batch.changed.pop(frame):
                        changed.write_into(planes, number)
                    frame = replace(frame, planes=planes)
            faces = tuple(replace(face, before=None) for face in found.faces)
            yield RestoredFrame(frame, found.frame, faces, found.skipped)

    def _restored_and_pasted(
        self, jobs: Sequence[Job], stopwatch: Stopwatch
    ) -> tuple[list[Changed], Tensor, tuple[Averages, Averages]]:
        """The new samples of all jobs, and (n,) whether the output was finite; both on their way to the host. Also what
        is to be remembered.

        Jobs may have any number of faces: a few at a time, as many as fit, are cut out, restored and added.
        """
        queues, report = self.queues, self.report
        with report.stage("align"):
            patches = upload_patches(queues, [(job.frame, patch_region(job)) for job in jobs])
        members = [(number, member) for number, job in enumerate(jobs) for member in job.members]
        finite: list[Tensor] = []
        remembered = self.remembered
        with queues.computing():
            with stopwatch.stage(report, "paste"):
                places = Places(patches, jobs)

            def work(start: int, stop: int) -> None:
                nonlocal remembered
                own = members[start:stop]
                is_finite, remembered = self.restorer.within_memory(
                    lambda: self._restored_into(places, patches, own, remembered, stopwatch), num_faces=len(own)
                )
                finite.append(is_finite)

            self.parts.run(len(members), work)
            with stopwatch.stage(report, "paste"):
                changed = places.changed(strength=self.strength)
                are_finite = queues.download(torch.stack(finite))
        return changed, are_finite, remembered

    def _restored_into(
        self,
        places: Places,
        patches: Patches,
        members: Sequence[tuple[int, Member]],
        remembered: tuple[Averages, Averages],
        stopwatch: Stopwatch,
    ) -> tuple[Tensor, tuple[Averages, Averages]]:
        """Restore faces, each with the number of its job, and add them to their places; () whether all was finite, and
        what is to be remembered.

        Where memory runs out nothing has been added.
        """
        report = self.report
        crop_px = self.restorer.spec.crop_px
        assert crop_px is not None, "a restorer has a crop size"
        with stopwatch.stage(report, "align"):
            pieces = [Piece(number, member.sampled) for number, member in members]
            crops = cut_crops(patches, pieces, [member.crop_from_frame for _, member in members], crop_px)
        faces = [member for _, member in members]
        ahead, behind = remembered
        shown = crops
        if self.steady:
            with stopwatch.stage(report, "steady"):
                shown, ahead = averaged(self.queues, ahead, faces, crops)
        with stopwatch.stage(report, "restore"):
            restored, is_finite = self.restorer.restore_tensor(shown)
        if self.steady:
            with stopwatch.stage(report, "steady"):
                restored, behind = averaged(self.queues, behind, faces, restored)
        with stopwatch.stage(report, "paste"):
            places.add(members, crops, restored)
        return is_finite, (ahead, behind)
