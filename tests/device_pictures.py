"""Pictures in many layouts, and the devices that they are restored on, for the tests of `vidrestore/device`."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from vidrestore.device.queues import Queues, shared_queues
from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout

exact_opencv = pytest.mark.skipif(
    int(cv2.__version__.split(".")[0]) < 5,
    reason="before 5.0 OpenCV reads pictures on a grid of 1/32 px, which is levels off on steep edges",
)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)]


def layout(
    family: str = "yuv",
    *,
    depth: int = 8,
    chroma: tuple[int, int] = (1, 1),
    full: bool = False,
    siting: str = "left",
    matrix: str = "bt709",
    alpha: bool = False,
) -> PixelLayout:
    name = f"{family}{chroma[0]}{chroma[1]}p{depth}{'a' if alpha else ''} {'full' if full else siting}"
    return PixelLayout(name, family, depth, *chroma, alpha, full, matrix, siting)  # type: ignore[arg-type]


LAYOUTS = [
    layout(),
    layout(full=True, matrix="bt601"),
    layout(siting="center"),
    layout(siting="topleft", depth=10, matrix="bt2020"),
    layout(depth=16, full=True),
    layout(chroma=(1, 0)),
    layout(chroma=(0, 0), depth=12),
    layout(chroma=(2, 0)),
    layout(chroma=(2, 2), siting="center"),
    layout(alpha=True),
    layout("rgb", chroma=(0, 0), full=True),
    layout("rgb", chroma=(0, 0), full=True, depth=10, alpha=True),
    layout("gray", chroma=(0, 0)),
    layout("gray", chroma=(0, 0), full=True, depth=10),
]


def picture(of: PixelLayout, width_px: int = 320, height_px: int = 240, *, seed: int = 0, grain: float = 3.0) -> Frame:
    """Soft shapes with grain in every plane, as film has; `grain` is its standard deviation in levels of 255."""
    rng = np.random.default_rng(seed)
    planes = []
    for component in of.components:
        height, width = of.plane_shape(component, width_px, height_px)
        rough = rng.uniform(30, 225, (height // 8 + 2, width // 8 + 2)).astype(np.float32)
        soft = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
        plane = soft + rng.normal(0, grain, (height, width))
        samples = np.clip(np.rint(plane * ((1 << of.depth_bits) - 1) / 255), 0, (1 << of.depth_bits) - 1)
        planes.append(samples.astype(np.uint8 if of.depth_bits == 8 else np.uint16))
    return Frame(seed, seed, Fraction(1, 25), tuple(planes), of)


def queues_of(device: str) -> Queues:
    return shared_queues(torch.device(device))
