"""The figures of a detector beside its teacher count what they say."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import FixedDetector
from vidrestore.errors import InputError, WeightsError
from vidrestore.face import Detection
from vidrestore.training.detector_evaluation import as_detector, compare_detectors, landmark_error, load_pictures, table


def face_at(x: float, side_px: float, score: float) -> Detection:
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32) * side_px + [x, 0]
    return Detection(np.array([x, 0, x + side_px, side_px], np.float32), score, points.astype(np.float32))


def test_figures_count_what_they_say() -> None:
    """Of two true faces and a doubtful one, the student finds one (10% off), the doubtful one, and one of its own."""
    large, small = face_at(0, 60, 0.95), face_at(100, 30, 0.9)
    teacher = FixedDetector((large, small, face_at(200, 30, 0.5)))
    moved = face_at(2.4, 60, 0.9)  # 2.4 px = a tenth of the eye distance of 24 px
    student = FixedDetector((moved, face_at(200, 30, 0.6), face_at(300, 30, 0.7), face_at(400, 30, 0.4)))
    figures = compare_detectors(student, teacher, [("one", np.zeros((64, 64, 3), np.uint8))])
    rows = {(row.detector, row.condition, row.bin_px): row for row in figures}
    assert rows["student", "clean", "40-inf"].recall == 1
    assert rows["student", "clean", "40-inf"].landmark_error == pytest.approx(0.1, abs=1e-3)
    assert rows["student", "clean", "20-40"].recall == 0
    assert math.isnan(rows["student", "clean", "0-20"].recall)
    assert rows["student", "clean", "20-40"].num_detections == 3
    assert rows["student", "clean", "20-40"].false_positives == pytest.approx(1 / 3)
    assert rows["teacher", "degraded", "40-inf"].recall == 1
    assert "| clean | student | 40-inf | 1 | 1.000 | 0.100 |" in table(figures)
    assert landmark_error(large, large) == 0


def test_missing_pictures_and_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither pictures nor clips"):
        load_pictures(tmp_path, 1)
    with pytest.raises(WeightsError, match=r"none\.pth"):
        as_detector(tmp_path / "none.pth")
