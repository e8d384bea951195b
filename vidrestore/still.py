"""Still images: the same stages as a video's, without a clock."""

import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidrestore.compare import side_by_side
from vidrestore.errors import OptionsError
from vidrestore.faces_file.write import FacesFile
from vidrestore.frame import Frame, RestoredFrame
from vidrestore.images import check_image_target, frame_from_rgb, read_image, rgb_from_frame, write_image
from vidrestore.loading import Models, load_models
from vidrestore.options import Options
from vidrestore.pipeline import OnFrame, restored_frames
from vidrestore.report import Report
from vidrestore.targets import check_outputs


def restore_still(source: Path, target: Path, options: Options, *, on_frame: OnFrame | None = None) -> Report:
    """Write `target`: the picture `source` with its faces restored. Raises as `restore_video` does."""
    report = Report(source=str(source), target=str(target))
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    if options.report:
        raise OptionsError(f"{source}: is a still image, and --report measures faces over time; leave it out")
    check_outputs(target, options, source=source)
    check_image_target(target)
    if options.compare:
        check_image_target(options.compare)
    image = read_image(source)
    for warning in image.warnings:
        report.warn(warning)
    done = _restored(image.frame, options, report, None, rotation_deg=image.rotation_deg)
    with report.stage("encode"), ExitStack() as outputs:
        if options.faces:
            faces = FacesFile(options.faces, width_px=image.frame.width_px, height_px=image.frame.height_px)
            outputs.enter_context(faces).write(done)
        if options.compare:
            write_image(options.compare, side_by_side(done, image.rotation_deg), image.save_options)
        write_image(target, done.frame, image.save_options)
    report.count(done)
    if on_frame:
        on_frame(done, report)
    report.finish(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s)
    return report


def restore_image(
    rgb: NDArray[np.uint8], options: Options | None = None, *, models: Models | None = None
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB -> the same with its faces restored.

    Without `models` (from `load_models`) those that the options name are loaded on each call.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"rgb is {rgb.shape} {rgb.dtype}; it must be (H, W, 3) uint8")
    report = Report(source="an array", target="an array")
    done = _restored(frame_from_rgb(rgb), options or Options(), report, models, rotation_deg=0)
    return np.asarray(rgb_from_frame(done.frame), dtype=np.uint8)


def _restored(
    frame: Frame, options: Options, report: Report, models: Models | None, *, rotation_deg: int
) -> RestoredFrame:
    if models is None:
        with report.stage("load models"):
            models = load_models(options, lambda: [frame], rotation_deg=rotation_deg)
    models.enter_into(report)
    (done,) = restored_frames([frame], models, options, report, rotation_deg=rotation_deg)
    return done
