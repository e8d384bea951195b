"""What `vidrestore info` says of a file: its streams, and the faces in a sample of frames."""

from collections.abc import Iterator
from pathlib import Path

from vidrestore.images import is_image, read_image
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.models.catalog import EMBEDDED_DETECTOR
from vidrestore.models.spec import FaceDetector
from vidrestore.pixels import rgb_picture
from vidrestore.stages.detect import turned
from vidrestore.video.probe import ContainerInfo, StreamInfo, probe
from vidrestore.video.sample import SampledFrame, sample_frames

NUM_SAMPLED_FRAMES = 8
"""Enough to see who is in a clip; one second of work."""


def describe(path: Path) -> Iterator[str]:
    """Lines for people. Raises SourceError for a file that is no video and no image."""
    if is_image(path):
        image = read_image(path)
        frame = image.frame
        layout = frame.layout
        yield f"{path}: image, {frame.width_px}x{frame.height_px}, {layout.depth_bits} bits, {layout.family}"
        yield from _faces([SampledFrame(0.0, rgb_picture(frame.planes, frame.layout))], image.rotation_deg)
        return
    container = probe(path)
    yield _headline(container)
    yield from (f"  stream {stream.index}: {_stream(stream)}" for stream in container.streams)
    pictures = [stream for stream in container.streams if stream.kind == "video" and not stream.is_attached_picture]
    if pictures:
        yield from _faces(sample_frames(path, NUM_SAMPLED_FRAMES), pictures[0].rotation_deg or 0)


def _headline(container: ContainerInfo) -> str:
    parts = [container.format_name]
    if container.duration_s is not None:
        parts.append(f"{container.duration_s:.3f} s")
    if container.start_s:
        parts.append(f"starts at {container.start_s:.3f} s")
    if container.bit_rate_bps:
        parts.append(f"{container.bit_rate_bps / 1000:.0f} kbit/s")
    if container.num_chapters:
        parts.append(f"{container.num_chapters} chapters")
    return f"{container.path}: {', '.join(parts)}"


def _stream(stream: StreamInfo) -> str:
    parts = [stream.kind, stream.codec]
    if stream.language:
        parts.append(stream.language)
    if stream.is_attached_picture:
        parts.append("attached picture")
    if stream.kind == "video":
        parts += _picture(stream)
    if stream.sample_rate_hz:
        parts += [f"{stream.sample_rate_hz} Hz", stream.channel_layout or f"{stream.num_channels} channels"]
    if stream.duration_s is not None:
        parts.append(f"{stream.duration_s:.3f} s")
    return ", ".join(parts)


def _picture(stream: StreamInfo) -> Iterator[str]:
    yield f"{stream.width_px}x{stream.height_px}"
    yield stream.pixel_format or "unknown pixel format"
    if stream.sample_aspect not in (None, 0, 1):
        yield f"pixel aspect {stream.sample_aspect}"
    if stream.rotation_deg:
        yield f"shown turned {stream.rotation_deg} degrees clockwise"
    if stream.is_mirrored:
        yield "mirrored"
    rate = f"{float(stream.average_rate_hz):.3f} frames/s " if stream.average_rate_hz else ""
    yield f"{rate}({stream.frame_rate} frame rate)"
    if stream.num_frames_from_header:
        yield f"{stream.num_frames_from_header} frames"
    yield (
        f"colour range {stream.color_range}, matrix {stream.color_matrix}, primaries {stream.color_primaries}, "
        f"transfer {stream.color_transfer}"
    )


def _faces(samples: list[SampledFrame], rotation_deg: int) -> Iterator[str]:
    detector: FaceDetector = load_detector(EMBEDDED_DETECTOR)
    for sample in samples:
        (faces,) = detector.detect(turned(sample.rgb, rotation_deg)[None])
        sizes = sorted(
            (round(float((face.box_xyxy_px[2:] - face.box_xyxy_px[:2]).max())) for face in faces), reverse=True
        )
        found = f"{len(sizes)} faces of {', '.join(map(str, sizes))} px" if sizes else "no face"
        yield f"  at {sample.time_s:.2f} s: {found}"
