"""A sequence of images against its source, image by image."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from vidrestore.frame import Frame
from vidrestore.verify.pair import Pair
from vidrestore.verify.samples import Corners, compare_samples, crop_mask
from vidrestore.video.encode_image import image_format, image_planes
from vidrestore.video.read import open_reader
from vidrestore.video.read_sequence import SequenceReader


def verify_images(
    source: Path,
    images: Path,
    faces: Iterable[Iterable[Corners]],
    *,
    target: Path | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    stream: int | None = None,
    decoder: Literal["auto", "pyav", "decord"] = "auto",
    rate_hz: float | None = None,
) -> int:
    """The number of `images` (a pattern), which are the restoration of a video or of other images. Raises VerifyError,
    naming the first difference, unless they are as they should be; `target` is the name that they will get.

    Compared are their number, their names, their size, and every sample outside the crop squares: it must be what
    `image_planes` makes of the source's, the same where the source is RGB or gray. `faces` has, for each image in
    order, the corners of the squares in it; the other options are the run's. One pair of pictures is in memory. Raises
    SourceError where the source cannot be read any more.
    """
    pair = Pair(source, images, target or images, images.suffix, start_s, end_s, stream, ())
    squares = itertools.chain(faces, itertools.repeat(()))
    num_images = own_damage = 0
    with open_reader(source, start_s=start_s, end_s=end_s, decoder=decoder, stream=stream, rate_hz=rate_hz) as before:
        info = before.info
        layout = image_format(info, images.suffix, exactly=False).layout
        with pair.reading_back():
            after = SequenceReader(images)
        for one, other in itertools.zip_longest(before.frames(), _read_back(pair, after)):
            if one is None or other is None:
                holds, has = ("only", "more") if other is None else ("more than", "no more")
                pair.differs(f"holds {holds} {num_images} images, the source has {has} frames")
            first_number = before.sequence.first_number if isinstance(before, SequenceReader) else 1 - one.pts
            name = images.name % (first_number + one.pts)
            found = after.sequence.file(other.pts).name
            if num_images == 0 and found != name:
                pair.differs(f"the first image is called {found}, not {name}")
            facts = (other.width_px, other.height_px, other.layout.name)
            if facts != (one.width_px, one.height_px, layout.name):
                pair.differs(f"{found} is {facts}, not {(one.width_px, one.height_px, layout.name)}")
            # A decoder that patches up damage need not do so in the same way twice.
            damage, own_damage = own_damage, before.num_damaged_frames
            if damage == own_damage:
                inside = crop_mask(next(squares), one.width_px, one.height_px)
                planes = tuple(image_planes(one.planes, one.layout, layout, one.fields))
                compare_samples(pair, found, replace(one, planes=planes, layout=layout), other, inside)
            else:
                next(squares)
            num_images += 1
    return num_images


def _read_back(pair: Pair, after: SequenceReader) -> Iterator[Frame]:
    with pair.reading_back():
        yield from after.frames()
