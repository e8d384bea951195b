"""Steady: what the frames before say of a face, ahead of the restorer and behind it (`--temporal`).

Each frame has its own noise, and a restorer makes of each its own picture, which flickers. Ahead of it, a crop is
averaged with what the frames before showed: less noise goes in. Behind it, the results are averaged in the same way.
Both only where it is the same (`before.py`): a lid, a lip or a hand that moves otherwise than flow explains is as in
its own frame, and so nothing comes late and nothing smears.

The average is recursive, with a weight for each pixel, as in the temporal filters of video coding (Dubois and Sabri,
"Noise reduction in image sequences using motion-compensated temporal filtering", IEEE T-COM 1984). A window of frames
before and after takes as much of the flicker away at twice the price, and holds frames back.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import AlignedFace, RestoredFace
from vidrestore.frame import FrameFaces
from vidrestore.stages.before import pixel_grid

Picture = NDArray[np.uint8]
"""(S, S, 3) RGB"""


def steady_crops(aligned: Iterable[FrameFaces[AlignedFace]]) -> Iterator[FrameFaces[AlignedFace]]:
    """Every frame, in order; its faces with a `steady_crop`."""
    average = Average()
    for found in aligned:
        crops = average.of_next([(face, face.crop) for face in found.faces])
        faces = (replace(face, steady_crop=crop) for face, crop in zip(found.faces, crops, strict=True))
        yield FrameFaces(found.frame, tuple(faces), found.skipped)


def steady_results(restored: Iterable[FrameFaces[RestoredFace]]) -> Iterator[FrameFaces[RestoredFace]]:
    """Every frame, in order; its faces' results averaged with those of the frames before."""
    average = Average()
    for found in restored:
        results = average.of_next([(face.aligned, face.restored) for face in found.faces])
        faces = (RestoredFace(face.aligned, result) for face, result in zip(found.faces, results, strict=True))
        yield FrameFaces(found.frame, tuple(faces), found.skipped)


class Average:
    """Pictures of the faces of one frame after the other, averaged track by track."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[NDArray[np.float64], NDArray[np.float32]]] = {}
        """By track id, of the frame before: where the crop lay, and the average (S, S, 3)."""

    def of_next(self, pictures: list[tuple[AlignedFace, Picture]]) -> list[Picture]:
        """The averages with these pictures of the next frame."""
        now = {face.face.track_id: (face.crop_from_frame, self._with(face, picture)) for face, picture in pictures}
        self._last = now
        return [np.asarray(cv2.add(average, 0.0, dtype=cv2.CV_8U), np.uint8) for _, average in now.values()]

    def _with(self, face: AlignedFace, picture: Picture) -> NDArray[np.float32]:
        own = picture.astype(np.float32)
        lay, average = self._last.get(face.face.track_id, (None, None))
        before = face.before
        if average is not None and lay is face.crop_from_frame:  # the same result again (reuse.py)
            return average
        # A result that was used again was made for another place.
        if before is None or average is None or lay is not before.crop_from_frame:
            return own
        side_px = picture.shape[0]
        size = (side_px, side_px)
        there = pixel_grid(side_px) + np.float32(side_px) * cv2.resize(before.motion, size)
        carried = cv2.remap(average, there, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.resize(before.weight, size)
        return np.asarray(cv2.blendLinear(own, before.gain * carried, np.ones_like(weight), weight), np.float32)
