"""What a face looks like, in 128 numbers: enough to tell who of two is who, and whether a face is still to be seen.

A small upright crop is laid by the landmarks, and in each of 4 x 4 cells it is noted which part of the gradients points
in each of eight directions, and how much more than if they pointed anywhere: so light, contrast and noise drop out, and
what is flat is like nothing. After Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005.
Colour is not asked. It is no face recognition: hair and pose count as much as the face itself, which is as good for a
second. Of what is around the head little is seen, for there it changes as people walk. 0.2 ms a face.

Measured: the distance between sightings of one person 0.1 to 1 s apart in five clips (two of them with heads that turn
to profile), of different people in the same shot or group picture, and of a face and a place beside it; and of heads
that walk over a background in noise (`tests/bench/crossing.py`):

    | part of the pairs       | 1 %  | 5 %  | 50 % | 95 % | 99 % |
    | the same person         | 0.00 | 0.00 | 0.04 | 0.55 | 1.15 |
    | different people        | 0.16 | 0.26 | 0.64 | 1.01 | 1.13 |
    | beside a face           | 0.44 | 0.71 | 1.08 | 1.45 | 1.54 |
    | the same, walking       | 0.01 | 0.02 | 0.07 | 0.27 | 0.41 |
    | different, walking      | 0.29 | 0.37 | 0.70 | 0.86 | 0.91 |

(445, 672, 154, 636 and 1,400 pairs. Of the same person 86 %, walking 96 %, are nearer than `ALIKE`, of different people
9 and 1 %; the rest of the same are heads that turned to profile, for whom overlap and motion speak.)
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.face import template_px
from vidrestore.frame import Frame
from vidrestore.stages.crop_geometry import luma_crop, scale_of, similarity

Look = NDArray[np.float32]
"""(128,) of a face: for each direction, the cells row by row."""

ALIKE = 0.3
"""Largest distance between looks of one person."""
SEEN = 0.55
"""Where the picture is no more unlike a face than this it still shows it, turned or blurred: beside a face 3 % do."""
CROP_PX, CELLS, DIRECTIONS = 32, 4, 8
EYES_APART = 0.3
"""In the crop, as part of its side: hair is in it. With 0.24 the background tells more than the face (the walking heads
then differ by 0.42 from themselves in half of all pairs); with 0.42 the people of one picture are harder to tell apart.
"""
HALF_WIDTH, HALF_HEIGHT = 0.40, 0.48
"""Of the ellipse in the crop that counts, as parts of its side."""
BLUR_PX = 0.8
FAINT_LEVELS = 8.0
"""Gradients (Sobel) as faint as this count half: in flat cells there is only noise."""
MIN_CONTRAST = 2.0
"""Standard deviation of the crop, in levels of 255, below which there is nothing to see."""

SIDE_PX = template_px("tight", 1)
TEMPLATE = ((SIDE_PX - 0.5) * (EYES_APART / (SIDE_PX[1, 0] - SIDE_PX[0, 0])) + 0.5) * CROP_PX - 0.5
"""(5, 2)"""
COLUMNS, ROWS = np.meshgrid(*[(np.arange(CROP_PX) - (CROP_PX - 1) / 2) / CROP_PX] * 2)
HEAD = ((COLUMNS / HALF_WIDTH) ** 2 + (ROWS / HALF_HEIGHT) ** 2 <= 1).astype(np.float32)
"""(CROP_PX, CROP_PX) 1 inside the ellipse, 0 outside."""
ANGLES = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
ALONG = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
"""(DIRECTIONS, 2)"""


def in_cells(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, CROP_PX * CROP_PX) -> (N, CELLS, CELLS), the mean of each."""
    cell_px = CROP_PX // CELLS
    return np.asarray(levels.reshape(-1, CELLS, cell_px, CELLS, cell_px).mean(axis=(2, 4)), np.float32)


CELL_WEIGHTS = np.sqrt(in_cells(HEAD.reshape(1, -1))[0])
"""(CELLS, CELLS) what part of each counts, rooted."""


def look_of(frame: Frame, landmarks_px: NDArray[np.float32]) -> Look | None:
    """The look of the face with these landmarks (5, 2); None where the picture shows nothing there."""
    crop_from_frame = similarity(landmarks_px.astype(np.float64), TEMPLATE)
    if scale_of(crop_from_frame) <= 0:
        return None
    crop = luma_crop(frame, crop_from_frame, CROP_PX)
    if crop is None or float(crop.std()) < MIN_CONTRAST:
        return None
    soft = cv2.GaussianBlur(crop, (0, 0), BLUR_PX)
    gradients = np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)]) * HEAD
    along = in_cells(np.maximum(ALONG @ gradients.reshape(2, -1), 0))
    parts = np.sqrt(along / (along.sum(axis=0) + FAINT_LEVELS))
    look: Look = ((parts - parts.mean(axis=0)) * CELL_WEIGHTS).astype(np.float32).ravel()
    return look


def unlikeness(first: Look, second: Look) -> float:
    """0 for the same look, 1 for two that have nothing in common: one minus their correlation."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return 1 - float(first @ second) / max(lengths, 1e-6)
