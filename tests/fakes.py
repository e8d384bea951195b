"""Small real models without networks: they satisfy the protocols of `models/spec.py` and are predictable.

And a Ctrl-C that comes when it is wanted.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import OutOfDeviceMemory
from vidrestore.face import Detection, template_px
from vidrestore.models.spec import ModelSpec

FAKE_SHA256 = "0" * 64


def fake_spec(kind: str = "restorer", *, crop_px: int = 64, template: str = "gpen") -> ModelSpec:
    """A row that stands in no catalogue."""
    if kind == "detector":
        return ModelSpec("fixed-detector", "detector", "none", None, FAKE_SHA256, 0, "none", "tests")
    return ModelSpec("identity", "restorer", "none", None, FAKE_SHA256, 0, "none", "tests", crop_px, template)


def face_at(center_x_px: float, center_y_px: float, width_px: float, *, score: float = 0.99) -> Detection:
    """An upright face whose box is `width_px` wide, with the landmarks of GPEN's template."""
    points = template_px("gpen", 1) - (0.5, 0.55)  # about the box's centre
    eye_distance = points[1, 0] - points[0, 0]
    scale = width_px / (2.17 * eye_distance)  # a box is about 2.17 eye distances wide
    half_x, half_y = width_px / 2, width_px * 0.65
    box = (center_x_px - half_x, center_y_px - half_y, center_x_px + half_x, center_y_px + half_y)
    landmarks = points * scale + (center_x_px, center_y_px)
    return Detection(np.array(box, np.float32), score, landmarks.astype(np.float32))


class FixedDetector:
    """Finds what it was told to find: `faces`, or what `faces(n)` says for the n-th image that it is shown, from 0."""

    def __init__(self, faces: tuple[Detection, ...] | Callable[[int], tuple[Detection, ...]] = ()) -> None:
        self.spec = fake_spec("detector")
        self.sha256 = FAKE_SHA256
        self.faces = faces
        self.batch_images = 4
        self.batch_sizes: list[int] = []

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        assert images.ndim == 4, "images are (B, H, W, 3)"
        assert len(images) > 0, "no batch is empty"
        first = sum(self.batch_sizes)
        self.batch_sizes.append(len(images))
        return [self.faces(first + i) if callable(self.faces) else self.faces for i in range(len(images))]


class IdentityRestorer:
    """Gives every crop back as it came, and runs out of memory above `max_batch`."""

    def __init__(self, *, crop_px: int = 64, template: str = "gpen", max_batch: int | None = None) -> None:
        self.spec = fake_spec(crop_px=crop_px, template=template)
        self.sha256 = FAKE_SHA256
        self.engine_name, self.device_name, self.dtype_name = "fake", "cpu", "uint8"
        self.max_batch = max_batch
        self.batch_sizes: list[int] = []

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert crops.shape[1:] == (self.spec.crop_px, self.spec.crop_px, 3), "crops are (B, S, S, 3)"
        assert len(crops) > 0, "no batch is empty"
        self.batch_sizes.append(len(crops))
        if self.max_batch is not None and len(crops) > self.max_batch:
            raise OutOfDeviceMemory(f"identity: {len(crops)} faces at once do not fit")
        return crops.copy()


class StopAfter:
    """Says stop once it has been asked so many times, as Ctrl-C would."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0
