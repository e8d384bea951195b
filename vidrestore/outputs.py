"""All files that a run writes. Each appears when it is complete, the main one last.

Frames are written into segments in the work folder (`work.py`), and joined to the files in the end.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vidrestore.allocator import give_back_freed_memory
from vidrestore.compare import comparing_writer, side_by_side
from vidrestore.errors import TargetError
from vidrestore.faces_file.write import FacesFile, frame_entry
from vidrestore.frame import Frame, RestoredFrame, VideoInfo
from vidrestore.options import Options
from vidrestore.report import Report
from vidrestore.space import check_space
from vidrestore.target import writing
from vidrestore.targets import check_outputs
from vidrestore.verify.images import verify_images
from vidrestore.verify.output import sha256_of, verify_output
from vidrestore.verify.samples import MIN_PSNR_DB
from vidrestore.video.encode_image import ImageEncoder
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.image_notes import has_notes, notes_lost
from vidrestore.video.packets import PacketsFile, read_packets
from vidrestore.video.picture import PictureEncoder
from vidrestore.video.sequence import find_sequence, is_sequence, source_facts, stand_in
from vidrestore.video.sequence_target import is_sequence_target, place_of
from vidrestore.video.write import VideoWriter
from vidrestore.video.write_sequence import SequenceWriter
from vidrestore.work import WorkFolder, segment_number

log = logging.getLogger("vidrestore")

COARSE_CRF = 40
"""From here on pictures may be as far from the source as other pictures are."""
FACES_NAME = "faces.jsonl"
"""In a segment's folder: one entry of the faces file in each line."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video that is written."""

    name: str
    """Of its packets, in a segment's folder."""
    writer: VideoWriter | SequenceWriter
    frame_of: Callable[[RestoredFrame], Frame]


