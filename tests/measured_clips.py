"""A made-up face that moves, as a source, its restoration and their faces file, for the tests of measuring."""

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tests.fakes import FixedDetector
from vidrestore.face import Detection, template_px
from vidrestore.metrics.measure import DETECT_PX

WIDTH_PX, HEIGHT_PX, FACE_PX = 320, 240, 192
NUM_FRAMES = 24
Retouch = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""(picture (H, W), number of the frame) -> picture."""


def centre_px(number: int) -> tuple[float, float]:
    """Where the crop's middle is in a frame: it glides."""
    return 150.0 + 0.7 * number, 120.0 - 0.4 * number


def scene(number: int) -> NDArray[np.float32]:
    """(H, W) gray: soft blobs that glide with the face, and eyes that shut for two frames."""
    x_px, y_px = centre_px(number)
    rough = np.random.default_rng(6).normal(0, 1, (420, 520)).astype(np.float32)
    soft = cv2.GaussianBlur(rough, (0, 0), 2.5)
    ground = 120 + 35 * soft / soft.std()
    for x, y in template_px("gpen", FACE_PX)[:2] - FACE_PX / 2:
        place = (round(float(x) + 250), round(float(y) + 200))
        cv2.circle(ground, place, 7, 190.0 if number in (11, 12) else 40.0, -1)
    matrix = np.float32([[1, 0, x_px - 250], [0, 1, y_px - 200]])
    return cv2.warpAffine(ground, matrix, (WIDTH_PX, HEIGHT_PX), flags=cv2.INTER_CUBIC)


def write_clip(
    path: Path,
    retouch: Retouch = lambda picture, _: picture,
    *,
    numbers: Sequence[int] = range(NUM_FRAMES),
    rate_hz: int = 25,
    size: tuple[int, int] = (WIDTH_PX, HEIGHT_PX),
) -> Path:
    """The scene in FFV1, gray and without loss; returns the path."""
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=rate_hz)
        stream.width, stream.height = size
        stream.pix_fmt = "gray"
        stream.time_base = Fraction(1, rate_hz)
        for place, number in enumerate(numbers):
            picture = cv2.resize(retouch(scene(number), number), size)
            frame = av.VideoFrame.from_ndarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8), format="gray")
            frame.pts, frame.time_base = place, Fraction(1, rate_hz)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def flickering(picture: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Four levels up, four down."""
    return picture + (4 if number % 2 else -4)


def write_faces(
    path: Path, *, num_frames: int = NUM_FRAMES, strength: float = 1.0, left_alone: bool = False, size: int = WIDTH_PX
) -> Path:
    """The faces file of one face, track 3, in every frame."""
    frames = []
    for number in range(num_frames):
        landmarks_px = template_px("gpen", FACE_PX) - FACE_PX / 2 + centre_px(number)
        face = {"track_id": 3, "landmarks_px": landmarks_px.tolist(), "restored": not left_alone, "strength": strength}
        frames.append({"index": number, "time_s": number / 25, "faces": [face]})
    path.write_text(json.dumps({"version": 1, "width_px": size, "height_px": HEIGHT_PX, "frames": frames}))
    return path


def detector_in_crops(trembling_px: float = 0.0) -> FixedDetector:
    """Finds the face where the template has it, a little off in each image."""
    rng = np.random.default_rng(2)

    def faces(_: int) -> tuple[Detection, ...]:
        points = template_px("gpen", DETECT_PX) + rng.normal(0, max(trembling_px, 1e-9), (5, 2))
        box = np.float32([60, 80, 190, 230])
        return (Detection(box, 0.99, points.astype(np.float32)),)

    return FixedDetector(faces)
