"""Which models a run uses, and having them in memory."""

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vidrestore.frame import Frame
from vidrestore.models.backends.pytorch import load_detector, load_restorer, resolve_device
from vidrestore.models.catalog import EMBEDDED_DETECTOR
from vidrestore.models.spec import FaceDetector, Restorer
from vidrestore.models.weights import choose_restorer, has_choice
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
        report.device, report.dtype = self.restorer.device_name, self.restorer.dtype_name


def load_models(options: Options, report: Report, samples: Samples, *, rotation_deg: int) -> Models:
    """Choose and load both models. Raises WeightsError and OptionsError.

    With `--model auto` and more than the embedded restorer at hand, the faces in the samples decide; `rotation_deg`
    (clockwise) shows them upright. A model that is named and not installed is downloaded.
    """
    progress = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
    with report.stage("load models"):
        on_cpu = resolve_device(options.device).type == "cpu"
        detector_name = EMBEDDED_DETECTOR if options.detector == "auto" else options.detector
        detector = load_detector(detector_name, device=options.device, progress=progress)
        must_look = options.model == "auto" and has_choice(on_cpu=on_cpu)
        widths_px = _face_widths_px(samples(), detector, rotation_deg) if must_look else []
        spec, reason = choose_restorer(options.model, widths_px, on_cpu=on_cpu)
        log.info(reason)
        chosen = spec.name if options.model == "auto" else options.model
        restorer = load_restorer(chosen, device=options.device, dtype=options.dtype, progress=progress)
    return Models(detector, restorer)


def _face_widths_px(samples: Iterable[Frame], detector: FaceDetector, rotation_deg: int) -> list[float]:
    """Width of the box of every face found."""
    found = detect_faces(samples, detector, batch_frames=1, rotation_deg=rotation_deg)
    return [float(face.box_xyxy_px[2] - face.box_xyxy_px[0]) for picture in found for face in picture.faces]
