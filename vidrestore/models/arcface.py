"""ArcFace: who a face is, as a direction (Deng, Guo, Xue and Zafeiriou, "ArcFace: additive angular margin loss for deep
face recognition", CVPR 2019). facexlib's network, weights `arcface-ir-se50`; training and measuring share it.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.face import template_px
from vidrestore.models.state_dict import assign, read_state_dict
from vidrestore.models.weights import find

ARCFACE = "arcface-ir-se50"
"""Its row in the catalogue."""
ARCFACE_PX = 112
"""Side of ArcFace's input."""
ARCFACE_POINTS_PX = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Where the five points lie in it, in the order of `face.LANDMARKS` (InsightFace's alignment for 112 px)."""


def load_arcface() -> nn.Module:
    """(N, 3, 112, 112) BGR in [-1, 1] -> (N, 512) of length 1, on the CPU.

    Raises WeightsError when the weights are not installed or not sound.
    """
    model = find(ARCFACE)
    from facexlib.recognition.arcface_arch import Backbone  # late: facexlib takes seconds to load

    # Not facexlib's own loader: it downloads into the package's folder, and needs a GPU.
    with torch.device("meta"):
        recogniser: nn.Module = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
    assign(recogniser, read_state_dict(model.path), model.path, ARCFACE, "facexlib")
    return recogniser


def arcface_box(template: str) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) of ArcFace's input in a crop, as fractions of its side, by least squares; may reach beyond.

    Of GPEN's template it is the middle two thirds. Raises KeyError for a template that is not in `TEMPLATES`.
    """
    points, wanted = template_px(template, 1), np.array(ARCFACE_POINTS_PX) / ARCFACE_PX
    spread = wanted - wanted.mean(axis=0)
    side = float((spread * (points - points.mean(axis=0))).sum() / (spread**2).sum())
    x0, y0 = (float(value) for value in points.mean(axis=0) - side * wanted.mean(axis=0))
    return x0, y0, x0 + side, y0 + side


def arcface_input(images: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """(N, 3, S, S) RGB in [-1, 1], crops of a template, and its `arcface_box` -> (N, 3, 112, 112) BGR.

    Where the box reaches beyond the crop, the crop's edge is repeated.
    """
    crop_px = images.shape[-1]
    x0, y0, x1, y1 = (round(edge * crop_px) for edge in box)
    left, top = max(-x0, 0), max(-y0, 0)
    padded = F.pad(images, (left, max(x1 - crop_px, 0), top, max(y1 - crop_px, 0)), mode="replicate")
    square = padded[:, :, y0 + top : y1 + top, x0 + left : x1 + left]
    small = F.interpolate(square, size=(ARCFACE_PX, ARCFACE_PX), mode="bilinear", antialias=True)
    # Its training read pictures with OpenCV and never turned them round.
    return small.flip(1)
