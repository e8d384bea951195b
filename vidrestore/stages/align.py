"""Align: choose the faces to restore, and cut an upright, standard square out of the frame for each."""

import math
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import FADE_S, AlignedFace, PlacedFace, SkippedFace, TrackedFace, template_px
from vidrestore.frame import Frame, FrameFaces
from vidrestore.models.spec import ModelSpec
from vidrestore.pixels import rgb_region
from vidrestore.stages.crop_geometry import sampled_region, shifted_source, similarity, warp

MAX_CROP_SIDE_IN_FRAMES = 4.0
"""A crop square more than this many times larger than the frame comes from landmarks that fell onto one another."""
LOYALTY = 1.25
"""A face that was restored in the last frame counts as this much larger when faces are chosen; smoothed boxes waver by
a few percent."""
MIN_STEP_S = 0.001
"""A frame is one all the same whose time is that of the one before."""


def place_faces(
    tracked: Iterable[FrameFaces[TrackedFace]],
    spec: ModelSpec,
    *,
    min_face_px: float,
    max_faces: int | None,
) -> Iterator[FrameFaces[PlacedFace]]:
    """Choose the faces to restore and say where their crops lie; the others are set aside with a reason.

    `min_face_px` is compared with the longer side of a face's box; of more than `max_faces` the largest are kept. One
    that is taken in or left out while it is there fades.
    """
    assert spec.crop_px is not None, "a restorer has a crop size"
    assert spec.template is not None, "a restorer has a template"
    template = template_px(spec.template, spec.crop_px)
    fades = Fades(min_face_px=min_face_px, max_faces=max_faces)
    for found in tracked:
        chosen, skipped = fades.choose(found)
        placed = []
        for face in chosen:
            crop_from_frame = similarity(face.landmarks_px.astype(np.float64), template)
            side_px = spec.crop_px / math.sqrt(max(abs(np.linalg.det(crop_from_frame[:, :2])), 1e-12))
            if side_px > MAX_CROP_SIDE_IN_FRAMES * max(found.frame.width_px, found.frame.height_px):
                skipped.append(SkippedFace(face, "its landmarks do not span a face"))
                continue
            if sampled_region(found.frame, crop_from_frame, spec.crop_px) is None:
                skipped.append(SkippedFace(face, "outside the picture"))
                continue
            placed.append(PlacedFace(face, crop_from_frame, spec.crop_px))
        yield FrameFaces(found.frame, tuple(placed), (*found.skipped, *skipped))


def align_faces(placed: Iterable[FrameFaces[PlacedFace]]) -> Iterator[FrameFaces[AlignedFace]]:
    """Cut the crops of all faces."""
    for found in placed:
        aligned = []
        for face in found.faces:
            crop = cut_crop(found.frame, face.crop_from_frame, face.crop_px)
            assert crop is not None, "a face outside the picture is not placed"
            aligned.append(AlignedFace(face.face, crop, face.crop_from_frame, face.before))
        yield FrameFaces(found.frame, tuple(aligned), found.skipped)


class Fades:
    """Chooses faces frame by frame."""

    def __init__(self, *, min_face_px: float, max_faces: int | None) -> None:
        self._min_face_px = min_face_px
        self._max_faces = max_faces
        self._shares: dict[int, float] = {}
        """By track id, of the frame before: how far each face there had come up."""
        self._frame: Frame | None = None

    def choose(self, found: FrameFaces[TrackedFace]) -> tuple[list[TrackedFace], list[SkippedFace]]:
        """The faces to restore, in their order and with their strength, and those set aside."""
        since_s = found.frame.seconds_since(self._frame) if self._frame else 0.0
        step = max(since_s, MIN_STEP_S) / FADE_S
        self._frame = found.frame
        before = self._shares
        shown_ids = {track_id for track_id, share in before.items() if share > 0}
        to_be_seen = [face for face in found.faces if face.strength > 0]
        chosen, left = choose_faces(to_be_seen, shown_ids, min_face_px=self._min_face_px, max_faces=self._max_faces)
        # A face that is new is faded in by the tracker, if at all.
        shares = {face.track_id: min(before.get(face.track_id, 1.0) + step, 1.0) for face in chosen}
        going = {each.face.track_id: before.get(each.face.track_id, 0.0) - step for each in left}
        # In steps of 1/5 no rounding error may be left over.
        shares |= {track_id: share if share > 1e-6 else 0.0 for track_id, share in going.items()}
        if self._max_faces is not None:
            # One that goes keeps its place until it has gone.
            num_late = max(sum(share > 0 for share in shares.values()) - self._max_faces, 0)
            late = sorted((face for face in chosen if face.track_id not in shown_ids), key=face_size_px)[:num_late]
            left += [SkippedFace(face, f"more than {self._max_faces} faces") for face in late]
            shares |= {face.track_id: 0.0 for face in late}
        self._shares = shares
        faces = [
            replace(face, strength=face.strength * shares[face.track_id])
            for face in to_be_seen
            if shares[face.track_id] > 0
        ]
        unseen = [SkippedFace(face, "hidden, or just coming") for face in found.faces if face.strength == 0]
        return faces, unseen + [each for each in left if shares[each.face.track_id] == 0]


def choose_faces(
    faces: Iterable[TrackedFace], restored_ids: Set[int], *, min_face_px: float, max_faces: int | None
) -> tuple[list[TrackedFace], list[SkippedFace]]:
    """The faces to restore, in their given order, and those set aside.

    A face whose track is in `restored_ids` counts as larger by `LOYALTY`: a size that wavers around a limit must not
    switch the restoration on and off.
    """

    def size_px(face: TrackedFace) -> float:
        return face_size_px(face) * (LOYALTY if face.track_id in restored_ids else 1.0)

    large_enough, skipped = [], []
    for face in faces:
        if size_px(face) < min_face_px:
            skipped.append(SkippedFace(face, f"smaller than {min_face_px:g} px"))
        else:
            large_enough.append(face)
    if max_faces is None or len(large_enough) <= max_faces:
        return large_enough, skipped
    by_size = sorted(large_enough, key=size_px, reverse=True)
    kept_ids = {face.track_id for face in by_size[:max_faces]}
    skipped += [SkippedFace(face, f"more than {max_faces} faces") for face in by_size[max_faces:]]
    return [face for face in large_enough if face.track_id in kept_ids], skipped


def face_size_px(face: TrackedFace) -> float:
    """The longer side of the face's box."""
    x1, y1, x2, y2 = face.box_xyxy_px
    return float(max(x2 - x1, y2 - y1))


def cut_crop(frame: Frame, crop_from_frame: NDArray[np.float64], crop_px: int) -> NDArray[np.uint8] | None:
    """(S, S, 3) uint8 RGB; beyond the picture its edge is repeated. None when the square lies outside altogether."""
    region = sampled_region(frame, crop_from_frame, crop_px)
    if region is None:
        return None
    rgb = rgb_region(frame.planes, frame.layout, region)
    crop_from_region = shifted_source(crop_from_frame, region[0], region[1])
    crop = warp(rgb, crop_from_region, crop_px, crop_px, border=cv2.BORDER_REPLICATE)
    return np.clip(np.rint(crop), 0, 255).astype(np.uint8)
