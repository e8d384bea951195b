"""Still images: files <-> a frame's planes. Pillow reads and writes 8 bits with metadata, OpenCV the 16-bit ones."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from vidrestore.errors import SourceError, TargetError
from vidrestore.frame import Frame
from vidrestore.layout import PixelLayout, Plane
from vidrestore.target import replaced_when_complete, writing

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
SUFFIXES_OF_16_BITS = (".png", ".tif", ".tiff")
JPEG_QUALITY = 97
"""For a JPEG made from another format: above it files grow quickly with no visible gain."""
EXIF_ORIENTATION_TAG = 0x0112
ROTATION_DEG_BY_ORIENTATION = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}
"""Clockwise turn after which heads are up (EXIF 2.3, Orientation). 2, 4, 5 and 7 are mirrored left to right besides,
which does not matter to faces."""


@dataclass(frozen=True, slots=True, eq=False)
class StillImage:
    """A picture and what has to be kept beside its samples."""

    frame: Frame
    rotation_deg: int
    """Clockwise turn that shows it upright; the samples are not turned."""
    save_options: dict[str, Any]
    """Passed to Pillow: EXIF, ICC profile, resolution, and a JPEG's own tables."""
    warnings: tuple[str, ...] = ()
    """What cannot be kept."""


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def frame_from_rgb(rgb: Plane) -> Frame:
    """(H, W), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16 -> a frame of planar samples."""
    depth_bits = 8 if rgb.dtype == np.uint8 else 16
    suffix = "" if depth_bits == 8 else "16le"
    if rgb.ndim == 2:
        layout = PixelLayout(f"gray{suffix}", "gray", depth_bits, 0, 0, False, True, "bt709", "center")
        planes = [rgb]
    else:
        has_alpha = rgb.shape[2] == 4
        name = ("gbrap" if has_alpha else "gbrp") + suffix
        layout = PixelLayout(name, "rgb", depth_bits, 0, 0, has_alpha, True, "bt709", "center")
        order = (1, 2, 0, 3) if has_alpha else (1, 2, 0)
        planes = [rgb[..., channel] for channel in order]
    contiguous: tuple[Any, ...] = tuple(np.ascontiguousarray(plane) for plane in planes)
    return Frame(index=0, pts=0, time_base=Fraction(1), planes=contiguous, layout=layout)


def rgb_from_frame(frame: Frame) -> Plane:
    """The reverse of `frame_from_rgb`."""
    if frame.layout.family == "gray":
        return frame.planes[0]
    green, blue, red, *alpha = frame.planes
    stacked: Plane = np.stack([red, green, blue, *alpha], axis=-1)  # type: ignore[assignment]  # numpy loses the dtype
    return stacked


def read_image(path: Path) -> StillImage:
    """Raises SourceError when the file is missing, empty, not an image, or of a kind that cannot be kept faithfully."""
    if not path.exists():
        raise SourceError(f"{path}: does not exist; check the path")
    if not path.is_file():
        raise SourceError(f"{path}: is no regular file; save what it brings to a file first, and give that")
    try:
        with Image.open(path) as image:
            num_pictures = getattr(image, "n_frames", 1)
            image.load()
            save_options = _save_options(image)
            orientation = image.getexif().get(EXIF_ORIENTATION_TAG, 1)
            mode = image.mode
            if mode in ("P", "1", "PA"):
                mode = "RGBA" if "transparency" in image.info or mode == "PA" else "RGB"
                samples = np.asarray(image.convert(mode))
            else:
                samples = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as exc:
        reason = "is empty" if path.stat().st_size == 0 else f"is not a readable image ({exc})".splitlines()[0]
        raise SourceError(f"{path}: {reason}; give a PNG, JPEG, TIFF or WebP file") from exc
    if num_pictures > 1:
        raise SourceError(f"{path}: holds {num_pictures} pictures; save them as files of their own first")
    warnings: tuple[str, ...] = ()
    if path.suffix.lower() in SUFFIXES_OF_16_BITS:
        # Pillow silently reduces 16-bit colour to 8 bits; OpenCV does not.
        deep = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if deep is not None and deep.dtype == np.uint16:
            if mode == "RGBA":
                raise SourceError(
                    f"{path}: 16 bits with transparency are not supported; remove the alpha channel first"
                )
            if save_options:
                warnings = (f"{path}: EXIF, colour profile and resolution of a 16-bit image are not kept",)
            mode, save_options = "16", {}
            samples = deep if deep.ndim == 2 else deep[..., ::-1]
    if mode not in ("L", "RGB", "RGBA", "16"):
        raise SourceError(f"{path}: colour mode {mode} is not supported; convert the image to RGB first")
    rotation_deg = ROTATION_DEG_BY_ORIENTATION.get(orientation, 0)
    return StillImage(frame_from_rgb(samples), rotation_deg, save_options, warnings)


def check_image_target(path: Path) -> None:
    """Raise TargetError when the suffix is none that we write."""
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise TargetError(f"{path}: an image cannot be written as {suffix or 'this'}; use {', '.join(IMAGE_SUFFIXES)}")


def write_image(path: Path, frame: Frame, save_options: dict[str, Any]) -> None:
    """Write by the path's suffix; the file appears when it is complete. Raises TargetError."""
    check_image_target(path)
    samples, suffix = rgb_from_frame(frame), path.suffix.lower()
    if samples.dtype == np.uint16 and suffix not in SUFFIXES_OF_16_BITS:
        raise TargetError(f"{path}: holds 8 bits only and the source has 16; write .png or .tif")
    with replaced_when_complete(path) as temporary, writing(path):
        if samples.dtype == np.uint16:
            _write_16_bit(temporary, samples)
        elif suffix in (".jpg", ".jpeg") and samples.ndim == 3:
            Image.fromarray(samples[..., :3]).save(temporary, **_fitting(save_options, suffix))
        else:
            Image.fromarray(samples).save(temporary, **_fitting(save_options, suffix))


def _write_16_bit(path: Path, samples: Plane) -> None:
    if not cv2.imwrite(str(path), samples if samples.ndim == 2 else samples[..., ::-1]):
        raise OSError("OpenCV refused")


def _save_options(image: Image.Image) -> dict[str, Any]:
    kept: dict[str, Any] = {key: image.info[key] for key in ("icc_profile", "exif", "dpi") if image.info.get(key)}
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # With its own tables a JPEG survives a second compression with hardly a change.
        kept["qtables"] = image.quantization
        kept["subsampling"] = JpegImagePlugin.get_sampling(image)
    return kept


def _fitting(save_options: dict[str, Any], suffix: str) -> dict[str, Any]:
    """What the target's format understands."""
    fitting = dict(save_options)
    tables: dict[str, Any] = {key: fitting.pop(key) for key in ("qtables", "subsampling") if key in fitting}
    if suffix in (".jpg", ".jpeg"):
        return {**fitting, **(tables or {"quality": JPEG_QUALITY, "subsampling": 0})}
    if suffix == ".webp":
        fitting.pop("dpi", None)
        return {**fitting, "lossless": True}
    return fitting
