"""Frames in, an image sequence out: a folder of PNG, TIFF or DPX files that appears when it is complete."""

import contextlib
import os
import shutil
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np

from vidrestore.errors import RestoreError, SourceError, TargetError
from vidrestore.frame import Fields, Frame, VideoInfo
from vidrestore.layout import PixelLayout, Plane
from vidrestore.pixels import rgb_region
from vidrestore.target import flush_to_disk, writing
from vidrestore.video.picture import ENCODER_THREADS, Encoded
from vidrestore.video.planes import av_frame_of, packing_of, planar_layout
from vidrestore.video.sequence import (
    DPX_HEADER_BYTES,
    IMAGE_CODECS,
    PNG_SIGNATURE_BYTES,
    ImageSequence,
    dpx_byte_order,
    find_sequence,
    has_notes,
    image_tags,
    is_pattern,
    is_sequence,
    png_chunks,
)
from vidrestore.video.source import open_source

DEFAULT_PATTERN = "%06d.png"
"""For images of a video, counted from 1."""
PIX_FMTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "png": {"gray": ("gray", "gray16be"), "rgb": ("rgb24", "rgb48be"), "rgba": ("rgba", "rgba64be")},
    "tiff": {"gray": ("gray", "gray16le"), "rgb": ("rgb24", "rgb48le"), "rgba": ("rgba", "rgba64le")},
    "dpx": {
        "gray": ("gray", "gray16be"),
        "rgb": ("rgb24", "gbrp10be", "gbrp12be", "rgb48be"),
        "rgba": ("rgba", "rgba64be"),
    },
}
"""What each encoder takes, by the kind of colours, from few bits to many. Gray with alpha goes as RGB with alpha."""
ENCODER_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "png": {"pred": "paeth"},
    "tiff": {"compression_algo": "raw"},
    "dpx": {},
}
"""PNG: with Paeth's prediction, 8-bit frames of two web clips take 20 and 38 % less than without. TIFF: uncompressed,
which every program reads."""

PNG_PICTURE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"hIST", b"sBIT", b"bKGD"})
"""They say what the samples are, and so belong to the encoder."""
DPX_TEXTS = slice(36, 660)
"""Name, date, creator, project and copyright."""
DPX_GENERIC_BYTES = 1664
"""Of a header without the parts for film and television, as FFmpeg writes it."""
DPX_CODE_VALUES = slice(784, 800)
"""What the lowest and the highest sample stand for."""
DPX_MEANING = slice(801, 803)
"""Transfer (printing density, say) and colorimetry."""
DPX_BITS = 803
DPX_ORIENTATION = slice(1408, DPX_HEADER_BYTES)
"""From there on: orientation, aspect, film (key code, frame rate) and television (time code)."""
DPX_NUMBERS_OF_32_BITS = (
    *(784, 788, 792, 796),
    *range(1408, 1432, 4),
    *(1636, 1640),
    *range(1712, 1732, 4),
    *(1920, 1924),
    *range(1932, 1972, 4),
)
DPX_NUMBERS_OF_16_BITS = (1628, 1630, 1632, 1634)
"""Where numbers are in what is copied, to turn their bytes (SMPTE ST 268)."""
MAX_USER_BYTES = 2**24
"""Of user data behind a DPX header; a header that says more is damaged."""
TIFF_INCH = 2
"""Unit of the resolution."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """How images are encoded."""

    codec: str
    pix_fmt: str
    """As the encoder takes it."""
    layout: PixelLayout
    """Of the samples that are encoded."""


def is_sequence_target(target: Path) -> bool:
    """Whether images are to be written there: a pattern, as `resolved_target` gives it."""
    return is_pattern(target)


def resolved_target(source: Path, output: Path | str) -> Path:
    """The file or the pattern to write, for what the user has named: a folder (one that is there, or a text that ends
    in a slash) stands for the source's own names in it, or for `DEFAULT_PATTERN`."""
    target = Path(output)
    if not (target.is_dir() or str(output).endswith(("/", os.sep))):
        return target
    return target / (find_sequence(source).pattern if is_sequence(source) else DEFAULT_PATTERN)


def default_target(source: Path) -> Path:
    """Beside the folder of a sequence: FOLDER_restored, with the source's own names."""
    sequence = find_sequence(source)
    folder = sequence.folder.absolute()
    return folder.with_name(f"{folder.name}_restored") / sequence.pattern


