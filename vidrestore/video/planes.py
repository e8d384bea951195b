"""Between FFmpeg's frames and our planes, both ways, without changing a sample."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import SourceError
from vidrestore.layout import ChromaSiting, Family, Matrix, PixelLayout, Plane
from vidrestore.video.color_tags import FULL_RANGE, KNOWN_MATRICES, LIMITED_RANGE, PQ_TRANSFER, range_tag

HD_WIDTH_PX, HD_HEIGHT_PX = 1280, 720
"""From this size on, untagged video is taken for BT.709, below for BT.601: what players do."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a packed or semi-planar format interleaves the samples of a planar one."""

    planar: str
    """The planar format with the same samples (byte order left out above 8 bits)."""
    patterns: tuple[str, ...]
    """Per stored plane, the repeating order of components; "." is padding."""
    shift_bits: int = 0
    """Samples sit this far to the left in their 16 bits."""


PACKINGS: Mapping[str, Packing] = {
    "rgb24": Packing("gbrp", ("RGB",)),
    "bgr24": Packing("gbrp", ("BGR",)),
    "rgb0": Packing("gbrp", ("RGB.",)),
    "bgr0": Packing("gbrp", ("BGR.",)),
    "0rgb": Packing("gbrp", (".RGB",)),
    "0bgr": Packing("gbrp", (".BGR",)),
    "rgba": Packing("gbrap", ("RGBA",)),
    "bgra": Packing("gbrap", ("BGRA",)),
    "argb": Packing("gbrap", ("ARGB",)),
    "abgr": Packing("gbrap", ("ABGR",)),
    "rgb48": Packing("gbrp16", ("RGB",)),
    "bgr48": Packing("gbrp16", ("BGR",)),
    "rgba64": Packing("gbrap16", ("RGBA",)),
    "bgra64": Packing("gbrap16", ("BGRA",)),
    "nv12": Packing("yuv420p", ("Y", "UV")),
    "nv21": Packing("yuv420p", ("Y", "VU")),
    "nv16": Packing("yuv422p", ("Y", "UV")),
    "nv24": Packing("yuv444p", ("Y", "UV")),
    "nv42": Packing("yuv444p", ("Y", "VU")),
    "nv20": Packing("yuv422p10", ("Y", "UV")),
    "p010": Packing("yuv420p10", ("Y", "UV"), 6),
    "p012": Packing("yuv420p12", ("Y", "UV"), 4),
    "p016": Packing("yuv420p16", ("Y", "UV")),
    "p210": Packing("yuv422p10", ("Y", "UV"), 6),
    "p212": Packing("yuv422p12", ("Y", "UV"), 4),
    "p216": Packing("yuv422p16", ("Y", "UV")),
    "p410": Packing("yuv444p10", ("Y", "UV"), 6),
    "p412": Packing("yuv444p12", ("Y", "UV"), 4),
    "p416": Packing("yuv444p16", ("Y", "UV")),
    "yuyv422": Packing("yuv422p", ("YUYV",)),
    "yvyu422": Packing("yuv422p", ("YVYU",)),
    "uyvy422": Packing("yuv422p", ("UYVY",)),
    "y210": Packing("yuv422p10", ("YUYV",), 6),
    "y212": Packing("yuv422p12", ("YUYV",), 4),
    "y216": Packing("yuv422p16", ("YUYV",)),
    "vuya": Packing("yuva444p", ("VUYA",)),
    "vuyx": Packing("yuv444p", ("VUY.",)),
    "ayuv": Packing("yuva444p", ("AYUV",)),
    "uyva": Packing("yuva444p", ("UYVA",)),
    "ayuv64": Packing("yuva444p16", ("AYUV",)),
}
"""By FFmpeg's name without byte order."""
COLOR_TABLE_FORMATS: Mapping[str, str] = {
    "pal8": "gbrp",
    "monow": "gray",
    "monob": "gray",
    "x2rgb10le": "gbrp10le",
    "x2bgr10le": "gbrp10le",
    "ya8": "gbrap",
    "ya16le": "gbrap16le",
    "ya16be": "gbrap16le",
}
"""Formats that FFmpeg's scaler spreads out for us, each proven lossless by a test."""
PLANE_LETTERS: Mapping[Family, str] = {"yuv": "YUV", "rgb": "GBR", "gray": "Y"}
"""The order of planes in FFmpeg's planar formats; alpha comes last."""


