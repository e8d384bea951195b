"""Listed: the faces to restore come from a faces file, instead of being found, followed and placed.

A file has thousandths of a pixel, and of the strength. A run that finds its faces itself takes them as a file would
have them (`as_listed`), so that pictures rendered from the file are the same to the last bit.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vidrestore.errors import OptionsError, SourceError
from vidrestore.face import PlacedFace, SkippedFace, TrackedFace, template_px
from vidrestore.faces_file.entries import ListedFace, ListedFrame, spans_a_face
from vidrestore.faces_file.read import ListedFaces, tracks_there
from vidrestore.frame import Frame, FrameFaces
from vidrestore.models.spec import ModelSpec
from vidrestore.stages.align import MAX_CROP_SIDE_IN_FRAMES
from vidrestore.stages.crop_geometry import sampled_region, scale_of, similarity

CLOCK_S = 1e-3
"""A file's times are rounded to a thousandth of this; the video may be a copy in a container that counts ms."""
NO_STRENGTH = "of no strength"
NOT_CHOSEN = "not among --tracks"
REMEDY = "it was made for another video, or with another --start or --end; make one with `vidrestore analyze`"


def as_listed(found: FrameFaces[PlacedFace], spec: ModelSpec) -> FrameFaces[PlacedFace]:
    """A frame's faces as `place_listed` has them from a file that they are written to: rounded, by track id.

    One whose strength rounds to 0 is set aside. `seconds_since_seen` is lost; nothing that follows asks for it.
    """
    everyone: list[PlacedFace | SkippedFace] = [*found.faces, *found.skipped]
    return _placed_all(found.frame, [ListedFace.of(face) for face in everyone], spec, None)


def check_listed(
    listed: ListedFaces,
    source: Path,
    *,
    width_px: int,
    height_px: int,
    start_s: float | None = None,
    end_s: float | None = None,
    track_ids: Collection[int] | None = None,
) -> None:
    """Raise SourceError, before any work, for a file that was made for pictures of another size or another span, and
    OptionsError for --tracks that it does not have."""
    _check_size(listed, width_px, height_px, str(source))
    span_s = (start_s or None, end_s)
    if listed.span_s is not None and (listed.span_s[0] or None, listed.span_s[1]) != span_s:
        made, asked = (
            " and ".join(f"--{name} {at_s:g}" for name, at_s in zip(("start", "end"), span, strict=True) if at_s)
            or "no --start or --end"
            for span in (listed.span_s, span_s)
        )
        raise SourceError(f"{listed.path}: was made with {made}, and this run has {asked}; give the same")
    for track_id in track_ids or ():
        if track_id not in listed.track_ids:
            raise OptionsError(
                f"--tracks {track_id}: {listed.path} has no such track; {tracks_there(listed.track_ids)}"
            )


def place_listed(
    frames: Iterable[Frame],
    listed: ListedFaces,
    spec: ModelSpec,
    *,
    track_ids: Collection[int] | None = None,
) -> Iterator[FrameFaces[PlacedFace]]:
    """What `place_faces` and `give_strength` yield, with the faces of a file; of an interlaced frame (`fields.py`) each
    moment gets its own. Faces of tracks not in `track_ids`, if given, are set aside.

    Raises SourceError where the file and the video do not fit: in size, in time (counted from the first frame of each),
    or when either goes on after the other has ended.
    """
    coming = listed.frames()
    entry: ListedFrame | None = None
    number, moment = -1, 1
    origin_s = 0.0
    """How much later the video's clock is than the file's."""
    for frame in frames:
        if entry is not None and moment < entry.num_moments:
            moment += 1
        else:
            entry, moment, number = next(coming, None), 1, number + 1
            if entry is None:
                raise SourceError(f"{listed.path}: lists {number} frames, and the video has more; {REMEDY}")
            _check_size(listed, frame.width_px, frame.height_px, "the video")
            if number == 0:
                origin_s = frame.time_s - entry.time_s
            own_s = frame.time_s - origin_s
            if abs(own_s - entry.time_s) > CLOCK_S:
                raise SourceError(
                    f"{listed.path}: has its frame {number} at {entry.time_s:.6g} s, and the video has it at "
                    f"{own_s:.6g} s; {REMEDY}"
                )
        faces = [face for face in entry.faces if face.moment in (0, moment)]
        yield _placed_all(frame, faces, spec, track_ids)
    if (entry is not None and moment < entry.num_moments) or next(coming, None) is not None:
        raise SourceError(
            f"{listed.path}: lists {listed.num_frames} frames, and the video ends after {number + 1}; {REMEDY}"
        )


def _placed_all(
    frame: Frame, faces: Sequence[ListedFace], spec: ModelSpec, track_ids: Collection[int] | None
) -> FrameFaces[PlacedFace]:
    """By track id: where faces overlap, their order decides how sums are rounded."""
    placed, skipped = [], []
    for face in sorted(faces, key=lambda face: face.track_id):
        one = _placed(frame, face, spec, track_ids)
        if isinstance(one, PlacedFace):
            placed.append(one)
        else:
            skipped.append(one)
    return FrameFaces(frame, tuple(placed), tuple(skipped))


def _placed(
    frame: Frame, listed: ListedFace, spec: ModelSpec, track_ids: Collection[int] | None
) -> PlacedFace | SkippedFace:
    """As `place_faces` does it."""
    assert spec.crop_px is not None, "a restorer has a crop size"
    assert spec.template is not None, "a restorer has a template"
    face = _tracked(listed)
    if track_ids is not None and face.track_id not in track_ids:
        return SkippedFace(face, NOT_CHOSEN)
    if not listed.restored:
        return SkippedFace(face, listed.reason)
    if listed.strength == 0:
        return SkippedFace(face, NO_STRENGTH)
    crop_from_frame = similarity(face.landmarks_px.astype(np.float64), template_px(spec.template, spec.crop_px))
    side_px = spec.crop_px / max(scale_of(crop_from_frame), 1e-6)
    # What the reader of a file would refuse must not get into one.
    is_face = spans_a_face(listed.landmarks_px.tolist())
    if not is_face or side_px > MAX_CROP_SIDE_IN_FRAMES * max(frame.width_px, frame.height_px):
        return SkippedFace(face, "its landmarks do not span a face")
    if sampled_region(frame, crop_from_frame, spec.crop_px) is None:
        return SkippedFace(face, "outside the picture")
    return PlacedFace(face, crop_from_frame, spec.crop_px)


def _tracked(listed: ListedFace) -> TrackedFace:
    landmarks_px, box_px, detected_px = listed.landmarks_px, listed.box_xyxy_px, listed.detected_landmarks_px
    if box_px is None:
        box_px = np.concatenate([landmarks_px.min(axis=0), landmarks_px.max(axis=0)])
    return TrackedFace(
        track_id=listed.track_id,
        box_xyxy_px=box_px.astype(np.float32),
        landmarks_px=landmarks_px.astype(np.float32),
        score=listed.score,
        detected_landmarks_px=None if detected_px is None else detected_px.astype(np.float32),
        seconds_since_seen=0.0,
        strength=listed.strength,
    )


def _check_size(listed: ListedFaces, width_px: int, height_px: int, what: str) -> None:
    if (width_px, height_px) != (listed.width_px, listed.height_px):
        raise SourceError(
            f"{listed.path}: its pictures are {listed.width_px}x{listed.height_px}, those of {what} "
            f"{width_px}x{height_px}; {REMEDY}"
        )
