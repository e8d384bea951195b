"""What a model is to the rest of the program. No torch here: uint8 at the border makes all engines equal."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vidrestore.face import Detection

ModelKind = Literal["restorer", "detector", "loss"]
"""A "loss" is a network that training and evaluation compare pictures with; it restores and finds nothing."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One row of the catalogue, or what was read off a file that the user named."""

    name: str
    kind: ModelKind
    file_name: str
    """In the weights folder."""
    url: str | None
    """None: ships with vidrestore, or is the user's own file."""
    sha256: str | None
    """Full lower-case hex; None where no hash is known in public. Then the first download is trusted and pinned."""
    size_bytes: int | None
    license: str
    source: str
    """Repository, or how we made it."""
    crop_px: int | None = None
    """Restorers: side S of the crop."""
    template: str | None = None
    """Restorers: key of `face.TEMPLATES`."""
    half_ok: bool = True
    """False where float16 overflows."""


class Restorer(Protocol):
    """Makes faces better."""

    spec: ModelSpec
    sha256: str
    """Of the file that was loaded."""
    engine_name: str
    """What computes: "pytorch" or "onnx"."""
    device_name: str
    """Where it computes, such as "cuda:0"."""
    dtype_name: str
    """In what precision, such as "float32"."""

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(B, S, S, 3) uint8 RGB, B >= 1 -> the same shape. A crop's result does not depend on its batch."""
        ...


class FaceDetector(Protocol):
    """Finds faces."""

    spec: ModelSpec
    sha256: str
    batch_images: int
    """How many images at once it works on fastest."""

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        """(B, H, W, 3) uint8 RGB, B >= 1 -> for each image its faces, best score first, in that image's pixels."""
        ...
