"""The pictures: the facts about them as a whole, and frame by frame."""

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction

from vidrestore.frame import Frame, HdrLight, VideoInfo
from vidrestore.verify.clock import Clock
from vidrestore.verify.pair import Pair
from vidrestore.verify.samples import Corners, Likeness, compare_samples, crop_mask
from vidrestore.video.encoders import INTERLACING_CODECS
from vidrestore.video.read import VideoReader
from vidrestore.video.read_sequence import SequenceReader

MAX_SHAPE_ERROR = 0.005
"""Codecs have a few bits for the ratio: 389:388 comes back as 255:254."""
UNSPECIFIED = 2
"""H.273's number for a matrix, primaries or transfer that nobody has told."""
UNTOLD = frozenset({0, UNSPECIFIED})
"""Matrix 0 is RGB's, and codecs that hold RGB as such have no need to say it."""
JPEG = "mjpeg"
"""Its decoder says BT.601 (JFIF 1.02), whatever the picture was made from."""
TAGGING_CODECS = frozenset({"h264", "hevc", "av1"})
"""Their own stream says all colour tags. Of others, a tag that is missing in the output has no place to be."""


def compare_infos(pair: Pair, before: VideoInfo, after: VideoInfo, *, lossless: bool) -> None:
    """The facts about the picture as a whole."""

    def same(what: str, one: object, other: object) -> None:
        if one != other:
            pair.differs(f"{what} is {other}, not {one}")

    same("picture size", (before.width_px, before.height_px), (after.width_px, after.height_px))
    if lossless and before.layout.family != "gray":  # which H.264 gives back as colour without any
        same("pixel format", before.layout.name, after.layout.name)
    if not pair.announced("loses the mark of"):
        same("full range", before.layout.full_range, after.layout.full_range)
    for name in () if pair.announced("loses the colour tags") else ("matrix", "primaries", "transfer"):
        tag, kept = getattr(before.color, name), getattr(after.color, name)
        is_told = kept != UNSPECIFIED or after.codec in TAGGING_CODECS
        if is_told and after.codec != JPEG and not (name == "matrix" and tag in UNTOLD):
            same(f"colour tag for {name}", tag, kept)
    shapes = before.sample_aspect, after.sample_aspect
    if abs(shapes[1] / shapes[0] - 1) > MAX_SHAPE_ERROR and not pair.announced("loses the pixel shape"):
        same("pixel shape", *shapes)
    if not pair.announced("loses the rotation or mirroring"):
        same("display matrix", before.display_matrix, after.display_matrix)
    if not pair.announced("loses the cropping marks"):
        same("cropping", before.cropping, after.cropping)
    if not pair.announced("loses the mark that pictures are") and (after.fields or _marks_fields(after)):
        same("order of fields", before.fields or "progressive", after.fields or "progressive")
    same_chroma = _subsampling(before) == _subsampling(after) and before.layout.log2_chroma_w > 0
    if same_chroma and before.chroma_location and not pair.announced("cannot say that chroma samples"):
        one, other = before.layout.siting, after.layout.siting
        if before.layout.log2_chroma_h == 0:  # above and below mean nothing
            same("siting of chroma on the left", one.endswith("left"), other.endswith("left"))
        else:
            same("siting of chroma", one, other)
    if not pair.announced("loses the HDR metadata") and not _same_light(before.light, after.light):
        pair.differs(f"HDR metadata are {after.light}, not {before.light}")


def compare_frames(
    pair: Pair,
    clock: Clock,
    before: VideoReader | SequenceReader,
    after: VideoReader,
    faces: Iterable[Iterable[Corners]],
    *,
    lossless: bool,
    min_psnr_db: float,
) -> tuple[int, float | None]:
    """(number of frames, worst PSNR without `lossless`). Sets the clock."""
    num_frames = 0
    likeness = Likeness(pair, min_psnr_db)
    own_damage = 0
    squares = itertools.chain(faces, itertools.repeat(()))
    for one, other in itertools.zip_longest(before.frames(), _read_back(pair, after)):
        if one is None or other is None:
            number = num_frames if other is None else f"more than {num_frames}"
            pair.differs(f"holds {number} frames, the source {'more' if other is None else 'has no more'}")
        at = f"frame {num_frames} at {float(one.pts * one.time_base):.3f} s"
        clock.compare(num_frames, at, one, other)
        # Of a film with both kinds of pictures, most codecs mark all alike.
        allowed = {one.fields, before.info.fields} | (set() if _marks_fields(after.info) else {""})
        if other.fields not in allowed:
            marks = [fields or "progressive" for fields in (other.fields, one.fields)]
            pair.differs(f"{at} is marked {marks[0]}, not {marks[1]}")
        inside = crop_mask(next(squares), one.width_px, one.height_px)
        # A decoder that patches up damage need not do so in the same way twice.
        damage, own_damage = own_damage, before.num_damaged_frames
        if not lossless:
            likeness.look(at, one, other, inside)
        elif damage == own_damage:
            compare_samples(pair, at, one, other, inside)
        num_frames += 1
    likeness.finish()
    damaged = after.num_damaged_packets + after.num_damaged_frames
    if damaged:
        pair.differs(f"{damaged} damaged packets or frames were found when it was read back")
    return num_frames, likeness.worst_psnr_db


def _read_back(pair: Pair, after: VideoReader) -> Iterator[Frame]:
    with pair.reading_back():
        yield from after.frames()


def _marks_fields(info: VideoInfo) -> bool:
    """Whether pictures of this codec can be coded field by field: chroma has whole rows in each."""
    return info.codec in INTERLACING_CODECS and info.height_px % (2 << info.layout.log2_chroma_h) == 0


def _subsampling(info: VideoInfo) -> tuple[int, int]:
    return info.layout.log2_chroma_w, info.layout.log2_chroma_h


def _same_light(one: HdrLight | None, other: HdrLight | None) -> bool:
    """Within the steps in which streams store chromaticities (a float, or multiples of 0.00002)."""
    if one is None:
        return True
    if other is None or (one.display is None) != (other.display is None):
        return False
    if (one.max_content_cd_m2, one.max_average_cd_m2) != (other.max_content_cd_m2, other.max_average_cd_m2):
        return False
    if one.display is None or other.display is None:
        return True
    a, b = one.display, other.display
    chromaticities = zip(
        (*a.red_xy, *a.green_xy, *a.blue_xy, *a.white_xy),
        (*b.red_xy, *b.green_xy, *b.blue_xy, *b.white_xy),
        strict=True,
    )
    return all(abs(first - second) < Fraction(1, 10_000) for first, second in chromaticities) and all(
        abs(first - second) <= max(first, second) / 100 + Fraction(1, 5000)
        for first, second in ((a.min_cd_m2, b.min_cd_m2), (a.max_cd_m2, b.max_cd_m2))
    )
