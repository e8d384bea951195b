"""Made-up scans: folders of images in every kind and depth that we read, and what became of them."""

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import picture_rgb
from tests.fakes import FixedDetector, face_at
from tests.killed import MirrorRestorer
from vidrestore import work
from vidrestore.face import Detection
from vidrestore.frame import RestoredFrame
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.report import Report

WIDTH_PX, HEIGHT_PX = 131, 97
"""Odd, so that rows of DPX files have padding."""
UNTOUCHED = (slice(None), slice(100, None))
"""Rows and columns that no crop of this face reaches."""
SEGMENT_FRAMES = 5
Samples = NDArray[np.integer]


class LeftDetector(FixedDetector):
    """One face on the left of each picture, whatever the size in which it is shown."""

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        width_px = images.shape[2]
        self.faces = (face_at(0.3 * width_px, 0.37 * width_px, 0.3 * width_px),)
        return super().detect(images)


def models() -> Models:
    return Models(LeftDetector(), MirrorRestorer())


def restore(
    source: Path,
    target: Path | str,
    *,
    on_frame: Callable[[RestoredFrame, Report], None] | None = None,
    **options: object,
) -> Report:
    """In segments so short that most runs have several."""
    chosen = Options(device="cpu", **options)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "SEGMENT_FRAMES", SEGMENT_FRAMES)
        return restore_video(source, target, chosen, models=models(), on_frame=on_frame)


def picture(index: int, bits: int, channels: int) -> Samples:
    """(H, W) or (H, W, channels): still waves, with noise where there is no face, so that no rounding goes unseen."""
    noise = np.random.default_rng(index).integers(0, 1 << (bits - 6), (HEIGHT_PX, WIDTH_PX, channels))
    noise[:, : UNTOUCHED[1].start] = 0
    waves = picture_rgb(0, WIDTH_PX, HEIGHT_PX)[..., [2, 1, 0, 2][:channels]].astype(np.int64)
    samples = (waves << (bits - 8)) // 4 * 3 + noise
    return samples[..., 0] if channels == 1 else samples


def write_cv2(path: Path, samples: Samples, bits: int) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    order = slice(None) if samples.ndim == 2 else [2, 1, 0, 3][: samples.shape[2]]
    assert cv2.imwrite(str(path), samples.astype(dtype)[..., order] if samples.ndim == 3 else samples.astype(dtype))


def read_cv2(path: Path) -> Samples:
    samples = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return samples if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[2]]]


def write_dpx(path: Path, samples: Samples, bits: int, *, order: str = ">", rate_hz: float = 18.0) -> None:
    """SMPTE ST 268 with all its headers; 10 bits "filled to 32", 8 and 16 bits as they are."""
    assert bits in (8, 10, 16)
    header = bytearray(b"\xff" * 2100)
    header[:4] = b"SDPX" if order == ">" else b"XPDS"
    header[36:136] = b"reel 7".ljust(100, b"\0")
    if bits == 10:
        red, green, blue = (samples[..., channel].astype(np.uint32) for channel in range(3))
        data = (red << 22 | green << 12 | blue << 2).astype(f"{order}u4").tobytes()
    else:
        rows = samples.reshape(HEIGHT_PX, -1).astype(np.uint8 if bits == 8 else f"{order}u2")
        data = b"".join(row.tobytes() + b"\0" * (-row.nbytes % 4) for row in rows)
    struct.pack_into(f"{order}I8sII", header, 4, 2100, b"V1.0", 2100 + len(data), 1)
    struct.pack_into(f"{order}III", header, 24, 1664, 384, 52)
    struct.pack_into(f"{order}I", header, 660, 0xFFFFFFFF)
    struct.pack_into(f"{order}HHII", header, 768, 0, 1, WIDTH_PX, HEIGHT_PX)
    struct.pack_into(f"{order}IIfIf", header, 780, 0, 95, 0.0, 685, 2.0)
    descriptor = 50 if samples.ndim == 3 else 6
    struct.pack_into(f"{order}BBBBHHIII", header, 800, descriptor, 1, 1, bits, int(bits == 10), 0, 2100, 0, 0)
    header[1664:1680] = b"KK1234567890KEYC"
    struct.pack_into(f"{order}f", header, 1724, rate_hz)
    struct.pack_into(f"{order}I", header, 1920, 0x01020304)
    header[2048:2100] = b"user data".ljust(52, b".")
    path.write_bytes(header + data)


def read_dpx(path: Path, bits: int) -> Samples:
    content = path.read_bytes()
    order = ">" if content[:4] == b"SDPX" else "<"
    (offset,) = struct.unpack_from(f"{order}I", content, 4)
    assert struct.unpack_from(f"{order}I", content, 16)[0] == len(content)
    if bits == 10:
        words = np.frombuffer(content, f"{order}u4", WIDTH_PX * HEIGHT_PX, offset).reshape(HEIGHT_PX, WIDTH_PX)
        return np.stack([words >> 22, words >> 12 & 1023, words >> 2 & 1023], axis=-1)
    row_bytes = -(-WIDTH_PX * 3 * bits // 8 // 4) * 4
    rows = np.frombuffer(content, np.uint8, row_bytes * HEIGHT_PX, offset).reshape(HEIGHT_PX, row_bytes)
    rows = np.ascontiguousarray(rows[:, : WIDTH_PX * 3 * bits // 8])
    return rows.view("u1" if bits == 8 else f"{order}u2").reshape(HEIGHT_PX, WIDTH_PX, 3)


KINDS: dict[str, tuple[str, int, int]] = {
    "png, 8 bits": (".png", 8, 3),
    "png, 8 bits gray": (".png", 8, 1),
    "png, 8 bits alpha": (".png", 8, 4),
    "png, 16 bits": (".png", 16, 3),
    "png, 16 bits gray": (".png", 16, 1),
    "png, 16 bits alpha": (".png", 16, 4),
    "tiff, 8 bits": (".tif", 8, 3),
    "tiff, 16 bits": (".tiff", 16, 3),
    "tiff, 16 bits gray": (".tif", 16, 1),
    "dpx, 8 bits": (".dpx", 8, 3),
    "dpx, 10 bits": (".dpx", 10, 3),
    "dpx, 16 bits": (".dpx", 16, 3),
}


def make_images(
    folder: Path, kind: str = "png, 16 bits", count: int = 12, *, first: int = 101, name: str = "frame_%06d"
) -> Path:
    suffix, bits, channels = KINDS[kind]
    folder.mkdir(exist_ok=True)
    for index in range(count):
        path = folder / (name % (first + index) + suffix)
        if suffix == ".dpx":
            write_dpx(path, picture(index, bits, channels), bits)
        else:
            write_cv2(path, picture(index, bits, channels), bits)
    return folder


def look(path: Path, kind: str) -> Samples:
    suffix, bits, _ = KINDS[kind]
    return read_dpx(path, bits) if suffix == ".dpx" else read_cv2(path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 255
        (folder / name).write_bytes(content)

    return change
