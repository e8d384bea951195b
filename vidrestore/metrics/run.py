"""A report from beginning to end: of two videos that are there, or of a run that is to be made."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vidrestore.errors import SourceError, VidrestoreError
from vidrestore.images import is_image
from vidrestore.loading import Models
from vidrestore.metrics.in_step import REFERENCE, RESTORED, SOURCE
from vidrestore.metrics.measure import measure
from vidrestore.metrics.page import write_page
from vidrestore.models.spec import FaceDetector
from vidrestore.options import Options
from vidrestore.pipeline import OnFrame, restore_video
from vidrestore.report import Report
from vidrestore.target import check_target
from vidrestore.targets import check_outputs, report_files

log = logging.getLogger("vidrestore")


def report_on(
    source: Path,
    restored: Path,
    page: Path,
    *,
    faces: Path | None = None,
    reference: Path | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    device: str = "auto",
    detector: FaceDetector | None = None,
    overwrite: bool = False,
) -> None:
    """Compare the faces in two videos, and write what is found to `page` (.html) and a .json beside it.

    See `measure` for the other arguments. Raises SourceError for videos that do not belong together, TargetError for a
    page that cannot or must not be written.
    """
    paths = {SOURCE: source, RESTORED: restored} | ({REFERENCE: reference} if reference else {})
    inputs = [*paths.values(), *([faces] if faces else [])]
    for path in inputs:
        if not path.exists():
            raise SourceError(f"{path}: no such file; check the path")
    for path in paths.values():
        if is_image(path):
            raise SourceError(f"{path}: is a still image, and a report measures faces over time; give a video")
    for target in report_files(page):
        for path in inputs:
            check_target(target, path, overwrite=overwrite)
    write_page(measure(paths, faces=faces, start_s=start_s, end_s=end_s, device=device, detector=detector), page)


def restore_and_report(
    source: Path, target: Path, options: Options, *, models: Models | None = None, on_frame: OnFrame | None = None
) -> Report:
    """`restore_video`, and then the page that `options.report` names. The video is complete before that begins.

    What the page takes is in no figure of the returned report. If it cannot be made, the video is there all the same.
    """
    assert options.report is not None, "the options name a page"
    check_outputs(target, options, source=source)
    with TemporaryDirectory(prefix="vidrestore-") as folder:
        faces = options.faces or Path(folder) / "faces.json"
        run_options = replace(options, report=None, faces=faces)
        report = restore_video(source, target, run_options, models=models, on_frame=on_frame)
        begin_s = time.perf_counter()
        log.info(f"{target}: complete; measuring it for {options.report}")
        try:
            report_on(
                source,
                target,
                options.report,
                faces=faces,
                start_s=options.start,
                end_s=options.end,
                device=options.device,
                detector=models.detector if models else None,
                overwrite=options.overwrite,
            )
        except VidrestoreError as exc:
            raise type(exc)(f"{exc}; {target} itself is complete") from exc
        except KeyboardInterrupt as exc:  # SIGTERM's too
            raise type(exc)(f"{options.report} was not written; {target} itself is complete") from exc
        seconds = time.perf_counter() - begin_s
        log.info(f"{options.report}: measured in {seconds:.1f} s, which are no part of the restoration's")
    return report
