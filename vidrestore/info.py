"""What `vidrestore info` says of a file: its streams, and the faces in a sample of frames."""

from collections.abc import Iterator
from pathlib import Path

from vidrestore.frame import Frame
from vidrestore.images import is_image, read_image
from vidrestore.models.backends.pytorch import load_detector
from vidrestore.models.catalog import EMBEDDED_DETECTOR
from vidrestore.stages.detect import detect_faces
from vidrestore.video.probe import ContainerInfo, StreamInfo, probe
from vidrestore.video.read_sequence import SequenceReader
from vidrestore.video.sample import NUM_SAMPLED_FRAMES, sample_frames
from vidrestore.video.sequence import is_sequence


def describe(path: Path) -> Iterator[str]:
    """Lines for people. Raises SourceError for a file that is no video and no image."""
    if is_sequence(path):
        with SequenceReader(path) as reader:
            sequence, info = reader.sequence, reader.info
            yield (
                f"{path}: {sequence.num_images} {sequence.codec.upper()} images, {sequence.pattern} from number "
                f"{sequence.first_number}, {info.width_px}x{info.height_px}, {info.layout.depth_bits} bits, "
                f"{info.layout.family}, {float(info.average_rate or 0):.3f} frames/s unless --rate says otherwise"
            )
            yield from _faces(reader.sampled(NUM_SAMPLED_FRAMES), info.rotation_deg)
        return
    if is_image(path):
        image = read_image(path)
        frame = image.frame
        layout = frame.layout
        yield f"{path}: image, {frame.width_px}x{frame.height_px}, {layout.depth_bits} bits, {layout.family}"
        yield from _faces([frame], image.rotation_deg)
        return
    container = probe(path)
    yield _headline(container)
    yield from (f"  stream {stream.index}: {_stream(stream)}" for stream in container.streams)
    pictures = [stream for stream in container.streams if stream.kind == "video" and not stream.is_attached_picture]
    if pictures:
        yield from _faces(sample_frames(path), pictures[0].rotation_deg or 0)


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


def _faces(frames: list[Frame], rotation_deg: int) -> Iterator[str]:
    """A line for each frame."""
    detector = load_detector(EMBEDDED_DETECTOR)
    found = detect_faces(frames, detector, batch_frames=1, rotation_deg=rotation_deg)
    for picture in found:
        boxes = [face.box_xyxy_px for face in picture.faces]
        sizes = sorted((round(float((box[2:] - box[:2]).max())) for box in boxes), reverse=True)
        listed = ", ".join(map(str, sizes))
        count = "no face" if not sizes else "1 face" if len(sizes) == 1 else f"{len(sizes)} faces"
        yield f"  at {picture.frame.time_s:.2f} s: {count}" + (f" of {listed} px" if sizes else "")