def place_of(target: Path) -> Path:
    """What appears when all is complete: the file, or the folder of the images."""
    return target.parent if is_sequence_target(target) else target


def check_sequence_target(target: Path, source: Path, *, overwrite: bool) -> None:
    """Raise TargetError, before any work, when the folder cannot or must not be written."""
    folder = target.parent
    if folder.name in ("", ".."):
        raise TargetError(f"{target}: name a folder for the images, such as restored/{target.name}")
    with writing(target):
        exists = folder.exists()
    if folder.is_symlink() or (exists and not folder.is_dir()):
        raise TargetError(f"{folder}: is no folder of its own; choose another output with -o")
    if not folder.parent.is_dir():
        raise TargetError(f"{folder}: the folder {folder.parent} does not exist; make it first")
    if not os.access(folder.parent, os.W_OK):
        raise TargetError(f"{folder}: no permission to write in {folder.parent}; choose another output with -o")
    if not exists:
        return
    source_folder = source if source.is_dir() else source.parent
    if source_folder.exists() and folder.samefile(source_folder):
        raise TargetError(f"{folder}: is the source's own folder; choose another output with -o")
    with writing(folder):
        names = sorted(os.listdir(folder))
    if names and not overwrite:
        raise TargetError(f"{folder}: is not empty; use --overwrite or choose another output with -o")
    _check_only_ours(folder, [name for name in names if not _follows(name, target.name)])


def _check_only_ours(folder: Path, others: list[str]) -> None:
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise TargetError(
            f"{folder}: holds {others[0]}{more}, which this run would not write; move that elsewhere, or choose "
            "another output with -o"
        )


def _follows(name: str, pattern: str) -> bool:
    """Whether the pattern gives this name for some number."""
    digits = "".join(character if character.isdigit() else " " for character in name).split()
    return any(pattern % int(number) == name for number in digits)


def image_format(like: VideoInfo, suffix: str, *, exactly: bool) -> ImageFormat:
    """The format of the fewest bits that holds every level of the source: its own, where images have it.

    Raises TargetError when it must be `exactly` the source's samples and cannot be, as for all YUV.
    """
    codec, layout = IMAGE_CODECS[suffix.lower()], like.layout
    kind = "gray" if layout.family == "gray" else "rgba" if layout.has_alpha else "rgb"
    fitted = [(pix_fmt, _layout_of_format(pix_fmt)) for pix_fmt in PIX_FMTS[codec][kind]]
    pix_fmt, planar = next(choice for choice in fitted if choice[1].depth_bits >= layout.depth_bits)
    if exactly and layout.family == "yuv":
        raise TargetError(
            f"{codec.upper()} images are RGB and cannot hold {layout.name} without loss; leave lossless out, or end "
            "the output in .mkv"
        )
    return ImageFormat(codec, pix_fmt, replace(planar, full_range=layout.family == "yuv" or layout.full_range))


def _layout_of_format(pix_fmt: str) -> PixelLayout:
    packing = packing_of(pix_fmt)
    layout = planar_layout(packing.planar if packing else pix_fmt)
    assert layout is not None, "the encoders' formats have integer samples"
    return layout


def image_planes(planes: tuple[Plane, ...], layout: PixelLayout, fitted: PixelLayout, fields: Fields) -> list[Plane]:
    """The planes of a frame as those of an image.

    RGB and gray of the same depth stay as they are. More bits hold the same levels: full range is stretched so that
    white stays white (round(v * 65535 / 255)), limited range shifted; both can be undone. YUV becomes full-range RGB by
    its own matrix and range, its chroma interpolated linearly from where it lies (within each field of an interlaced
    picture), each sample rounded to the nearest level of the image: an error of half a level, of 255 for 8-bit sources
    and of 65535 in PNG and TIFF for deeper ones. What lies beyond white or black is cut off. HDR keeps its signal.
    """
    alpha = [_stretched(planes[-1], layout.depth_bits, fitted.depth_bits)] if layout.has_alpha else []
    if layout.family != "yuv":
        colors = planes[: len(planes) - layout.has_alpha]
        if layout.full_range:
            return [*(_stretched(plane, layout.depth_bits, fitted.depth_bits) for plane in colors), *alpha]
        dtype = np.uint8 if fitted.depth_bits == 8 else np.uint16
        shift_bits = fitted.depth_bits - layout.depth_bits
        return [*(cast(Plane, np.left_shift(plane.astype(dtype), shift_bits)) for plane in colors), *alpha]
    if fields and layout.log2_chroma_h and planes[0].shape[0] % 4 == 0:
        moments = [_rgb_of([plane[row::2] for plane in planes], layout, fitted.depth_bits) for row in (0, 1)]
        woven = [np.stack(pair, axis=1).reshape(planes[0].shape) for pair in zip(*moments, strict=True)]
        return [*(cast(Plane, plane) for plane in woven), *alpha]
    return [*_rgb_of(planes, layout, fitted.depth_bits), *alpha]


