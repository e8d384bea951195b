"""Which models a run uses, and having them in memory."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidrestore.models.backends.pytorch import load_detector, load_restorer, resolve_device
from vidrestore.models.catalog import EMBEDDED_DETECTOR
from vidrestore.models.spec import FaceDetector, Restorer
from vidrestore.models.weights import choose_restorer, has_choice
from vidrestore.options import Options
from vidrestore.report import Report

log = logging.getLogger("vidrestore")

Pictures = Callable[[], Iterable[NDArray[np.uint8]]]
"""Gives a few upright pictures of the source, (H, W, 3) uint8 RGB each; called only when they are needed."""


@dataclass(frozen=True, slots=True)
class Models:
    detector: FaceDetector
    restorer: Restorer

    def enter_into(self, report: Report) -> None:
        report.model, report.model_sha256 = self.restorer.spec.name, self.restorer.sha256
        report.detector, report.detector_sha256 = self.detector.spec.name, self.detector.sha256


def load_models(options: Options, report: Report, pictures: Pictures) -> Models:
    """Choose and load both models while the report's clock runs. Raises WeightsError and OptionsError.

    With `--model auto` and more than the embedded restorer at hand, the faces in `pictures` decide.
    """
    with report.stage("load models"):
        device = resolve_device(options.device)
        detector_name = EMBEDDED_DETECTOR if options.detector == "auto" else options.detector
        detector = load_detector(detector_name, device=options.device)
        on_cpu = device.type == "cpu"
        must_look = options.model == "auto" and has_choice(on_cpu=on_cpu)
        widths_px = _face_widths_px(pictures(), detector) if must_look else []
        spec, reason = choose_restorer(options.model, widths_px, on_cpu=on_cpu)
        log.info(reason)
        chosen = spec.name if options.model == "auto" else options.model
        restorer = load_restorer(chosen, device=options.device, dtype=options.dtype)
    report.device, report.dtype = str(device), options.dtype
    return Models(detector, restorer)


def _face_widths_px(pictures: Iterable[NDArray[np.uint8]], detector: FaceDetector) -> list[float]:
    """Width of the box of every face found."""
    found = [detection for picture in pictures for detection in detector.detect(picture[None])[0]]
    return [float(detection.box_xyxy_px[2] - detection.box_xyxy_px[0]) for detection in found]
