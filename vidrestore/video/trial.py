"""What codec and container have no place for: tried out on a few pictures, before any work."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import av
import numpy as np

from vidrestore.errors import VidrestoreError
from vidrestore.frame import Fields, Frame, HdrLight, VideoInfo
from vidrestore.layout import Plane
from vidrestore.video.color_tags import CHROMA_LOCATIONS, KNOWN_MATRICES, RGB_MATRIX, UNSPECIFIED
from vidrestore.video.containers import QUICKTIME_CONTAINERS, container_format, text_options
from vidrestore.video.encode import Encoding
from vidrestore.video.picture import PictureEncoder, add_picture_stream, rate_of
from vidrestore.video.read import VideoReader
from vidrestore.video.source import KEPT_BYTES, open_source

NUM_TRIAL_FRAMES = 3
NUM_NOISY_ROWS = 32
"""At the top: FFmpeg does not know an MPEG stream of a kilobyte for what it is."""
OF_THE_FILE = "encoder"
"""A text about the old file, which the new one need not have."""
MAX_SHAPE_ERROR = 0.005
"""Codecs have a few bits for the ratio: 389:388 comes back as 255:254."""


def lost_facts(encoding: Encoding, like: VideoInfo, suffix: str, *, texts: Mapping[str, str]) -> list[str]:
    """What is known of the source, not of the output, one line each: shape of pixels, siting of chroma, HDR metadata,
    cropping marks, range, colour tags, rotation, order of fields; and which of the `texts` about the whole work.

    Nothing is assumed: pictures are encoded into a file of that kind in a temporary folder, and read back. Where that
    fails the list is empty; the real output will fail then too, in its own words.
    """
    found = _read_back(encoding, like, suffix, texts)
    if found is None:
        return []
    after, after_texts = found
    name = f"{encoding.encoder.name} in {suffix}"
    lost = []
    if abs(after.sample_aspect / like.sample_aspect - 1) > MAX_SHAPE_ERROR:
        shape = f"{like.sample_aspect.numerator}:{like.sample_aspect.denominator}"
        lost.append(f"{name} loses the pixel shape {shape}")
    if _moves_chroma(encoding, like, after):
        siting = CHROMA_LOCATIONS[like.chroma_location]
        lost.append(f"{name} cannot say that chroma samples lie at {siting}")
    if _loses_light(like.light, after.light):
        lost.append(
            f"{name} loses the HDR metadata (mastering display, light levels); "
            "use --codec hevc or an output ending in .mkv"
        )
    if like.layout.full_range != after.layout.full_range:
        levels = "full" if like.layout.full_range else "limited"
        lost.append(f"{name} loses the mark of {levels} range: players will show other colours")
    if like.cropping != after.cropping:
        lost.append(f"{name} loses the cropping marks ({like.cropping}): players will show the whole picture")
    tags = _lost_tags(like, after)
    if tags:
        lost.append(f"{name} loses the colour tags for {' and '.join(tags)}")
    if like.display_matrix != after.display_matrix:
        lost.append(f"{name} loses the rotation or mirroring for viewing; use an output ending in .mp4 or .mkv")
    # Of codecs that do not mark fields, a film with both kinds of pictures is known as interlaced.
    if _says(like.fields) != _says(after.fields):
        lost.append(f"{name} loses the mark that pictures are {_says(like.fields)}")
    kept = {OF_THE_FILE, *(key.lower() for key, value in after_texts.items() if value.strip())}
    lost_keys = sorted(key for key, value in texts.items() if value.strip() and key.lower() not in kept)
    if lost_keys:
        lost.append(f"{suffix} has no place for what the source says as {', '.join(lost_keys)}")
    return lost


def _read_back(
    encoding: Encoding, like: VideoInfo, suffix: str, texts: Mapping[str, str]
) -> tuple[VideoInfo, dict[str, str]] | None:
    """What is known of a small file of that kind, and its texts."""
    layout = like.layout
    dtype = np.uint8 if layout.depth_bits == 8 else np.uint16
    shapes = (layout.plane_shape(component, like.width_px, like.height_px) for component in layout.components)
    planes = cast(tuple[Plane, ...], tuple(np.full(shape, 1 << (layout.depth_bits - 1), dtype) for shape in shapes))
    levels = np.random.default_rng(0).integers(0, 1 << layout.depth_bits, planes[0][:NUM_NOISY_ROWS].shape)
    planes[0][:NUM_NOISY_ROWS] = levels
    frame_ticks = max(1, round(1 / (rate_of(like) * like.time_base)))
    with (
        tempfile.TemporaryDirectory(prefix="vidrestore-") as folder,
        contextlib.suppress(VidrestoreError, OSError, ValueError, av.FFmpegError),
    ):
        path = Path(folder) / f"trial{suffix}"
        options = text_options(suffix, texts)
        if container_format(suffix) in QUICKTIME_CONTAINERS:
            options["video_track_timescale"] = str(like.time_base.denominator)
        encoder = PictureEncoder(encoding, like, path)
        with (
            contextlib.closing(encoder),
            av.open(
                str(path), "w", format=container_format(suffix), container_options=options, metadata_errors=KEPT_BYTES
            ) as output,
        ):
            output.metadata.update(texts)
            stream = add_picture_stream(output, encoding, like, suffix)
            packets = []
            for index in range(NUM_TRIAL_FRAMES):
                pts = index * frame_ticks
                packets += encoder.encode(Frame(index, pts, like.time_base, planes, layout, fields=like.fields))
            for packet in [*packets, *encoder.finish()]:
                packet.stream = stream
                output.mux(packet)
        with VideoReader(path) as reader, open_source(path) as written:
            kept = {key: value for stream in written.streams for key, value in stream.metadata.items()}
            return reader.info, {**kept, **written.metadata}
    return None


def _moves_chroma(encoding: Encoding, like: VideoInfo, after: VideoInfo) -> bool:
    """Whether the source says where chroma lies, and a player of the output would take it to lie elsewhere."""
    if not like.chroma_location or not like.layout.log2_chroma_w or not encoding.layout.log2_chroma_w:
        return False
    siting, after_siting = CHROMA_LOCATIONS[like.chroma_location], after.layout.siting
    if like.layout.log2_chroma_h and encoding.layout.log2_chroma_h:
        return siting != after_siting
    return siting.endswith("left") != after_siting.endswith("left")  # above and below mean nothing in 4:2:2


def _loses_light(before: HdrLight | None, after: HdrLight | None) -> bool:
    if before is None:
        return False
    has_display, has_content = before.display is not None, before.max_content_cd_m2 is not None
    return (
        after is None
        or (has_display and after.display is None)
        or (has_content and after.max_content_cd_m2 != before.max_content_cd_m2)
    )


def _lost_tags(like: VideoInfo, after: VideoInfo) -> list[str]:
    lost = []
    for name in ("matrix", "primaries", "transfer"):
        tag, kept = getattr(like.color, name), getattr(after.color, name)
        if tag in (UNSPECIFIED, kept) or (name == "matrix" and tag == RGB_MATRIX):
            continue
        if name == "matrix" and kept != UNSPECIFIED and KNOWN_MATRICES.get(tag) == KNOWN_MATRICES.get(kept):
            continue  # BT.601 has two numbers
        lost.append(name)
    return lost


def _says(fields: Fields) -> str:
    return f"interlaced, {fields}" if fields else "progressive"