def _stretched(plane: Plane, from_bits: int, to_bits: int) -> Plane:
    """Levels of all bits, white to white."""
    if from_bits == to_bits:
        return plane
    top, from_top = (1 << to_bits) - 1, (1 << from_bits) - 1
    levels = (np.arange(from_top + 1, dtype=np.uint64) * top + from_top // 2) // from_top
    return cast(Plane, levels.astype(np.uint8 if to_bits == 8 else np.uint16)[plane])


def _rgb_of(planes: Iterable[Plane], layout: PixelLayout, depth_bits: int) -> list[Plane]:
    """Green, blue and red, full range."""
    stored = [cast(Plane, np.ascontiguousarray(plane)) for plane in planes]
    height_px, width_px = stored[0].shape
    top = (1 << depth_bits) - 1
    rgb = rgb_region(stored, replace(layout, is_pq=False), (0, 0, width_px, height_px)) * np.float32(top / 255)
    levels = np.clip(np.rint(rgb), 0, top).astype(np.uint8 if depth_bits == 8 else np.uint16)
    return [cast(Plane, np.ascontiguousarray(levels[..., channel])) for channel in (1, 2, 0)]


class ImageEncoder:
    """Encodes frames that look like `like`, each to a packet that is a file. For the rest, see `PictureEncoder`."""

    def __init__(self, fitted: ImageFormat, like: VideoInfo, target: Path, options: Mapping[str, str]) -> None:
        self.warnings: list[str] = []
        self._fitted, self._like, self._target = fitted, like, target
        context = av.CodecContext.create(fitted.codec, "w")
        assert isinstance(context, av.VideoCodecContext), "it is an image's"
        context.width, context.height, context.pix_fmt = like.width_px, like.height_px, fitted.pix_fmt
        context.time_base = like.time_base
        context.sample_aspect_ratio = like.sample_aspect
        context.color_primaries, context.color_trc = like.color.primaries, like.color.transfer
        context.options = {**ENCODER_OPTIONS[fitted.codec], **options}
        context.thread_type, context.thread_count = "AUTO", ENCODER_THREADS
        self._context = context

    def encode(self, frame: Frame) -> list[Encoded]:
        """The packets that are ready with this frame."""
        fitted = self._fitted
        planes = image_planes(frame.planes, frame.layout, fitted.layout, frame.fields)
        native = fitted.pix_fmt[:-2] + "le" if fitted.pix_fmt.endswith("be") else fitted.pix_fmt
        with self._translated_errors():
            picture = av_frame_of(planes, fitted.layout, native)
            if native != fitted.pix_fmt:  # turns the bytes, and no more
                picture = picture.reformat(format=fitted.pix_fmt)
            picture.color_primaries, picture.color_trc = self._like.color.primaries, self._like.color.transfer
            picture.pts, picture.time_base = frame.pts, self._like.time_base
            return list(self._context.encode(picture))

    def finish(self) -> list[Encoded]:
        """The packets that are still inside. Nothing can be encoded after that."""
        with self._translated_errors():
            return list(self._context.encode(None))

    def close(self) -> None:
        """The encoder's memory goes with this object."""

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, ValueError) as exc:
            reason = getattr(exc, "strerror", exc)
            what = f"{self._fitted.codec} failed on {self._fitted.pix_fmt}"
            raise RestoreError(f"{self._target}: {what} ({reason})") from exc


