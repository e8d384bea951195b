"""What the student is asked for: all that the teacher sees, and what was placed besides."""

import numpy as np
import pytest
import torch

from vidrestore.models.face_detector import priors_px
from vidrestore.training.detector_canvas import Scene
from vidrestore.training.detector_labels import label_scene


def test_what_the_teacher_misses_is_still_asked_for() -> None:
    """Two placed faces, the teacher sees one: its own box there, probability 1 on the other's priors."""
    priors = priors_px(96, 96)
    boxes = torch.zeros(len(priors), 4) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    landmarks = torch.zeros(len(priors), 5, 2)
    probability = torch.zeros(len(priors))
    winner = int((priors - torch.tensor([20.0, 20.0, 16.0])).abs().sum(dim=1).argmin())
    boxes[winner], probability[winner] = torch.tensor([11.0, 11.0, 29.0, 29.0]), 0.9
    placed = np.array([[12, 12, 28, 28], [50, 50, 82, 82]], np.float32)
    scene = Scene(np.zeros((96, 96, 3), np.uint8), placed, np.zeros((2, 5, 2), np.float32))
    sample = label_scene(scene, probability, boxes, landmarks)
    assert sample.boxes.tolist() == [[11, 11, 29, 29], [50, 50, 82, 82]]
    assert sample.probability[winner] == pytest.approx(0.9)
    missed = sample.face_index == 1
    assert missed.any()
    assert (sample.probability[missed] == 1).all()
    assert (sample.probability[~missed] < 1).all()
