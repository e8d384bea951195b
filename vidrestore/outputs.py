"""All files that a run writes. Each appears when it is complete, the main one last.

Frames are written into segments in the work folder (`work.py`), and joined to the files in the end.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from vidrestore.compare import comparing_writer, side_by_side
from vidrestore.errors import SourceError, TargetError
from vidrestore.faces_file import FacesFile, frame_entry
from vidrestore.frame import Frame, RestoredFrame, VideoInfo
from vidrestore.options import Options
from vidrestore.report import Report
from vidrestore.target import check_target, writing
from vidrestore.video.encode import EncodeSettings
from vidrestore.video.packets import PacketsFile, read_packets
from vidrestore.video.picture import PictureEncoder
from vidrestore.video.write import VideoWriter
from vidrestore.work import WorkFolder, segment_number

FACES_NAME = "faces.jsonl"
"""In a segment's folder: one entry of the faces file in each line."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video that is written."""

    name: str
    """Of its packets, in a segment's folder."""
    writer: VideoWriter
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
        self._work = WorkFolder(target)
        self._videos: list[Video] = []
        self._segment: Segment | None = None

    def __enter__(self) -> "Outputs":
        options, like = self._options, self._like
        lossless = options.lossless or options.quality == "archive"
        quality = None if options.quality == "archive" else options.quality
        settings = EncodeSettings(options.codec, options.crf, options.preset, lossless, quality)
        with ExitStack() as stack:
            stack.enter_context(self._work)
            # Left last, so that it appears only after the others have succeeded.
            writer = VideoWriter(
                self._target,
                like=like,
                source=self._source,
                encode=settings,
                start_s=options.start,
                end_s=options.end,
                folder=self._work.path,
            )
            self._videos.append(Video("picture", stack.enter_context(writer), lambda done: done.frame))
            if options.compare:
                is_near = options.compare.parent.samefile(self._target.parent)
                comparing = comparing_writer(
                    options.compare,
                    like,
                    self._source,
                    start_s=options.start,
                    end_s=options.end,
                    folder=self._work.path if is_near else None,
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

    @property
    def looks(self) -> Path:
        """Where what the detector saw is remembered."""
        return self._work.looks

    @property
    def warnings(self) -> list[str]:
        """What of the source could not be kept; complete after the end."""
        lost = [line for facts in self._work.finished.values() for line in facts["warnings"]]
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
        folders = [self._work.segment(number) for number in sorted(self._work.finished)]
        for video in self._videos:
            for folder in folders:
                video.writer.mux(read_packets(folder / video.name, self._like.time_base))
        if self._options.faces:
            with FacesFile(self._options.faces, **faces_file_facts(self._like, self._options)) as faces_file:
                for folder in folders:
                    with (folder / FACES_NAME).open(encoding="utf-8") as lines:
                        for line in lines:
                            faces_file.add(json.loads(line))
        self._stack.close()

    def _finish_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            with writing(self._target):
                facts = segment.finish()
            self._work.finish_segment(segment.number, facts)


class Segment:
    """Takes the frames of one segment."""

    def __init__(self, number: int, folder: Path, videos: list[Video]) -> None:
        self.number = number
        self._counted = Report("", "")
        self._videos = videos
        self._files = ExitStack()
        with ExitStack() as files:
            self._packets: list[tuple[PictureEncoder, PacketsFile]] = []
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


def check_outputs(target: Path, options: Options, *, source: Path) -> None:
    """Raise TargetError when one of the files to write cannot or must not be written, SourceError without a source."""
    check_source(source)
    targets = [path for path in (target, options.faces, options.compare) if path is not None]
    if options.report:
        targets += report_files(options.report)
    for path in targets:
        check_target(path, source, overwrite=options.overwrite)
    if len({path.absolute() for path in targets}) < len(targets):
        raise TargetError(f"{target}: two outputs have the same name; choose different ones")


def check_source(source: Path) -> None:
    """Raise SourceError when it is not there."""
    if not source.exists():
        raise SourceError(f"{source}: no such file; check the path")


def faces_file_facts(info: VideoInfo, options: Options) -> dict[str, Any]:
    """What a faces file says of the whole video."""
    return {
        "width_px": info.width_px,
        "height_px": info.height_px,
        "clock_moves": bool(options.start),
        "span_s": (options.start, options.end),
    }


def report_files(page: Path) -> tuple[Path, Path]:
    """The page of `--report` and its JSON. Raises TargetError for another name than .html."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise TargetError(f"{page}: a report is a page; give it a name that ends in .html")
    return page, page.with_suffix(".json")