class SequenceWriter:
    """Writes images: `with SequenceWriter(...) as writer:`, then `mux` the packets of its `encoder`s, in order.

    `target` is a pattern; the numbers are the source's for a sequence, else counted from 1. The images are written into
    a hidden folder in `work`, and that is renamed when `with` ends without an error; after an error nothing is left.
    Images of the same names in an existing folder are replaced, anything else there is refused.

    A PNG or DPX sequence keeps what its files say beside the samples (time code, key code, colour, text), a TIFF
    sequence its resolution. `warnings` lists what could not be kept. Raises TargetError as `VideoWriter` does.
    """

    def __init__(self, target: Path, *, like: VideoInfo, source: Path, exactly: bool, work: Path) -> None:
        self.target = target
        self._like, self._source = like, source
        self._sequence = find_sequence(source) if is_sequence(source) else None
        try:
            self._fitted = image_format(like, target.suffix, exactly=exactly)
        except TargetError as exc:
            raise TargetError(f"{target}: {exc}") from exc
        self._same_kind = self._sequence is not None and self._sequence.codec == self._fitted.codec
        self._options: dict[str, str] = {}
        self._warnings = list(self._lost())
        self._num_written = 0
        self._last_pts: int | None = None
        self._steps: set[int] = set()
        self._hidden = work / f".vidrestore-{uuid.uuid4().hex[:12]}"

    @property
    def warnings(self) -> list[str]:
        """What could not be kept, one line each; complete after `close`."""
        varying = max(self._steps, default=0) - min(self._steps, default=0) > 1
        uneven = [f"{self._place}: images have no clock, and the source's frames do not follow evenly"] * varying
        return self._warnings + uneven

    def rehearse(self, first_s: object) -> None:
        """There is nothing to copy beside the picture."""

    def begin(self, first: Frame) -> None:
        """Images have no clock to begin."""

    def encoder(self) -> ImageEncoder:
        """For some of the frames, in order; its packets go to `mux`."""
        return ImageEncoder(self._fitted, self._like, self.target, self._options)

    def mux(self, packets: Iterable[Encoded]) -> None:
        """Write each packet as a file."""
        with writing(self.target):
            self._hidden.mkdir(exist_ok=True)
        for packet in packets:
            assert packet.pts is not None, "the encoder has kept the frame's time"
            self._num_written += 1
            number = self._num_written if self._sequence is None else self._sequence.first_number + packet.pts
            content = bytes(packet)
            if self._same_kind:
                assert self._sequence is not None
                content = _with_notes(self._fitted.codec, content, self._sequence.file(packet.pts))
            if self._last_pts is not None:
                self._steps.add(packet.pts - self._last_pts)
            self._last_pts = packet.pts
            with writing(self.target):
                file = self._hidden / (self.target.name % number)
                file.write_bytes(content)
                flush_to_disk(file)

    def close(self) -> None:
        """Put the folder in its place. Called by leaving the `with` block without an error."""
        folder = self._place
        if not self._num_written:
            raise RestoreError(f"{folder}: no frame was written; nothing is left there")
        replaced = self._hidden.with_name(f"{self._hidden.name}-replaced")
        with writing(folder):
            flush_to_disk(self._hidden)
            if folder.exists():
                new = set(os.listdir(self._hidden))
                old = sorted(os.listdir(folder))
                _check_only_ours(folder, [name for name in old if name not in new])
                if old:
                    os.rename(folder, replaced)
                else:
                    folder.rmdir()
            try:
                os.rename(self._hidden, folder)
            except OSError:
                if replaced.exists():
                    os.rename(replaced, folder)
                raise
            flush_to_disk(folder.parent)
        shutil.rmtree(replaced, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc_type is None:
                self.close()
        finally:
            shutil.rmtree(self._hidden, ignore_errors=True)

    @property
    def _place(self) -> Path:
        return self.target.parent

    def _lost(self) -> Iterator[str]:
        """What images cannot say, in words."""
        like, place = self._like, self._place
        if self._sequence is None:
            with open_source(self._source) as container:
                kinds = sorted({stream.type for stream in container.streams if stream.index != like.stream_number})
            if kinds:
                yield f"{place}: the source's other tracks ({', '.join(map(str, kinds))}) are not in the images"
        if like.display_matrix is not None and not (self._same_kind and self._fitted.codec == "png"):
            yield f"{place}: the images are stored as the source's pictures are, and nothing says how to turn them"
        if like.light is not None:
            yield f"{place}: the HDR metadata (mastering display, light levels) are not in the images"
        if like.fields:
            yield f"{place}: the pictures are interlaced, and images cannot say so"
        if like.layout.family != "yuv" and not like.layout.full_range and not self._same_kind:
            yield f"{place}: the samples are of limited range, and images cannot say so"
        if self._sequence is not None:
            if self._same_kind and self._fitted.codec == "tiff":
                tags = image_tags(self._sequence.file(0))
                self._options |= _resolution(tags)
                if 282 in tags and not self._options:
                    yield f"{place}: the resolution of the TIFF files is no whole number of dots to an inch; it is lost"
            if (not self._same_kind or self._fitted.codec == "tiff") and has_notes(self._sequence):
                yield notes_lost(self._sequence, place)


def notes_lost(sequence: ImageSequence, place: Path) -> str:
    """For a warning."""
    return (
        f"{place}: what the {sequence.codec.upper()} files say beside the samples (texts, profile, codes) is not kept"
    )


def _resolution(tags: Mapping[int, tuple[float, ...]]) -> dict[str, str]:
    """The encoder's option that keeps it, where it is a whole number of dots to an inch."""
    across, down, unit = (tags.get(tag, ()) for tag in (282, 283, 296))
    if not across or across != down or unit not in ((), (TIFF_INCH,)) or not float(across[0]).is_integer():
        return {}
    return {"dpi": str(round(across[0]))} if across[0] >= 1 else {}


def _with_notes(codec: str, encoded: bytes, source: Path) -> bytes:
    """An encoded image with what the source's file says beside its samples."""
    if codec == "tiff":
        return encoded
    try:
        original = source.read_bytes()
        return _png_with_notes(encoded, original) if codec == "png" else _dpx_with_notes(encoded, original)
    except (OSError, ValueError, struct.error) as exc:
        raise SourceError(f"{source}: cannot be read again ({exc}); get another copy of it") from exc


def _png_with_notes(encoded: bytes, original: bytes) -> bytes:
    """The encoder's picture with all the other chunks of the source, before or after it as they were."""
    before: list[bytes] = []
    after: list[bytes] = []
    notes = before
    for kind, chunk in png_chunks(original):
        if kind == b"IDAT":
            notes = after
        elif kind not in PNG_PICTURE_CHUNKS:
            notes.append(chunk)
    picture = [(kind, chunk) for kind, chunk in png_chunks(encoded) if kind in PNG_PICTURE_CHUNKS]
    first, *rest = [chunk for _, chunk in picture]
    return b"".join([encoded[:PNG_SIGNATURE_BYTES], first, *before, *rest[:-1], *after, rest[-1]])


def _dpx_with_notes(encoded: bytes, original: bytes) -> bytes:
    """The encoder's picture behind the source's header, except for what says how samples are stored."""
    order, other = dpx_byte_order(encoded), dpx_byte_order(original)
    (offset,) = struct.unpack_from(f"{other}I", original, 4)
    is_long = offset >= DPX_HEADER_BYTES
    (data_offset,) = struct.unpack_from(f"{order}I", encoded, 4)
    notes = bytearray(original[:DPX_HEADER_BYTES])
    if order != other:
        for places, size in ((DPX_NUMBERS_OF_32_BITS, 4), (DPX_NUMBERS_OF_16_BITS, 2)):
            for place in places:
                notes[place : place + size] = notes[place : place + size][::-1]
    header = bytearray(encoded[:DPX_GENERIC_BYTES].ljust(DPX_HEADER_BYTES, b"\xff"))
    header[DPX_TEXTS] = notes[DPX_TEXTS]
    header[DPX_MEANING] = notes[DPX_MEANING]
    if header[DPX_BITS] == notes[DPX_BITS]:
        header[DPX_CODE_VALUES] = notes[DPX_CODE_VALUES]
    kept = DPX_ORIENTATION if is_long else slice(DPX_ORIENTATION.start, min(offset, DPX_GENERIC_BYTES))
    header[kept] = notes[kept]
    user = original[DPX_HEADER_BYTES:offset] if is_long and offset <= DPX_HEADER_BYTES + MAX_USER_BYTES else b""
    begin = len(header) + len(user)
    struct.pack_into(f"{order}I", header, 4, begin)
    struct.pack_into(f"{order}I", header, 16, begin + len(encoded) - data_offset)
    struct.pack_into(f"{order}III", header, 24, DPX_GENERIC_BYTES, DPX_HEADER_BYTES - DPX_GENERIC_BYTES, len(user))
    struct.pack_into(f"{order}I", header, 808, begin)  # of the picture element
    return bytes(header) + user + encoded[data_offset:]