def planar_layout(
    name: str,
    *,
    full_range: bool = False,
    matrix: Matrix = "bt709",
    siting: ChromaSiting = "left",
    is_pq: bool = False,
) -> PixelLayout | None:
    """The layout of a planar FFmpeg format of 8 to 16 bits; None for anything else.

    "yuvj420p" and its like are "yuv420p" in full range. Big-endian formats get their little-endian name: planes in
    memory are native numbers.
    """
    if name.startswith("yuvj"):
        name, full_range = name.replace("yuvj", "yuv"), True
    pixel_format = av.VideoFormat(name, 16, 16)
    components = pixel_format.components
    depths_bits = {component.bits for component in components}
    one_plane_each = sorted(component.plane for component in components) == list(range(len(components)))
    depth_bits = depths_bits.pop()
    if depths_bits or not 8 <= depth_bits <= 16 or not one_plane_each or pixel_format.has_palette:
        return None
    if pixel_format.is_bayer or "f16" in name:
        return None
    has_alpha = any(component.is_alpha for component in components)
    num_colors = len(components) - has_alpha
    if num_colors not in (1, 3):
        return None
    family: Family = "gray" if num_colors == 1 else ("rgb" if pixel_format.is_rgb else "yuv")
    return PixelLayout(
        name=name[:-2] + "le" if name.endswith("be") else name,
        family=family,
        depth_bits=depth_bits,
        log2_chroma_w=(16 // pixel_format.chroma_width(16)).bit_length() - 1,
        log2_chroma_h=(16 // pixel_format.chroma_height(16)).bit_length() - 1,
        has_alpha=has_alpha,
        full_range=full_range,
        matrix=matrix,
        siting=siting,
        is_pq=is_pq,
    )


def packing_of(name: str) -> Packing | None:
    """The row of `PACKINGS` for an FFmpeg format in either byte order, its planar name completed; else None."""
    base = name[:-2] if name.endswith(("le", "be")) else name
    packing = PACKINGS.get(base)
    if packing is None or packing.planar[-1] == "p" or name == base:
        return packing
    return Packing(packing.planar + "le", packing.patterns, packing.shift_bits)


def layout_of(frame: av.VideoFrame, *, siting: ChromaSiting = "left") -> PixelLayout:
    """What the samples of a decoded frame mean, once `planes_of` has taken them apart.

    Untagged YUV is limited range; untagged RGB and gray are full range (as FFmpeg's scaler holds). PyAV does not say
    where chroma samples lie: `siting` does, by default MPEG's "left". Raises SourceError for a pixel format that is
    not made of integer samples of 8 to 16 bits.
    """
    name = frame.format.name
    packing = packing_of(name)
    planar_name = packing.planar if packing else COLOR_TABLE_FORMATS.get(name, name)
    is_hd = frame.width >= HD_WIDTH_PX or frame.height >= HD_HEIGHT_PX
    matrix = KNOWN_MATRICES.get(int(frame.colorspace), "bt709" if is_hd else "bt601")
    layout = planar_layout(planar_name, matrix=matrix, siting=siting)
    if layout is None:
        raise SourceError(f"pixel format {name} is not supported; convert it first, e.g. ffmpeg -pix_fmt gbrp16le")
    untagged_is_full = layout.family != "yuv" or planar_name.startswith("yuvj")
    full_range = frame.color_range == FULL_RANGE or (frame.color_range != LIMITED_RANGE and untagged_is_full)
    is_pq = int(frame.color_trc) == PQ_TRANSFER
    return replace(layout, full_range=full_range, is_pq=is_pq)


def layout_in(path: Path, frame: av.VideoFrame, *, siting: ChromaSiting = "left") -> PixelLayout:
    """`layout_of` a frame of this file, which its error names."""
    try:
        return layout_of(frame, siting=siting)
    except SourceError as exc:
        raise SourceError(f"{path}: {exc}") from exc


def planes_of(frame: av.VideoFrame) -> tuple[Plane, ...]:
    """Copies of the frame's samples as native numbers, one plane per component, in the order of `layout_of(frame)`.

    The copies have no line padding and belong to the caller. A 1080p 4:2:0 frame takes 0.2 ms.
    """
    name = frame.format.name
    if name in COLOR_TABLE_FORMATS:
        frame = frame.reformat(format=COLOR_TABLE_FORMATS[name])
        name = frame.format.name
    packing = packing_of(name)
    layout = planar_layout(packing.planar if packing else name)
    assert layout is not None, "layout_of has accepted this format"
    dtype = np.dtype(np.uint8 if layout.depth_bits == 8 else (">u2" if frame.format.is_big_endian else "<u2"))
    stored = [_samples(frame, plane, dtype) for plane in range(len(frame.planes))]
    native = np.uint8 if layout.depth_bits == 8 else np.uint16
    planes: list[Plane] = []
    letters = PLANE_LETTERS[layout.family] + "A" * layout.has_alpha
    patterns = packing.patterns if packing else tuple(letters)
    for letter, component in zip(letters, layout.components, strict=True):
        height_px, width_px = layout.plane_shape(component, frame.width, frame.height)
        for pattern, samples in zip(patterns, stored, strict=True):
            if letter in pattern:
                step = len(pattern) // pattern.count(letter)
                part = samples[:height_px, pattern.index(letter) :: step][:, :width_px]
                shift_bits = packing.shift_bits if packing else 0
                planes.append(cast(Plane, (part >> shift_bits if shift_bits else part).astype(native)))
    return tuple(planes)


def av_frame_of(planes: Sequence[Plane], layout: PixelLayout, pix_fmt: str | None = None) -> av.VideoFrame:
    """An FFmpeg frame holding exactly these samples, in the layout's own format or in a packing of it."""
    pix_fmt = pix_fmt or layout.name
    height_px, width_px = planes[0].shape
    frame = av.VideoFrame(width_px, height_px, pix_fmt)
    dtype = np.dtype(np.uint8 if layout.depth_bits == 8 else "<u2")
    packing = packing_of(pix_fmt)
    letters = PLANE_LETTERS[layout.family] + "A" * layout.has_alpha
    patterns = packing.patterns if packing else tuple(letters)
    for index, pattern in enumerate(patterns):
        samples = _samples(frame, index, dtype)
        for position in range(len(pattern)):
            if pattern[position] == ".":
                samples[:, position :: len(pattern)] = 255
        for letter, plane in zip(letters, planes, strict=True):
            if letter in pattern:
                step = len(pattern) // pattern.count(letter)
                target = samples[: plane.shape[0], pattern.index(letter) :: step][:, : plane.shape[1]]
                target[...] = plane << packing.shift_bits if packing and packing.shift_bits else plane
    frame.color_range = range_tag(layout)
    return frame


def _samples(frame: av.VideoFrame, index: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """(rows, samples with line padding) of one stored plane, without copying."""
    plane = frame.planes[index]
    stride_bytes = abs(plane.line_size)
    if plane.line_size > 0:
        flat = np.frombuffer(memoryview(plane), dtype=np.uint8)
    else:
        # Stored bottom up: FFmpeg points at the top row, and every further row lies before it in memory.
        first_byte = plane.buffer_ptr - stride_bytes * (plane.height - 1)
        flat = np.ctypeslib.as_array((ctypes.c_uint8 * (stride_bytes * plane.height)).from_address(first_byte))
    rows = flat.reshape(plane.height, stride_bytes)[:: -1 if plane.line_size < 0 else 1]
    itemsize = dtype.itemsize
    return rows[:, : stride_bytes // itemsize * itemsize].view(dtype)
