"""All files that a run writes. Each appears when it is complete, the main one last."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from vidrestore.compare import CompareVideo
from vidrestore.errors import SourceError, TargetError
from vidrestore.faces_file import FacesFile
from vidrestore.frame import RestoredFrame, VideoInfo
from vidrestore.options import Options
from vidrestore.target import check_target
from vidrestore.video.encode import EncodeSettings
from vidrestore.video.write import VideoWriter


class Outputs:
    """The restored video, and the faces file and the comparison where they are asked for.

    Raises TargetError before any work when one of them cannot be written.
    """

    def __init__(self, target: Path, options: Options, *, source: Path, like: VideoInfo) -> None:
        self._target, self._options, self._source, self._like = target, options, source, like
        self._stack = ExitStack()
        self._writes: list[Callable[[RestoredFrame], None]] = []
        self._writer: VideoWriter | None = None

    def __enter__(self) -> "Outputs":
        options, like = self._options, self._like
        lossless = options.lossless or options.quality == "archive"
        quality = None if options.quality == "archive" else options.quality
        settings = EncodeSettings(options.codec, options.crf, options.preset, lossless, quality)
        with ExitStack() as stack:
            # Left last, so that it appears only after the others have succeeded.
            self._writer = VideoWriter(
                self._target,
                like=like,
                source=self._source,
                encode=settings,
                start_s=options.start,
                end_s=options.end,
            )
            writer = stack.enter_context(self._writer)
            self._writes.append(lambda done: writer.write(done.frame))
            if options.faces:
                faces = FacesFile(
                    options.faces,
                    width_px=like.width_px,
                    height_px=like.height_px,
                    clock_moves=bool(options.start),
                )
                self._writes.append(stack.enter_context(faces).write)
            if options.compare:
                compare = CompareVideo(options.compare, like, self._source, start_s=options.start, end_s=options.end)
                self._writes.append(stack.enter_context(compare).write)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def warnings(self) -> list[str]:
        """What of the source could not be kept; complete after the end."""
        return self._writer.warnings if self._writer else []

    def finish(self) -> None:
        """Complete all files; leaving the `with` block does the same."""
        self._stack.close()

    def write(self, done: RestoredFrame) -> None:
        for write in self._writes:
            write(done)


def check_outputs(target: Path, options: Options, *, source: Path) -> None:
    """Raise TargetError when one of the files to write cannot or must not be written, SourceError without a source."""
    if not source.exists():
        raise SourceError(f"{source}: no such file; check the path")
    targets = [path for path in (target, options.faces, options.compare) if path is not None]
    if options.report:
        targets += report_files(options.report)
    for path in targets:
        check_target(path, source, overwrite=options.overwrite)
    if len({path.absolute() for path in targets}) < len(targets):
        raise TargetError(f"{target}: two outputs have the same name; choose different ones")


def report_files(page: Path) -> tuple[Path, Path]:
    """The page of `--report` and its JSON. Raises TargetError for another name than .html."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise TargetError(f"{page}: a report is a page; give it a name that ends in .html")
    return page, page.with_suffix(".json")
