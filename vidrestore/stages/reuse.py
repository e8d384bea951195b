"""Reuse: a face that looks as it did when it was last restored is given that result again (`--reuse`).

It is looked at where it was: the crop is cut out of the new frame at the very place of the remembered one, and goes
back there. Tracked landmarks of a still face wander by a fraction of a pixel, and at a keyframe by more; crops that
follow them differ by more than a blink.

Which is handed out, the result or what it changed in the crop? The result. Of a crop with other noise the restorer
would make nearly the same picture, because noise is what it takes away; the change contains the old crop's noise with
the sign turned, and added to the new crop would leave both noises in the face. Paste subtracts the new crop, so where
its mask is one the face is exactly the remembered one (with the new frame's own mean colour and brightness), and
outside the frame's noise lives on. So that nobody sees the border between a still patch and moving grain, only noise
too small to be seen may be reused under: `MAX_DIFFERENCE` is less than what grain of 2 levels makes. In a dark or
foggy scene everything differs by less, a blink too, and so less is allowed (`MAX_SHARE`).

A crop is compared with the one that was really restored, never with one that was itself reused: a slow change cannot
creep in. What is not in a frame is forgotten, so memory holds one crop and one result for each face of a frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import AlignedFace
from vidrestore.frame import Frame, FrameFaces
from vidrestore.report import Report
from vidrestore.stages.align import cut_crop

GRID = 16
"""Crops are compared in 16 x 16 blocks, each about the size of an eye: in larger ones a blink would be averaged away,
in smaller ones noise would not."""
MAX_DIFFERENCE = 2.0
"""Largest mean absolute difference of a block, in levels of 255, at which nothing has changed. Measured: a still
portrait under H.264 (CRF 20 and 32, noise of 0 or 2 levels before it) has 0.9 or less from frame to frame in nine of
ten frames, and 3 to 12 where a keyframe begins; noise of 6 levels at CRF 23 has 1.6. The first frame of four blinks in
two clips, the lid hardly moved, has 7.3 to 30, closed eyes 17 and more, talking lips 7.4 and more."""
MAX_SHARE = 0.06
"""The same as a share of the remembered crop's contrast; the lower of the two counts. Faces of six clips have a
contrast of 31 to 60 levels; from 33 on `MAX_DIFFERENCE` is lower. The first frame of a blink has 0.30 of its crop's
contrast, and darkened to a tenth still, where that is 1.4 levels; 7.3 levels are 0.12 even of 60. A still portrait
darkened to a tenth has 0.35 levels or less from frame to frame in nine of ten frames, of 0.39 that it may have; under
noise of 1 level it has 0.8, and is restored anew nearly every time."""


@dataclass(slots=True, eq=False)
class Request:
    """A face to be restored, and in time what became of its crop."""

    aligned: AlignedFace
    restored: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RequestedFace:
    """A face and the request whose result it will be given."""

    aligned: AlignedFace
    request: Request

    @property
    def is_new(self) -> bool:
        """False where the request was made for an earlier frame."""
        return self.request.aligned is self.aligned


def request_faces(
    aligned: Iterable[FrameFaces[AlignedFace]], report: Report, *, reuse: bool
) -> Iterator[FrameFaces[RequestedFace]]:
    """A request for every face, or with `reuse` that of the same track in the frame before, if it still fits."""
    last: dict[int, Request] = {}
    """By track id: what the faces of the frame before were given."""
    for found in aligned:
        faces = []
        for face in found.faces:
            request = last.get(face.face.track_id)
            still = unchanged(found.frame, face, request.aligned) if request else None
            if request is None or still is None:
                request, still = Request(face), face
            else:
                report.num_faces_reused += 1
            faces.append(RequestedFace(still, request))
        if reuse:
            last = {face.aligned.face.track_id: face.request for face in faces}
        yield FrameFaces(found.frame, tuple(faces), found.skipped)


def unchanged(frame: Frame, face: AlignedFace, before: AlignedFace) -> AlignedFace | None:
    """The face at the place that it had before, if the frame shows the same there; else None."""
    crop = cut_crop(frame, before.crop_from_frame, before.crop.shape[0])
    if crop is None or largest_difference(crop, before.crop) > allowed_difference(before.crop):
        return None
    return AlignedFace(face.face, crop, before.crop_from_frame)


def allowed_difference(crop: NDArray[np.uint8]) -> float:
    """In levels: what may change in a block of this crop (S, S, 3) unseen. Contrast is the mean over the channels of
    their standard deviation."""
    _, deviations = cv2.meanStdDev(crop)
    return min(MAX_DIFFERENCE, MAX_SHARE * float(deviations.mean()))


def largest_difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """The largest mean absolute difference, in levels, of corresponding blocks of two crops (S, S, 3), S >= `GRID`."""
    difference = cv2.absdiff(first, second).astype(np.float32)
    return float(cv2.resize(difference, (GRID, GRID), interpolation=cv2.INTER_AREA).mean(axis=2).max())
