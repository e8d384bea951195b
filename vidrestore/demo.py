"""The demo: a short bad clip made from a public-domain portrait, restored, and both laid side by side."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidrestore.options import Options
from vidrestore.pixels import rgb_picture
from vidrestore.report import Report
from vidrestore.target import writing
from vidrestore.video.sample import sample_frames

WIDTH_PX, HEIGHT_PX = 480, 360
RATE_HZ = 25
NUM_FRAMES = 75
SAMPLE_RATE_HZ = 44100
TONE_HZ = 330
PORTRAIT = "sample_data/grace_hopper.jpg"
"""Rear Admiral Grace Hopper, US Navy photograph, public domain; shipped inside matplotlib."""
PORTRAIT_CENTER_PX = (266.0, 260.0)
"""A point between nose and chin, around which the camera moves."""
BLUR_SIGMA_PX = 1.0
NOISE_SIGMA = 20.0
CRF = 30
"""Together: about what a video call in a dark room looks like."""
SEED = 7
NUM_CONTACT_FRAMES = 3
CONTACT_SIDE_PX = 220
CONTACT_ZOOM = 2
"""compare.png shows a square around the face, twice enlarged: differences can be seen without a magnifier."""

RestoreFunction = Callable[[Path, Path, Options], Report]


def make_demo(folder: Path, restore: RestoreFunction) -> list[Path]:
    """Write degraded.mp4, restored.mp4, compare.mp4 and compare.png into `folder`; older ones are replaced."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    degraded, restored = folder / "degraded.mp4", folder / "restored.mp4"
    compare, sheet = folder / "compare.mp4", folder / "compare.png"
    with writing(degraded):
        write_degraded_clip(degraded)
    restore(degraded, restored, Options(compare=compare, overwrite=True))
    with writing(sheet):
        write_contact_sheet(degraded, restored, sheet)
    return [degraded, restored, compare, sheet]


def portrait() -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: `PORTRAIT`."""
    return np.asarray(Image.open(Path(matplotlib.get_data_path()) / PORTRAIT).convert("RGB"))


def moving_portrait() -> Iterator[NDArray[np.uint8]]:
    """(HEIGHT_PX, WIDTH_PX, 3) uint8 RGB frames: a slow pan, zoom and roll, and a slight shake of the hand."""
    picture = portrait()
    for index in range(NUM_FRAMES):
        time_s = index / RATE_HZ
        zoom = 0.72 + 0.06 * math.sin(0.9 * time_s)
        roll_deg = 4.0 * math.sin(1.3 * time_s) + 0.4 * math.sin(2 * math.pi * 0.8 * time_s)
        matrix = cv2.getRotationMatrix2D(PORTRAIT_CENTER_PX, roll_deg, zoom)
        matrix[0, 2] += WIDTH_PX / 2 - PORTRAIT_CENTER_PX[0] + 30 * math.sin(0.8 * time_s)
        matrix[1, 2] += HEIGHT_PX / 2 - PORTRAIT_CENTER_PX[1] + 10 * math.cos(1.1 * time_s)
        size = (WIDTH_PX, HEIGHT_PX)
        yield cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def write_degraded_clip(path: Path) -> None:
    """The portrait blurred, noised and compressed hard by H.264, with a quiet tone as AAC."""
    rng = np.random.default_rng(SEED)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE_HZ, options={"crf": str(CRF), "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for index, clean in enumerate(moving_portrait()):
            soft = cv2.GaussianBlur(clean, (0, 0), BLUR_SIGMA_PX).astype(np.float32)
            noisy = np.clip(np.rint(soft + rng.normal(0, NOISE_SIGMA, soft.shape)), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(noisy, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE_HZ)
            container.mux(video.encode(frame))
            container.mux(audio.encode(_tone(index)))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _tone(index: int) -> av.AudioFrame:
    """The sound of one video frame's time."""
    num_samples = SAMPLE_RATE_HZ // RATE_HZ
    ticks = np.arange(index * num_samples, (index + 1) * num_samples)
    wave = (0.05 * np.sin(2 * np.pi * TONE_HZ * ticks / SAMPLE_RATE_HZ)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, int(ticks[0]), Fraction(1, SAMPLE_RATE_HZ)
    return frame


def write_contact_sheet(degraded: Path, restored: Path, sheet: Path) -> None:
    """A row of moments of the degraded clip above the same ones of the restored clip, as PNG."""
    rows = []
    for clip in (degraded, restored):
        frames = sample_frames(clip, NUM_CONTACT_FRAMES)
        rows.append(np.hstack([_closeup(rgb_picture(frame.planes, frame.layout)) for frame in frames]))
    Image.fromarray(np.vstack(rows)).save(sheet)


def _closeup(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    left, top = (WIDTH_PX - CONTACT_SIDE_PX) // 2, (HEIGHT_PX - CONTACT_SIDE_PX) // 2 - 20
    part = rgb[top : top + CONTACT_SIDE_PX, left : left + CONTACT_SIDE_PX]
    return cv2.resize(part, None, fx=CONTACT_ZOOM, fy=CONTACT_ZOOM, interpolation=cv2.INTER_NEAREST)
