"""Which models a run uses, and having them in memory."""

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vidrestore.frame import Frame
from vidrestore.models.backends.pytorch import load_detector, resolve_device
from vidrestore.models.catalog import EMBEDDED_DETECTOR
from vidrestore.models.choose import choose_restorer, has_choice
from vidrestore.models.engines import load_restorer
from vidrestore.models.spec import FaceDetector, Restorer
from vidrestore.options import Options
from vidrestore.report import Report
from vidrestore.stages.detect import detect_faces

log = logging.getLogger("vidrestore")

Samples = Callable[[], Iterable[Frame]]
"""Gives a few frames of the source; called only when they are needed."""


@dataclass(frozen=True, slots=True)
class Models:
    detector: FaceDetector
    restorer: Restorer

    def enter_into(self, report: Report) -> None:
        report.model, report.model_sha256 = self.restorer.spec.name, self.restorer.sha256
        report.detector, report.detector_sha256 = self.detector.spec.name, self.detector.sha256
        report.engine = self.restorer.engine_name
        report.device, report.dtype = self.restorer.device_name, self.restorer.dtype_name


def load_models(options: Options, samples: Samples = tuple, *, rotation_deg: int = 0) -> Models:
    """Load the models that the options name; a named one that is not installed is downloaded.

    With `--model auto` and more than the embedded restorer at hand, the faces in the samples decide; `rotation_deg`
    (clockwise) shows them upright. Raises WeightsError and OptionsError, RestoreError when they do not fit into memory.
    """
    progress = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
    detector_name = EMBEDDED_DETECTOR if options.detector == "auto" else options.detector
    detector = load_detector(detector_name, device=options.device, progress=progress)
    restorer_name = options.model
    if options.model == "auto":
        on_cpu = resolve_device(options.device).type == "cpu"
        widths_px = _face_widths_px(samples(), detector, rotation_deg) if has_choice(on_cpu=on_cpu) else []
        spec, why = choose_restorer(widths_px, on_cpu=on_cpu)
        log.info(why)
        restorer_name = spec.name
    restorer = load_restorer(
        restorer_name, engine=options.engine, device=options.device, dtype=options.dtype, progress=progress
    )
    return Models(detector, restorer)


def _face_widths_px(samples: Iterable[Frame], detector: FaceDetector, rotation_deg: int) -> list[float]:
    """Width of the box of every face found."""
    found = detect_faces(samples, detector, batch_frames=1, rotation_deg=rotation_deg)
    return [float(face.box_xyxy_px[2] - face.box_xyxy_px[0]) for picture in found for face in picture.faces]
