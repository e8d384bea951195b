"""How a picture's samples are laid out and what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8] | NDArray[np.uint16]
Family = Literal["yuv", "rgb", "gray"]
Matrix = Literal["bt601", "bt709", "bt2020", "smpte240m", "fcc"]
ChromaSiting = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How samples mean colours. Always planar; packed and semi-planar sources are split without loss by the reader."""

    name: str
    """FFmpeg's name of the planar pixel format, such as "yuv420p10le"."""
    family: Family
    depth_bits: int
    log2_chroma_w: int
    """Chroma is 2^log2_chroma_w times narrower than luma, rounded up."""
    log2_chroma_h: int
    has_alpha: bool
    full_range: bool
    matrix: Matrix
    """Luma coefficients; unused by rgb and gray."""
    siting: ChromaSiting
    """Where a chroma sample lies among its luma samples."""
    is_pq: bool = False
    """Whether the signal is HDR's PQ (SMPTE ST 2084): colours are then looked at through `tone.py`."""

    @property
    def components(self) -> tuple[str, ...]:
        """What each plane holds, in order (planar RGB is stored G, B, R)."""
        color = {"yuv": ("Y", "Cb", "Cr"), "rgb": ("G", "B", "R"), "gray": ("Y",)}[self.family]
        return (*color, "A") if self.has_alpha else color

    def plane_shape(self, component: str, width_px: int, height_px: int) -> tuple[int, int]:
        """(height, width) of one plane of a picture of that size."""
        if component not in ("Cb", "Cr"):
            return height_px, width_px
        return -(-height_px >> self.log2_chroma_h), -(-width_px >> self.log2_chroma_w)  # rounded up

    def check_planes(self, planes: Sequence[Plane]) -> None:
        """Raise ValueError unless number, dtype and shapes of the planes are this layout's."""
        dtype = np.uint8 if self.depth_bits == 8 else np.uint16
        if len(planes) != len(self.components):
            raise ValueError(f"{self.name} has {len(self.components)} planes, {len(planes)} were given")
        height_px, width_px = planes[0].shape
        for component, plane in zip(self.components, planes, strict=True):
            shape = self.plane_shape(component, width_px, height_px)
            if plane.shape != shape or plane.dtype != dtype:
                given = f"{plane.shape} {plane.dtype}"
                raise ValueError(f"{component} plane of {self.name} is {given}; it must be {shape} {np.dtype(dtype)}")