class Outputs:
    """The restored video, and the faces file and the comparison where they are asked for.

    `with Outputs(...) as outputs:`, then `go_on`, then `write` for all frames in order, `finish`. Raises TargetError
    before any work when one of the files cannot be written. After an error the files are not there, but the work folder
    is, if anything is finished in it.
    """

    def __init__(self, target: Path, options: Options, *, source: Path, like: VideoInfo) -> None:
        self._target, self._options, self._source, self._like = target, options, source, like
        self._stack = ExitStack()
        self._work = WorkFolder(place_of(target))
        self._videos: list[Video] = []
        self._segment: Segment | None = None
        self._lossless = options.lossless or options.quality == "archive"
        self._verify = options.quality == "archive" if options.verify is None else options.verify
        self._tracks_source = stand_in(source)
        self.verified: dict[str, Any] = {}
        """After `finish`: the fields of the report that say so."""

    def __enter__(self) -> "Outputs":
        options, like = self._options, self._like
        quality = None if options.quality == "archive" else options.quality
        settings = EncodeSettings(options.codec, options.crf, options.preset, self._lossless, quality)
        with ExitStack() as stack:
            stack.enter_context(self._work)
            # Once more, now that no other run changes it, and old images are in their place again.
            check_outputs(self._target, options, source=self._source)
            # Left last, so that it appears only after the others have succeeded.
            writer: VideoWriter | SequenceWriter
            if is_sequence_target(self._target):
                writer = SequenceWriter(
                    self._target,
                    like=like,
                    source=self._source,
                    exactly=self._lossless,
                    work=self._images_hiding_place(),
                    check=self._complete,
                )
            else:
                writer = VideoWriter(
                    self._target,
                    like=like,
                    source=self._tracks_source,
                    encode=settings,
                    start_s=options.start,
                    end_s=options.end,
                    folder=self._work.hiding_place(self._target),
                    check=self._complete,
                )
            stack.enter_context(writer)
            self._videos.append(Video("picture", writer, lambda done: done.frame))
            if options.compare:
                comparing = comparing_writer(
                    options.compare,
                    like,
                    self._tracks_source,
                    start_s=options.start,
                    end_s=options.end,
                    folder=self._work.hiding_place(options.compare),
                    check=partial(self._work.place, options.compare),
                )
                self._videos.append(
                    Video("compare", stack.enter_context(comparing), lambda done: side_by_side(done, like.rotation_deg))
                )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._segment is not None:
            with contextlib.suppress(OSError):  # what is still to be written may not fit; the segment is not used
                self._segment.close()
        self._stack.__exit__(kind, error, trace)

    def go_on(self, job: Mapping[str, Any]) -> Mapping[int, Mapping[str, Any]]:
        """What is finished of this job: by number of the segment, the counts of its report."""
        self._work.go_on(job, must=self._options.resume, may_discard=self._options.overwrite)
        return {number: facts["counts"] for number, facts in self._work.finished.items()}

    def rehearse(self, first_s: Fraction) -> None:
        """Raise what copying sound, subtitles and other tracks beside a picture that begins then would raise."""
        self._videos[0].writer.rehearse(first_s)

    def check_space(self, num_frames: int | None) -> str | None:
        """A line of warning where the disk probably has too little room. Raises TargetError where it surely has."""
        return check_space(
            self._work.path,
            info=self._like,
            num_frames=num_frames,
            source_bytes=source_facts(self._source)["source_bytes"],
            is_lossless=self._lossless,
            is_coarse=self._options.crf is not None,
            done_bytes=self._work.size_bytes,
        )

    @property
    def looks(self) -> Path:
        """Where what the detector saw is remembered."""
        return self._work.looks

    @property
    def warnings(self) -> list[str]:
        """What of the source could not be kept; complete after the end."""
        lost = [line for facts in self._work.finished.values() for line in facts["warnings"]]
        if is_sequence(self._source) and not is_sequence_target(self._target):
            sequence = find_sequence(self._source)
            lost += [notes_lost(sequence, self._target)] * has_notes(sequence)
        return list(dict.fromkeys([line for video in self._videos[:1] for line in video.writer.warnings] + lost))

    def write(self, done: RestoredFrame) -> bool:
        """Whether the frame was written; those of finished segments are passed over."""
        for video in self._videos:
            video.writer.begin(video.frame_of(done))
        number = segment_number(done.frame.index)
        if self._segment is None or self._segment.number != number:
            self._finish_segment()
            if number in self._work.finished:
                return False
            with writing(self._target):
                self._segment = Segment(number, self._work.begin_segment(number), self._videos)
        with writing(self._target):
            self._segment.write(done)
        return True

    def finish(self) -> None:
        """Complete all files."""
        self._finish_segment()
        folders = self._folders()
        for video in self._videos:
            for folder in folders:
                video.writer.mux(read_packets(folder / video.name, self._like.time_base))
        if self._options.faces:
            path, facts = self._options.faces, faces_file_facts(self._like, self._options)
            hiding_place, check = self._work.hiding_place(path), partial(self._work.place, path)
            with FacesFile(path, **facts, folder=hiding_place, check=check) as faces_file:
                for folder in folders:
                    with writing(folder), (folder / FACES_NAME).open(encoding="utf-8") as lines:
                        for line in lines:
                            faces_file.add(json.loads(line))
        self._stack.close()

    def _complete(self, output: Path) -> None:
        """Called with the hidden name when all of the target is there, and about to be put in its place."""
        if self._verify:
            self._read_back(output)
        self._work.place(place_of(self._target), place_of(output))

    def _read_back(self, output: Path) -> None:
        """Compare the output, under its hidden name, with the source. Raises VerifyError."""
        options = self._options
        log.info(f"{self._target}: complete; reading it back")
        if is_sequence_target(self._target):
            verify_images(
                self._source,
                output,
                self._crop_corners(),
                target=self._target,
                start_s=options.start,
                end_s=options.end,
                stream=options.stream,
                decoder=options.decoder,
                rate_hz=options.rate,
            )
        else:
            verify_output(
                self._source,
                output,
                self._crop_corners(),
                lossless=self._lossless,
                target=self._target,
                start_s=options.start,
                end_s=options.end,
                stream=options.stream,
                decoder=options.decoder,
                rate_hz=options.rate,
                warnings=self.warnings,
                min_psnr_db=0.0 if options.crf is not None and options.crf >= COARSE_CRF else MIN_PSNR_DB,
            )
        self.verified = {
            "verified": True,
            "source_sha256": sha256_of(self._source),
            "target_sha256": sha256_of(output),
        }

    def _crop_corners(self) -> Iterator[list[NDArray[np.float64]]]:
        """(4, 2) each, of the squares in each frame."""
        for folder in self._folders():
            with writing(folder), (folder / FACES_NAME).open(encoding="utf-8") as lines:
                for line in lines:
                    corners = (face["crop_corners_px"] for face in json.loads(line)["faces"])
                    yield [np.array(points, np.float64) for points in corners if points is not None]

    def _images_hiding_place(self) -> Path:
        """Where images lie until they are complete: a folder is never moved to another disk."""
        place = place_of(self._target)
        folder = self._work.hiding_place(place)
        if folder is None:
            raise TargetError(f"{self._work.path}: is not on the disk of {place}; delete that link, or put it there")
        return folder

    def _folders(self) -> list[Path]:
        """Of all segments, in order."""
        return [self._work.segment(number) for number in sorted(self._work.finished)]

    def _finish_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            with writing(self._target):
                facts = segment.finish()
            self._work.finish_segment(segment.number, facts)
            give_back_freed_memory()


class Segment:
    """Takes the frames of one segment."""

    def __init__(self, number: int, folder: Path, videos: list[Video]) -> None:
        self.number = number
        self._counted = Report("", "")
        self._videos = videos
        self._files = ExitStack()
        with ExitStack() as files:
            self._packets: list[tuple[PictureEncoder | ImageEncoder, PacketsFile]] = []
            for video in videos:
                encoder = video.writer.encoder()
                files.callback(encoder.close)
                self._packets.append((encoder, files.enter_context(PacketsFile(folder / video.name))))
            self._faces: TextIO = files.enter_context((folder / FACES_NAME).open("x", encoding="utf-8"))
            self._files = files.pop_all()

    def write(self, done: RestoredFrame) -> None:
        for video, (encoder, packets) in zip(self._videos, self._packets, strict=True):
            packets.write(encoder.encode(video.frame_of(done)))
        self._faces.write(json.dumps(frame_entry(done.frame, done.faces, done.skipped)) + "\n")
        self._counted.count(done)

    def finish(self) -> dict[str, Any]:
        """Complete its files; what there is to say of them."""
        for encoder, packets in self._packets:
            packets.write(encoder.finish())
        self.close()
        counts = self._counted.counts()
        warnings = self._packets[0][0].warnings
        return {"num_frames": counts["num_frames"], "counts": counts, "warnings": warnings}

    def close(self) -> None:
        self._files.close()


def faces_file_facts(info: VideoInfo, options: Options) -> dict[str, Any]:
    """What a faces file says of the whole video."""
    return {
        "width_px": info.width_px,
        "height_px": info.height_px,
        "clock_moves": bool(options.start),
        "span_s": (options.start, options.end),
    }
