"""An output against its source, all of it, and what was found equal."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidrestore.verify.clock import Clock
from vidrestore.verify.pair import Pair
from vidrestore.verify.pictures import compare_frames, compare_infos
from vidrestore.verify.samples import MIN_PSNR_DB, Corners
from vidrestore.verify.tracks import compare_chapters, compare_tracks
from vidrestore.video.containers import container_format
from vidrestore.video.read import VideoReader, open_reader
from vidrestore.video.sequence import find_sequence, is_sequence, stand_in


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found equal."""

    num_frames: int
    num_tracks: int
    """Beside the picture; those without a packet are not counted."""
    num_packets: int
    """Of these tracks, as the output has them."""
    samples_equal: bool
    """Every sample outside the crop squares was compared, and is equal."""
    worst_psnr_db: float | None
    """Without `lossless`: of the frame and plane that differ most outside the crop squares; None where nothing does."""


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content, read in pieces; of a sequence's, one image after the other."""
    if is_sequence(path):
        sequence = find_sequence(path)
        digest = hashlib.sha256()
        for position in range(sequence.num_images):
            digest.update(sequence.file(position).read_bytes())
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_output(
    source: Path,
    output: Path,
    faces: Iterable[Iterable[Corners]],
    *,
    lossless: bool,
    target: Path | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    stream: int | None = None,
    decoder: Literal["auto", "pyav", "decord"] = "auto",
    rate_hz: float | None = None,
    warnings: Sequence[str] = (),
    min_psnr_db: float = MIN_PSNR_DB,
) -> Verified:
    """Raise VerifyError, naming the first difference, unless `output` is the restoration of `source` that it should be.

    `faces` has, for each output frame in order, the corners of the crop squares in it; `warnings` are the writer's.
    `target` is the name that the output will get, for the message; the other options are the run's.

    Compared are: the number of frames, the time of each (within half a tick of the output's clock: exactly, where it
    has the source's ticks), size, pixel shape, turn, colour tags, fields, siting of chroma, static HDR metadata; the
    other tracks packet by packet with their times (sound that containers divide anew, as a run of bytes), languages,
    dispositions, covers, and the number of chapters. Containers other than MP4 and its kin may move the start of all
    tracks together, Matroska only to reach 0.

    With `lossless` every decoded sample outside the crop squares must be equal. Without it, samples are not compared;
    but in every frame a ninth of them, outside the squares, must have a PSNR of at least `min_psnr_db` (give 0 where
    the user has asked for a crf as coarse as 40), look more like their own frame than like its neighbours, and in the
    mean over the film be of the right range. In both cases the output must decode without a damaged packet.

    Both files are read twice, once for the pictures and once for the packets. A few frames are in memory, and 20 bytes
    for each packet of the other tracks. Raises SourceError where the source cannot be read any more.
    """
    container = container_format(output.suffix)
    pair = Pair(stand_in(source), output, target or output, container, start_s, end_s, stream, tuple(warnings))
    with open_reader(source, start_s=start_s, end_s=end_s, decoder=decoder, stream=stream, rate_hz=rate_hz) as before:
        with pair.reading_back():
            after = VideoReader(output, stream=pair.output_picture_number())
        with after:
            compare_infos(pair, before.info, after.info, lossless=lossless)
            clock = Clock(pair, before.info.average_rate)
            num_frames, worst_psnr_db = compare_frames(
                pair, clock, before, after, faces, lossless=lossless, min_psnr_db=min_psnr_db
            )
    num_tracks, num_packets = compare_tracks(pair, clock)
    compare_chapters(pair)
    return Verified(num_frames, num_tracks, num_packets, lossless, worst_psnr_db)
