"""Clips of the demo's portrait for measurements."""

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidrestore.demo import PORTRAIT

RATE_HZ = 25
Picture = NDArray[np.uint8]
EYES_PX = ((221.0, 190.0), (306.0, 187.0))
"""In the portrait."""
FACE_PX = (262.0, 215.0)


def portrait() -> Picture:
    """(600, 512, 3) RGB."""
    return np.asarray(Image.open(Path(matplotlib.get_data_path()) / PORTRAIT).convert("RGB"))[:600, :512]


def placed(picture: Picture, width_px: int, height_px: int, *, zoom: float = 1.0, shift_px: float = 0.0) -> Picture:
    """The portrait with its face in the middle of a frame, its edges repeated."""
    x, y = width_px / 2 + shift_px - zoom * FACE_PX[0], height_px / 2 - zoom * FACE_PX[1]
    matrix = np.array([[zoom, 0, x], [0, zoom, y]])
    size = (width_px, height_px)
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def with_closed_eyes(picture: Picture) -> Picture:
    closed = picture.copy()
    for x, y in EYES_PX:
        skin = picture[int(y) + 12 : int(y) + 16, int(x) - 6 : int(x) + 6].mean(axis=(0, 1))
        cv2.ellipse(closed, (round(x), round(y)), (14, 8), 0, 0, 360, skin.tolist(), thickness=-1)
    return closed


def moving(num_frames: int, width_px: int, height_px: int, zoom: float) -> Iterator[Picture]:
    """The camera pans by a pixel a frame."""
    for index in range(num_frames):
        yield placed(portrait(), width_px, height_px, zoom=zoom, shift_px=index - num_frames / 2)


def faceless(num_frames: int, width_px: int, height_px: int) -> Iterator[Picture]:
    """The same pan over uniform and medals."""
    chest = cv2.resize(portrait()[400:600, 60:400], (width_px + num_frames, height_px), interpolation=cv2.INTER_CUBIC)
    for index in range(num_frames):
        yield np.ascontiguousarray(chest[:, index : index + width_px])


def still_with_blinks(num_frames: int) -> Iterator[Picture]:
    """The eyes close for four frames of every 50."""
    opened = placed(portrait(), 640, 480)
    closed = placed(with_closed_eyes(portrait()), 640, 480)
    for index in range(num_frames):
        yield closed if index % 50 in range(30, 34) else opened


def slideshow(num_frames: int) -> Iterator[Picture]:
    """A picture every two seconds, ten frames of which go into the next."""
    slides = [placed(portrait(), 640, 480, zoom=zoom) for zoom in (0.8, 1.0, 0.7)]
    slides[1] = np.ascontiguousarray(slides[1][:, ::-1])
    for index in range(num_frames):
        number, within = divmod(index, 50)
        share = max(0.0, (within - 40) / 10)
        now, later = slides[number % 3], slides[(number + 1) % 3]
        yield cv2.addWeighted(now, 1 - share, later, share, 0)


def noised(pictures: Iterable[Picture], sigma: float) -> Iterator[Picture]:
    rng = np.random.default_rng(0)
    for picture in pictures:
        yield np.clip(np.rint(picture + rng.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def write_clip(path: Path, pictures: Iterable[Picture], *, crf: int = 23) -> None:
    """H.264, 4:2:0."""
    with av.open(str(path), "w") as container:
        stream = None
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream("libx264", rate=RATE_HZ, options={"crf": str(crf)})
                stream.height, stream.width, _ = picture.shape
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        assert stream is not None, "a clip has pictures"
        container.mux(stream.encode(None))


CLIPS: dict[str, Callable[[], Iterator[Picture]]] = {
    "still, two blinks": lambda: still_with_blinks(100),
    "the same, noise of 2 levels": lambda: noised(still_with_blinks(100), 2.0),
    "slideshow of three": lambda: slideshow(150),
}
